/*
 * dbt/interp.h - the interpreter's door for the translator.
 */
#ifndef DBT_INTERP_H
#define DBT_INTERP_H

#include "base/types.h"

struct cpu;
struct insn;
struct insn_desc;

/* Executes the one instruction at cpu->rip; rflags is a full image before and after. True when the
 * next one in memory follows and nothing else is asked for. Faults and exits leave as from a
 * handler. COUNTS is one of the arrays of cpu->counters that count instructions by their form. */
bool interp_single(struct cpu *cpu, u64 *counts);

/* An instruction made ready to be run again and again without a look at its bytes:
 * interp_ready_make fills INTERP_READY_BYTES at PLACE, aligned to 8, which may be read by many
 * vCPUs afterwards and must not move. False for what must not be kept so: vector instructions. */
enum { INTERP_READY_BYTES = 320 };
/* INNER: whoever runs it goes on with the next instruction before he looks for interrupts, so that
 * an interrupt shadow (MOV SS) may pass unnoticed. */
MUST_CHECK bool interp_ready_make(struct cpu *cpu, const struct insn *insn, bool inner,
                                  void *place);
/* interp_single with the instruction at PLACE, which is what stands at cpu->rip. */
bool interp_ready_run(struct cpu *cpu, const void *place);

/* What that instruction is: the table's first descriptor for what is none. Raises fetch faults. */
const struct insn_desc *interp_next(struct cpu *cpu);

#endif
