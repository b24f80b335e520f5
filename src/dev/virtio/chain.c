/*
 * dev/virtio/chain.c - cursors over the segments of a request that virtq_pop has checked.
 *
 * Runs   under the device's lock.
 * Trust  the segments lie in guest RAM; their bytes may change at any time.
 */
#include "base/bits.h"
#include "dev/virtio/virtq.h"

const void *chain_take_readable(struct chain *chain, size_t max_bytes, size_t *ret_bytes)
{
    if (chain->read_at >= chain->readable_count || max_bytes == 0)
        return NULL;
    struct chain_segment *segment = &chain->segments[chain->read_at];
    const u8 *data = segment->data + chain->read_offset;
    u32 bytes = (u32)min_u64(max_bytes, segment->bytes - chain->read_offset);
    chain->readable_bytes -= bytes;
    chain->read_offset += bytes;
    if (chain->read_offset == segment->bytes) {
        chain->read_at++;
        chain->read_offset = 0;
    }
    *ret_bytes = bytes;
    return data;
}

void *chain_take_writable(struct chain *chain, size_t max_bytes, size_t *ret_bytes)
{
    if (chain->write_at >= chain->segment_count || max_bytes == 0)
        return NULL;
    struct chain_segment *segment = &chain->segments[chain->write_at];
    u8 *data = segment->data + chain->write_offset;
    u32 bytes = (u32)min_u64(max_bytes, segment->bytes - chain->write_offset);
    chain->writable_bytes -= bytes;
    chain->write_offset += bytes;
    if (chain->write_offset == segment->bytes) {
        chain->write_at++;
        chain->write_offset = 0;
    }
    *ret_bytes = bytes;
    return data;
}

size_t chain_read(struct chain *chain, void *to, size_t bytes)
{
    size_t done = 0, part;
    while (done < bytes) {
        const void *data = chain_take_readable(chain, bytes - done, &part);
        if (data == NULL)
            break;
        __builtin_memcpy((u8 *)to + done, data, part);
        done += part;
    }
    return done;
}

size_t chain_write(struct chain *chain, const void *from, size_t bytes)
{
    size_t done = 0, part;
    while (done < bytes) {
        void *data = chain_take_writable(chain, bytes - done, &part);
        if (data == NULL)
            break;
        __builtin_memcpy(data, (const u8 *)from + done, part);
        done += part;
    }
    return done;
}
