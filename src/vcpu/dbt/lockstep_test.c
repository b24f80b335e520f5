/*
 * vcpu/dbt/lockstep_test.c - the checker of translated code: it is content with what is right,
 * leaves no trace of its own, and stops at translated code that somebody has spoiled.
 */
#include <pthread.h>
#include <sched.h>

#include "core/counter.h"
#include "dbt/counters.h"
#include "dbt/interp/interp_test.h"
#include "dbt/jit.h"
#include "dbt/lockstep.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"

enum { CODE_BYTES = 1 << 20, ROUNDS = 100, DEVICE = 0x100000 };

static struct translator translator;

static int setup(void **state)
{
    struct test_guest *guest = test_guest_new();

    test_long_mode(guest);
    guest->state.gpr[X86_RBX] = TEST_DATA;
    guest->state.gpr[X86_RCX] = ROUNDS;
    test_put(guest, TEST_TABLES + 0x3000 + (DEVICE >> 12) * 8, 0xfee00000 | 7);
    *state = guest;
    int r = trap_install(NULL);
    if (r == 0)
        r = trap_thread_begin(&guest->cpu, NULL);
    if (r == 0)
        r = translator_init(&translator, &guest->cpu, CODE_BYTES);
    return r < 0 ? r : jit_lockstep(&guest->cpu, UINT32_MAX, 0);
}

static int teardown(void **state)
{
    struct test_guest *guest = *state;

    trap_thread_end();
    translator_fini(&translator, &guest->cpu);
    test_guest_free(guest);
    return 0;
}

static u64 counter_found;

static void take_counter(void *ctx, const char *group, const char *name, u64 value)
{
    if (strcmp(group, "lockstep") == 0 && strcmp(name, ctx) == 0)
        counter_found = value;
}

static u64 counter(struct test_guest *guest, const char *name)
{
    const struct counter_sink sink = {take_counter, (void *)(uintptr_t)name};

    counter_found = UINT64_MAX;
    cpu_counters_tell(&guest->cpu, &sink);
    return counter_found;
}

/* Stores that add up (twice what they should if one stayed), a call, flags, the stack, vectors. */
static void test_right(void **state)
{
    struct test_guest *guest = *state;

    test_code(guest, TEST_BYTES(0x0f, 0x57, 0xc0,             /* xorps xmm0, xmm0 */
                                0x48, 0x83, 0x03, 0x01,       /* loop: add qword [rbx], 1 */
                                0x11, 0x4b, 0x08,             /* adc [rbx+8], ecx */
                                0x51,                         /* push rcx */
                                0xe8, 0x06, 0, 0, 0,          /* call over */
                                0x59,                         /* pop rcx */
                                0xff, 0xc9,                   /* dec ecx */
                                0x75, 0xee,                   /* jnz loop */
                                0xf4,                         /* hlt */
                                0x0f, 0xc6, 0xc0, 0x1b,       /* over: shufps xmm0, xmm0, 0x1b */
                                0x0f, 0x11, 0x43, 0x10,       /* movups [rbx+16], xmm0 */
                                0xf2, 0x48, 0x0f, 0x2a, 0xc1, /* cvtsi2sd xmm0, rcx */
                                0xc3));                       /* ret */
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), -1);
    assert_int_equal(test_get(guest, TEST_DATA), ROUNDS);
    assert_int_equal(test_get(guest, TEST_DATA + 8), ROUNDS * (ROUNDS + 1) / 2);
    assert_int_equal(test_get(guest, TEST_DATA + 24), 0x40000000); /* 2.0, turned round */
    assert_in_range(counter(guest, "insns"), ROUNDS * 8, ROUNDS * 11 + 2);
    assert_int_equal(counter(guest, "unchecked"), 0);
    assert_int_equal(counter(guest, "disturbed"), 0);
}

/* A device is asked once for each access that the guest makes, and a fault is the guest's. */
static void test_devices_and_faults(void **state)
{
    struct test_guest *guest = *state;

    guest->state.gpr[X86_RBX] = DEVICE;
    /* inc eax; mov edx,[rbx]; inc eax; mov [rbx+4],eax; mov edx,[0x70000000] (not there) */
    test_code(guest, TEST_BYTES(0xff, 0xc0, 0x8b, 0x13, 0xff, 0xc0, 0x89, 0x43, 0x04, 0x8b, 0x14,
                                0x25, 0, 0, 0, 0x70));
    guest->state.gpr[X86_RAX] = 0;
    test_start(guest);
    test_run(guest, EXIT_MMIO_READ);
    guest->cpu.exit.value = 7;
    test_run(guest, EXIT_MMIO_WRITE);
    assert_int_equal(guest->cpu.exit.value, 2);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.gpr[X86_RDX], 7);
    assert_int_equal(guest->state.gpr[X86_RAX], 2);
}

