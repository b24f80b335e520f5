/*
 * back/img/qcow2_header.h - the header of a qcow2 file: parsed, judged, and written.
 */
#ifndef BACK_IMG_QCOW2_HEADER_H
#define BACK_IMG_QCOW2_HEADER_H

#include "back/img/qcow2_format.h"
#include "base/err.h"
#include "base/types.h"

struct file;

struct qcow2_header {
    u32 version, cluster_bits, crypt, l1_count, reftable_clusters, snapshot_count;
    u32 refcount_order, header_bytes, compression;
    u64 size_bytes, l1_offset, reftable_offset, snapshot_offset;
    u64 incompatible, compatible, autoclear;
    u64 backing_offset; /* 0: none */
    u32 backing_name_bytes;
    char backing[QCOW2_NAME_MAX + 1];               /* "" when there is none */
    char backing_format[QCOW2_FORMAT_NAME_MAX + 1]; /* "" when the header does not say */
    char data_file[QCOW2_NAME_MAX + 1];             /* "" when the header does not say */
};

/* True when the file starts like a qcow2 file. */
bool qcow2_header_is(const void *data, size_t bytes);
/* Reads and judges FILE's header: after success every field is within the format's bounds, tables
 * are aligned, and L1 is long enough for the size. -EINVAL for what is no sound header,
 * -EOPNOTSUPP for features that are not known here, by name. */
MUST_CHECK int qcow2_header_read(struct qcow2_header *ret_header, struct file *file,
                                 struct err *err);
/* How many entries L1 must have for SIZE_BYTES. */
u64 qcow2_header_l1_needed(const struct qcow2_header *header, u64 size_bytes);
/* Writes the whole first cluster anew from HEADER: extensions that are not known here are kept from
 * what FILE has now, if it has anything. -ENOSPC when the names do not fit. Not synced. */
MUST_CHECK int qcow2_header_write(struct qcow2_header *header, struct file *file, struct err *err);

#endif
