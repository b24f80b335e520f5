/*
 * back/img/qcow2_create.c - makes an empty qcow2 file, and gives clusters their places beforehand.
 *
 * An empty file is three clusters: header, refcount table, one refcount block.
 */
#include "back/img/qcow2_create.h"

#include <errno.h>
#include <string.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

enum { PREALLOC_RUN = 4096 /* clusters */ };

static int check_options(const struct qcow2_create_options *options, struct err *err)
{
    if (options->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
        options->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return err_set(err, -EINVAL, "a cluster has 512 bytes to 2 MiB, a power of two");
    if (options->is_extended && options->cluster_bits < QCOW2_EXTENDED_BITS_MIN)
        return err_set(err, -EINVAL, "extended L2 entries need clusters of at least 16 KiB");
    if (options->version < 3 && (options->is_extended || options->is_lazy || options->has_zstd ||
                                 options->refcount_order != 4))
        return err_set(err, -EINVAL,
                       "version 2 has no extended L2 entries, no lazy refcounts, no zstd, and "
                       "refcounts of 16 bits; use version 3");
    if (options->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
        return err_set(err, -EINVAL, "a refcount has 1 to 64 bits, a power of two");
    if (options->backing != NULL && (strlen(options->backing) > QCOW2_NAME_MAX ||
                                     strlen(options->backing_format) > QCOW2_FORMAT_NAME_MAX))
        return err_set(err, -ENAMETOOLONG, "the backing file's name is longer than 1023 bytes");
    return 0;
}

int qcow2_create(struct file *file, const struct qcow2_create_options *options, struct err *err)
{
    u64 cluster_bytes = BIT(options->cluster_bits);
    int result = check_options(options, err);
    if (result != 0)
        return result;
    struct qcow2_header *header = new0(struct qcow2_header);
    u8 *tables = alloc_zero(cluster_bytes * 2);
    if (header == NULL || tables == NULL) {
        alloc_free(header);
        alloc_free(tables);
        return err_set(err, -ENOMEM, "disk '%s': out of memory", file->path);
    }
    *header = (struct qcow2_header){.version = options->version,
                                    .cluster_bits = options->cluster_bits,
                                    .refcount_order = options->refcount_order,
                                    .reftable_offset = cluster_bytes,
                                    .reftable_clusters = 1,
                                    .compression = options->has_zstd ? QCOW2_ZSTD : QCOW2_ZLIB};
    header->incompatible = (options->is_extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0) |
                           (options->has_zstd ? QCOW2_INCOMPATIBLE_COMPRESSION : 0);
    header->compatible = options->is_lazy ? QCOW2_COMPATIBLE_LAZY : 0;
    if (options->backing != NULL) {
        strcpy(header->backing, options->backing);
        strcpy(header->backing_format, options->backing_format);
    }
    store_be64(tables, cluster_bytes * 2);
    unsigned bits = 1u << options->refcount_order;
    for (unsigned i = 0; i < 3; i++) {
        if (bits < 8)
            tables[cluster_bytes + i * bits / 8] |= (u8)(1u << i * bits % 8);
        else
            tables[cluster_bytes + (i + 1) * bits / 8 - 1] = 1;
    }
    result = file_write(file, cluster_bytes, tables, cluster_bytes * 2);
    if (result != 0)
        err_set(err, result, "disk '%s': %s", file->path, strerror(-result));
    else
        result = qcow2_header_write(header, file, err);
    alloc_free(header);
    alloc_free(tables);
    return result;
}

static int write_full(struct qcow2 *q, u64 host, u64 bytes)
{
    static const u8 zeroes[64 * 1024];
    int result = 0;
    for (u64 done = 0; done < bytes && result == 0; done += sizeof(zeroes))
        result = file_write(qcow2_data(q), host + done, zeroes,
                            min_u64(bytes - done, sizeof(zeroes)));
    return result;
}

static int fill(struct qcow2 *q, u64 host, u64 bytes, enum qcow2_preallocation mode)
{
    struct file *file = qcow2_data(q);
    if (mode == QCOW2_PREALLOC_FULL)
        return write_full(q, host, bytes);
    /* What was used before does not read as zeroes yet. */
    u64 old = host < file->bytes ? min_u64(bytes, file->bytes - host) : 0;
    int result = old != 0 ? file_zero(file, host, old, mode == QCOW2_PREALLOC_METADATA) : 0;
    if (result == 0 && host + bytes > file->bytes)
        result = mode == QCOW2_PREALLOC_FALLOC ? file_allocate(file, host, bytes)
                                               : file_resize(file, host + bytes);
    return result;
}

int qcow2_preallocate(struct qcow2 *q, u64 offset, enum qcow2_preallocation mode)
{
    u64 number = align_up(offset, q->cluster_bytes) >> q->cluster_bits;
    u64 end = align_up(q->size_bytes, q->cluster_bytes) >> q->cluster_bits;
    if (mode == QCOW2_PREALLOC_OFF)
        return 0;
    if (q->below.size_bytes != 0 && !q->is_extended)
        return -EINVAL;
    while (number < end) {
        u64 run = BIT(q->table_bits) - (number & (BIT(q->table_bits) - 1)), host, count;
        struct qcow2_cluster cluster = {.has_host = true};
        run = min_u64(min_u64(run, end - number), PREALLOC_RUN);
        cluster.is_copied = true;
        /* With subclusters there is space that still shows what is below. */
        cluster.alloc = q->below.size_bytes == 0 ? qcow2_sub_mask(q) : 0;
        int result = qcow2_relieve(q);
        if (result == 0)
            result = qcow2_table_own(q, number);
        if (result == 0)
            result = qcow2_alloc(q, 1, run, &host, &count);
        if (result == 0)
            result = fill(q, host, count << q->cluster_bits, mode);
        for (u64 i = 0; i < count && result == 0; i++) {
            cluster.host = host + (i << q->cluster_bits);
            result = qcow2_cluster_set(q, number + i, &cluster);
        }
        if (result != 0)
            return result;
        shared_set(&q->needs_barrier, true);
        number += count;
    }
    return qcow2_flush(q);
}
