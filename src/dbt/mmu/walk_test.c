/*
 * dbt/mmu/walk_test.c - tests of page walks: every combination of rights at two levels, page size,
 * paging mode, control bits, access and privilege, compared with the rules of the SDM written down
 * a second time.
 */
#include "dbt/mmu/mmu_test.h"

struct layout {
    enum mode mode;
    unsigned leaf;  /* level of the leaf: 0 for 4 KiB pages */
    unsigned upper; /* level whose rights vary as well; 0 for none */
};
static const struct layout layouts[] = {
    {MODE_32, 0, 1},   {MODE_32, 1, 0},   {MODE_PAE, 0, 1},  {MODE_PAE, 1, 0},
    {MODE_LONG, 0, 1}, {MODE_LONG, 1, 2}, {MODE_LONG, 2, 3},
};

/* Bits 0 to 3 of COMBINATION are P, W, U, NX. */
static u64 rights_of(unsigned combination)
{
    return (combination & 7) | (combination & 8 ? NX : 0);
}

/* The SDM's rules: true, or false and the error code. UPPER and LEAF are rights. */
static bool rule(const struct cpu *cpu, u64 upper, u64 leaf, enum cpu_access access,
                 enum cpu_privilege privilege, u32 *ret_error)
{
    bool nxe = (cpu->msr.efer & X86_EFER_NXE) != 0, fetch = access == ACCESS_FETCH;
    bool smep = (cpu->cr4 & X86_CR4_SMEP) != 0, user = privilege == PRIVILEGE_USER;
    u32 error = (access == ACCESS_WRITE ? X86_PF_W : 0) | (user ? X86_PF_U : 0);
    if (fetch && ((nxe && (cpu->cr4 & X86_CR4_PAE)) || smep))
        error |= X86_PF_I;
    *ret_error = error;
    for (unsigned i = 0; i < 2; i++) {
        u64 entry = i == 0 ? upper : leaf;
        if (!(entry & P))
            return false;
        if ((entry & NX) && !nxe) {
            *ret_error |= X86_PF_P | X86_PF_RSVD;
            return false;
        }
    }
    *ret_error |= X86_PF_P;
    bool user_page = upper & leaf & U, writable = upper & leaf & W;
    bool executable = !((upper | leaf) & NX);
    if (user && !user_page)
        return false;
    if (fetch)
        return executable && (user || !user_page || !smep);
    if (!user && user_page && (cpu->cr4 & X86_CR4_SMAP) && privilege != PRIVILEGE_KERNEL_AC)
        return false;
    if (access == ACCESS_WRITE && !writable)
        return !user && !(cpu->cr0 & X86_CR0_WP);
    return true;
}

static void check_walk(struct test_guest *guest, const struct layout *layout, unsigned upper,
                       unsigned leaf, enum cpu_access access, enum cpu_privilege privilege)
{
    struct cpu *cpu = &guest->cpu;
    enum mode mode = layout->mode;
    u64 upper_rights = layout->upper ? rights_of(upper) : P | W | U;
    if (layout->upper)
        entry_put(guest, mode, layout->upper,
                  (TEST_TABLES + (layout->upper - 1) * 0x1000) | upper_rights);
    entry_put(guest, mode, layout->leaf, (layout->leaf ? PS : TEST_DATA) | rights_of(leaf));
    mmu_flush_page(cpu, GVA);

    u32 error;
    bool expected = rule(cpu, upper_rights, rights_of(leaf), access, privilege, &error);
    struct attempt what = {
        .cpu = cpu, .gva = GVA + 8, .bytes = 4, .access = access, .privilege = privilege};
    int vector = attempt(&what, act_probe);
    u64 leaf_after = entry_get(guest, mode, layout->leaf);
    if (expected) {
        assert_int_equal(vector, -1);
        assert_int_equal(leaf_after & (A | D), access == ACCESS_WRITE ? A | D : A);
        if (layout->upper)
            assert_int_equal(entry_get(guest, mode, layout->upper) & (A | D), A);
    } else {
        assert_int_equal(vector, X86_PF_FAULT);
        assert_int_equal(cpu->fault.error, error);
        assert_int_equal(cpu->fault.cr2, GVA + 8);
        assert_int_equal(leaf_after & (A | D), 0);
    }
}

