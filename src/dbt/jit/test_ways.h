/*
 * dbt/jit/test_ways.h - calls, returns and indirect branches with live flags, for jit_test.
 */
#ifndef DBT_JIT_TEST_WAYS_H
#define DBT_JIT_TEST_WAYS_H

#include "base/types.h"

/* Fills two pages of 64-bit code at FIRST and SECOND, the second of which follows the first where
 * the guest has them, with routines that call one another, and what calls them and ends with HLT;
 * the offset of that in the first page. The stack is used as far as 1 KiB down. */
unsigned test_ways_make(u64 (*random)(void), u8 *first, u8 *second);

#endif
