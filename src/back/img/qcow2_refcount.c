/*
 * back/img/qcow2_refcount.c - how often each cluster of the file is used; finding free ones.
 *
 * Counts change in memory and reach the file with the next flush, raised ones before anything
 * refers to their clusters, lowered ones after nothing does.
 * Spec   qcow2: "Host cluster management".
 * Trust  blocks are hostile: a wrong count can only make this image damage itself.
 */
#include <errno.h>
#include <stdlib.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

/* So many clusters may be counted beyond the file's end: a crash can leave some, damage leaves
 * more. */
enum { LOST_MAX = 1 << 20 };

static unsigned block_bits(const struct qcow2 *q)
{
    return q->cluster_bits + 3 - q->header.refcount_order;
}

int qcow2_refblock_of(struct qcow2 *q, u64 number, u64 *ret_block)
{
    u64 index = number >> block_bits(q);
    u64 block = index < q->reftable_count ? align_down(q->reftable[index], 512) : 0;
    if ((block & (q->cluster_bytes - 1)) != 0 || block >= q->file->bytes)
        return qcow2_corrupt(q, "refcount table entry", index);
    *ret_block = block;
    return 0;
}

/* Where in its block a count is: the byte, and for counts of less than a byte the shift. */
static u64 count_place(const struct qcow2 *q, u64 number, unsigned *ret_shift)
{
    u64 bit = (number & (BIT(block_bits(q)) - 1)) << q->header.refcount_order;
    *ret_shift = bit % 8;
    return bit / 8;
}

static u64 count_load(const u8 *at, unsigned order, unsigned shift)
{
    switch (order) {
    case 3:
        return at[0];
    case 4:
        return load_be16(at);
    case 5:
        return load_be32(at);
    case 6:
        return load_be64(at);
    default:
        return at[0] >> shift & (BIT(1u << order) - 1);
    }
}

static void count_store(u8 *at, unsigned order, unsigned shift, u64 count)
{
    u64 mask = order < 3 ? BIT(1u << order) - 1 : 0;
    switch (order) {
    case 3:
        at[0] = (u8)count;
        break;
    case 4:
        store_be16(at, (u16)count);
        break;
    case 5:
        store_be32(at, (u32)count);
        break;
    case 6:
        store_be64(at, count);
        break;
    default:
        at[0] = (u8)((at[0] & ~(mask << shift)) | count << shift);
    }
}

int qcow2_ref_get(struct qcow2 *q, u64 number, u64 *ret_count)
{
    struct cache_page *page;
    unsigned shift;
    u64 block;
    int result = qcow2_refblock_of(q, number, &block);
    *ret_count = 0;
    if (result != 0 || block == 0)
        return result;
    u64 at = block + count_place(q, number, &shift);
    result = cache_get(&q->ref_cache, at, &page);
    if (result == 0)
        *ret_count = count_load(page->data + (at & (q->ref_cache.page_bytes - 1)),
                                q->header.refcount_order, shift);
    return result;
}

static int ref_set(struct qcow2 *q, u64 number, u64 count)
{
    unsigned shift, order = q->header.refcount_order;
    struct cache_page *page;
    u64 block;
    u8 bytes[8];
    int result = qcow2_refblock_of(q, number, &block);
    if (result == 0 && block == 0)
        result = -EIO;
    if (result != 0)
        return result;
    u64 at = block + count_place(q, number, &shift);
    result = cache_get(&q->ref_cache, at, &page);
    if (result != 0)
        return result;
    bytes[0] = page->data[at & (q->ref_cache.page_bytes - 1)];
    count_store(bytes, order, shift, count);
    return cache_store(&q->ref_cache, at, bytes, order <= 3 ? 1 : 1u << (order - 3));
}

int qcow2_ref_change(struct qcow2 *q, u64 offset, u64 bytes, int change)
{
    u64 last = (offset + bytes - 1) >> q->cluster_bits, count;
    unsigned bits = 1u << q->header.refcount_order;
    u64 most = bits == 64 ? UINT64_MAX : BIT(bits) - 1;
    for (u64 number = offset >> q->cluster_bits; number <= last; number++) {
        int result = qcow2_ref_get(q, number, &count);
        if (result != 0)
            return result;
        if (change < 0 && count == 0)
            return qcow2_corrupt(q, "too low is the refcount of cluster", number);
        if (change > 0 && count == most)
            return -EFBIG;
        count = change < 0 ? count - 1 : count + 1;
        result = ref_set(q, number, count);
        if (result != 0)
            return result;
        if (count == 0)
            q->free_hint = min_u64(q->free_hint, number);
    }
    return 0;
}

