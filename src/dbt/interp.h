/*
 * dbt/interp.h - the interpreter's door for the translator.
 */
#ifndef DBT_INTERP_H
#define DBT_INTERP_H

#include "base/types.h"

struct cpu;
struct insn_desc;

/* Executes the one instruction at cpu->rip; rflags is a full image before and after. True when the
 * next one in memory follows and nothing else is asked for. Faults and exits leave as from a
 * handler. COUNTS is one of the arrays of cpu->counters that count instructions by their form. */
bool interp_single(struct cpu *cpu, u64 *counts);

/* What that instruction is: the table's first descriptor for what is none. Raises fetch faults. */
const struct insn_desc *interp_next(struct cpu *cpu);

#endif
