/*
 * dbt/mmu/mmu_test.c - tests of page walks, of the translation caches, and of accesses that cross
 * or leave RAM.
 *
 * The walk test goes through every combination of rights at two levels, page size, paging mode,
 * control bits, access and privilege, and compares with the rules of the SDM written down a second
 * time here.
 */
#include "dbt/interp/interp_test.h"

#include "base/bits.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)
#define GVA 0x40020000ull /* leads to TEST_DATA through every table below */

static int setup(void **state)
{
    *state = test_guest_new();
    return 0;
}

static int teardown(void **state)
{
    test_guest_free(*state);
    return 0;
}

/* Does WHAT; the vector of the fault that it raises, -1 without one, 256 for an exit. */
struct attempt {
    struct cpu *cpu;
    gva_t gva;
    unsigned bytes;
    enum cpu_access access;
    enum cpu_privilege privilege;
    u64 value;
};

static __attribute__((noinline)) int attempt(struct attempt *what,
                                             void (*act)(struct attempt *attempt))
{
    if (__builtin_setjmp(what->cpu->jump) != 0)
        return what->cpu->left == 1 ? what->cpu->fault.vector : 256;
    act(what);
    return -1;
}

static void act_probe(struct attempt *attempt)
{
    mmu_probe(attempt->cpu, attempt->gva, attempt->bytes, attempt->access, attempt->privilege);
}

static void act_read(struct attempt *attempt)
{
    attempt->value = mmu_read(attempt->cpu, attempt->gva, attempt->bytes);
}

static void act_write(struct attempt *attempt)
{
    mmu_write(attempt->cpu, attempt->gva, attempt->bytes, attempt->value);
}

static int try_read(struct cpu *cpu, gva_t gva, unsigned bytes, u64 *ret_value)
{
    struct attempt what = {.cpu = cpu, .gva = gva, .bytes = bytes};
    int vector = attempt(&what, act_read);
    *ret_value = what.value;
    return vector;
}

static int try_write(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value)
{
    struct attempt what = {.cpu = cpu, .gva = gva, .bytes = bytes, .value = value};
    return attempt(&what, act_write);
}

/* ---- walks
 * ------------------------------------------------------------------------------------------- */

enum mode { MODE_32, MODE_PAE, MODE_LONG };
struct layout {
    enum mode mode;
    unsigned leaf;  /* level of the leaf: 0 for 4 KiB pages */
    unsigned upper; /* level whose rights vary as well; 0 for none */
};
static const struct layout layouts[] = {
    {MODE_32, 0, 1},   {MODE_32, 1, 0},   {MODE_PAE, 0, 1},  {MODE_PAE, 1, 0},
    {MODE_LONG, 0, 1}, {MODE_LONG, 1, 2}, {MODE_LONG, 2, 3},
};

static unsigned entry_bytes(enum mode mode)
{
    return mode == MODE_32 ? 4 : 8;
}

/* Where the entry of LEVEL for GVA is. */
static gpa_t entry_at(enum mode mode, unsigned level)
{
    unsigned bits = mode == MODE_32 ? 10 : 9;
    u64 index = GVA >> (12 + level * bits) & ((1 << bits) - 1);
    return TEST_TABLES + level * 0x1000 + index * entry_bytes(mode);
}

static u64 entry_get(struct test_guest *guest, enum mode mode, unsigned level)
{
    u64 entry = test_get(guest, entry_at(mode, level));
    return mode == MODE_32 ? (u32)entry : entry;
}

static void entry_put(struct test_guest *guest, enum mode mode, unsigned level, u64 entry)
{
    memcpy(guest->ram + entry_at(mode, level), &entry, entry_bytes(mode));
}

static void mode_set(struct test_guest *guest, enum mode mode)
{
    struct cpu *cpu = &guest->cpu;
    unsigned levels = 2 + mode;
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
    cpu->cr4 = mode == MODE_32 ? X86_CR4_PSE : X86_CR4_PAE;
    cpu->msr.efer = mode == MODE_LONG ? X86_EFER_LME | X86_EFER_LMA : 0;
    cpu->cr3 = TEST_TABLES + (levels - 1) * 0x1000;
    for (unsigned level = 1; level < levels; level++) {
        u64 rights = mode == MODE_PAE && level == 2 ? P : P | W | U;
        entry_put(guest, mode, level, (TEST_TABLES + (level - 1) * 0x1000) | rights);
    }
    entry_put(guest, mode, 0, TEST_DATA | P | W | U);
}

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

/* ---- caches
 * -------------------------------------------------------------------------------------------- */

/* Long mode, GVA mapped with RIGHTS, a 0x11 at TEST_DATA and a 0x22 a page after it. */
static struct cpu *cached_guest(struct test_guest *guest, u64 rights)
{
    mode_set(guest, MODE_LONG);
    guest->cpu.cr4 |= X86_CR4_PGE;
    entry_put(guest, MODE_LONG, 0, TEST_DATA | rights);
    test_put(guest, TEST_DATA, 0x11);
    test_put(guest, TEST_DATA + 0x1000, 0x22);
    guest->cpu.privilege = PRIVILEGE_KERNEL;
    guest->cpu.tlb_data = guest->cpu.tlb.entries[PRIVILEGE_KERNEL];
    mmu_flush_all(&guest->cpu);
    return &guest->cpu;
}

