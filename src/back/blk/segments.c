/*
 * back/blk/segments.c - the memory of a request as one run of bytes.
 *
 * Runs   on the loop.
 */
#include "back/blk/segments.h"

#include <string.h>

#include "base/bits.h"

enum { VECTOR_CHUNK = 32 };

bool segments_fit(const struct blk_req *req)
{
    u64 left = req->bytes;
    for (unsigned i = 0; i < req->segment_count; i++) {
        if (req->segments[i].bytes > left)
            return false;
        left -= req->segments[i].bytes;
    }
    return left == 0;
}

bool segments_aligned(const struct blk_req *req, u64 align)
{
    u64 bits = 0;
    for (unsigned i = 0; i < req->segment_count; i++)
        bits |= (u64)(uintptr_t)req->segments[i].data | req->segments[i].bytes;
    return (bits & (align - 1)) == 0;
}

u64 segments_vector(const struct blk_req *req, u64 from, u64 bytes, struct iovec *iov,
                    unsigned iov_max_count, unsigned *ret_iov_count)
{
    unsigned count = 0;
    u64 held_bytes = 0;

    for (unsigned i = 0; i < req->segment_count && held_bytes < bytes; i++) {
        const struct blk_segment *segment = &req->segments[i];
        if (from >= segment->bytes) {
            from -= segment->bytes;
            continue;
        }
        if (count == iov_max_count)
            break;
        u64 run = min_u64(segment->bytes - from, bytes - held_bytes);
        iov[count++] = (struct iovec){(u8 *)segment->data + from, run};
        held_bytes += run;
        from = 0;
    }
    *ret_iov_count = count;
    return held_bytes;
}

enum copy_kind { COPY_GATHER, COPY_SCATTER, COPY_ZERO };

static void copy(const struct blk_req *req, u64 position, u8 *buffer, u64 bytes,
                 enum copy_kind kind)
{
    struct iovec iov[VECTOR_CHUNK];
    while (bytes > 0) {
        unsigned count;
        u64 held = segments_vector(req, position, bytes, iov, VECTOR_CHUNK, &count);
        if (held == 0)
            return;
        for (unsigned i = 0; i < count; i++) {
            if (kind == COPY_GATHER)
                memcpy(buffer, iov[i].iov_base, iov[i].iov_len);
            else if (kind == COPY_SCATTER)
                memcpy(iov[i].iov_base, buffer, iov[i].iov_len);
            else
                memset(iov[i].iov_base, 0, iov[i].iov_len);
            if (kind != COPY_ZERO)
                buffer += iov[i].iov_len;
        }
        position += held;
        bytes -= held;
    }
}

void segments_gather(const struct blk_req *req, u64 from, void *to, u64 bytes)
{
    copy(req, from, to, bytes, COPY_GATHER);
}

void segments_scatter(const struct blk_req *req, u64 to, const void *from, u64 bytes)
{
    copy(req, to, (u8 *)(uintptr_t)from, bytes, COPY_SCATTER);
}

void segments_zero(const struct blk_req *req, u64 from, u64 bytes)
{
    copy(req, from, NULL, bytes, COPY_ZERO);
}
