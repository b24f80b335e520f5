/*
 * back/img/qcow2_resize.c - a longer or shorter disk, and another backing file: L1, what lies
 * beyond the end, the header.
 */
#include <errno.h>
#include <string.h>

#include "back/img/qcow2_create.h"
#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

/* A longer L1 is written elsewhere, and the header's two fields are changed by one write. */
static int grow_l1(struct qcow2 *q, u64 needed)
{
    u64 clusters = (needed * 8 + q->cluster_bytes - 1) >> q->cluster_bits, offset, got;
    /* All there is room for: the next growth may then find it there. */
    u64 count = min_u64((clusters << q->cluster_bits) / 8, needed);
    u64 old_offset = q->header.l1_offset, old_count = q->l1_count;
    u64 *table = new0_array(u64, count + 1);
    u8 *text = alloc_zero(clusters << q->cluster_bits), fields[12];
    u8 *dirty = alloc_zero(count * 8 / 512 + 1);
    int result = table != NULL && text != NULL && dirty != NULL ? 0 : -ENOMEM;
    if (result == 0)
        result = qcow2_alloc(q, clusters, clusters, &offset, &got);
    if (result == 0)
        result = qcow2_flush(q); /* the old table is complete then, and the new one is counted */
    if (result == 0)
        result = cache_write(&q->ref_cache);
    for (u64 i = 0; i < old_count && result == 0; i++)
        store_be64(text + i * 8, q->l1[i]);
    if (result == 0)
        result = file_write(q->file, offset, text, clusters << q->cluster_bits);
    if (result == 0)
        result = file_sync(q->file);
    if (result == 0) {
        store_be32(fields, (u32)count);
        store_be64(fields + 4, offset);
        result = qcow2_poke(q, QCOW2_AT_L1_COUNT, fields, sizeof(fields));
    }
    if (result == 0)
        result = file_sync(q->file);
    alloc_free(text);
    if (result != 0) {
        alloc_free(table);
        alloc_free(dirty);
        return result;
    }
    memcpy(table, q->l1, old_count * 8);
    lock_acquire(&q->shared->lock);
    alloc_free(q->l1);
    q->l1 = table;
    q->l1_count = (u32)count;
    lock_release(&q->shared->lock);
    alloc_free(q->l1_dirty);
    q->l1_dirty = dirty;
    q->header.l1_count = (u32)count;
    q->header.l1_offset = offset;
    return old_count != 0 ? qcow2_free_later(q, old_offset, old_count * 8) : 0;
}

static int set_size(struct qcow2 *q, u64 size_bytes)
{
    u8 field[8];
    store_be64(field, size_bytes);
    int result = qcow2_poke(q, QCOW2_AT_SIZE, field, sizeof(field));
    if (result == 0)
        result = file_sync(q->file);
    if (result == 0) {
        lock_acquire(&q->shared->lock);
        q->header.size_bytes = q->size_bytes = size_bytes;
        lock_release(&q->shared->lock);
    }
    return result;
}

static int grow(struct qcow2 *q, u64 size_bytes)
{
    u64 needed = qcow2_header_l1_needed(&q->header, size_bytes), old_bytes = q->size_bytes;
    int result = 0;
    if (needed > QCOW2_L1_BYTES_MAX / 8)
        return -EFBIG;
    if (needed > q->l1_count)
        result = grow_l1(q, needed);
    if (result == 0)
        result = set_size(q, size_bytes);
    /* What lies below was beyond the end, and must not be seen now. */
    u64 end = min_u64(q->below.size_bytes, size_bytes);
    if (result == 0 && end > old_bytes)
        result = qcow2_zero(q, old_bytes, end - old_bytes, QCOW2_UNMAP);
    return result;
}

static int shrink(struct qcow2 *q, u64 size_bytes)
{
    u64 from = align_up(size_bytes, q->cluster_bytes);
    u64 first = qcow2_header_l1_needed(&q->header, size_bytes);
    int result = 0;
    /* What stays of the last cluster must not come back when the disk grows again. */
    if (from > size_bytes)
        result = qcow2_zero(q, size_bytes, min_u64(from, q->size_bytes) - size_bytes, 0);
    if (result == 0 && from < q->size_bytes)
        result = qcow2_zero(q, from, q->size_bytes - from, QCOW2_FORGET);
    for (u64 i = first; i < q->l1_count && result == 0; i++) {
        u64 table = q->l1[i] & QCOW2_OFFSET_MASK;
        if (table == 0)
            continue;
        result = qcow2_free_later(q, table, q->cluster_bytes);
        qcow2_l1_set(q, i, 0);
    }
    if (result == 0)
        result = set_size(q, size_bytes);
    return result;
}

int qcow2_set_backing(struct qcow2 *q, const char *name, const char *format, struct err *err)
{
    struct qcow2_header *header = &q->header;
    if (strlen(name) > QCOW2_NAME_MAX || strlen(format) > QCOW2_FORMAT_NAME_MAX)
        return err_set(err, -ENAMETOOLONG, "the backing file's name is longer than 1023 bytes");
    strcpy(header->backing, name);
    strcpy(header->backing_format, name[0] != '\0' ? format : "");
    int result = qcow2_flush(q);
    if (result != 0)
        return err_set(err, result, "disk '%s': flush: %s", q->file->path, strerror(-result));
    result = qcow2_header_write(header, q->file, err);
    if (result == 0 && file_sync(q->file) != 0)
        result = err_set(err, -EIO, "disk '%s': the header could not be written", q->file->path);
    return result;
}

int qcow2_resize(struct qcow2 *q, u64 size_bytes, struct err *err)
{
    if (q->file->read_only)
        return err_set(err, -EROFS, "disk '%s': it is open for reading only", q->file->path);
    if (size_bytes % 512 != 0 || size_bytes > QCOW2_SIZE_MAX)
        return err_set(err, -EINVAL, "disk '%s': a size is a multiple of 512 bytes", q->file->path);
    int result = size_bytes >= q->size_bytes ? grow(q, size_bytes) : shrink(q, size_bytes);
    if (result == 0)
        result = qcow2_flush(q);
    if (result == -EFBIG)
        return err_set(err, result,
                       "disk '%s': such a disk needs an L1 table of more than 32 MiB; larger "
                       "clusters make it shorter",
                       q->file->path);
    return result == 0
               ? 0
               : err_set(err, result, "disk '%s': resize: %s", q->file->path, strerror(-result));
}
