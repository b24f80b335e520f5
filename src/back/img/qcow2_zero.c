/*
 * back/img/qcow2_zero.c - zeroes and discards: flags in L2 where the format has them, else bytes.
 *
 * Space of whole clusters goes back to the host; parts of clusters are written as zeroes, or for
 * a discard left as they are.
 */
#include <errno.h>

#include "back/img/qcow2_priv.h"

enum { ZERO_CHUNK_BYTES = 64 * 1024 };

static int write_zeroes(struct qcow2 *q, u64 offset, u64 bytes)
{
    static const u8 zeroes[ZERO_CHUNK_BYTES];
    int result = 0;
    for (u64 done = 0; done < bytes && result == 0; done += ZERO_CHUNK_BYTES)
        result = qcow2_write(q, offset + done, zeroes, min_u64(bytes - done, ZERO_CHUNK_BYTES));
    return result;
}

static bool has_below(const struct qcow2 *q, u64 offset)
{
    return offset < q->below.size_bytes;
}

/* Makes the subclusters of MASK zeroes; all of a cluster that is compressed. */
static int zero_cluster(struct qcow2 *q, u64 number, u32 mask, unsigned flags)
{
    struct qcow2_cluster old, cluster;
    bool has_flags = q->header.version >= 3, is_whole = mask == qcow2_sub_mask(q);
    int result = qcow2_cluster_get(q, number, true, &old);
    if (result != 0)
        return result;
    cluster = old;
    cluster.alloc &= ~mask;
    cluster.zero = has_flags && (flags & QCOW2_FORGET) == 0 ? cluster.zero | mask : 0;
    bool gives_back = cluster.alloc == 0 &&
                      (old.is_compressed || !old.is_copied ||
                       (flags & (QCOW2_UNMAP | QCOW2_FORGET)) != 0 || !has_flags);
    if (gives_back || !is_whole) {
        cluster.is_compressed = false;
        cluster.has_host = old.has_host && !gives_back;
    }
    if (is_whole && gives_back && !has_below(q, number << q->cluster_bits))
        cluster.zero = 0;
    if (cluster.zero == old.zero && cluster.alloc == old.alloc &&
        cluster.has_host == old.has_host && cluster.is_compressed == old.is_compressed)
        return 0;
    result = qcow2_table_own(q, number);
    /* Whoever reads the data file as a raw disk has to find zeroes as well. */
    if (result == 0 && q->data_file != NULL && old.has_host && is_whole)
        result = file_zero(q->data_file, old.host, q->cluster_bytes, gives_back);
    if (result == 0)
        result = qcow2_cluster_set(q, number, &cluster);
    return result == 0 && gives_back ? qcow2_free_cluster(q, &old) : result;
}

/* Zeroes that the file's format has no flag for. */
static int zero_by_bytes(struct qcow2 *q, u64 offset, u64 bytes, unsigned flags)
{
    return (flags & (QCOW2_ADVICE | QCOW2_FORGET)) != 0 ? 0 : write_zeroes(q, offset, bytes);
}

/* Within one cluster. */
static int zero_within(struct qcow2 *q, u64 offset, u64 bytes, unsigned flags)
{
    u64 number = offset >> q->cluster_bits, start = number << q->cluster_bits;
    u64 from = align_up(offset, q->sub_bytes), to = align_down(offset + bytes, q->sub_bytes);
    struct qcow2_cluster old;
    /* The disk's end is the cluster's end. */
    if (offset + bytes == q->size_bytes)
        to = start + q->cluster_bytes;
    bool is_whole = from == start && to == start + q->cluster_bytes;
    int result = qcow2_cluster_get(q, number, true, &old);
    if (result != 0)
        return result;
    if (from >= to || (q->header.version < 3 && (!is_whole || has_below(q, offset))) ||
        ((old.is_compressed || q->data_file != NULL) && !is_whole))
        return (flags & QCOW2_FORGET) != 0 && is_whole
                   ? zero_cluster(q, number, qcow2_sub_mask(q), flags)
                   : zero_by_bytes(q, offset, bytes, flags);
    if ((flags & QCOW2_FORGET) != 0 && !is_whole)
        return 0;
    u64 first = (from - start) >> q->sub_bits, last = (to - 1 - start) >> q->sub_bits;
    if (from > offset)
        result = zero_by_bytes(q, offset, from - offset, flags);
    if (result == 0 && to < offset + bytes)
        result = zero_by_bytes(q, to, offset + bytes - to, flags);
    if (result == 0)
        result = zero_cluster(q, number, (u32)((BIT(last + 1) - 1) & ~(BIT(first) - 1)), flags);
    return result;
}

/* How many bytes from OFFSET on have no L2 table and nothing below, so are zeroes. */
static u64 empty_bytes(const struct qcow2 *q, u64 offset, unsigned flags)
{
    u64 index = offset >> (q->cluster_bits + q->table_bits);
    if (q->l1[index] != 0 || (has_below(q, offset) && (flags & QCOW2_FORGET) == 0))
        return 0;
    return ((index + 1) << (q->cluster_bits + q->table_bits)) - offset;
}

int qcow2_zero(struct qcow2 *q, u64 offset, u64 bytes, unsigned flags)
{
    if (q->file->read_only)
        return -EROFS;
    if (q->is_corrupt)
        return -EIO;
    if (offset > q->size_bytes || bytes > q->size_bytes - offset)
        return -EINVAL;
    while (bytes > 0) {
        u64 run = min_u64(bytes, empty_bytes(q, offset, flags));
        int result = 0;
        if (run == 0) {
            run = min_u64(bytes, q->cluster_bytes - (offset & (q->cluster_bytes - 1)));
            result = qcow2_relieve(q);
            if (result == 0)
                result = zero_within(q, offset, run, flags);
        }
        if (result != 0)
            return result;
        offset += run;
        bytes -= run;
    }
    return 0;
}