static u64 read_byte(struct cpu *cpu, gva_t gva)
{
    u64 value;
    assert_int_equal(try_read(cpu, gva, 1, &value), -1);
    return value;
}

static void remap(struct test_guest *guest, u64 rights)
{
    entry_put(guest, MODE_LONG, 0, (TEST_DATA + 0x1000) | rights);
}

static void translations_are_kept_until_flushed(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    remap(guest, P | W);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    mmu_flush_page(cpu, GVA + 5);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
}

static void global_pages_survive_a_switch(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W | G);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    remap(guest, P | W | G);
    mmu_switch(cpu, false);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    mmu_flush_non_global(cpu);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    mmu_flush_page(cpu, GVA);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    /* Without PGE the bit means nothing. */
    cpu->cr4 &= ~(u64)X86_CR4_PGE;
    mmu_flush_all(cpu);
    entry_put(guest, MODE_LONG, 0, TEST_DATA | P | W | G);
    mmu_flush_all(cpu);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    remap(guest, P | W | G);
    mmu_switch(cpu, false);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
}

static void address_spaces_are_told_apart(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    cpu->cr4 |= X86_CR4_PCIDE;
    cpu->cr3 |= 1;
    mmu_flush_all(cpu);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    remap(guest, P | W);
    cpu->cr3 += 1; /* to PCID 2, nothing cached there */
    mmu_switch(cpu, true);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    cpu->cr3 -= 1; /* back, keeping */
    mmu_switch(cpu, true);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    mmu_flush_pcid(cpu, 2);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    mmu_flush_page_pcid(cpu, 2, GVA);
    mmu_flush_pcid(cpu, 1);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    entry_put(guest, MODE_LONG, 0, TEST_DATA | P | W);
    mmu_switch(cpu, true);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    mmu_switch(cpu, false);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
}

static void many_address_spaces(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    cpu->cr4 |= X86_CR4_PCIDE;
    mmu_flush_all(cpu);
    u64 cr3 = cpu->cr3;
    /* More flushes than there are address-space numbers. */
    for (unsigned i = 0; i < 70000; i++) {
        cpu->cr3 = cr3 | i % 4096;
        mmu_switch(cpu, i % 3 == 0);
        if (i % 1000 == 999) {
            entry_put(guest, MODE_LONG, 0, (TEST_DATA + (i & 0x1000)) | P | W);
            mmu_flush_non_global(cpu);
            assert_int_equal(read_byte(cpu, GVA), i & 0x1000 ? 0x22 : 0x11);
        }
    }
}

static void large_pages_go_as_a_whole(void **state)
{
    struct test_guest *guest = *state;
    for (unsigned level = 1; level <= 2; level++) {
        struct cpu *cpu = cached_guest(guest, P | W);
        entry_put(guest, MODE_LONG, level, PS | P | W);
        mmu_flush_all(cpu);
        assert_int_equal(read_byte(cpu, GVA), 0x11);
        assert_int_equal(read_byte(cpu, GVA + 0x1000), 0x22);
        entry_put(guest, MODE_LONG, level, 0);
        u64 value;
        assert_int_equal(read_byte(cpu, GVA), 0x11);
        mmu_flush_page(cpu, GVA + 0x3000); /* another piece of the same large page */
        assert_int_equal(try_read(cpu, GVA, 1, &value), X86_PF_FAULT);
        assert_int_equal(try_read(cpu, GVA + 0x1000, 1, &value), X86_PF_FAULT);
    }
}

static void rights_grow_without_a_flush(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P);
    cpu->cr0 |= X86_CR0_WP;
    mmu_flush_all(cpu);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    assert_int_equal(try_write(cpu, GVA, 1, 5), X86_PF_FAULT);
    assert_int_equal(cpu->fault.error, X86_PF_P | X86_PF_W);
    entry_put(guest, MODE_LONG, 0, TEST_DATA | P | W);
    assert_int_equal(try_write(cpu, GVA, 1, 5), -1);
    assert_int_equal(test_get(guest, TEST_DATA) & 0xff, 5);
    assert_true(entry_get(guest, MODE_LONG, 0) & D);
}

static void dirty_bit_waits_for_the_first_write(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    assert_int_equal(entry_get(guest, MODE_LONG, 0) & (A | D), A);
    assert_int_equal(try_write(cpu, GVA, 1, 5), -1);
    assert_int_equal(entry_get(guest, MODE_LONG, 0) & (A | D), A | D);
}

/* ---- accesses
 * -------------------------------------------------------------------------------------------- */

