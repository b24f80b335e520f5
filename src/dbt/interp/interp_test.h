/*
 * dbt/interp/interp_test.h - a small guest for tests: 2 MiB of RAM, one vCPU, code as bytes.
 *
 * In long mode the first 2 MiB are mapped one to one by 4 KiB pages (tables at TEST_TABLES),
 * supervisor and user, writable. Code starts at TEST_CODE, the stack ends at TEST_STACK. The IDT
 * sends every exception to a HLT at TEST_TRAP + 16 * vector.
 */
#ifndef DBT_INTERP_INTERP_TEST_H
#define DBT_INTERP_INTERP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/mem.h"
#include "dbt/cpu.h"
#include "host/cpu.h"
#include "x86/cpuid.h"

enum {
    TEST_RAM_BYTES = 2 << 20,
    TEST_CODE = 0x10000,
    TEST_DATA = 0x20000,
    TEST_STACK = 0x30000,
    TEST_TABLES = 0x40000,
    TEST_IDT = 0x50000,
    TEST_GDT = 0x51000,
    TEST_TRAP = 0x52000
};

struct test_guest {
    struct mem mem;
    struct cpuid_model cpuid;
    struct cpu_group group;
    struct cpu cpu;
    struct x86_state state;
    u8 *ram;
};

static inline void test_put(struct test_guest *guest, gpa_t gpa, u64 value)
{
    memcpy(guest->ram + gpa, &value, sizeof(value));
}

static inline u64 test_get(const struct test_guest *guest, gpa_t gpa)
{
    u64 value;
    memcpy(&value, guest->ram + gpa, sizeof(value));
    return value;
}

static inline struct test_guest *test_guest_new(void)
{
    struct test_guest *guest = aligned_alloc(64, sizeof(*guest));
    assert_non_null(guest);
    memset(guest, 0, sizeof(*guest));
    guest->ram = aligned_alloc(4096, TEST_RAM_BYTES);
    assert_non_null(guest->ram);
    memset(guest->ram, 0, TEST_RAM_BYTES);
    mem_init(&guest->mem);
    assert_int_equal(mem_add(&guest->mem, 0, TEST_RAM_BYTES, guest->ram, false), 0);
    struct cpuid_entry host[CPUID_HOST_MAX];
    struct cpuid_config config = {.host = host, .system_emulated = true, .cpu_count = 1};
    config.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
    cpuid_model_init(&guest->cpuid, &config);
    cpu_group_init(&guest->group, &guest->mem, &guest->cpuid);
    guest->mem.code_written = cpu_group_code_written;
    guest->mem.code_written_ctx = &guest->group;
    assert_int_equal(cpu_init(&guest->cpu, &guest->group, 0), 0);
    cpu_get_state(&guest->cpu, &guest->state);
    return guest;
}

static inline void test_guest_free(struct test_guest *guest)
{
    cpu_fini(&guest->cpu);
    mem_fini(&guest->mem);
    free(guest->ram);
    free(guest);
}

static inline void test_tables(struct test_guest *guest)
{
    test_put(guest, TEST_TABLES, (TEST_TABLES + 0x1000) | 7);
    test_put(guest, TEST_TABLES + 0x1000, (TEST_TABLES + 0x2000) | 7);
    test_put(guest, TEST_TABLES + 0x2000, (TEST_TABLES + 0x3000) | 7);
    for (u64 page = 0; page < 512; page++)
        test_put(guest, TEST_TABLES + 0x3000 + page * 8, page << 12 | 7);
    for (u64 vector = 0; vector < 256; vector++) {
        u64 target = TEST_TRAP + vector * 16;
        guest->ram[target] = 0xf4;
        test_put(guest, TEST_IDT + vector * 16,
                 (target & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (target >> 16 & 0xffff) << 48);
        test_put(guest, TEST_IDT + vector * 16 + 8, target >> 32);
    }
    test_put(guest, TEST_GDT + 8, 0x00af9b000000ffffull);
    test_put(guest, TEST_GDT + 16, 0x00cf93000000ffffull);
}

/* State in 64-bit mode at CPL 0, with tables made; change guest->state before test_start. */
static inline void test_long_mode(struct test_guest *guest)
{
    struct x86_state *state = &guest->state;
    test_tables(guest);
    state->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    state->cr3 = TEST_TABLES;
    state->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR;
    state->msr.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->seg[i] = (struct x86_seg){0, 0xffffffff, 16, 0xc093};
    state->seg[X86_CS] = (struct x86_seg){0, 0xffffffff, 8, 0xa09b};
    state->gdtr = (struct x86_table){TEST_GDT, 0xfff};
    state->idtr = (struct x86_table){TEST_IDT, 0xfff};
    state->rip = TEST_CODE;
    state->gpr[X86_RSP] = TEST_STACK;
    state->rflags = X86_FLAG_FIXED;
    state->activity = X86_ACTIVE;
}

/* Flat 32-bit protected mode without paging. */
static inline void test_protected_mode(struct test_guest *guest)
{
    test_long_mode(guest);
    guest->state.cr0 &= ~(u64)X86_CR0_PG;
    guest->state.cr4 = 0;
    guest->state.msr.efer = 0;
    guest->state.seg[X86_CS].attr = 0xc09b;
}

static inline void test_start(struct test_guest *guest)
{
    assert_int_equal(cpu_set_state(&guest->cpu, &guest->state), 0);
}

static inline void test_restart(struct test_guest *guest, u64 rip)
{
    guest->state.rip = rip;
    guest->state.activity = X86_ACTIVE;
    test_start(guest);
}

/* Puts CODE at TEST_CODE, with a HLT after it. */
static inline void test_code(struct test_guest *guest, const void *code, size_t bytes)
{
    memcpy(guest->ram + TEST_CODE, code, bytes);
    guest->ram[TEST_CODE + bytes] = 0xf4;
}

#define TEST_BYTES(...) ((const u8[]){__VA_ARGS__}), sizeof((const u8[]){__VA_ARGS__})

/* Runs to the next exit, which must be of KIND. */
static inline void test_run(struct test_guest *guest, enum vm_exit_kind kind)
{
    cpu_run(&guest->cpu);
    if (guest->cpu.exit.kind == EXIT_FAILED)
        print_message("%s\n", guest->cpu.exit.reason);
    assert_int_equal(guest->cpu.exit.kind, kind);
    cpu_get_state(&guest->cpu, &guest->state);
}

/* The vector whose trap stub the guest halted in, or -1. */
static inline int test_trapped(const struct test_guest *guest)
{
    u64 rip = guest->state.rip - 1;
    if (rip < TEST_TRAP || rip >= TEST_TRAP + 256 * 16)
        return -1;
    return (int)((rip - TEST_TRAP) / 16);
}

#endif
