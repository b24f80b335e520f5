/*
 * back/blk/qcow2.h - a disk that is a qcow2 image with its backing files.
 *
 * A request whose place in the files is known from memory goes straight to the host, as for a raw
 * disk. All else (tables to be read, new clusters, compressed ones, discards) is done by a thread
 * of the disk's own, one request after the other; requests for the same cluster wait for one
 * another where one of them changes where the cluster is. With snapshot, the files are only read,
 * and writes live in a temporary image. The first error of a disk is logged, the rest are counted.
 */
#ifndef BACK_BLK_QCOW2_H
#define BACK_BLK_QCOW2_H

#include "back/blk.h"
#include "back/blk/aio.h"
#include "base/err.h"

struct loop;
struct file_watch;

struct blk_qcow2_options {
    const char *path;
    bool read_only;                 /* for the guest */
    bool snapshot;                  /* writes vanish with the VM */
    bool direct;                    /* past the host's page cache, for data */
    const char *data_path;          /* the external data file; NULL: none */
    const char *const *folders;     /* where else backing files may lie; ends in NULL, or is NULL */
    enum aio_choice aio;            /* AIO_AUTO but in tests */
    const struct file_watch *watch; /* for tests: is told of what changes the image */
};

/* -EBUSY in ERR when another VM holds an image. */
struct blk *blk_qcow2_new(struct loop *loop, const struct blk_qcow2_options *options,
                          struct err *err);

#endif
