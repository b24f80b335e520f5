/*
 * back/img/qcow2_header_write.c - writes the first cluster of a qcow2 file anew.
 *
 * Extensions that are not known here stay: their owners may come back.
 */
#include <errno.h>
#include <string.h>

#include "back/img/file.h"
#include "back/img/qcow2_header.h"
#include "base/alloc.h"

struct output {
    u8 *data; /* one cluster */
    u64 at, end;
    bool is_full;
};

static void put_extension(struct output *out, u32 type, const void *from, u64 bytes)
{
    u64 padded = align_up(bytes, 8);
    if (out->is_full || padded + 8 > out->end - out->at) {
        out->is_full = true;
        return;
    }
    store_be32(out->data + out->at, type);
    store_be32(out->data + out->at + 4, (u32)bytes);
    if (bytes != 0)
        memcpy(out->data + out->at + 8, from, bytes);
    out->at += 8 + padded;
}

static void put_features(struct output *out)
{
    static const struct {
        u8 kind, bit;
        char name[QCOW2_FEATURE_BYTES - 2];
    } rows[] = {
        {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
        {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
        {2, 0, "bitmaps"},          {2, 1, "raw external data"}};
    _Static_assert(sizeof(rows[0]) == QCOW2_FEATURE_BYTES, "a row of the table");
    /* A small cluster has no room for what is only a courtesy. */
    if (out->end - out->at > sizeof(rows) + QCOW2_NAME_MAX + 64)
        put_extension(out, QCOW2_EXT_FEATURES, rows, sizeof(rows));
}

/* Copies what is not written by us from the old cluster. */
static void keep_unknown(struct output *out, const u8 *old, u64 old_bytes)
{
    if (!qcow2_header_is(old, old_bytes))
        return;
    u64 at = load_be32(old + QCOW2_AT_VERSION) >= 3 ? load_be32(old + QCOW2_AT_HEADER_BYTES)
                                                    : QCOW2_V2_BYTES;
    while (at + 8 <= old_bytes) {
        u32 type = load_be32(old + at), bytes = load_be32(old + at + 4);
        at += 8;
        if (type == QCOW2_EXT_END || bytes > old_bytes - at)
            break;
        if (type != QCOW2_EXT_BACKING_FORMAT && type != QCOW2_EXT_DATA_FILE &&
            type != QCOW2_EXT_FEATURES)
            put_extension(out, type, old + at, bytes);
        at += align_up(bytes, 8);
    }
}

static void put_fields(const struct qcow2_header *header, u8 *to)
{
    store_be32(to + QCOW2_AT_MAGIC, QCOW2_MAGIC);
    store_be32(to + QCOW2_AT_VERSION, header->version);
    store_be64(to + QCOW2_AT_BACKING_OFFSET, header->backing_offset);
    store_be32(to + QCOW2_AT_BACKING_BYTES, header->backing_name_bytes);
    store_be32(to + QCOW2_AT_CLUSTER_BITS, header->cluster_bits);
    store_be64(to + QCOW2_AT_SIZE, header->size_bytes);
    store_be32(to + QCOW2_AT_CRYPT, header->crypt);
    store_be32(to + QCOW2_AT_L1_COUNT, header->l1_count);
    store_be64(to + QCOW2_AT_L1_OFFSET, header->l1_offset);
    store_be64(to + QCOW2_AT_REFTABLE_OFFSET, header->reftable_offset);
    store_be32(to + QCOW2_AT_REFTABLE_CLUSTERS, header->reftable_clusters);
    store_be32(to + QCOW2_AT_SNAPSHOT_COUNT, header->snapshot_count);
    store_be64(to + QCOW2_AT_SNAPSHOT_OFFSET, header->snapshot_offset);
    if (header->version < 3)
        return;
    store_be64(to + QCOW2_AT_INCOMPATIBLE, header->incompatible);
    store_be64(to + QCOW2_AT_COMPATIBLE, header->compatible);
    store_be64(to + QCOW2_AT_AUTOCLEAR, header->autoclear);
    store_be32(to + QCOW2_AT_REFCOUNT_ORDER, header->refcount_order);
    store_be32(to + QCOW2_AT_HEADER_BYTES, QCOW2_FULL_BYTES);
    to[QCOW2_AT_COMPRESSION] = (u8)header->compression;
}

static void put_all(struct qcow2_header *header, struct output *out, const u8 *old, u64 old_bytes)
{
    header->header_bytes = header->version >= 3 ? QCOW2_FULL_BYTES : QCOW2_V2_BYTES;
    out->at = header->header_bytes;
    if (header->backing_format[0] != '\0')
        put_extension(out, QCOW2_EXT_BACKING_FORMAT, header->backing_format,
                      strlen(header->backing_format));
    if (header->data_file[0] != '\0')
        put_extension(out, QCOW2_EXT_DATA_FILE, header->data_file, strlen(header->data_file));
    if (header->version >= 3)
        put_features(out);
    keep_unknown(out, old, old_bytes);
    put_extension(out, QCOW2_EXT_END, NULL, 0);
    u64 name_bytes = strlen(header->backing);
    header->backing_offset = name_bytes != 0 ? out->at : 0;
    header->backing_name_bytes = (u32)name_bytes;
    if (name_bytes > out->end - out->at)
        out->is_full = true;
    else
        memcpy(out->data + out->at, header->backing, name_bytes);
    put_fields(header, out->data);
}

int qcow2_header_write(struct qcow2_header *header, struct file *file, struct err *err)
{
    u64 bytes = BIT(header->cluster_bits);
    u8 *old = alloc_zero(bytes), *fresh = alloc_zero(bytes);
    struct output out = {.data = fresh, .end = bytes};
    int result = old == NULL || fresh == NULL ? -ENOMEM : file_read(file, 0, old, bytes);
    if (result == 0) {
        put_all(header, &out, old, bytes);
        result = out.is_full ? -ENOSPC : file_write(file, 0, fresh, bytes);
    }
    alloc_free(old);
    alloc_free(fresh);
    if (result == -ENOSPC && out.is_full)
        return err_set(err, -ENOSPC,
                       "disk '%s': the header has no room for the names of other files; use "
                       "shorter names or larger clusters",
                       file->path);
    return result == 0 ? 0
                       : err_set(err, result, "disk '%s': writing the header: %s", file->path,
                                 strerror(-result));
}
