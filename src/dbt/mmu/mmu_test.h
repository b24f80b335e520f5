/*
 * dbt/mmu/mmu_test.h - what the MMU's tests share: page tables that lead one address to TEST_DATA,
 * and accesses whose faults come back as values.
 */
#ifndef DBT_MMU_MMU_TEST_H
#define DBT_MMU_MMU_TEST_H

#include "base/bits.h"
#include "dbt/interp/interp_test.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)
#define GVA 0x40020000ull /* leads to TEST_DATA through every table below */

static inline int setup(void **state)
{
    *state = test_guest_new();
    return 0;
}

static inline int teardown(void **state)
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

static __attribute__((noinline, unused)) int attempt(struct attempt *what,
                                                     void (*act)(struct attempt *attempt))
{
    if (__builtin_setjmp(what->cpu->jump) != 0)
        return what->cpu->left == 1 ? what->cpu->fault.vector : 256;
    act(what);
    return -1;
}

static inline void act_probe(struct attempt *attempt)
{
    mmu_probe(attempt->cpu, attempt->gva, attempt->bytes, attempt->access, attempt->privilege);
}

static inline void act_read(struct attempt *attempt)
{
    attempt->value = mmu_read(attempt->cpu, attempt->gva, attempt->bytes);
}

static inline void act_write(struct attempt *attempt)
{
    mmu_write(attempt->cpu, attempt->gva, attempt->bytes, attempt->value);
}

static inline int try_read(struct cpu *cpu, gva_t gva, unsigned bytes, u64 *ret_value)
{
    struct attempt what = {.cpu = cpu, .gva = gva, .bytes = bytes};
    int vector = attempt(&what, act_read);
    *ret_value = what.value;
    return vector;
}

static inline int try_write(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value)
{
    struct attempt what = {.cpu = cpu, .gva = gva, .bytes = bytes, .value = value};
    return attempt(&what, act_write);
}

enum mode { MODE_32, MODE_PAE, MODE_LONG };
static inline unsigned entry_bytes(enum mode mode)
{
    return mode == MODE_32 ? 4 : 8;
}

/* Where the entry of LEVEL for GVA is. */
static inline gpa_t entry_at(enum mode mode, unsigned level)
{
    unsigned bits = mode == MODE_32 ? 10 : 9;
    u64 index = GVA >> (12 + level * bits) & ((1 << bits) - 1);
    return TEST_TABLES + level * 0x1000 + index * entry_bytes(mode);
}

static inline u64 entry_get(struct test_guest *guest, enum mode mode, unsigned level)
{
    u64 entry = test_get(guest, entry_at(mode, level));
    return mode == MODE_32 ? (u32)entry : entry;
}

static inline void entry_put(struct test_guest *guest, enum mode mode, unsigned level, u64 entry)
{
    memcpy(guest->ram + entry_at(mode, level), &entry, entry_bytes(mode));
}

static inline void mode_set(struct test_guest *guest, enum mode mode)
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
