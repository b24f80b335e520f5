/*
 * dev/ps2_queue.h - bytes that a PS/2 device has to say and the controller has no room for yet.
 */
#ifndef DEV_PS2_QUEUE_H
#define DEV_PS2_QUEUE_H

#include "base/types.h"

enum { PS2_QUEUE_BYTES = 256 };

struct ps2_queue {
    u8 data[PS2_QUEUE_BYTES];
    u16 first, count;
};

static inline void ps2_queue_clear(struct ps2_queue *queue)
{
    queue->first = queue->count = 0;
}

static inline bool ps2_queue_is_empty(const struct ps2_queue *queue)
{
    return queue->count == 0;
}

/* After loading: whether first and count are what this code could have left. */
static inline bool ps2_queue_is_sound(const struct ps2_queue *queue)
{
    return queue->first < PS2_QUEUE_BYTES && queue->count <= PS2_QUEUE_BYTES;
}

/* All COUNT bytes or, when there is no room, none: half a message would be another one. */
static inline bool ps2_queue_put(struct ps2_queue *queue, const u8 *bytes, unsigned count)
{
    if (count > (unsigned)(PS2_QUEUE_BYTES - queue->count))
        return false;
    for (unsigned i = 0; i < count; i++)
        queue->data[(queue->first + queue->count++) % PS2_QUEUE_BYTES] = bytes[i];
    return true;
}

static inline bool ps2_queue_peek(const struct ps2_queue *queue, u8 *ret_byte)
{
    if (queue->count == 0)
        return false;
    *ret_byte = queue->data[queue->first];
    return true;
}

static inline void ps2_queue_drop(struct ps2_queue *queue)
{
    queue->first = (u16)((queue->first + 1) % PS2_QUEUE_BYTES);
    queue->count--;
}

#endif
