/*
 * back/chr/ring.h - the last bytes that went by, for a console that somebody attaches to late.
 */
#ifndef BACK_CHR_RING_H
#define BACK_CHR_RING_H

#include "base/types.h"

struct ring {
    u8 *data; /* owned */
    size_t capacity_bytes;
    size_t first, bytes;
};

/* -ENOMEM when memory is exhausted; CAPACITY_BYTES is at least 1. */
MUST_CHECK int ring_init(struct ring *ring, size_t capacity_bytes);
void ring_fini(struct ring *ring);

/* Appends; the oldest bytes give way. */
void ring_put(struct ring *ring, const void *data, size_t bytes);
/* The history as two runs of bytes, oldest first; either may be empty. */
void ring_view(const struct ring *ring, const u8 *ret_runs[2], size_t ret_bytes[2]);

#endif
