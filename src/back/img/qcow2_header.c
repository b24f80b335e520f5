/*
 * back/img/qcow2_header.c - reads and judges the header of a qcow2 file.
 *
 * Trust  every byte of the file is hostile: sizes are bounded before memory is asked for, and the
 *        names are text for messages and for the policy of img.c, never opened here.
 */
#include "back/img/qcow2_header.h"

#include <errno.h>
#include <string.h>

#include "back/img/file.h"
#include "base/alloc.h"
#include "base/fmt.h"

bool qcow2_header_is(const void *data, size_t bytes)
{
    return bytes >= 8 && load_be32(data) == QCOW2_MAGIC;
}

u64 qcow2_header_l1_needed(const struct qcow2_header *header, u64 size_bytes)
{
    bool is_extended = (header->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;
    unsigned table_bits = header->cluster_bits * 2 - (is_extended ? 4 : 3);
    return (size_bytes >> table_bits) + ((size_bytes & (BIT(table_bits) - 1)) != 0);
}

static void load_fields(struct qcow2_header *header, const u8 *from)
{
    header->version = load_be32(from + QCOW2_AT_VERSION);
    header->backing_offset = load_be64(from + QCOW2_AT_BACKING_OFFSET);
    header->backing_name_bytes = load_be32(from + QCOW2_AT_BACKING_BYTES);
    header->cluster_bits = load_be32(from + QCOW2_AT_CLUSTER_BITS);
    header->size_bytes = load_be64(from + QCOW2_AT_SIZE);
    header->crypt = load_be32(from + QCOW2_AT_CRYPT);
    header->l1_count = load_be32(from + QCOW2_AT_L1_COUNT);
    header->l1_offset = load_be64(from + QCOW2_AT_L1_OFFSET);
    header->reftable_offset = load_be64(from + QCOW2_AT_REFTABLE_OFFSET);
    header->reftable_clusters = load_be32(from + QCOW2_AT_REFTABLE_CLUSTERS);
    header->snapshot_count = load_be32(from + QCOW2_AT_SNAPSHOT_COUNT);
    header->snapshot_offset = load_be64(from + QCOW2_AT_SNAPSHOT_OFFSET);
    header->refcount_order = 4;
    header->header_bytes = QCOW2_V2_BYTES;
    if (header->version < 3)
        return;
    header->incompatible = load_be64(from + QCOW2_AT_INCOMPATIBLE);
    header->compatible = load_be64(from + QCOW2_AT_COMPATIBLE);
    header->autoclear = load_be64(from + QCOW2_AT_AUTOCLEAR);
    header->refcount_order = load_be32(from + QCOW2_AT_REFCOUNT_ORDER);
    header->header_bytes = load_be32(from + QCOW2_AT_HEADER_BYTES);
    if (header->header_bytes > QCOW2_V3_BYTES)
        header->compression = from[QCOW2_AT_COMPRESSION];
}

static int bad(struct file *file, struct err *err, const char *what)
{
    return err_set(err, -EINVAL,
                   "disk '%s': the qcow2 header is damaged: %s; restore the file from a copy",
                   file->path, what);
}

static int judge_numbers(const struct qcow2_header *header, struct file *file, struct err *err)
{
    u64 mask;
    if (header->version != 2 && header->version != 3)
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': qcow2 version %u is not known here; there are 2 and 3",
                       file->path, header->version);
    if (header->crypt != 0)
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': the image is encrypted; make a plain copy with 'qemu-img "
                       "convert' first",
                       file->path);
    if (header->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
        header->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return bad(file, err, "clusters must have 512 bytes to 2 MiB");
    mask = BIT(header->cluster_bits) - 1;
    if (header->version == 3 &&
        (header->header_bytes < QCOW2_V3_BYTES || header->header_bytes % 8 != 0))
        return bad(file, err, "its length");
    if (header->header_bytes > mask + 1)
        return bad(file, err, "it is longer than a cluster");
    if (header->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
        return bad(file, err, "refcounts have at most 64 bits");
    if (header->size_bytes > QCOW2_SIZE_MAX)
        return bad(file, err, "the disk's size");
    if (header->l1_count > QCOW2_L1_BYTES_MAX / 8)
        return bad(file, err, "the L1 table is larger than 32 MiB");
    if ((header->l1_offset & mask) != 0 || header->l1_offset > INT64_MAX ||
        (header->l1_offset == 0 && header->l1_count != 0))
        return bad(file, err, "the place of the L1 table");
    if (header->l1_count < qcow2_header_l1_needed(header, header->size_bytes))
        return bad(file, err, "the L1 table is too short for the disk's size");
    if (header->reftable_clusters > (u32)QCOW2_REFTABLE_BYTES_MAX >> header->cluster_bits)
        return bad(file, err, "the refcount table is larger than 8 MiB");
    if (header->reftable_clusters == 0 || (header->reftable_offset & mask) != 0 ||
        header->reftable_offset == 0 || header->reftable_offset > INT64_MAX)
        return bad(file, err, "the place of the refcount table");
    if (header->snapshot_count > QCOW2_SNAPSHOTS_MAX)
        return bad(file, err, "more than 65536 snapshots");
    if (header->snapshot_count != 0 &&
        ((header->snapshot_offset & mask) != 0 || header->snapshot_offset > INT64_MAX))
        return bad(file, err, "the place of the snapshot table");
    return 0;
}

/* The name of a feature bit: from the file's own table, as text that is safe to print. */
static void feature_name(const u8 *table, u32 bytes, unsigned bit, char name[QCOW2_FEATURE_BYTES])
{
    fmt_text(name, QCOW2_FEATURE_BYTES, "bit %u", bit);
    for (u32 at = 0; at + QCOW2_FEATURE_BYTES <= bytes; at += QCOW2_FEATURE_BYTES) {
        const u8 *row = table + at;
        if (row[0] != 0 || row[1] != bit)
            continue;
        unsigned length = 0;
        for (; length < QCOW2_FEATURE_BYTES - 2 && row[2 + length] != 0; length++)
            name[length] = row[2 + length] >= ' ' && row[2 + length] < 127 ? (char)row[2 + length]
                                                                           : '?';
        name[length] = '\0';
        return;
    }
}

static int judge_features(const struct qcow2_header *header, struct file *file, const u8 *table,
                          u32 table_bytes, struct err *err)
{
    char name[QCOW2_FEATURE_BYTES];
    u64 unknown = header->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
    bool is_extended = (header->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;
    if (unknown != 0) {
        feature_name(table, table_bytes, (unsigned)__builtin_ctzll(unknown), name);
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': the image needs the qcow2 feature '%s', which is not known "
                       "here; convert it with the tool that made it",
                       file->path, name);
    }
    if (is_extended && header->cluster_bits < QCOW2_EXTENDED_BITS_MIN)
        return bad(file, err, "extended L2 entries need clusters of at least 16 KiB");
    if (header->compression > QCOW2_ZSTD)
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': compression type %u is not known here; there are zlib and zstd",
                       file->path, header->compression);
    if ((header->compression != QCOW2_ZLIB) !=
        ((header->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION) != 0))
        return bad(file, err, "compression type and feature bit contradict each other");
    return 0;
}

