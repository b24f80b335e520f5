/*
 * vcpu/dbt/trap.c - host signals that belong to the guest.
 *
 * Runs   the handler on the vCPU's thread, on its signal stack. The kernel has put the interrupted
 * vector state into the signal frame, exception flags included, and restores it on return. Trust
 * the interrupted code is the guest's doing; simd_trap decides by the program counter.
 */
#include "vcpu/dbt/trap.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "dbt/jit.h"
#include "dbt/simd.h"

enum { STACK_BYTES = 64 << 10 };

static _Thread_local struct {
    struct cpu *cpu; /* borrowed */
    void *stack;     /* owned */
} trap_thread;

static void trap_handle(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    u64 pc = (u64)regs[REG_RIP], sp = (u64)regs[REG_RSP], result = (u64)regs[REG_RAX];

    u64 r9 = (u64)regs[REG_R9];

    /* A signal that somebody sent says nothing about the code that it interrupted. */
    if (info->si_code > 0 &&
        jit_trap(trap_thread.cpu, (u64)(uintptr_t)info->si_addr, &pc, &sp, &r9)) {
        regs[REG_RIP] = (greg_t)pc;
        regs[REG_RSP] = (greg_t)sp;
        regs[REG_R9] = (greg_t)r9;
        return;
    }
    if (info->si_code > 0 &&
        simd_trap(trap_thread.cpu, (unsigned)regs[REG_TRAPNO], &pc, &sp, &result)) {
        regs[REG_RIP] = (greg_t)pc;
        regs[REG_RSP] = (greg_t)sp;
        regs[REG_RAX] = (greg_t)result;
        return;
    }
    /* A defect of this program: the instruction faults again and now ends the process, or, when the
     * signal was sent, the sender has his way. */
    signal(number, SIG_DFL);
    if (info->si_code <= 0)
        raise(number);
}

int trap_install(struct err *err)
{
    static const int signals[] = {SIGFPE, SIGILL, SIGSEGV};
    struct sigaction action = {.sa_sigaction = trap_handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        if (sigaction(signals[i], &action, NULL) != 0)
            return err_set(err, -errno, "vCPU: catching signal %d: %s", signals[i],
                           strerror(errno));
    }
    return 0;
}

int trap_thread_begin(struct cpu *cpu, struct err *err)
{
    trap_thread.cpu = cpu;
    if (trap_thread.stack != NULL)
        return 0;
    stack_t stack = {.ss_size = STACK_BYTES};
    stack.ss_sp = trap_thread.stack = malloc(STACK_BYTES);
    if (stack.ss_sp == NULL)
        return err_set(err, -ENOMEM, "vCPU: no memory for a signal stack");
    if (sigaltstack(&stack, NULL) != 0) {
        int code = -errno;
        free(trap_thread.stack);
        trap_thread.stack = NULL;
        return err_set(err, code, "vCPU: setting the signal stack: %s", strerror(-code));
    }
    return 0;
}

void trap_thread_end(void)
{
    stack_t off = {.ss_flags = SS_DISABLE};

    trap_thread.cpu = NULL;
    if (trap_thread.stack == NULL)
        return;
    sigaltstack(&off, NULL);
    free(trap_thread.stack);
    trap_thread.stack = NULL;
}
