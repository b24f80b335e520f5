/*
 * back/img/qcow2_map.c - from an offset of the disk to a place in the file: L1, L2, subclusters.
 *
 * Spec   qcow2: "Cluster mapping", "Extended L2 Entries".
 * Runs   on the image's thread; with MAY_LOAD false on any, under the lock.
 * Trust  entries are hostile: each is checked when it is taken out of its table.
 */
#include <errno.h>

#include "back/img/qcow2_priv.h"
#include "base/log.h"

struct file *qcow2_data(struct qcow2 *q)
{
    return q->data_file != NULL ? q->data_file : q->file;
}

u32 qcow2_sub_mask(const struct qcow2 *q)
{
    return q->sub_count == QCOW2_SUBCLUSTERS ? ~0u : 1;
}

int qcow2_corrupt(struct qcow2 *q, const char *what, u64 where)
{
    if (q->is_corrupt)
        return -EIO;
    shared_set(&q->is_corrupt, true);
    log_error("disk",
              "'%s': the qcow2 tables are damaged: %s 0x%llx; look at it with 'atoll vol "
              "check'",
              q->file->path, what, (unsigned long long)where);
    if (q->file->read_only || q->header.version < 3)
        return -EIO;
    u8 bits[8];
    q->header.incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
    store_be64(bits, q->header.incompatible);
    int result = file_write(q->file, QCOW2_AT_INCOMPATIBLE, bits, sizeof(bits));
    (void)result; /* the image is given up already */
    return -EIO;
}

/* True for space that cannot be the guest's: the header and the tables that are in memory. */
static bool is_table(const struct qcow2 *q, u64 host)
{
    u64 ref_offset = q->header.reftable_offset;
    return host == 0 || host - q->header.l1_offset < (u64)q->l1_count * 8 ||
           host - ref_offset < (u64)q->header.reftable_clusters << q->cluster_bits;
}

static int decode(struct qcow2 *q, u64 entry, u64 bitmap, struct qcow2_cluster *ret_cluster)
{
    struct qcow2_cluster cluster = {0};
    if ((entry & QCOW2_COMPRESSED) != 0) {
        if (q->data_file != NULL || (q->is_extended && bitmap != 0))
            return -EIO;
        cluster.is_compressed = true;
        cluster.descriptor = entry;
        cluster.alloc = qcow2_sub_mask(q);
        *ret_cluster = cluster;
        return 0;
    }
    cluster.host = entry & QCOW2_OFFSET_MASK;
    cluster.is_copied = (entry & QCOW2_COPIED) != 0;
    /* Offset 0 is the header, but in a data file of its own it is a place like any other. */
    cluster.has_host = cluster.host != 0 || (q->data_file != NULL && cluster.is_copied);
    if ((cluster.host & (q->cluster_bytes - 1)) != 0 ||
        (q->data_file == NULL && cluster.has_host && is_table(q, cluster.host)))
        return -EIO;
    if (q->is_extended) {
        cluster.alloc = (u32)bitmap;
        cluster.zero = (u32)(bitmap >> 32);
        if ((cluster.alloc & cluster.zero) != 0 || (cluster.alloc != 0 && !cluster.has_host))
            return -EIO;
    } else if ((entry & QCOW2_ZERO) != 0 && q->header.version >= 3) {
        cluster.zero = 1;
    } else {
        cluster.alloc = cluster.has_host;
    }
    *ret_cluster = cluster;
    return 0;
}

static u64 entry_offset(const struct qcow2 *q, u64 table, u64 number)
{
    return table + ((number & (BIT(q->table_bits) - 1)) << q->entry_bits);
}

/* Where the L2 table for a guest cluster is; 0 when there is none. */
static int table_of(struct qcow2 *q, u64 number, u64 *ret_table)
{
    u64 index = number >> q->table_bits;
    u64 table = index < q->l1_count ? q->l1[index] & QCOW2_OFFSET_MASK : 0;
    if ((table & (q->cluster_bytes - 1)) != 0 || table >= shared_get(&q->file->bytes))
        return -EIO;
    *ret_table = table;
    return 0;
}

int qcow2_cluster_get(struct qcow2 *q, u64 number, bool may_load, struct qcow2_cluster *ret_cluster)
{
    u64 table = 0;
    const u8 *entry = NULL;
    *ret_cluster = (struct qcow2_cluster){0};
    int result = table_of(q, number, &table);
    if (result != 0)
        return may_load ? qcow2_corrupt(q, "the L1 entry of cluster", number) : -EAGAIN;
    if (table == 0)
        return 0;
    u64 offset = entry_offset(q, table, number);
    if (may_load) {
        struct cache_page *page;
        result = cache_get(&q->l2_cache, offset, &page);
        if (result != 0)
            return result;
        entry = page->data + (offset & (q->l2_cache.page_bytes - 1));
    } else {
        entry = cache_peek(&q->l2_cache, offset);
        if (entry == NULL)
            return -EAGAIN;
    }
    result = decode(q, load_be64(entry), q->is_extended ? load_be64(entry + 8) : 0, ret_cluster);
    if (result != 0)
        return may_load ? qcow2_corrupt(q, "the L2 entry of cluster", number) : -EAGAIN;
    return 0;
}

