/*
 * back/img/qcow2_snapshot.c - internal snapshots: made, gone back to, deleted.
 *
 * A snapshot is a copy of L1. What both lead to is counted once more, and is nobody's own until one
 * of the two is gone: the marks of sole use are set anew after each change.
 */
#include "back/img/qcow2_snapshot.h"

#include <errno.h>
#include <string.h>

#include "back/img/qcow2_create.h"
#include "back/img/qcow2_priv.h"
#include "back/img/qcow2_snapshot_priv.h"
#include "base/alloc.h"
#include "base/fmt.h"

static int fail(struct qcow2 *q, const char *what, int result, struct err *err)
{
    return result == 0
               ? 0
               : err_set(err, result, "disk '%s': snapshot: %s: %s%s", q->file->path, what,
                         strerror(-result),
                         result == -EFBIG ? "; the image's refcounts have too few bits for one more"
                                          : "");
}

/* Counts all that L1 leads to once more, or once less. */
static int count_tree(struct qcow2 *q, const u64 *l1, u64 l1_count, int change)
{
    u8 *table = alloc_zero(q->cluster_bytes);
    int result = table != NULL ? 0 : -ENOMEM;
    for (u64 i = 0; i < l1_count && result == 0; i++) {
        u64 offset = l1[i] & QCOW2_OFFSET_MASK, host, bytes;
        if (offset == 0)
            continue;
        if ((offset & (q->cluster_bytes - 1)) != 0 || offset >= q->file->bytes) {
            result = -EIO;
            break;
        }
        result = file_read(q->file, offset, table, q->cluster_bytes);
        for (u64 at = 0; at < q->cluster_bytes && result == 0; at += 1u << q->entry_bits) {
            u64 entry = load_be64(table + at);
            host = entry & QCOW2_OFFSET_MASK;
            bytes = q->cluster_bytes;
            if ((entry & QCOW2_COMPRESSED) != 0)
                qcow2_packed_place(q, entry, &host, &bytes);
            if (host != 0)
                result = qcow2_ref_change(q, host, bytes, change);
        }
        if (result == 0)
            result = qcow2_ref_change(q, offset, q->cluster_bytes, change);
    }
    alloc_free(table);
    return result;
}

static int mark_table(struct qcow2 *q, u64 index)
{
    struct qcow2_cluster cluster;
    u64 first = index << q->table_bits, refs;
    int result = 0;
    for (u64 i = 0; i < BIT(q->table_bits) && result == 0; i++) {
        result = qcow2_cluster_get(q, first + i, true, &cluster);
        if (result != 0 || !cluster.has_host || cluster.is_compressed)
            continue;
        result = qcow2_ref_get(q, cluster.host >> q->cluster_bits, &refs);
        if (result != 0 || cluster.is_copied == (refs == 1))
            continue;
        cluster.is_copied = refs == 1;
        result = qcow2_cluster_set(q, first + i, &cluster);
    }
    return result;
}

/* Sets the marks of sole use as the counts are. */
static int mark_tree(struct qcow2 *q)
{
    int result = 0;
    for (u64 i = 0; i < q->l1_count && result == 0; i++) {
        u64 table = q->l1[i] & QCOW2_OFFSET_MASK, refs;
        if (table == 0)
            continue;
        result = qcow2_ref_get(q, table >> q->cluster_bits, &refs);
        if (result != 0)
            break;
        u64 marked = table | (refs == 1 ? QCOW2_COPIED : 0);
        if (marked != q->l1[i])
            qcow2_l1_set(q, i, marked);
        result = mark_table(q, i);
    }
    return result;
}

static struct qcow2_snapshot *find(struct qcow2_snapshots *list, const char *name)
{
    for (u32 i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    }
    for (u32 i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].id, name) == 0)
            return &list->items[i];
    }
    return NULL;
}

static int load(struct qcow2 *q, const char *name, struct qcow2_snapshots *list,
                struct qcow2_snapshot **ret_found, struct err *err)
{
    if (q->data_file != NULL)
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': an image with an external data file has no snapshots",
                       q->file->path);
    int result = qcow2_snapshots_load(q, list, err);
    if (result != 0)
        return result;
    *ret_found = find(list, name);
    return 0;
}

static int not_there(struct qcow2 *q, const char *name, struct err *err)
{
    return err_set(err, -ENOENT,
                   "disk '%s': there is no snapshot '%s'; 'atoll vol snapshot ls' shows them",
                   q->file->path, name);
}

static void next_id(const struct qcow2_snapshots *list, char id[QCOW2_SNAPSHOT_NAME_BYTES])
{
    u64 most = 0;
    for (u32 i = 0; i < list->count; i++) {
        u64 number = 0;
        for (const char *c = list->items[i].id; *c >= '0' && *c <= '9'; c++)
            number = number * 10 + (u64)(*c - '0');
        most = max_u64(most, number);
    }
    fmt_text(id, QCOW2_SNAPSHOT_NAME_BYTES, "%llu", (unsigned long long)(most + 1));
}

static int copy_l1(struct qcow2 *q, struct qcow2_snapshot *snapshot)
{
    u64 bytes = (u64)q->l1_count * 8, clusters, got;
    clusters = max_u64((bytes + q->cluster_bytes - 1) >> q->cluster_bits, 1);
    u8 *data = alloc_zero(clusters << q->cluster_bits);
    if (data == NULL)
        return -ENOMEM;
    for (u32 i = 0; i < q->l1_count; i++)
        store_be64(data + (u64)i * 8, q->l1[i] & QCOW2_OFFSET_MASK);
    int result = qcow2_alloc(q, clusters, clusters, &snapshot->l1_offset, &got);
    if (result == 0)
        result = file_write(q->file, snapshot->l1_offset, data, clusters << q->cluster_bits);
    snapshot->l1_count = q->l1_count;
    alloc_free(data);
    return result;
}

