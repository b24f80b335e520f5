/*
 * dbt/interp/run_priv.h - what the run loop and its helpers tell one another.
 */
#ifndef DBT_INTERP_RUN_PRIV_H
#define DBT_INTERP_RUN_PRIV_H

#include "dbt/interp/op_priv.h"

/* Runs blocks until something must be done outside; cpu->exit says what. */
void run_blocks(struct cpu *cpu);

/* Recomputes cpu->special and what hangs on the mode; cpu_mode_update calls it. */
void run_mode_follow(struct cpu *cpu);
/* Only cpu->special. */
void run_special_follow(struct cpu *cpu);

#endif
