/*
 * dbt/lockstep.h - a debug mode in which the interpreter checks what translated code does, block by
 * block, while a guest runs.
 */
#ifndef DBT_LOCKSTEP_H
#define DBT_LOCKSTEP_H

#include "base/types.h"

struct cpu;

/* From now on, until jit_fini: each block's first FIRST runs are checked, and then every EVERYth
 * (0: no more). The first difference is logged and ends the run with EXIT_FAILED. For VMs with one
 * vCPU: another one's stores look like differences. -ENOMEM. */
MUST_CHECK int jit_lockstep(struct cpu *cpu, u32 first, u32 every);

#endif
