/*
 * back/img/qcow2_unpack.c - compressed clusters, and the last few of them as they were before.
 *
 * Spec   qcow2: "Compressed Clusters Descriptor"; RFC 1951 (raw deflate), RFC 8878 (zstd).
 * Trust  the compressed bytes are hostile. Output is bounded by the cluster's size, input by what
 *        the descriptor's few bits can say; what does not fill its cluster is an error.
 */
#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

enum { WINDOW_BITS = 15, PACKED_UNIT_BYTES = 512, LARGE_BYTES = 1 << 20 };

void qcow2_packed_place(const struct qcow2 *q, u64 descriptor, u64 *ret_offset, u64 *ret_bytes)
{
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    u64 offset = descriptor & (BIT(offset_bits) - 1);
    u64 units = bits_get(descriptor, offset_bits, 62 - offset_bits) + 1;
    *ret_offset = offset;
    *ret_bytes = units * PACKED_UNIT_BYTES - offset % PACKED_UNIT_BYTES;
}

static int inflate_cluster(const u8 *from, u64 from_bytes, u8 *to, u64 to_bytes)
{
    z_stream stream = {.next_in = (u8 *)(uintptr_t)from,
                       .avail_in = (unsigned)from_bytes,
                       .next_out = to,
                       .avail_out = (unsigned)to_bytes};
    if (inflateInit2(&stream, -WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    int status = inflate(&stream, Z_FINISH);
    bool is_full = stream.avail_out == 0;
    inflateEnd(&stream);
    /* The stream may go on behind a full cluster: writers pad it. */
    return is_full && (status == Z_STREAM_END || status == Z_BUF_ERROR || status == Z_OK) ? 0
                                                                                          : -EIO;
}

static int unzstd_cluster(const u8 *from, u64 from_bytes, u8 *to, u64 to_bytes)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {from, from_bytes, 0};
    ZSTD_outBuffer out = {to, to_bytes, 0};
    int result = 0;
    if (context == NULL)
        return -ENOMEM;
    while (result == 0 && out.pos < out.size) {
        size_t in_before = in.pos, out_before = out.pos;
        size_t status = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(status) || (in.pos == in_before && out.pos == out_before))
            result = -EIO;
    }
    ZSTD_freeDCtx(context);
    return result;
}

static int unpack_into(struct qcow2 *q, u64 descriptor, u8 *to)
{
    struct qcow2_shared *shared = q->shared;
    u64 offset, bytes;
    qcow2_packed_place(q, descriptor, &offset, &bytes);
    if (offset >= q->file->bytes)
        return qcow2_corrupt(q, "a compressed cluster at", offset);
    if (shared->packed_bytes < bytes) {
        alloc_free(shared->packed);
        shared->packed = alloc_zero(bytes);
        shared->packed_bytes = shared->packed != NULL ? bytes : 0;
        if (shared->packed == NULL)
            return -ENOMEM;
    }
    int result = file_read(q->file, offset, shared->packed, bytes);
    if (result != 0)
        return result;
    result = q->header.compression == QCOW2_ZSTD
                 ? unzstd_cluster(shared->packed, bytes, to, q->cluster_bytes)
                 : inflate_cluster(shared->packed, bytes, to, q->cluster_bytes);
    return result == -EIO ? qcow2_corrupt(q, "a compressed cluster at", offset) : result;
}

int qcow2_unpack(struct qcow2 *q, u64 descriptor, const u8 **ret_data)
{
    struct qcow2_shared *shared = q->shared;
    struct qcow2_unpacked *oldest = &shared->unpacked[0];
    /* Large clusters hold enough each. */
    unsigned count = q->cluster_bytes < LARGE_BYTES ? QCOW2_UNPACKED_COUNT : 1;
    for (unsigned i = 0; i < count; i++) {
        struct qcow2_unpacked *one = &shared->unpacked[i];
        if (one->from == q && one->descriptor == descriptor) {
            one->last_use = ++shared->clock;
            *ret_data = one->data;
            return 0;
        }
        if (one->last_use < oldest->last_use)
            oldest = one;
    }
    oldest->from = NULL;
    if (oldest->bytes < q->cluster_bytes) {
        alloc_free(oldest->data);
        oldest->data = alloc_zero(q->cluster_bytes);
        oldest->bytes = oldest->data != NULL ? q->cluster_bytes : 0;
        if (oldest->data == NULL)
            return -ENOMEM;
    }
    int result = unpack_into(q, descriptor, oldest->data);
    if (result != 0)
        return result;
    oldest->from = q;
    oldest->descriptor = descriptor;
    oldest->last_use = ++shared->clock;
    *ret_data = oldest->data;
    return 0;
}

void qcow2_shared_fini(struct qcow2_shared *shared)
{
    for (unsigned i = 0; i < QCOW2_UNPACKED_COUNT; i++)
        alloc_free(shared->unpacked[i].data);
    alloc_free(shared->packed);
    *shared = (struct qcow2_shared){0};
}

int qcow2_read_packed(struct qcow2 *q, u64 offset, void *to, u64 bytes)
{
    struct qcow2_cluster cluster;
    const u8 *data;
    u64 within = offset & (q->cluster_bytes - 1);
    int result = qcow2_cluster_get(q, offset >> q->cluster_bits, true, &cluster);
    if (result == 0 && (!cluster.is_compressed || bytes > q->cluster_bytes - within))
        result = -EINVAL;
    if (result == 0)
        result = qcow2_unpack(q, cluster.descriptor, &data);
    if (result == 0)
        memcpy(to, data + within, bytes);
    return result;
}