int qcow2_ref_mend(struct qcow2 *q, u64 number, u64 count)
{
    u64 block, offset, got, index = number >> block_bits(q);
    u64 most = q->header.refcount_order == 6 ? UINT64_MAX : BIT(1u << q->header.refcount_order) - 1;
    int result = qcow2_refblock_of(q, number, &block);
    if (count > most)
        return -EFBIG;
    if (result == 0 && block == 0) {
        /* Free places are not to be told from used ones now, but behind all there are only free
         * ones. */
        q->free_hint = max_u64(q->free_hint, q->end_cluster);
        result = qcow2_alloc(q, 1, 1, &offset, &got);
        if (result == 0)
            result = qcow2_refblock_of(q, number, &block);
        if (result == 0 && block == 0) {
            cache_forget(&q->ref_cache, offset, q->cluster_bytes);
            result = file_zero(q->file, offset, q->cluster_bytes, true);
            if (result == 0)
                result = qcow2_reftable_set(q, index, offset);
        } else if (result == 0) {
            qcow2_unalloc(q, offset, q->cluster_bytes);
        }
    }
    return result == 0 ? ref_set(q, number, count) : result;
}

/* The length of the run of free clusters at *NUMBER, at most MAX; moves *NUMBER on to one. */
static int find_run(struct qcow2 *q, u64 *number, u64 max, u64 *ret_count)
{
    u64 count = 0, refs, block;
    while (count < max) {
        u64 at = *number + count;
        int result = qcow2_refblock_of(q, at, &block);
        if (result == 0 && block == 0) {
            /* A block lies anywhere, here for instance: then the run starts behind it. */
            if (count > 0)
                break;
            result = qcow2_refblock_new(q, at);
        }
        if (result == 0)
            result = qcow2_ref_get(q, at, &refs);
        if (result != 0)
            return result;
        if (refs == 0)
            count++;
        else if (count > 0)
            break;
        else if (at > q->end_cluster + LOST_MAX)
            return qcow2_corrupt(q, "counted as used beyond the end of the file is cluster", at);
        else
            ++*number;
    }
    *ret_count = count;
    return 0;
}

int qcow2_alloc(struct qcow2 *q, u64 min, u64 max, u64 *ret_offset, u64 *ret_count)
{
    u64 number = q->free_hint, count = 0;
    int result = 0;
    bool is_first = true;
    for (;;) {
        result = find_run(q, &number, max, &count);
        if (result != 0)
            return result;
        if (is_first)
            q->free_hint = number;
        is_first = false;
        if (count >= min)
            break;
        /* The run may have ended only where a block was missing. */
        u64 block;
        result = qcow2_refblock_of(q, number + count, &block);
        if (result == 0 && block == 0)
            result = qcow2_refblock_new(q, number + count);
        else
            number += count;
        if (result != 0)
            return result;
    }
    if (number == 0)
        return qcow2_corrupt(q, "not counted as used is the header, cluster", 0);
    if ((number + count) << q->cluster_bits > QCOW2_OFFSET_MASK)
        return -EFBIG;
    for (u64 i = 0; i < count && result == 0; i++)
        result = ref_set(q, number + i, 1);
    if (result != 0)
        return result;
    if (number == q->free_hint)
        q->free_hint = number + count;
    q->end_cluster = max_u64(q->end_cluster, number + count);
    *ret_offset = number << q->cluster_bits;
    *ret_count = count;
    return 0;
}

void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 bytes)
{
    /* What cannot be given back is lost until the next check, and nothing else. */
    int result = qcow2_ref_change(q, offset, bytes, -1);
    (void)result;
}

int qcow2_free_later(struct qcow2 *q, u64 offset, u64 bytes)
{
    if (q->freed_count == q->freed_max) {
        u64 max = q->freed_max * 2 + 64;
        struct qcow2_freed *more = new0_array(struct qcow2_freed, max);
        if (more == NULL)
            return -ENOMEM;
        for (u64 i = 0; i < q->freed_count; i++)
            more[i] = q->freed[i];
        alloc_free(q->freed);
        q->freed = more;
        q->freed_max = max;
    }
    q->freed[q->freed_count++] = (struct qcow2_freed){offset, bytes};
    return 0;
}

int qcow2_free_cluster(struct qcow2 *q, const struct qcow2_cluster *cluster)
{
    u64 offset, bytes;
    if (q->data_file != NULL)
        return 0;
    if (!cluster->is_compressed)
        return cluster->has_host ? qcow2_free_later(q, cluster->host, q->cluster_bytes) : 0;
    qcow2_packed_place(q, cluster->descriptor, &offset, &bytes);
    return qcow2_free_later(q, offset, bytes);
}
