/*
 * back/img/qcow2_open.c - opens a qcow2 file: tables into memory, caches, what the flags demand.
 *
 * Trust  the header has been judged by qcow2_header.c; tables must lie within the file.
 */
#include <errno.h>
#include <string.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"
#include "base/log.h"

enum { CACHE_PAGES_DEFAULT = 2048, REF_PAGES = 256, SECTOR_BYTES = 512 };

const struct qcow2_header *qcow2_header_of(const struct qcow2 *q)
{
    return &q->header;
}

u64 qcow2_size(const struct qcow2 *q)
{
    return q->size_bytes;
}

struct file *qcow2_data_file(struct qcow2 *q)
{
    return qcow2_data(q);
}

static void set_geometry(struct qcow2 *q)
{
    q->is_extended = (q->header.incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;
    q->cluster_bits = q->header.cluster_bits;
    q->cluster_bytes = BIT(q->cluster_bits);
    q->entry_bits = q->is_extended ? 4 : 3;
    q->table_bits = q->cluster_bits - q->entry_bits;
    q->sub_count = q->is_extended ? QCOW2_SUBCLUSTERS : 1;
    q->sub_bits = q->cluster_bits - (q->is_extended ? 5 : 0);
    q->sub_bytes = BIT(q->sub_bits);
    q->size_bytes = align_up(q->header.size_bytes, SECTOR_BYTES);
    q->end_cluster = (q->file->bytes + q->cluster_bytes - 1) >> q->cluster_bits;
}

/* A table of big-endian numbers, as the host's. */
static int load_table(struct qcow2 *q, u64 offset, u64 count, u64 **ret_table, struct err *err)
{
    u64 *table = new0_array(u64, count + 1);
    if (table == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", q->file->path);
    *ret_table = table;
    int result = file_read(q->file, offset, table, count * 8);
    if (result != 0)
        return err_set(err, result, "disk '%s': reading a table: %s", q->file->path,
                       strerror(-result));
    for (u64 i = 0; i < count; i++)
        table[i] = load_be64(&table[i]);
    return 0;
}

static int load_tables(struct qcow2 *q, struct err *err)
{
    const struct qcow2_header *header = &q->header;
    q->l1_count = header->l1_count;
    q->reftable_count = (u64)header->reftable_clusters << (q->cluster_bits - 3);
    if (header->l1_offset + (u64)q->l1_count * 8 > q->file->bytes)
        return err_set(err, -EINVAL,
                       "disk '%s': the L1 table lies beyond the end of the file: it was cut off; "
                       "restore it from a copy",
                       q->file->path);
    int result = load_table(q, header->l1_offset, q->l1_count, &q->l1, err);
    if (result != 0 || q->file->read_only)
        return result;
    if (header->reftable_offset + q->reftable_count * 8 >
        align_up(q->file->bytes, q->cluster_bytes))
        return err_set(err, -EINVAL,
                       "disk '%s': the refcount table lies beyond the end of the file: it was cut "
                       "off; open it with ',readonly', or mend it with 'atoll vol check --repair'",
                       q->file->path);
    q->l1_dirty = alloc_zero((u64)q->l1_count * 8 / SECTOR_BYTES + 1);
    if (q->l1_dirty == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", q->file->path);
    return qcow2_reftable_load(q, err);
}

int qcow2_reftable_load(struct qcow2 *q, struct err *err)
{
    if (q->reftable != NULL)
        return 0;
    return load_table(q, q->header.reftable_offset, q->reftable_count, &q->reftable, err);
}

static int check_flags(struct qcow2 *q, const struct qcow2_options *options, struct err *err)
{
    u64 flags = q->header.incompatible;
    q->is_dirty = (flags & QCOW2_INCOMPATIBLE_DIRTY) != 0;
    q->is_corrupt = (flags & QCOW2_INCOMPATIBLE_CORRUPT) != 0;
    if (((flags & QCOW2_INCOMPATIBLE_DATA_FILE) != 0) != (q->data_file != NULL))
        return err_set(err, -EINVAL,
                       q->data_file != NULL
                           ? "disk '%s': the image has no external data file"
                           : "disk '%s': the image keeps its data in another file, which must be "
                             "named: add ',data=FILE'",
                       q->file->path);
    if (q->file->read_only || options->is_checked_later)
        return 0;
    if (q->is_corrupt)
        return err_set(err, -EIO,
                       "disk '%s': the image is marked as damaged; look at it with 'atoll vol "
                       "check', mend it with 'atoll vol check --repair', or add ',readonly'",
                       q->file->path);
    if (q->is_dirty)
        return err_set(err, -EIO,
                       "disk '%s': the image was not closed and its refcounts are out of date; "
                       "mend it with 'atoll vol check --repair', or add ',readonly'",
                       q->file->path);
    return 0;
}

static int open_parts(struct qcow2 *q, const struct qcow2_options *options, struct err *err)
{
    u32 pages = options->cache_pages != 0 ? options->cache_pages : CACHE_PAGES_DEFAULT;
    int result = qcow2_header_read(&q->header, q->file, err);
    if (result != 0)
        return result;
    set_geometry(q);
    result = check_flags(q, options, err);
    if (result == 0)
        result = load_tables(q, err);
    if (result != 0)
        return result;
    u32 page_bytes = (u32)min_u64(QCOW2_PAGE_BYTES, q->cluster_bytes);
    result = cache_init(&q->l2_cache, q->file, &q->shared->lock, page_bytes, pages);
    if (result == 0)
        result = cache_init(&q->ref_cache, q->file, &q->shared->lock, page_bytes, REF_PAGES);
    return result == 0 ? 0 : err_set(err, result, "disk '%s': out of memory", q->file->path);
}

/* Flags that we do not keep true are cleared before anything changes: bitmaps, and what is not
 * known here. */
static int clear_flags(struct qcow2 *q, struct err *err)
{
    u8 field[8];
    u64 kept = q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
    if (q->file->read_only || q->header.autoclear == kept)
        return 0;
    store_be64(field, kept);
    int result = qcow2_poke(q, QCOW2_AT_AUTOCLEAR, field, sizeof(field));
    if (result == 0)
        result = file_sync(q->file);
    if (result != 0)
        return err_set(err, result, "disk '%s': writing the header: %s", q->file->path,
                       strerror(-result));
    q->header.autoclear = kept;
    return 0;
}

int qcow2_open(struct qcow2 **ret_qcow2, struct file *file, struct file *data_file,
               struct qcow2_shared *shared, const struct qcow2_options *options, struct err *err)
{
    struct qcow2 *q = new0(struct qcow2);
    if (q == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", file->path);
    q->file = file;
    q->data_file = data_file;
    q->shared = shared;
    int result = open_parts(q, options, err);
    if (result == 0)
        result = clear_flags(q, err);
    if (result != 0) {
        q->file = q->data_file = NULL; /* still the caller's */
        qcow2_close(q);
        return result;
    }
    *ret_qcow2 = q;
    return 0;
}

void qcow2_close(struct qcow2 *q)
{
    if (q == NULL)
        return;
    if (q->file != NULL && !q->file->read_only && !q->is_corrupt && q->reftable != NULL) {
        int result = qcow2_flush(q);
        if (result == 0)
            result = cache_write(&q->ref_cache);
        if (result != 0)
            log_error("disk", "'%s': what was written last is lost: %s", q->file->path,
                      strerror(-result));
    }
    alloc_free(q->scratch);
    cache_fini(&q->l2_cache);
    cache_fini(&q->ref_cache);
    for (unsigned i = 0; i < QCOW2_UNPACKED_COUNT; i++) {
        if (q->shared->unpacked[i].from == q)
            q->shared->unpacked[i].from = NULL;
    }
    alloc_free(q->freed);
    alloc_free(q->l1_dirty);
    alloc_free(q->reftable);
    alloc_free(q->l1);
    file_close(q->data_file);
    file_close(q->file);
    alloc_free(q);
}
