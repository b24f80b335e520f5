/*
 * back/img/qcow2_write.c - writes to a qcow2 file: in place, or into new clusters.
 *
 * A step takes one cluster, or several in a row that get new space at once. What a new cluster's
 * subclusters need beside the new bytes is copied from what the guest sees there now. The L2 entry
 * changes last, in memory; the flush keeps the order on the way to the file.
 */
#include <errno.h>
#include <string.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

struct step {
    u64 offset, bytes; /* of the disk: what is written */
    const u8 *from;
    struct qcow2_cluster first; /* how the first cluster was */
    struct qcow2_cluster last;  /* and the last */
};

void qcow2_set_below(struct qcow2 *q, const struct qcow2_below *below)
{
    q->below = *below;
}

u8 *qcow2_scratch(struct qcow2 *q)
{
    if (q->scratch == NULL)
        q->scratch = alloc_zero(q->cluster_bytes);
    return q->scratch;
}

bool qcow2_is_zero(const u8 *data, u64 bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

static int read_below(struct qcow2 *q, u64 offset, u8 *to, u64 bytes)
{
    u64 held = offset < q->below.size_bytes ? min_u64(bytes, q->below.size_bytes - offset) : 0;
    memset(to + held, 0, bytes - held);
    return held != 0 ? q->below.read(q->below.ctx, offset, to, held) : 0;
}

int qcow2_read_old(struct qcow2 *q, const struct qcow2_cluster *cluster, u64 offset, u8 *to,
                   u64 bytes)
{
    const u8 *data;
    int result = 0;
    if (cluster->is_compressed) {
        result = qcow2_unpack(q, cluster->descriptor, &data);
        if (result == 0)
            memcpy(to, data + (offset & (q->cluster_bytes - 1)), bytes);
        return result;
    }
    while (bytes > 0 && result == 0) {
        u64 within = offset & (q->cluster_bytes - 1);
        u64 run = min_u64(bytes, q->sub_bytes - (offset & (q->sub_bytes - 1)));
        u64 bit = BIT(within >> q->sub_bits);
        if ((cluster->alloc & bit) != 0)
            result = file_read(qcow2_data(q), cluster->host + within, to, run);
        else if ((cluster->zero & bit) != 0)
            memset(to, 0, run);
        else
            result = read_below(q, offset, to, run);
        offset += run;
        to += run;
        bytes -= run;
    }
    return result;
}

/* The subclusters that OFFSET to END touch, within the cluster at START. */
static u32 mask_of(const struct qcow2 *q, u64 start, u64 offset, u64 end)
{
    u64 first = (max_u64(offset, start) - start) >> q->sub_bits;
    u64 last = (min_u64(end, start + q->cluster_bytes) - 1 - start) >> q->sub_bits;
    return (u32)((BIT(last + 1) - 1) & ~(BIT(first) - 1));
}

/* Writes the step's bytes to HOST, where its first cluster starts, with what is seen of the old
 * between FROM and TO around them. Space that is IS_FRESH reads as zeroes already. */
static int write_around(struct qcow2 *q, const struct step *step, u64 host, u64 from, u64 to,
                        bool is_fresh)
{
    u64 start = align_down(step->offset, q->cluster_bytes), end = step->offset + step->bytes;
    u64 head = step->offset - from, tail = to - end;
    struct file *file = qcow2_data(q);
    u8 *scratch = head + tail != 0 ? qcow2_scratch(q) : NULL;
    int result = 0;
    if (head + tail == 0)
        return file_write(file, host + (step->offset - start), step->from, step->bytes);
    if (scratch == NULL)
        return -ENOMEM;
    if (to - from <= q->cluster_bytes) {
        result = qcow2_read_old(q, &step->first, from, scratch, head);
        if (result == 0)
            result = qcow2_read_old(q, &step->last, end, scratch + head + step->bytes, tail);
        if (result != 0)
            return result;
        if (is_fresh && qcow2_is_zero(scratch, head) &&
            qcow2_is_zero(scratch + head + step->bytes, tail))
            return file_write(file, host + (step->offset - start), step->from, step->bytes);
        memcpy(scratch + head, step->from, step->bytes);
        return file_write(file, host + (from - start), scratch, to - from);
    }
    result = qcow2_read_old(q, &step->first, from, scratch, head);
    if (result == 0 && head != 0 && !(is_fresh && qcow2_is_zero(scratch, head)))
        result = file_write(file, host + (from - start), scratch, head);
    if (result == 0)
        result = file_write(file, host + (step->offset - start), step->from, step->bytes);
    if (result == 0)
        result = qcow2_read_old(q, &step->last, end, scratch, tail);
    if (result == 0 && tail != 0 && !(is_fresh && qcow2_is_zero(scratch, tail)))
        result = file_write(file, host + (end - start), scratch, tail);
    return result;
}

static int write_in_place(struct qcow2 *q, struct step *step)
{
    struct qcow2_cluster cluster = step->first;
    u64 start = align_down(step->offset, q->cluster_bytes), end = step->offset + step->bytes;
    u64 from = step->offset, to = end;
    u32 mask = mask_of(q, start, step->offset, end);
    u32 first = mask & -mask, last = 1u << (31 - __builtin_clz(mask));
    if ((cluster.alloc & first) == 0)
        from = align_down(from, q->sub_bytes);
    if ((cluster.alloc & last) == 0)
        to = align_up(to, q->sub_bytes);
    int result = write_around(q, step, cluster.host, from, to, false);
    if (result != 0 || (cluster.alloc & mask) == mask)
        return result;
    shared_set(&q->needs_barrier, true);
    cluster.alloc |= mask;
    cluster.zero &= ~mask;
    return qcow2_cluster_set(q, start >> q->cluster_bits, &cluster);
}

/* How many clusters from NUMBER on have no space of their own, at most MAX of one L2 table. */
static int count_new(struct qcow2 *q, u64 number, u64 max, u64 *ret_count,
                     struct qcow2_cluster *ret_last)
{
    u64 count = 1;
    max = min_u64(max, BIT(q->table_bits) - (number & (BIT(q->table_bits) - 1)));
    while (count < max) {
        struct qcow2_cluster next;
        int result = qcow2_cluster_get(q, number + count, true, &next);
        if (result != 0)
            return result;
        if (next.has_host || next.is_compressed)
            break;
        *ret_last = next;
        count++;
    }
    *ret_count = count;
    return 0;
}

static int get_space(struct qcow2 *q, u64 number, u64 want, u64 *ret_host, u64 *ret_count)
{
    if (q->data_file == NULL)
        return qcow2_alloc(q, 1, want, ret_host, ret_count);
    *ret_host = number << q->cluster_bits;
    *ret_count = want;
    return 0;
}

static int set_new(struct qcow2 *q, const struct step *step, u64 host, u64 count, u32 extra)
{
    u64 number = step->offset >> q->cluster_bits, end = step->offset + step->bytes;
    for (u64 i = 0; i < count; i++) {
        struct qcow2_cluster cluster = {0};
        u64 start = (number + i) << q->cluster_bits;
        int result = qcow2_cluster_get(q, number + i, true, &cluster);
        if (result != 0)
            return result;
        u32 mask = mask_of(q, start, step->offset, end) | extra;
        cluster.alloc = (extra != 0 ? 0 : cluster.alloc) | mask;
        cluster.zero &= ~mask;
        cluster.has_host = cluster.is_copied = true;
        cluster.is_compressed = false;
        cluster.host = host + (i << q->cluster_bits);
        result = qcow2_cluster_set(q, number + i, &cluster);
        if (result != 0)
            return result;
    }
    return 0;
}

static int write_new(struct qcow2 *q, struct step *step)
{
    u64 number = step->offset >> q->cluster_bits, within = step->offset & (q->cluster_bytes - 1);
    u64 want = (within + step->bytes + q->cluster_bytes - 1) >> q->cluster_bits, count, host;
    /* What is copied as a whole: it is another's too, or it is packed. */
    bool is_whole = step->first.has_host || step->first.is_compressed;
    int result = 0;
    step->last = step->first;
    if (is_whole)
        want = 1;
    else
        result = count_new(q, number, want, &want, &step->last);
    if (result == 0)
        result = get_space(q, number, want, &host, &count);
    if (result != 0)
        return result;
    step->bytes = min_u64(step->bytes, (count << q->cluster_bits) - within);
    if (count < want)
        result = qcow2_cluster_get(q, number + count - 1, true, &step->last);
    u64 unit = is_whole ? q->cluster_bytes : q->sub_bytes;
    bool is_fresh = q->data_file == NULL && host >= q->file->bytes;
    if (result == 0)
        result = write_around(q, step, host, align_down(step->offset, unit),
                              align_up(step->offset + step->bytes, unit), is_fresh);
    if (result != 0) {
        if (q->data_file == NULL)
            qcow2_unalloc(q, host, count << q->cluster_bits);
        return result;
    }
    shared_set(&q->needs_barrier, true);
    result = set_new(q, step, host, count, is_whole ? qcow2_sub_mask(q) : 0);
    return result == 0 && is_whole ? qcow2_free_cluster(q, &step->first) : result;
}

static int write_step(struct qcow2 *q, struct step *step)
{
    u64 number = step->offset >> q->cluster_bits;
    int result = qcow2_relieve(q);
    if (result == 0)
        result = qcow2_table_own(q, number);
    if (result == 0)
        result = qcow2_cluster_get(q, number, true, &step->first);
    if (result != 0)
        return result;
    step->last = step->first;
    if (!step->first.has_host || !step->first.is_copied || step->first.is_compressed)
        return write_new(q, step);
    step->bytes = min_u64(step->bytes, q->cluster_bytes - (step->offset & (q->cluster_bytes - 1)));
    if (q->data_file == NULL && (step->first.host >> q->cluster_bits) >= q->end_cluster)
        return qcow2_corrupt(q, "beyond the end of the file is cluster", step->first.host);
    return write_in_place(q, step);
}

int qcow2_write(struct qcow2 *q, u64 offset, const void *from, u64 bytes)
{
    const u8 *at = from;
    if (q->file->read_only)
        return -EROFS;
    if (q->is_corrupt)
        return -EIO;
    if (offset > q->size_bytes || bytes > q->size_bytes - offset)
        return -EINVAL;
    while (bytes > 0) {
        struct step step = {.offset = offset, .bytes = bytes, .from = at};
        int result = write_step(q, &step);
        if (result != 0)
            return result;
        offset += step.bytes;
        at += step.bytes;
        bytes -= step.bytes;
    }
    return 0;
}
