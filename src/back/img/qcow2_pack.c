/*
 * back/img/qcow2_pack.c - writes clusters compressed, several to a cluster of the file.
 *
 * Each compressed cluster counts the file's cluster that holds it once more. It lies within one.
 * Spec   qcow2: "Compressed Clusters Descriptor". The deflate window is 4 KiB, as readers expect.
 */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "back/img/qcow2_priv.h"

enum { WINDOW_BITS = 12, MEMORY_LEVEL = 9, UNIT_BYTES = 512, ZSTD_LEVEL = 3 };

/* The compressed length; 0 when it is not shorter than the cluster. */
static int deflate_cluster(const u8 *from, u8 *to, u64 bytes, u64 *ret_length)
{
    z_stream stream = {.next_in = (u8 *)(uintptr_t)from,
                       .avail_in = (unsigned)bytes,
                       .next_out = to,
                       .avail_out = (unsigned)bytes - 1};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    *ret_length = deflate(&stream, Z_FINISH) == Z_STREAM_END ? stream.total_out : 0;
    deflateEnd(&stream);
    return 0;
}

static int pack(struct qcow2 *q, const u8 *from, u8 *to, u64 *ret_length)
{
    u64 bytes = q->cluster_bytes;
    if (q->header.compression != QCOW2_ZSTD)
        return deflate_cluster(from, to, bytes, ret_length);
    size_t length = ZSTD_compress(to, bytes - 1, from, bytes, ZSTD_LEVEL);
    *ret_length = ZSTD_isError(length) ? 0 : length;
    return 0;
}

/* Where LENGTH bytes go: behind the last ones, or into a new cluster. */
static int get_place(struct qcow2 *q, u64 length, u64 *ret_offset)
{
    u64 left = align_up(q->pack_offset, q->cluster_bytes) - q->pack_offset, count;
    int result;
    if (left >= length)
        result = qcow2_ref_change(q, q->pack_offset, length, 1);
    else
        result = qcow2_alloc(q, 1, 1, &q->pack_offset, &count);
    *ret_offset = q->pack_offset;
    return result;
}

static int write_packed(struct qcow2 *q, u64 number, const u8 *packed, u64 length)
{
    struct qcow2_cluster cluster = {.is_compressed = true};
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    u64 offset = 0;
    int result = get_place(q, length, &offset);
    if (result != 0)
        return result;
    u64 units = (offset % UNIT_BYTES + length + UNIT_BYTES - 1) / UNIT_BYTES;
    if (offset >= BIT(offset_bits)) {
        qcow2_unalloc(q, offset, length);
        q->pack_offset = 0;
        return -EFBIG;
    }
    result = file_write(q->file, offset, packed, length);
    if (result != 0) {
        qcow2_unalloc(q, offset, length);
        q->pack_offset = 0;
        return result;
    }
    q->pack_offset = offset + length;
    shared_set(&q->needs_barrier, true);
    cluster.descriptor = QCOW2_COMPRESSED | (units - 1) << offset_bits | offset;
    return qcow2_cluster_set(q, number, &cluster);
}

int qcow2_write_packed(struct qcow2 *q, u64 offset, const void *from)
{
    u64 number = offset >> q->cluster_bits, length = 0;
    struct qcow2_cluster cluster;
    u8 *packed = qcow2_scratch(q);
    if (q->file->read_only)
        return -EROFS;
    if (q->data_file != NULL || offset % q->cluster_bytes != 0 || offset >= q->size_bytes)
        return -EINVAL;
    if (packed == NULL)
        return -ENOMEM;
    int result = qcow2_relieve(q);
    if (result == 0)
        result = qcow2_table_own(q, number);
    if (result == 0)
        result = qcow2_cluster_get(q, number, true, &cluster);
    if (result == 0 && (cluster.has_host || cluster.is_compressed))
        result = -EEXIST;
    if (result == 0)
        result = pack(q, from, packed, &length);
    if (result != 0)
        return result;
    u64 bytes = min_u64(q->cluster_bytes, q->size_bytes - offset);
    return length != 0 ? write_packed(q, number, packed, length)
                       : qcow2_write(q, offset, from, bytes);
}
