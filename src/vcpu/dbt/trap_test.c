/*
 * vcpu/dbt/trap_test.c - a guest's floating-point exception comes back as its own; the program's
 * own faults still end it.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "dbt/simd/rig_test.h"
#include "vcpu/dbt/trap.h"

/* divsd xmm0, xmm1 with 1.0 / 0.0, division by zero unmasked. */
static void *divide(void *trap)
{
    struct rig_regs regs;

    rig_randomize(&regs, false);
    memset(regs.xsave + IMAGE_XMM, 0, 32);
    store_le64(regs.xsave + IMAGE_XMM, 0x3ff0000000000000ull);
    store_le32(regs.xsave + IMAGE_MXCSR, MXCSR_DEFAULT & ~0x200u);
    if (trap_thread_begin(rig_cpu, NULL) != 0)
        return NULL;
    rig_simd((const u8 *)"\xf2\x0f\x5e\xc1", 4, &regs);
    trap_thread_end();
    *(unsigned *)trap = regs.trap;
    return NULL;
}

static void test_guest_exception(void **state)
{
    unsigned trap = 0;
    pthread_t thread;

    assert_int_equal(trap_install(NULL), 0);
    divide(&trap);
    assert_int_equal(trap, X86_XM);
    trap = 0;
    assert_int_equal(pthread_create(&thread, NULL, divide, &trap), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(trap, X86_XM);
}

/* How a child that does WHAT ends: the number of the signal. */
static int child_signal(int what)
{
    int *volatile nowhere = (int *)16;
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (trap_install(NULL) != 0 || trap_thread_begin(rig_cpu, NULL) != 0)
            _exit(1);
        if (what == SIGILL)
            __asm__ volatile("ud2");
        else if (what == SIGSEGV)
            *nowhere = 1;
        else
            raise(what);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_own_faults(void **state)
{
    assert_int_equal(child_signal(SIGILL), SIGILL);
    assert_int_equal(child_signal(SIGSEGV), SIGSEGV);
    assert_int_equal(child_signal(SIGFPE), SIGFPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_guest_exception),
                                       cmocka_unit_test(test_own_faults)};
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
