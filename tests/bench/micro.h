/*
 * tests/bench/micro.h - the micro-benchmarks that run natively and in guests: one table, one clock.
 *
 * A benchmark does COUNT units of work and returns a value that depends on all of it, so that
 * nothing can be optimized away and a wrong answer is seen. The runner doubles COUNT until a round
 * is long enough, then reports the best round's nanoseconds a unit.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stdint.h>

struct micro {
    const char *name;
    const char *group; /* integer, vector, system */
    uint64_t (*run)(uint64_t count);
};

extern const struct micro micro_integer[];
extern const struct micro micro_vector[];
extern const struct micro micro_system[];

/* A small generator of pseudo-random numbers (xorshift64*). */
static inline uint64_t micro_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

#endif