static void controls_set(struct cpu *cpu, unsigned controls)
{
    cpu->cr0 = (cpu->cr0 & ~(u64)X86_CR0_WP) | (controls & 1 ? X86_CR0_WP : 0);
    cpu->cr4 &= ~(u64)(X86_CR4_SMEP | X86_CR4_SMAP);
    cpu->cr4 |= (controls & 2 ? X86_CR4_SMEP : 0) | (controls & 4 ? X86_CR4_SMAP : 0);
    cpu->msr.efer = (cpu->msr.efer & ~(u64)X86_EFER_NXE) | (controls & 8 ? X86_EFER_NXE : 0);
    mmu_flush_all(cpu);
}

static void all_rights(void **state)
{
    struct test_guest *guest = *state;
    for (unsigned i = 0; i < ARRAY_LEN(layouts); i++) {
        const struct layout *layout = &layouts[i];
        unsigned combinations = layout->mode == MODE_32 ? 8 : 16;
        mode_set(guest, layout->mode);
        for (unsigned controls = 0; controls < 16; controls++) {
            controls_set(&guest->cpu, controls);
            for (unsigned c = 0; c < combinations * combinations * 9; c++) {
                unsigned leaf = c / 9 % combinations, upper = c / 9 / combinations;
                if (layout->upper == 0 && upper > 0)
                    break;
                check_walk(guest, layout, upper, leaf, c % 3, c / 3 % 3);
            }
        }
    }
}

/* ENTRY at LEVEL makes a read fault with P and RSVD exactly when RESERVED. */
static void check_reserved(struct test_guest *guest, enum mode mode, unsigned level, u64 bits,
                           bool reserved)
{
    mode_set(guest, mode);
    u64 entry = entry_get(guest, mode, level) | bits;
    entry_put(guest, mode, level, entry);
    mmu_flush_all(&guest->cpu);
    struct attempt what = {.cpu = &guest->cpu,
                           .gva = GVA,
                           .bytes = 1,
                           .access = ACCESS_READ,
                           .privilege = PRIVILEGE_KERNEL};
    int vector = attempt(&what, act_probe);
    if (reserved) {
        assert_int_equal(vector, X86_PF_FAULT);
        assert_int_equal(guest->cpu.fault.error, X86_PF_P | X86_PF_RSVD);
    } else {
        assert_int_equal(vector, -1);
    }
}

static void reserved_bits(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = &guest->cpu;
    cpu->physical_mask = BIT(40) - 1;
    check_reserved(guest, MODE_LONG, 0, BIT(40), true);
    check_reserved(guest, MODE_LONG, 0, BIT(51), true);
    check_reserved(guest, MODE_LONG, 0, BIT(52), false);
    check_reserved(guest, MODE_LONG, 0, BIT(62), false);
    check_reserved(guest, MODE_LONG, 3, PS, true);
    check_reserved(guest, MODE_LONG, 1, PS | BIT(13), true);
    check_reserved(guest, MODE_LONG, 1, PS | BIT(20), true);
    check_reserved(guest, MODE_LONG, 2, PS | BIT(29), true);
    check_reserved(guest, MODE_PAE, 0, BIT(52), true);
    check_reserved(guest, MODE_PAE, 0, BIT(62), true);
    check_reserved(guest, MODE_PAE, 2, W, true);
    check_reserved(guest, MODE_PAE, 2, BIT(5), true);
    check_reserved(guest, MODE_PAE, 2, NX, true);
    check_reserved(guest, MODE_32, 1, PS | BIT(21), true);
    check_reserved(guest, MODE_32, 0, BIT(7), false);
    /* 1 GiB pages only where CPUID shows them. The table's own address fits a 1 GiB page's base
     * not. */
    cpu->large_1g = false;
    mode_set(guest, MODE_LONG);
    entry_put(guest, MODE_LONG, 2, PS | P | W | U);
    mmu_flush_all(cpu);
    u64 value;
    assert_int_equal(try_read(cpu, GVA, 1, &value), X86_PF_FAULT);
    cpu->large_1g = true;
    test_put(guest, TEST_DATA, 0x77);
    assert_int_equal(try_read(cpu, GVA, 1, &value), -1);
    assert_int_equal(value, 0x77);
}

static void pae_pointers(void **state)
{
    struct test_guest *guest = *state;
    mode_set(guest, MODE_PAE);
    assert_true(mmu_pae_pointers_valid(&guest->cpu, guest->cpu.cr3));
    entry_put(guest, MODE_PAE, 2, TEST_TABLES | P | W);
    assert_false(mmu_pae_pointers_valid(&guest->cpu, guest->cpu.cr3));
    entry_put(guest, MODE_PAE, 2, TEST_TABLES | W);
    assert_true(mmu_pae_pointers_valid(&guest->cpu, guest->cpu.cr3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(all_rights), TEST(reserved_bits), TEST(pae_pointers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
