/*
 * dbt/jit.h - the translator's door: guest code in, host code run.
 *
 * Translated code keeps 11 guest registers and RSP in host registers, guest flags in host flags,
 * and vector state in the host's vector registers. It reaches guest memory through the first-level
 * TLB of struct cpu, and leaves to the interpreter's handlers for whatever it does not translate.
 *
 * The vCPUs of a group share translated code, its links and tables; return stacks and tables of
 * targets are each vCPU's own. Overwritten code is found by the group's log (dbt/cpu.h).
 *
 * Runs   on the vCPU's thread.
 * Trust  guest code is hostile: translated code reaches host memory only through a checked TLB
 * entry.
 */
#ifndef DBT_JIT_H
#define DBT_JIT_H

#include "base/types.h"

struct cpu;
struct cpu_group;
struct jit;
struct codemem;

/* For each privilege a stack of return addresses, with at least a page below it that cannot be
 * accessed. Borrowed. */
struct jit_stacks {
    u8 *at[3];
    size_t bytes; /* of each */
};

/* Makes what the vCPUs of GROUP share, over MEMORY, which is borrowed. -ENOMEM; -EINVAL when there
 * is too little code memory. */
MUST_CHECK int jit_new(struct cpu_group *group, const struct codemem *memory, struct jit **ret_jit);
/* After the last vCPU has left. NULL is allowed. */
void jit_free(struct jit *jit);

/* From now on CPU, which does not run now, runs translated code; jit_leave ends that. -ENOMEM. */
MUST_CHECK int jit_join(struct cpu *cpu, struct jit *jit, const struct jit_stacks *stacks);
void jit_leave(struct cpu *cpu);

/* Whether the vCPU's present mode is one that can be translated. */
bool jit_usable(const struct cpu *cpu);

/* Runs translated code from cpu->rip until the run loop must look (cpu->attention, cpu->special, a
 * mode that cannot be translated), or until the next instruction is one that must be interpreted:
 * then it returns true. Leaves through cpu_raise and cpu_exit as handlers do. */
bool jit_run(struct cpu *cpu);

/* For tests: whether arithmetic flags are right at each instruction, from now on. Else those are
 * not that the code which follows overwrites, were it to be reached: an exception that strikes
 * before shows other ones than a processor would. It costs up to twice the time. */
void jit_exact_flags(struct cpu *cpu, bool exact);

/* For tests: whether every block is to be made as one that runs often, from now on. */
void jit_heat(struct cpu *cpu, bool all);

/* For the signal handler: TRAP (a vector), the accessed ADDRESS, and pointers to the interrupted
 * RIP, RSP and R9. True when the trap was translated code's: the context is changed so that it goes
 * on. */
bool jit_trap(const struct cpu *cpu, u64 address, u64 *pc, u64 *sp, u64 *r9);

#endif
