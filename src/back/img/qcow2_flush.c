/*
 * back/img/qcow2_flush.c - brings changes to the file in the order that qcow2_priv.h gives.
 */
#include <errno.h>

#include "back/img/qcow2_priv.h"

enum { L2_DIRTY_MAX = 1024, REF_DIRTY_MAX = 128, FREED_MAX = 8192 };

bool qcow2_needs_flush(const struct qcow2 *q)
{
    return shared_get(&q->needs_barrier) || shared_get(&q->is_l1_dirty) ||
           shared_get(&q->l2_cache.dirty_count) > 0 || q->data_file != NULL ||
           shared_get(&q->is_corrupt);
}

static int sync_all(struct qcow2 *q)
{
    int result = q->data_file != NULL ? file_sync(q->data_file) : 0;
    return result == 0 ? file_sync(q->file) : result;
}

/* Gives back what nothing refers to any more. What fails here is lost until the next check. */
static int apply_frees(struct qcow2 *q)
{
    int result = 0;
    for (u64 i = 0; i < q->freed_count && result == 0; i++) {
        const struct qcow2_freed *freed = &q->freed[i];
        u64 last = align_down(freed->offset + freed->bytes - 1, q->cluster_bytes), refs;
        result = qcow2_ref_change(q, freed->offset, freed->bytes, -1);
        for (u64 at = align_down(freed->offset, q->cluster_bytes); at <= last && result == 0;
             at += q->cluster_bytes) {
            result = qcow2_ref_get(q, at >> q->cluster_bits, &refs);
            if (result == 0 && refs == 0)
                file_punch(q->file, at, q->cluster_bytes);
        }
    }
    q->freed_count = 0;
    return result;
}

int qcow2_flush(struct qcow2 *q)
{
    int result = 0;
    if (q->file->read_only)
        return 0;
    if (q->is_corrupt)
        return -EIO;
    if (q->needs_barrier) {
        result = cache_write(&q->ref_cache);
        if (result == 0)
            result = sync_all(q);
        if (result != 0)
            return result;
        shared_set(&q->needs_barrier, false);
    }
    result = cache_write(&q->l2_cache);
    if (result == 0 && q->is_l1_dirty)
        result = qcow2_l1_write(q);
    if (result == 0)
        result = sync_all(q);
    return result == 0 ? apply_frees(q) : result;
}

int qcow2_relieve(struct qcow2 *q)
{
    bool is_much = q->l2_cache.dirty_count > L2_DIRTY_MAX ||
                   q->ref_cache.dirty_count > REF_DIRTY_MAX || q->freed_count > FREED_MAX;
    if (!is_much)
        return 0;
    int result = qcow2_flush(q);
    return result == 0 ? cache_write(&q->ref_cache) : result;
}

int qcow2_poke(struct qcow2 *q, u64 offset, const void *from, u64 bytes)
{
    return file_write(q->file, offset, from, bytes);
}
