/*
 * back/img/qcow2_table.c - L1, and L2 tables of our own.
 *
 * A new table is written at once, where nothing refers to it; its L1 entry follows with the flush,
 * behind a barrier. A table that a snapshot uses as well is copied first.
 */
#include <errno.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

enum { SECTOR_BYTES = 512, ENTRIES_PER_SECTOR = SECTOR_BYTES / 8 };

void qcow2_l1_set(struct qcow2 *q, u64 index, u64 value)
{
    lock_acquire(&q->shared->lock);
    q->l1[index] = value;
    lock_release(&q->shared->lock);
    q->l1_dirty[index / ENTRIES_PER_SECTOR] = 1;
    shared_set(&q->is_l1_dirty, true);
}

int qcow2_l1_write(struct qcow2 *q)
{
    u8 sector[SECTOR_BYTES];
    for (u64 first = 0; first < q->l1_count; first += ENTRIES_PER_SECTOR) {
        if (q->l1_dirty[first / ENTRIES_PER_SECTOR] == 0)
            continue;
        u64 count = min_u64(ENTRIES_PER_SECTOR, q->l1_count - first);
        for (u64 i = 0; i < count; i++)
            store_be64(sector + i * 8, q->l1[first + i]);
        int result = file_write(q->file, q->header.l1_offset + first * 8, sector, count * 8);
        if (result != 0)
            return result;
        q->l1_dirty[first / ENTRIES_PER_SECTOR] = 0;
    }
    shared_set(&q->is_l1_dirty, false);
    return 0;
}

static int copy_table(struct qcow2 *q, u64 from, u64 to)
{
    u8 *data = alloc_zero(q->cluster_bytes);
    if (data == NULL)
        return -ENOMEM;
    int result = file_read(q->file, from, data, q->cluster_bytes);
    if (result == 0)
        result = file_write(q->file, to, data, q->cluster_bytes);
    alloc_free(data);
    return result;
}

int qcow2_table_own(struct qcow2 *q, u64 number)
{
    u64 index = number >> q->table_bits, offset, count;
    if (index >= q->l1_count)
        return -EINVAL;
    u64 old = q->l1[index] & QCOW2_OFFSET_MASK;
    if (old != 0 && (q->l1[index] & QCOW2_COPIED) != 0)
        return 0;
    if ((old & (q->cluster_bytes - 1)) != 0 || old >= q->file->bytes)
        return qcow2_corrupt(q, "L1 entry", index);
    int result = qcow2_alloc(q, 1, 1, &offset, &count);
    if (result != 0)
        return result;
    cache_forget(&q->l2_cache, offset, q->cluster_bytes);
    result = old != 0 ? copy_table(q, old, offset)
                      : file_zero(q->file, offset, q->cluster_bytes, true);
    if (result == 0 && old != 0)
        result = qcow2_free_later(q, old, q->cluster_bytes);
    if (result != 0) {
        qcow2_unalloc(q, offset, q->cluster_bytes);
        return result;
    }
    shared_set(&q->needs_barrier, true);
    qcow2_l1_set(q, index, offset | QCOW2_COPIED);
    return 0;
}
