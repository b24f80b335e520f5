/*
 * base/clock.h - the host's clocks, for pure code; bound at link (host/clock.c in hosted programs).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/types.h"

/* Nanoseconds since an arbitrary start; never steps back; runs at the TSC's rate. */
u64 clock_monotonic_ns(void);
/* Nanoseconds since 1970-01-01 00:00 UTC; may step. */
u64 clock_realtime_ns(void);
/* Nanoseconds that the calling thread has waited for a processor while it could have run, since it
 * began. 0 where the host does not tell. Costs some microseconds. */
u64 clock_thread_waited_ns(void);
/* The host's time stamp counter rate in Hz, found once at start; never 0. */
u64 clock_tsc_hz(void);
/* The host's time stamp counter now. */
static inline u64 clock_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

#endif