int qcow2_cluster_set(struct qcow2 *q, u64 number, const struct qcow2_cluster *cluster)
{
    u8 entry[16];
    u64 table = 0, value = cluster->has_host ? cluster->host : 0;
    int result = table_of(q, number, &table);
    if (result != 0 || table == 0)
        return qcow2_corrupt(q, "the L1 entry of cluster", number);
    if (cluster->is_compressed)
        value = cluster->descriptor;
    else if (cluster->has_host && cluster->is_copied)
        value |= QCOW2_COPIED;
    if (!q->is_extended && cluster->zero != 0)
        value |= QCOW2_ZERO;
    store_be64(entry, value);
    store_be64(entry + 8, cluster->is_compressed ? 0 : (u64)cluster->zero << 32 | cluster->alloc);
    return cache_store(&q->l2_cache, entry_offset(q, table, number), entry, 1u << q->entry_bits);
}

static enum qcow2_kind kind_of(const struct qcow2_cluster *cluster, unsigned sub)
{
    if (cluster->is_compressed)
        return QCOW2_PACKED;
    if ((cluster->alloc & BIT(sub)) != 0)
        return QCOW2_DATA;
    return (cluster->zero & BIT(sub)) != 0 ? QCOW2_ZEROES : QCOW2_ABSENT;
}

/* The extent from OFFSET to where the kind changes, or the cluster ends. */
static void extent_within(const struct qcow2 *q, const struct qcow2_cluster *cluster, u64 offset,
                          struct qcow2_extent *ret_extent)
{
    u64 within = offset & (q->cluster_bytes - 1);
    unsigned sub = (unsigned)(within >> q->sub_bits), last = sub;
    enum qcow2_kind kind = kind_of(cluster, sub);
    while (last + 1 < q->sub_count && kind_of(cluster, last + 1) == kind)
        last++;
    *ret_extent = (struct qcow2_extent){.kind = kind,
                                        .bytes = ((u64)(last + 1) << q->sub_bits) - within,
                                        .host = cluster->host + within,
                                        .is_own = cluster->is_copied};
}

static bool follows(const struct qcow2_extent *first, const struct qcow2_extent *second)
{
    if (first->kind != second->kind || first->kind == QCOW2_PACKED)
        return false;
    return first->kind != QCOW2_DATA ||
           (first->host + first->bytes == second->host && first->is_own == second->is_own);
}

/* How many bytes from OFFSET on have no L2 table: a large, empty disk is looked through by tables.
 */
static u64 gap_at(const struct qcow2 *q, u64 offset)
{
    unsigned bits = q->cluster_bits + q->table_bits;
    u64 index = offset >> bits;
    return index < q->l1_count && q->l1[index] == 0 ? ((index + 1) << bits) - offset : 0;
}

int qcow2_map(struct qcow2 *q, u64 offset, u64 bytes, bool may_load,
              struct qcow2_extent *ret_extent)
{
    struct qcow2_cluster cluster;
    struct qcow2_extent next;
    if (offset >= q->size_bytes || bytes == 0)
        return -EINVAL;
    bytes = min_u64(bytes, q->size_bytes - offset);
    int result = qcow2_cluster_get(q, offset >> q->cluster_bits, may_load, &cluster);
    if (result != 0)
        return result;
    extent_within(q, &cluster, offset, ret_extent);
    while (ret_extent->bytes < bytes) {
        u64 at = offset + ret_extent->bytes;
        u64 gap = ret_extent->kind == QCOW2_ABSENT ? gap_at(q, at) : 0;
        if (gap != 0) {
            ret_extent->bytes += gap;
            continue;
        }
        /* What cannot be told now ends the extent; whoever asks for it next learns why. */
        if ((at & (q->cluster_bytes - 1)) == 0 &&
            qcow2_cluster_get(q, at >> q->cluster_bits, may_load, &cluster) != 0)
            break;
        extent_within(q, &cluster, at, &next);
        if (!follows(ret_extent, &next))
            break;
        ret_extent->bytes += next.bytes;
    }
    ret_extent->bytes = min_u64(ret_extent->bytes, bytes);
    return 0;
}
