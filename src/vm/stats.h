/*
 * vm/stats.h - the engine's counters as a text file, for people who make the engine faster.
 */
#ifndef VM_STATS_H
#define VM_STATS_H

#include "base/err.h"

struct engine;

/* Writes the counters of CPU_COUNT vCPUs to PATH, in place of what was there: a line for each,
 * "cpu0 jit.blocks 123". Any thread. -errno. */
MUST_CHECK int stats_write(const char *path, struct engine *engine, unsigned cpu_count,
                           struct err *err);

#endif