static void crossing_pages(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    gpa_t second = entry_at(MODE_LONG, 0) + 8;
    test_put(guest, second, (TEST_DATA + 0x5000) | P | W); /* not the next physical page */
    mmu_flush_all(cpu);
    for (unsigned bytes = 2; bytes <= 8; bytes *= 2) {
        for (unsigned before = 1; before < bytes; before++) {
            u64 value = 0x8877665544332211ull & bytes_mask(bytes), back;
            assert_int_equal(try_write(cpu, GVA + 0x1000 - before, bytes, value), -1);
            assert_int_equal(try_read(cpu, GVA + 0x1000 - before, bytes, &back), -1);
            assert_int_equal(back, value);
            assert_memory_equal(guest->ram + TEST_DATA + 0x1000 - before, &value, before);
            assert_memory_equal(guest->ram + TEST_DATA + 0x5000, (u8 *)&value + before,
                                bytes - before);
        }
    }
    /* A fault on the second page leaves the first one unwritten. */
    test_put(guest, second, 0);
    mmu_flush_all(cpu);
    test_put(guest, TEST_DATA + 0xff8, 0);
    assert_int_equal(try_write(cpu, GVA + 0xffc, 8, ~0ull), X86_PF_FAULT);
    assert_int_equal(cpu->fault.cr2, GVA + 0x1000);
    assert_int_equal(test_get(guest, TEST_DATA + 0xff8), 0);
}

static void canonical_addresses(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    u64 value;
    assert_int_equal(try_read(cpu, 0x0000800000000000ull, 1, &value), X86_GP);
    assert_int_equal(cpu->fault.error, 0);
    assert_int_equal(try_read(cpu, 0xffff7fffffffffffull, 1, &value), X86_GP);
    assert_int_equal(try_read(cpu, 0x8000000000000000ull, 8, &value), X86_GP);
    assert_int_equal(try_read(cpu, 0xffff800000000000ull, 1, &value), X86_PF_FAULT);
}

static void devices_answer(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    u64 value;
    entry_put(guest, MODE_LONG, 0, 0xfed00000 | P | W);
    mmu_flush_all(cpu);
    assert_int_equal(try_read(cpu, GVA + 0xf0, 4, &value), 256);
    assert_int_equal(cpu->exit.kind, EXIT_MMIO_READ);
    assert_int_equal(cpu->exit.address, 0xfed000f0);
    assert_int_equal(cpu->exit.bytes, 4);
    cpu->replay = (struct cpu_replay){.done = 1, .value = {0xabcdef01}};
    assert_int_equal(try_read(cpu, GVA + 0xf0, 4, &value), -1);
    assert_int_equal(value, 0xabcdef01);
    cpu->replay = (struct cpu_replay){0};
    assert_int_equal(try_write(cpu, GVA + 8, 2, 0x12345), 256);
    assert_int_equal(cpu->exit.kind, EXIT_MMIO_WRITE);
    assert_int_equal(cpu->exit.value, 0x2345);
}

static void rom_drops_writes(void **state)
{
    struct test_guest *guest = *state;
    u8 *rom = calloc(1, 4096);
    assert_non_null(rom);
    rom[0] = 0x33;
    assert_int_equal(mem_add(&guest->mem, 0x10000000, 4096, rom, true), 0);
    struct cpu *cpu = cached_guest(guest, P | W);
    entry_put(guest, MODE_LONG, 0, 0x10000000 | P | W);
    mmu_flush_all(cpu);
    assert_int_equal(read_byte(cpu, GVA), 0x33);
    assert_int_equal(try_write(cpu, GVA, 1, 0x44), -1);
    assert_int_equal(read_byte(cpu, GVA), 0x33);
    assert_int_equal(rom[0], 0x33);
    assert_int_equal(mem_remove(&guest->mem, 0x10000000), 0);
    free(rom);
}

static void writes_mark_pages(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W);
    mem_flag_clear(&guest->mem, TEST_DATA, MEM_DIRTY);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    assert_false(mem_flag_clear(&guest->mem, TEST_DATA, MEM_DIRTY));
    assert_int_equal(try_write(cpu, GVA, 1, 1), -1);
    assert_true(mem_flag_clear(&guest->mem, TEST_DATA, MEM_DIRTY));
    /* Code in the page: the write count shows that each write is looked at, tag or not. */
    const u32 *generation = mmu_code_mark(cpu, TEST_DATA + 64, 3);
    assert_non_null(generation);
    u32 before = *generation;
    assert_int_equal(try_write(cpu, GVA + 8, 1, 1), -1);
    assert_int_equal(*generation, before); /* another granule */
    assert_int_equal(try_write(cpu, GVA + 66, 1, 1), -1);
    assert_int_equal(*generation, before + 1);
    assert_true(cpu->leave_block);
    assert_false(mmu_code_marked(cpu, TEST_DATA + 64, 3));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_rights),
        TEST(reserved_bits),
        TEST(pae_pointers),
        TEST(translations_are_kept_until_flushed),
        TEST(global_pages_survive_a_switch),
        TEST(address_spaces_are_told_apart),
        TEST(many_address_spaces),
        TEST(large_pages_go_as_a_whole),
        TEST(rights_grow_without_a_flush),
        TEST(dirty_bit_waits_for_the_first_write),
        TEST(crossing_pages),
        TEST(canonical_addresses),
        TEST(devices_answer),
        TEST(rom_drops_writes),
        TEST(writes_mark_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
