/*
 * dbt/jit/test_group.h - sequences for jit_test whose memory operands can be tested together:
 * chains on few base registers that begin near the ends of pages, and loops that walk over them.
 */
#ifndef DBT_JIT_TEST_GROUP_H
#define DBT_JIT_TEST_GROUP_H

#include "x86/regs.h"

/* What a sequence is made from: a source of random numbers, and addresses before which registers
 * are to point. */
struct test_group {
    u64 (*random)(void);
    u64 pages[8];
    unsigned page_count;
};

/* Sets the registers that sequences use as bases; RSP is left alone. */
void test_group_state(const struct test_group *group, struct x86_state *state);
/* A sequence of 64-bit code to AT, at most LIMIT bytes; its length. It falls out at its end. */
unsigned test_group_sequence(const struct test_group *group, u8 *at, unsigned limit);

#endif