struct observer {
    const u64 *value;
    bool stop, went_back;
    unsigned changes; /* seen */
};

static void run_on(unsigned processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    (void)sched_setaffinity(0, sizeof(set), &set); /* where the host has no other, on this one */
}

static void *observe(void *ctx)
{
    struct observer *observer = ctx;
    u64 last = 0;

    run_on(1);
    while (!__atomic_load_n(&observer->stop, __ATOMIC_RELAXED)) {
        u64 now = __atomic_load_n(observer->value, __ATOMIC_RELAXED);
        observer->went_back |= now < last;
        if (now != last)
            __atomic_store_n(&observer->changes, observer->changes + 1, __ATOMIC_RELAXED);
        last = now;
    }
    return NULL;
}

/* A device that looks on sees what translated code stores, and when it does. */
static void test_stores_are_not_seen_before(void **state)
{
    enum { STORES = 10000, CHANGES = 1000, TRIES = 200 };
    struct test_guest *guest = *state;
    struct observer observer = {.value = (const u64 *)(const void *)(guest->ram + TEST_DATA)};
    u64 tries = 0;
    cpu_set_t before;
    pthread_t thread;

    /* loop: add qword [rbx],1; dec ecx; jnz loop */
    test_code(guest, TEST_BYTES(0x48, 0x83, 0x03, 0x01, 0xff, 0xc9, 0x75, 0xf8));
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, observe, &observer), 0);
    run_on(0);
    do { /* the host may have something else to do than to look on */
        guest->state.gpr[X86_RCX] = STORES;
        test_restart(guest, TEST_CODE);
        test_run(guest, EXIT_HLT);
    } while (++tries < TRIES && __atomic_load_n(&observer.changes, __ATOMIC_RELAXED) < CHANGES);
    __atomic_store_n(&observer.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    (void)sched_setaffinity(0, sizeof(before), &before);
    assert_int_equal(test_get(guest, TEST_DATA), tries * STORES);
    assert_false(observer.went_back);
    assert_in_range(counter(guest, "insns"), tries * STORES * 3, tries * (STORES * 3 + 2));
}

/* What needs its operand aligned. */
static void test_alignment(void **state)
{
    struct test_guest *guest = *state;

    /* xor eax,eax; xor edx,edx; lock cmpxchg16b [rbx]; movaps [rbx+16],xmm0; lock xadd [rbx+60],eax
     */
    test_code(guest, TEST_BYTES(0x31, 0xc0, 0x31, 0xd2, 0xf0, 0x48, 0x0f, 0xc7, 0x0b, 0x0f, 0x29,
                                0x43, 0x10, 0xf0, 0x0f, 0xc1, 0x43, 0x3c));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), -1);
    assert_int_equal(test_get(guest, TEST_DATA + 8), ROUNDS);
}

/* MOVS that repeats what it has just written. */
static void test_overlap(void **state)
{
    struct test_guest *guest = *state;

    /* lea rsi,[rbx]; lea rdi,[rbx+1]; rep movsb */
    test_code(guest, TEST_BYTES(0x48, 0x8d, 0x33, 0x48, 0x8d, 0x7b, 0x01, 0xf3, 0xa4));
    test_put(guest, TEST_DATA, 0x5a);
    guest->state.gpr[X86_RCX] = 100;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->ram[TEST_DATA + 100], 0x5a);
    assert_int_equal(guest->ram[TEST_DATA + 101], 0);
}

