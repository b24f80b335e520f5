/*
 * tests/fuzz/fuzz.h - what a fuzzer offers, and its two drivers.
 *
 * A fuzzer is one file with fuzz_seed() and LLVMFuzzerTestOneInput(). With driver.c it becomes a
 * test that mutates its seeds for a fixed number of rounds, the same every time; with clang's
 * -fsanitize=fuzzer it runs under coverage (tests/fuzz/run does that when clang is there).
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/types.h"

enum { FUZZ_INPUT_MAX_BYTES = 65536 };

/* Writes seed number INDEX (from 0) to TO; returns its size, or 0 when there is no such seed. */
size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES]);

/* One run; the name is libFuzzer's. Returns 0. A finding is a crash or a failed assert. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes);

#endif
