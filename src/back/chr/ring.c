/*
 * back/chr/ring.c - the last bytes that went by.
 *
 * Runs   wherever its owner does; it has no lock of its own.
 */
#include "back/chr/ring.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"

int ring_init(struct ring *ring, size_t capacity_bytes)
{
    *ring = (struct ring){.data = alloc_zero(capacity_bytes), .capacity_bytes = capacity_bytes};
    return ring->data != NULL ? 0 : -ENOMEM;
}

void ring_fini(struct ring *ring)
{
    alloc_free(ring->data);
    *ring = (struct ring){0};
}

void ring_put(struct ring *ring, const void *data, size_t bytes)
{
    const u8 *from = data;
    if (bytes > ring->capacity_bytes) {
        from += bytes - ring->capacity_bytes;
        bytes = ring->capacity_bytes;
    }
    size_t last = (ring->first + ring->bytes) % ring->capacity_bytes;
    size_t run = min_u64(bytes, ring->capacity_bytes - last);
    memcpy(ring->data + last, from, run);
    memcpy(ring->data, from + run, bytes - run);
    ring->bytes += bytes;
    if (ring->bytes > ring->capacity_bytes) {
        ring->first = (ring->first + ring->bytes - ring->capacity_bytes) % ring->capacity_bytes;
        ring->bytes = ring->capacity_bytes;
    }
}

void ring_view(const struct ring *ring, const u8 *ret_runs[2], size_t ret_bytes[2])
{
    ret_bytes[0] = min_u64(ring->bytes, ring->capacity_bytes - ring->first);
    ret_bytes[1] = ring->bytes - ret_bytes[0];
    ret_runs[0] = ring->data + ring->first;
    ret_runs[1] = ring->data;
}
