/*
 * back/entropy.h - random bytes for the guest.
 *
 * Threads: any. Never blocks after the host's own pool is ready; never fails.
 */
#ifndef BACK_ENTROPY_H
#define BACK_ENTROPY_H

#include "base/types.h"

struct entropy;

struct entropy_ops {
    void (*fill)(struct entropy *entropy, void *to, size_t bytes);
    void (*free)(struct entropy *entropy);
};

struct entropy {
    const struct entropy_ops *ops;
};

static inline void entropy_fill(struct entropy *entropy, void *to, size_t bytes)
{
    entropy->ops->fill(entropy, to, bytes);
}

#endif
