/*
 * dbt/jit/test_system.h - system instructions in jit_test's random sequences.
 */
#ifndef DBT_JIT_TEST_SYSTEM_H
#define DBT_JIT_TEST_SYSTEM_H

#include "x86/decode.h"
#include "x86/regs.h"

/* Whether instructions of DESC, privileged or not, may stand in a sequence of CODE_BYTES code. */
bool test_system_usable(const struct insn_desc *desc, unsigned code_bytes);
/* Makes what they read and what they need differ from case to case. A SYSCALL ends at ENTRY. */
void test_system_state(struct x86_state *state, u64 (*random)(void), u64 entry);
/* Whether what they change is the same, and general registers are. */
bool test_system_same(const struct x86_state *a, const struct x86_state *b);

#endif
