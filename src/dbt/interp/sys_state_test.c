/*
 * dbt/interp/sys_state_test.c - tests of loading state: what must be refused is, what is accepted
 * comes back the same, and no accepted state brings the interpreter down.
 */
#include "dbt/interp/interp_test.h"

#include <signal.h>
#include <sys/time.h>

enum { FUZZ_ROUNDS = 400, FUZZ_RUN_US = 1000 };

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

static void state_comes_back(void **state)
{
    struct test_guest *guest = *state;
    struct x86_state *before = &guest->state;
    struct x86_state after;
    test_long_mode(guest);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        before->gpr[i] = 0x0101010101010101 * i;
    before->rflags |= X86_CF | X86_OF | X86_DF | X86_IF | X86_ID;
    before->seg[X86_FS].base = 0xffff800012345678;
    before->msr.kernel_gs_base = 0x7fff12345678;
    before->msr.tsc_aux = 7;
    before->cr2 = 0xdeadbeef000;
    before->cr8 = 9;
    before->dr[3] = 0x1234;
    before->interrupt_shadow = true;
    before->nmi_blocked = true;
    before->event = (struct x86_event){
        .pending = true, .vector = 14, .has_error = true, .error = 2};
    before->tsc = 1ull << 60;
    test_start(guest);
    cpu_get_state(&guest->cpu, &after);
    assert_memory_equal(after.gpr, before->gpr, sizeof(after.gpr));
    assert_int_equal(after.rip, before->rip);
    assert_int_equal(after.rflags, before->rflags);
    assert_memory_equal(after.seg, before->seg, sizeof(after.seg));
    assert_memory_equal(&after.msr, &before->msr, sizeof(after.msr));
    assert_memory_equal(after.dr, before->dr, sizeof(after.dr));
    assert_memory_equal(&after.event, &before->event, sizeof(after.event));
    assert_int_equal(after.cr2, before->cr2);
    assert_int_equal(after.cr8, before->cr8);
    assert_true(after.interrupt_shadow && after.nmi_blocked && !after.nmi_pending);
    assert_true(after.tsc >= before->tsc && after.tsc - before->tsc < 1ull << 40);
}

/* Each changes one thing of a good long-mode state into what no processor can be in. */
static void bad_paging_without_protection(struct x86_state *state)
{
    state->cr0 &= ~(u64)X86_CR0_PE;
}

static void bad_lma(struct x86_state *state)
{
    state->msr.efer &= ~(u64)X86_EFER_LMA;
}

static void bad_no_pae(struct x86_state *state)
{
    state->cr4 &= ~(u64)X86_CR4_PAE;
}

static void bad_cr0_high(struct x86_state *state)
{
    state->cr0 |= 1ull << 40;
}

static void bad_cr3(struct x86_state *state)
{
    state->cr3 |= 1ull << 60;
}

static void bad_cr4(struct x86_state *state)
{
    state->cr4 |= 1ull << 31;
}

static void bad_efer(struct x86_state *state)
{
    state->msr.efer |= X86_EFER_SVME;
}

static void bad_xcr0(struct x86_state *state)
{
    state->xcr0 = 4;
}

static void bad_base(struct x86_state *state)
{
    state->seg[X86_GS].base = 1ull << 50;
}

static void bad_code_base(struct x86_state *state)
{
    state->seg[X86_CS].base = 1ull << 32;
}

static void bad_code_size(struct x86_state *state)
{
    state->seg[X86_CS].attr |= X86_SEG_BIG;
}

static void bad_virtual_8086(struct x86_state *state)
{
    state->rflags |= X86_VM;
}

static void bad_activity(struct x86_state *state)
{
    state->activity = 9;
}

static void bad_event(struct x86_state *state)
{
    state->event = (struct x86_event){.pending = true, .vector = 200};
}

static void bad_lstar(struct x86_state *state)
{
    state->msr.lstar = 1ull << 47;
}

static void impossible_states_are_refused(void **state)
{
    static void (*const breaks[])(struct x86_state *) = {
        bad_paging_without_protection,
        bad_lma,
        bad_no_pae,
        bad_cr0_high,
        bad_cr3,
        bad_cr4,
        bad_efer,
        bad_xcr0,
        bad_base,
        bad_code_base,
        bad_code_size,
        bad_virtual_8086,
        bad_activity,
        bad_event,
        bad_lstar,
    };
    struct test_guest *guest = *state;
    test_long_mode(guest);
    guest->state.gpr[X86_RAX] = 1;
    test_start(guest);
    for (unsigned i = 0; i < ARRAY_LEN(breaks); i++) {
        struct x86_state changed = guest->state;
        changed.gpr[X86_RAX] = 2;
        breaks[i](&changed);
        assert_int_not_equal(cpu_set_state(&guest->cpu, &changed), 0);
        assert_int_equal(guest->cpu.gpr[X86_RAX], 1); /* nothing was loaded */
    }
}

/* ---- random states ---- */

static struct cpu *fuzz_cpu;

static void fuzz_stop(int signal)
{
    cpu_request(fuzz_cpu, ATTENTION_EXIT);
}

static u64 fuzz_random(u64 *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void fuzz_state(struct x86_state *state, u64 *seed)
{
    unsigned changes = 1 + (unsigned)(fuzz_random(seed) % 6);
    while (changes-- > 0) {
        u64 at = fuzz_random(seed) % (offsetof(struct x86_state, xsave) / 4);
        u32 value = (u32)fuzz_random(seed);
        if (fuzz_random(seed) % 2 == 0) { /* one bit of what is there */
            u32 old;
            memcpy(&old, (u8 *)state + at * 4, 4);
            value = old ^ 1u << value % 32;
        }
        memcpy((u8 *)state + at * 4, &value, 4);
    }
    /* A bool has two values only, as who reads a snapshot must see to. */
    state->event.pending = state->event.has_error = false;
    state->interrupt_shadow = state->nmi_pending = state->nmi_blocked = false;
}

static void accepted_states_run(void **state)
{
    struct test_guest *guest = *state;
    u64 seed = 0x9e3779b97f4a7c15;
    unsigned accepted = 0;
    struct sigaction action = {.sa_handler = fuzz_stop};
    struct itimerval timer = {{0, FUZZ_RUN_US}, {0, FUZZ_RUN_US}}, off = {{0, 0}, {0, 0}};
    fuzz_cpu = &guest->cpu;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
        if (round % 2)
            test_long_mode(guest);
        else
            test_protected_mode(guest);
        for (unsigned i = 0; i < 64; i++)
            test_put(guest, TEST_CODE + i * 8, fuzz_random(&seed));
        struct x86_state changed = guest->state;
        fuzz_state(&changed, &seed);
        if (cpu_set_state(&guest->cpu, &changed) != 0)
            continue;
        accepted++;
        cpu_run(&guest->cpu);
        struct x86_state after;
        cpu_get_state(&guest->cpu, &after);
        assert_int_equal(cpu_set_state(&guest->cpu, &after), 0);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    assert_in_range(accepted, FUZZ_ROUNDS / 4, FUZZ_ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(state_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(impossible_states_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(accepted_states_run, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