/* Copies a name; a NUL in it would hide what comes after from whoever reads messages. */
static int take_name(char *to, size_t to_bytes, const u8 *from, u32 bytes)
{
    if (bytes >= to_bytes || memchr(from, 0, bytes) != NULL)
        return -EINVAL;
    memcpy(to, from, bytes);
    to[bytes] = '\0';
    return 0;
}

static int load_extensions(struct qcow2_header *header, struct file *file, const u8 *from,
                           struct err *err)
{
    u64 end = header->backing_offset != 0 ? header->backing_offset : BIT(header->cluster_bits);
    u64 at = header->header_bytes;
    const u8 *features = NULL;
    u32 features_bytes = 0;

    while (at + 8 <= end) {
        u32 type = load_be32(from + at), bytes = load_be32(from + at + 4);
        at += 8;
        if (type == QCOW2_EXT_END)
            break;
        if (bytes > end - at)
            return bad(file, err, "an extension is longer than its cluster");
        int result = 0;
        if (type == QCOW2_EXT_BACKING_FORMAT)
            result = take_name(header->backing_format, sizeof(header->backing_format), from + at,
                               bytes);
        else if (type == QCOW2_EXT_DATA_FILE)
            result = take_name(header->data_file, sizeof(header->data_file), from + at, bytes);
        else if (type == QCOW2_EXT_FEATURES) {
            features = from + at;
            features_bytes = bytes;
        }
        if (result != 0)
            return bad(file, err, "the name of a format or file");
        at += align_up(bytes, 8);
    }
    return judge_features(header, file, features, features_bytes, err);
}

static int load_rest(struct qcow2_header *header, struct file *file, const u8 *from,
                     struct err *err)
{
    u64 cluster_bytes = BIT(header->cluster_bits);
    if (header->backing_offset != 0) {
        if (header->backing_name_bytes > QCOW2_NAME_MAX)
            return bad(file, err, "the backing file's name is longer than 1023 bytes");
        if (header->backing_offset < header->header_bytes ||
            header->backing_offset > cluster_bytes ||
            header->backing_name_bytes > cluster_bytes - header->backing_offset)
            return bad(file, err, "the place of the backing file's name");
        if (take_name(header->backing, sizeof(header->backing), from + header->backing_offset,
                      header->backing_name_bytes) != 0)
            return bad(file, err, "the backing file's name");
    }
    return load_extensions(header, file, from, err);
}

int qcow2_header_read(struct qcow2_header *ret_header, struct file *file, struct err *err)
{
    u8 start[QCOW2_FULL_BYTES];
    struct qcow2_header header = {0};
    int result = file_read(file, 0, start, sizeof(start));
    if (result != 0)
        return err_set(err, result, "disk '%s': reading the header: %s", file->path,
                       strerror(-result));
    if (!qcow2_header_is(start, sizeof(start)))
        return err_set(err, -EINVAL,
                       "disk '%s': this is no qcow2 file: it does not start with QFI; say what it "
                       "is with format=",
                       file->path);
    load_fields(&header, start);
    result = judge_numbers(&header, file, err);
    if (result != 0)
        return result;
    u64 cluster_bytes = BIT(header.cluster_bits);
    u8 *cluster = alloc_zero(cluster_bytes);
    if (cluster == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", file->path);
    result = file_read(file, 0, cluster, cluster_bytes);
    if (result != 0)
        err_set(err, result, "disk '%s': reading the header: %s", file->path, strerror(-result));
    else
        result = load_rest(&header, file, cluster, err);
    alloc_free(cluster);
    if (result == 0)
        *ret_header = header;
    return result;
}
