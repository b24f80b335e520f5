/*
 * back/img/qcow2_snapshot_table.c - the table of snapshots: read, and written anew.
 *
 *   0 L1 offset u64 | 8 L1 entries u32 | 12 id bytes u16 | 14 name bytes u16 | 16 date s u32
 *   20 date ns u32 | 24 VM clock ns u64 | 32 VM state bytes u32 | 36 extra bytes u32
 *   40 extra: VM state bytes u64, disk bytes u64, instruction count u64 | id | name | padding to 8
 *
 * Spec   qcow2: "Snapshots".
 * Trust  the table is hostile: its size and each length are bounded before they are used.
 */
#include <errno.h>
#include <string.h>

#include "back/img/qcow2_priv.h"
#include "back/img/qcow2_snapshot_priv.h"
#include "base/alloc.h"

enum { FIXED_BYTES = 40, EXTRA_BYTES = 24, EXTRA_MAX = 1024 };

static int bad(struct qcow2 *q, struct err *err)
{
    return err_set(err, -EINVAL,
                   "disk '%s': the table of snapshots is damaged; look at it with 'atoll vol "
                   "check'",
                   q->file->path);
}

static int take_text(char *to, const u8 *from, u32 bytes)
{
    if (bytes >= QCOW2_SNAPSHOT_NAME_BYTES)
        return -EINVAL;
    for (u32 i = 0; i < bytes; i++)
        to[i] = from[i] >= ' ' && from[i] != 127 ? (char)from[i] : '?';
    to[bytes] = '\0';
    return 0;
}

/* One record; its length, or 0 when it makes no sense. */
static u64 record_load(const struct qcow2 *q, const u8 *from, u64 left,
                       struct qcow2_snapshot *snapshot)
{
    if (left < FIXED_BYTES)
        return 0;
    u32 id_bytes = load_be16(from + 12), name_bytes = load_be16(from + 14);
    u32 extra_bytes = load_be32(from + 36);
    snapshot->l1_offset = load_be64(from);
    snapshot->l1_count = load_be32(from + 8);
    snapshot->date_s = load_be32(from + 16);
    snapshot->date_ns = load_be32(from + 20);
    snapshot->clock_ns = load_be64(from + 24);
    snapshot->state_bytes = load_be32(from + 32);
    snapshot->size_bytes = q->size_bytes;
    snapshot->icount = UINT64_MAX;
    if (extra_bytes > EXTRA_MAX || FIXED_BYTES + (u64)extra_bytes + id_bytes + name_bytes > left)
        return 0;
    if (extra_bytes >= 8)
        snapshot->state_bytes = load_be64(from + FIXED_BYTES);
    if (extra_bytes >= 16)
        snapshot->size_bytes = load_be64(from + FIXED_BYTES + 8);
    if (extra_bytes >= 24)
        snapshot->icount = load_be64(from + FIXED_BYTES + 16);
    from += FIXED_BYTES + extra_bytes;
    if (take_text(snapshot->id, from, id_bytes) != 0 ||
        take_text(snapshot->name, from + id_bytes, name_bytes) != 0)
        return 0;
    return align_up(FIXED_BYTES + (u64)extra_bytes + id_bytes + name_bytes, 8);
}

static int records_load(struct qcow2 *q, const u8 *data, u64 bytes, struct qcow2_snapshots *list)
{
    u64 at = 0;
    for (u32 i = 0; i < q->header.snapshot_count; i++) {
        u64 length = at <= bytes ? record_load(q, data + at, bytes - at, &list->items[i]) : 0;
        if (length == 0)
            return -EINVAL;
        at += length;
        list->count++;
    }
    list->bytes = at;
    return 0;
}

int qcow2_snapshots_load(struct qcow2 *q, struct qcow2_snapshots *ret_list, struct err *err)
{
    struct qcow2_snapshots list = {0};
    u64 offset = q->header.snapshot_offset, count = q->header.snapshot_count;
    *ret_list = list;
    if (count == 0)
        return 0;
    if (offset >= q->file->bytes)
        return bad(q, err);
    /* Every record takes 40 bytes of the file at least, so a false count asks for no memory. */
    u64 bytes = min_u64(q->file->bytes - offset, QCOW2_SNAPSHOT_TABLE_MAX);
    if (count * FIXED_BYTES > bytes)
        return bad(q, err);
    bytes = min_u64(bytes, count * (FIXED_BYTES + EXTRA_MAX + 2 * QCOW2_SNAPSHOT_NAME_BYTES));
    u8 *data = alloc_zero(bytes);
    list.items = new0_array(struct qcow2_snapshot, count);
    int result = data != NULL && list.items != NULL ? 0 : -ENOMEM;
    if (result == 0)
        result = file_read(q->file, offset, data, bytes);
    if (result == 0)
        result = records_load(q, data, bytes, &list);
    alloc_free(data);
    if (result == 0) {
        *ret_list = list;
        return 0;
    }
    qcow2_snapshots_fini(&list);
    return result == -EINVAL ? bad(q, err)
                             : err_set(err, result, "disk '%s': the table of snapshots: %s",
                                       q->file->path, strerror(-result));
}

