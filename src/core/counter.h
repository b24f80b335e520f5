/*
 * core/counter.h - how a part tells its counters: one call for each name and value.
 *
 * Counters only ever grow. They are read while their owner goes on counting, so values that belong
 * together may be a moment apart.
 */
#ifndef CORE_COUNTER_H
#define CORE_COUNTER_H

#include "base/types.h"

struct counter_sink {
    /* GROUP and NAME are lower case without spaces and live only for the call. */
    void (*take)(void *ctx, const char *group, const char *name, u64 value);
    void *ctx; /* borrowed */
};

static inline void counter_tell(const struct counter_sink *sink, const char *group,
                                const char *name, u64 value)
{
    sink->take(sink->ctx, group, name, value);
}

#endif