int qcow2_snapshot_create(struct qcow2 *q, const char *name, u64 now_ns, struct err *err)
{
    struct qcow2_snapshots list = {0}, longer = {0};
    struct qcow2_snapshot *found = NULL;
    if (name[0] == '\0' || strlen(name) >= QCOW2_SNAPSHOT_NAME_BYTES)
        return err_set(err, -EINVAL, "a snapshot's name has 1 to 255 bytes");
    int result = qcow2_flush(q);
    if (result != 0)
        return fail(q, "flush", result, err);
    result = load(q, name, &list, &found, err);
    if (result != 0)
        return result;
    if (found != NULL) {
        qcow2_snapshots_fini(&list);
        return err_set(err, -EEXIST,
                       "disk '%s': there is a snapshot '%s' already; delete it, or "
                       "take another name",
                       q->file->path, name);
    }
    longer.count = list.count + 1;
    longer.items = new0_array(struct qcow2_snapshot, longer.count);
    result = longer.items != NULL ? 0 : -ENOMEM;
    if (result == 0) {
        struct qcow2_snapshot *fresh = &longer.items[list.count];
        if (list.count != 0)
            memcpy(longer.items, list.items, list.count * sizeof(*list.items));
        fmt_text(fresh->name, sizeof(fresh->name), "%s", name);
        next_id(&list, fresh->id);
        fresh->date_s = (u32)(now_ns / 1000000000);
        fresh->date_ns = (u32)(now_ns % 1000000000);
        fresh->size_bytes = q->size_bytes;
        fresh->icount = UINT64_MAX;
        result = copy_l1(q, fresh);
    }
    if (result == 0)
        result = count_tree(q, q->l1, q->l1_count, 1);
    if (result == 0)
        result = mark_tree(q);
    if (result == 0)
        result = qcow2_snapshots_store(q, &longer, list.bytes);
    if (result == 0)
        result = qcow2_flush(q);
    qcow2_snapshots_fini(&list);
    qcow2_snapshots_fini(&longer);
    return fail(q, "create", result, err);
}

/* Replaces the disk's L1 by another of the same length or shorter, all of it counted already. */
static int replace_l1(struct qcow2 *q, const u64 *l1, u64 l1_count)
{
    for (u64 i = 0; i < q->l1_count; i++)
        qcow2_l1_set(q, i, i < l1_count ? l1[i] & QCOW2_OFFSET_MASK : 0);
    shared_set(&q->needs_barrier, true);
    return qcow2_flush(q);
}

static int apply(struct qcow2 *q, const struct qcow2_snapshot *snapshot, struct err *err)
{
    u64 *l1 = NULL;
    int result = qcow2_snapshot_l1(q, snapshot, &l1);
    /* A disk that is too short for the snapshot first gets longer. */
    if (result == 0 && snapshot->size_bytes != q->size_bytes)
        result = qcow2_resize(q, snapshot->size_bytes, err);
    u64 *old = result == 0 ? new0_array(u64, (size_t)q->l1_count + 1) : NULL;
    u64 old_count = q->l1_count;
    if (result == 0 && old == NULL)
        result = -ENOMEM;
    if (result == 0) {
        memcpy(old, q->l1, old_count * 8);
        result = count_tree(q, l1, min_u64(snapshot->l1_count, old_count), 1);
    }
    if (result == 0)
        result = replace_l1(q, l1, snapshot->l1_count);
    if (result == 0)
        result = count_tree(q, old, old_count, -1);
    if (result == 0)
        result = mark_tree(q);
    shared_set(&q->needs_barrier, true);
    if (result == 0)
        result = qcow2_flush(q);
    alloc_free(l1);
    alloc_free(old);
    return result;
}

int qcow2_snapshot_apply(struct qcow2 *q, const char *name, struct err *err)
{
    struct qcow2_snapshots list = {0};
    struct qcow2_snapshot *found = NULL;
    int result = qcow2_flush(q);
    if (result != 0)
        return fail(q, "flush", result, err);
    result = load(q, name, &list, &found, err);
    if (result != 0)
        return result;
    if (found == NULL)
        result = not_there(q, name, err);
    else
        result = fail(q, "apply", apply(q, found, err), err);
    qcow2_snapshots_fini(&list);
    return result;
}

int qcow2_snapshot_delete(struct qcow2 *q, const char *name, struct err *err)
{
    struct qcow2_snapshots list = {0};
    struct qcow2_snapshot *found = NULL, gone;
    u64 *l1 = NULL;
    int result = qcow2_flush(q);
    if (result != 0)
        return fail(q, "flush", result, err);
    result = load(q, name, &list, &found, err);
    if (result != 0)
        return result;
    if (found == NULL) {
        qcow2_snapshots_fini(&list);
        return not_there(q, name, err);
    }
    gone = *found;
    u32 at = (u32)(found - list.items);
    memmove(found, found + 1, (list.count - at - 1) * sizeof(*found));
    list.count--;
    result = qcow2_snapshot_l1(q, &gone, &l1);
    if (result == 0)
        result = qcow2_snapshots_store(q, &list, list.bytes);
    if (result == 0)
        result = count_tree(q, l1, gone.l1_count, -1);
    if (result == 0)
        result = qcow2_ref_change(q, gone.l1_offset, max_u64((u64)gone.l1_count * 8, 1), -1);
    if (result == 0)
        result = mark_tree(q);
    shared_set(&q->needs_barrier, true);
    if (result == 0)
        result = qcow2_flush(q);
    alloc_free(l1);
    qcow2_snapshots_fini(&list);
    return fail(q, "delete", result, err);
}
