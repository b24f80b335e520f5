/*
 * vcpu/dbt/tell_test.c - what the translator tells of itself: its counters, and each block to a
 * tracer.
 */
#include "core/counter.h"
#include "dbt/counters.h"
#include "dbt/interp/interp_test.h"
#include "dbt/jit.h"
#include "dbt/trace.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"

enum { CODE_BYTES = 1 << 20, ROUNDS = 10 };

static struct translator translator;

static int setup(void **state)
{
    struct test_guest *guest = test_guest_new();

    test_long_mode(guest);
    guest->state.gpr[X86_RBX] = TEST_DATA;
    *state = guest;
    int r = trap_install(NULL);
    if (r == 0)
        r = trap_thread_begin(&guest->cpu, NULL);
    return r < 0 ? r : translator_init(&translator, &guest->cpu, CODE_BYTES);
}

static int teardown(void **state)
{
    struct test_guest *guest = *state;

    trap_thread_end();
    translator_fini(&translator, &guest->cpu);
    test_guest_free(guest);
    return 0;
}

/* loop: cmovc eax,edx; mov [rbx],ecx; str eax (has no translation); dec ecx; jnz loop */
static void run_loop(struct test_guest *guest)
{
    test_code(guest,
              TEST_BYTES(0x0f, 0x42, 0xc2, 0x89, 0x0b, 0x0f, 0x00, 0xc8, 0xff, 0xc9, 0x75, 0xf4));
    guest->state.gpr[X86_RCX] = ROUNDS;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RCX], 0);
}

struct wanted {
    const char *group, *name;
    u64 least, most;
    bool seen;
};

static void take_counter(void *ctx, const char *group, const char *name, u64 value)
{
    for (struct wanted *wanted = ctx; wanted->group; wanted++) {
        if (strcmp(wanted->group, group) != 0 || strcmp(wanted->name, name) != 0)
            continue;
        if (wanted->seen || value < wanted->least || value > wanted->most)
            fail_msg("%s.%s is %llu", group, name, (unsigned long long)value);
        wanted->seen = true;
    }
}

static void test_counters(void **state)
{
    struct test_guest *guest = *state;
    struct wanted wanted[] = {
        {"jit", "blocks", 1, 3, false},         {"jit", "insns", 5, 9, false},
        {"jit", "guest_bytes", 10, 20, false},  {"jit", "hot_bytes", 20, 1000, false},
        {"jit", "cold_bytes", 20, 1000, false}, {"jit", "translate_tsc", 100, UINT64_MAX, false},
        {"jit", "links", 1, 1, false},          {"interpret", "str", ROUNDS, ROUNDS, false},
        {"miss", "mov", 1, 1, false},           {"mmu", "tlb_fills", 1, 10, false},
        {"exit", "hlt", 1, 1, false},           {NULL, NULL, 0, 0, false}};
    const struct counter_sink sink = {take_counter, wanted};

    run_loop(guest);
    cpu_counters_tell(&guest->cpu, &sink);
    for (unsigned i = 0; wanted[i].group; i++)
        if (!wanted[i].seen)
            fail_msg("%s.%s is not told", wanted[i].group, wanted[i].name);
    assert_true(insn_desc_count <= CPU_INSN_FORMS);
}

struct told {
    unsigned blocks, insns, runs;
    u64 rip;
    u32 live;
    bool has_code;
};

static bool wants_all(void *ctx, u64 rip)
{
    return true;
}

static void take_block(void *ctx, const struct trace_block *block)
{
    struct told *told = ctx;

    if (told->blocks++ > 0)
        return;
    told->rip = block->rip;
    told->insns = block->insn_count;
    told->live = block->insns[3].live_flags;
    told->has_code = block->insns[1].code > block->code && block->hot_bytes > 0;
}

static void take_runs(void *ctx, unsigned cpu, unsigned number, u64 rip, u64 count)
{
    struct told *told = ctx;

    if (rip == told->rip)
        told->runs += (unsigned)count;
}

/* One block, of which a tracer hears what it is and how often it ran. */
static void test_trace(void **state)
{
    struct test_guest *guest = *state;
    struct told told = {0};
    const struct jit_tracer tracer = {wants_all, take_block, take_runs, &told};

    assert_int_equal(jit_trace(&guest->cpu, &tracer), 0);
    run_loop(guest);
    translator_fini(&translator, &guest->cpu);
    assert_int_equal(told.rip, TEST_CODE);
    assert_int_equal(told.insns, 6);
    assert_true(told.has_code);
    assert_int_equal(told.live & X86_CF,
                     X86_CF); /* DEC keeps it, the next round's CMOVC reads it */
    assert_int_equal(told.runs, ROUNDS);
}

static void take_block_with_vectors(void *ctx, const struct trace_block *block)
{
    unsigned *blocks = ctx;

    ++*blocks;
    __asm__ volatile("pcmpeqd %%xmm1, %%xmm1" : : : "xmm1");
}

static void take_no_runs(void *ctx, unsigned cpu, unsigned number, u64 rip, u64 count)
{
}

static void take_given_up(void *ctx, const char *group, const char *name, u64 value)
{
    if (strcmp(name, "lines_given_up") == 0)
        *(u64 *)ctx = value;
}

/* movq xmm1,rdx
 * loop: xor ebx,0x1000; mov eax,[rbx]; movq rsi,xmm1; xor rsi,rdx; or rdi,rsi; dec ecx; jnz loop
 * The load's line misses each time, so that the block is made again in the middle of it: a tracer
 * that uses vector registers then takes nothing of the guest's. */
static void test_trace_amid(void **state)
{
    enum { FILLS = 100000, MARK = 0x123456789 };
    struct test_guest *guest = *state;
    unsigned blocks = 0, tries = 0;
    u64 given_up = 0;
    const struct counter_sink sink = {take_given_up, &given_up};
    const struct jit_tracer tracer = {wants_all, take_block_with_vectors, take_no_runs, &blocks};

    assert_int_equal(jit_trace(&guest->cpu, &tracer), 0);
    jit_heat(&guest->cpu, true);
    test_code(guest, TEST_BYTES(0x66, 0x48, 0x0f, 0x6e, 0xca, 0x81, 0xf3, 0, 0x10, 0, 0, 0x8b, 0x03,
                                0x66, 0x48, 0x0f, 0x7e, 0xce, 0x48, 0x31, 0xd6, 0x48, 0x09, 0xf7,
                                0xff, 0xc9, 0x75, 0xe9));
    guest->state.gpr[X86_RDI] = 0;
    do { /* lines are looked at only where misses follow each other fast, so not on a busy host */
        guest->state.gpr[X86_RCX] = FILLS;
        guest->state.gpr[X86_RDX] = MARK;
        test_restart(guest, TEST_CODE);
        test_run(guest, EXIT_HLT);
        assert_int_equal(guest->state.gpr[X86_RDI], 0);
        cpu_counters_tell(&guest->cpu, &sink);
    } while (given_up == 0 && ++tries < 100);
    translator_fini(&translator, &guest->cpu);
    assert_int_not_equal(given_up, 0);
    assert_true(blocks > 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_counters), TEST(test_trace),
                                       TEST(test_trace_amid)};
    return cmocka_run_group_tests_name("tell", tests, NULL, NULL);
}
