/*
 * back/img/qcow2_create.h - makes qcow2 files, and changes how large their disks are.
 */
#ifndef BACK_IMG_QCOW2_CREATE_H
#define BACK_IMG_QCOW2_CREATE_H

#include "base/err.h"
#include "base/types.h"

struct file;
struct qcow2;

enum qcow2_preallocation {
    QCOW2_PREALLOC_OFF,
    QCOW2_PREALLOC_METADATA, /* tables only: the file is sparse */
    QCOW2_PREALLOC_FALLOC,   /* and the host has reserved the space */
    QCOW2_PREALLOC_FULL      /* and it has been written */
};

struct qcow2_create_options {
    u32 version; /* 2 or 3 */
    u32 cluster_bits, refcount_order;
    bool is_extended, is_lazy;
    bool has_zstd;
    const char *backing, *backing_format; /* NULL: none; as they are to stand in the header */
};

/* Writes an empty image of size 0 into FILE, which is empty; qcow2_open and qcow2_resize follow. */
MUST_CHECK int qcow2_create(struct file *file, const struct qcow2_create_options *options,
                            struct err *err);
/* New space reads as zeroes. Data beyond a new, smaller size is lost. Flushed when it returns. */
MUST_CHECK int qcow2_resize(struct qcow2 *q, u64 size_bytes, struct err *err);
/* Gives every cluster from OFFSET to the end its place in the file. */
MUST_CHECK int qcow2_preallocate(struct qcow2 *q, u64 offset, enum qcow2_preallocation mode);

#endif