/* Flags that an instruction leaves undefined, and that SYSCALL puts into R11 whatever they are. */
static void test_undefined_flags_in_r11(void **state)
{
    /* imul eax,edx; mul edx; bsf eax,edx; tzcnt eax,edx; lzcnt eax,edx; bt eax,edx */
    static const u8 cases[][4] = {{0x0f, 0xaf, 0xc2},       {0xf7, 0xe2, 0x90},
                                  {0x0f, 0xbc, 0xc2},       {0xf3, 0x0f, 0xbc, 0xc2},
                                  {0xf3, 0x0f, 0xbd, 0xc2}, {0x0f, 0xa3, 0xd0}};
    struct test_guest *guest = *state;

    guest->state.msr.star = 8ull << 32;
    guest->state.msr.lstar = TEST_CODE + 0x100;
    guest->ram[TEST_CODE + 0x100] = 0xf4;
    for (unsigned i = 0; i < ARRAY_LEN(cases) * 2; i++) {
        const u8 *insn = cases[i / 2];
        u8 sets = i % 2 ? 0xff : 0; /* or al, ... */
        test_code(guest, TEST_BYTES(0x0c, sets, insn[0], insn[1], insn[2], insn[3] ? insn[3] : 0x90,
                                    0x0f, 0x05));
        guest->state.gpr[X86_RAX] = 0;
        guest->state.gpr[X86_RDX] = 0x81230;
        guest->state.seg[X86_CS] = (struct x86_seg){0, 0xffffffff, 0x33, 0xa0fb};
        guest->state.seg[X86_SS] = (struct x86_seg){0, 0xffffffff, 0x2b, 0xc0f3};
        test_restart(guest, TEST_CODE);
        cpu_group_code_written(&guest->group, TEST_CODE, 64);
        test_run(guest, EXIT_HLT);
        assert_int_equal(guest->state.rip, TEST_CODE + 0x101);
    }
}

/* A return that goes elsewhere than its call came from, to code that looks at the carry flag: what
 * the predicted place would do with flags must not matter. */
static void test_flags_survive_misprediction(void **state)
{
    struct test_guest *guest = *state;

    test_code(guest, TEST_BYTES(0x51, 0x59,             /* push rcx; pop rcx: fills the TLB */
                                0xe8, 0x06, 0, 0, 0,    /* call f */
                                0x83, 0xc0, 0x01,       /* flags are dead here: add eax, 1 */
                                0xf4, 0x90, 0x90,       /* hlt */
                                0x48, 0x83, 0xc4, 0x08, /* f: add rsp, 8 */
                                0x68, 0x20, 0, 0x01, 0, /* push there */
                                0xf9, 0xc3,             /* stc; ret */
                                0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, /* */
                                0x83, 0xd2, 0x00)); /* there: adc edx, 0 */
    guest->state.gpr[X86_RAX] = guest->state.gpr[X86_RDX] = 0;
    for (unsigned i = 1; i <= 3; i++) {
        guest->state.gpr[X86_RSP] = TEST_STACK;
        test_restart(guest, TEST_CODE);
        test_run(guest, EXIT_HLT);
        assert_int_equal(test_trapped(guest), -1);
        assert_int_equal(guest->state.gpr[X86_RAX], 0);
        assert_int_equal(guest->state.gpr[X86_RDX], i);
    }
}

/* Changes the constant of `add eax, 0x11223344` in translated code. */
static void spoil(void)
{
    static const u8 bytes[] = {0x44, 0x33, 0x22, 0x11};
    u8 *code = translator.own.code.write;
    unsigned found = 0;

    for (size_t i = 0; i + sizeof(bytes) < translator.own.code.bytes; i++) {
        if (memcmp(code + i, bytes, sizeof(bytes)) == 0) {
            code[i]++;
            found++;
        }
    }
    assert_in_range(found, 1, 4);
}

static void test_spoiled(void **state)
{
    struct test_guest *guest = *state;

    test_code(guest, TEST_BYTES(0x05, 0x44, 0x33, 0x22, 0x11, 0xff, 0xc9, 0x75, 0xf7));
    guest->state.gpr[X86_RAX] = 0;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], (u32)(ROUNDS * 0x11223344ull));
    spoil();
    guest->state.gpr[X86_RCX] = ROUNDS;
    test_restart(guest, TEST_CODE);
    cpu_run(&guest->cpu);
    assert_int_equal(guest->cpu.exit.kind, EXIT_FAILED);
    assert_non_null(strstr(guest->cpu.exit.reason, "differ"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_right),
                                       TEST(test_devices_and_faults),
                                       TEST(test_stores_are_not_seen_before),
                                       TEST(test_alignment),
                                       TEST(test_overlap),
                                       TEST(test_undefined_flags_in_r11),
                                       TEST(test_flags_survive_misprediction),
                                       TEST(test_spoiled)};
    return cmocka_run_group_tests_name("lockstep", tests, NULL, NULL);
}