void qcow2_snapshots_fini(struct qcow2_snapshots *list)
{
    alloc_free(list->items);
    *list = (struct qcow2_snapshots){0};
}

int qcow2_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, u64 **ret_l1)
{
    u64 bytes = (u64)snapshot->l1_count * 8;
    if (bytes > QCOW2_L1_BYTES_MAX || (snapshot->l1_offset & (q->cluster_bytes - 1)) != 0 ||
        snapshot->l1_offset > q->file->bytes || bytes > q->file->bytes - snapshot->l1_offset ||
        snapshot->size_bytes > QCOW2_SIZE_MAX ||
        qcow2_header_l1_needed(&q->header, snapshot->size_bytes) > snapshot->l1_count)
        return -EINVAL;
    u64 *l1 = new0_array(u64, (size_t)snapshot->l1_count + 1);
    if (l1 == NULL)
        return -ENOMEM;
    int result = file_read(q->file, snapshot->l1_offset, l1, bytes);
    for (u32 i = 0; i < snapshot->l1_count; i++)
        l1[i] = load_be64(&l1[i]);
    if (result == 0)
        *ret_l1 = l1;
    else
        alloc_free(l1);
    return result;
}

static u64 record_store(const struct qcow2_snapshot *snapshot, u8 *to)
{
    u64 id_bytes = strlen(snapshot->id), name_bytes = strlen(snapshot->name);
    store_be64(to, snapshot->l1_offset);
    store_be32(to + 8, snapshot->l1_count);
    store_be16(to + 12, (u16)id_bytes);
    store_be16(to + 14, (u16)name_bytes);
    store_be32(to + 16, snapshot->date_s);
    store_be32(to + 20, snapshot->date_ns);
    store_be64(to + 24, snapshot->clock_ns);
    store_be32(to + 32, (u32)min_u64(snapshot->state_bytes, UINT32_MAX));
    store_be32(to + 36, EXTRA_BYTES);
    store_be64(to + 40, snapshot->state_bytes);
    store_be64(to + 48, snapshot->size_bytes);
    store_be64(to + 56, snapshot->icount);
    memcpy(to + FIXED_BYTES + EXTRA_BYTES, snapshot->id, id_bytes);
    memcpy(to + FIXED_BYTES + EXTRA_BYTES + id_bytes, snapshot->name, name_bytes);
    return align_up(FIXED_BYTES + EXTRA_BYTES + id_bytes + name_bytes, 8);
}

int qcow2_snapshots_store(struct qcow2 *q, const struct qcow2_snapshots *list, u64 old_bytes)
{
    u64 most = (u64)list->count *
               (FIXED_BYTES + EXTRA_BYTES + 2 * (u64)QCOW2_SNAPSHOT_NAME_BYTES + 8);
    u64 old_offset = q->header.snapshot_offset, offset = 0, clusters = 0, got, bytes = 0;
    u8 *data = alloc_zero(most + q->cluster_bytes), fields[12];
    int result = data != NULL ? 0 : -ENOMEM;
    for (u32 i = 0; i < list->count && result == 0; i++)
        bytes += record_store(&list->items[i], data + bytes);
    clusters = (bytes + q->cluster_bytes - 1) >> q->cluster_bits;
    if (result == 0 && clusters != 0)
        result = qcow2_alloc(q, clusters, clusters, &offset, &got);
    if (result == 0 && clusters != 0)
        result = file_write(q->file, offset, data, clusters << q->cluster_bits);
    alloc_free(data);
    shared_set(&q->needs_barrier, true);
    if (result == 0)
        result = qcow2_flush(q);
    store_be32(fields, list->count);
    store_be64(fields + 4, offset);
    if (result == 0)
        result = qcow2_poke(q, QCOW2_AT_SNAPSHOT_COUNT, fields, sizeof(fields));
    if (result == 0)
        result = file_sync(q->file);
    if (result != 0)
        return result;
    q->header.snapshot_count = list->count;
    q->header.snapshot_offset = offset;
    return old_bytes != 0 ? qcow2_ref_change(q, old_offset, old_bytes, -1) : 0;
}
