/*
 * vcpu/dbt/trap.h - host signals that belong to the guest: floating-point exceptions (and refusals)
 * that strike inside generated code.
 *
 * Threads: trap_install once, before the first vCPU thread; the others on each vCPU thread. A
 * signal that is no guest's does what it would do without this module: it ends the process.
 */
#ifndef VCPU_DBT_TRAP_H
#define VCPU_DBT_TRAP_H

#include "base/err.h"
#include "base/types.h"

struct cpu;

/* Catches SIGFPE, SIGILL and SIGSEGV, process-wide. Repeating it is harmless. */
MUST_CHECK int trap_install(struct err *err);

/* From now on, traps in generated code on the calling thread are CPU's. Gives the thread a signal
 * stack of its own, because generated code may have any stack. -ENOMEM. */
MUST_CHECK int trap_thread_begin(struct cpu *cpu, struct err *err);
/* Ends that; before the thread ends or CPU is freed. */
void trap_thread_end(void);

#endif
