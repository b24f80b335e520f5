/*
 * dbt/mmu/mmu_test.c - tests of the translation caches, and of accesses that cross pages or leave
 * RAM.
 */
#include "dbt/mmu/mmu_test.h"

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

/* The accesses to GVA that translated code may have from the second level (jit/refill.c). */
static unsigned offered(const struct cpu *cpu)
{
    const struct cpu_walk_entry *entry = &cpu->tlb.walks[0][0];
    for (unsigned i = 0; i < CPU_TLB_SETS * CPU_TLB_WAYS; i++) {
        u64 asid = entry[i].gpa & CPU_WALK_GLOBAL ? CPU_ASID_GLOBAL : cpu->tlb.asid;
        if (entry[i].tag == (GVA >> 12 << 16 | asid))
            return (unsigned)(entry[i].host & 0xfff);
    }
    return 0;
}

static void refills_follow_flushes(void **state)
{
    struct test_guest *guest = *state;
    struct cpu *cpu = cached_guest(guest, P | W | G);
    unsigned read = cpu_walk_had(PRIVILEGE_KERNEL, false);
    unsigned write = cpu_walk_had(PRIVILEGE_KERNEL, true);
    assert_int_equal(offered(cpu), 0);
    assert_int_equal(read_byte(cpu, GVA), 0x11);
    assert_int_equal(offered(cpu), read);
    assert_int_equal(try_write(cpu, GVA, 1, 0x12), -1);
    assert_true(offered(cpu) & write);
    mmu_switch(cpu, false);
    assert_true(offered(cpu) & write);
    mmu_flush_page(cpu, GVA);
    assert_int_equal(offered(cpu), 0);
    /* The entry of an earlier address space is not found again. */
    remap(guest, P | W);
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    assert_int_equal(offered(cpu), read);
    mmu_switch(cpu, false);
    assert_int_equal(offered(cpu), 0);
    /* Nothing is offered that was refused, nor device memory. */
    assert_int_equal(read_byte(cpu, GVA), 0x22);
    mmu_flush_all(cpu);
    assert_int_equal(offered(cpu), 0);
    entry_put(guest, MODE_LONG, 0, TEST_DATA | P);
    cpu->cr0 |= X86_CR0_WP;
    mmu_flush_all(cpu);
    assert_int_equal(try_write(cpu, GVA, 1, 0x13), X86_PF_FAULT);
    assert_int_equal(offered(cpu), 0);
    assert_int_equal(read_byte(cpu, GVA), 0x12);
    assert_int_equal(offered(cpu), read);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        TEST(refills_follow_flushes),
        TEST(writes_mark_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
