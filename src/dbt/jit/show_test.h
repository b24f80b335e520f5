/*
 * dbt/jit/show_test.h - what jit_test prints of a case in which the engines differ.
 */
#ifndef DBT_JIT_SHOW_TEST_H
#define DBT_JIT_SHOW_TEST_H

#include "x86/regs.h"

/* Where the interpreter (A) and the translator (B) came from state FROM, a register a line. */
void show_states(const struct x86_state *from, const struct x86_state *a,
                      const struct x86_state *b);
/* The instructions at CODE up to a HLT, or to the first that is none. */
void show_code(const u8 *code, unsigned code_bytes);

#endif
