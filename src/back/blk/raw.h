/*
 * back/blk/raw.h - a disk that is a raw image file or a block device.
 *
 * Requests are handed to the loop and served there; the guest's order of requests is not kept, a
 * flush covers what has completed before it. With snapshot, the image is only read and writes live
 * in a temporary file. A file that shrinks gives the guest I/O errors, a full host disk -ENOSPC;
 * the first error of a disk is logged, the rest are counted.
 */
#ifndef BACK_BLK_RAW_H
#define BACK_BLK_RAW_H

#include "back/blk.h"
#include "back/blk/aio.h"
#include "base/err.h"

struct loop;

struct blk_raw_options {
    const char *path;
    bool read_only;      /* for the guest */
    bool snapshot;       /* writes vanish with the VM */
    bool direct;         /* past the host's page cache */
    enum aio_choice aio; /* AIO_AUTO but in tests */
};

/* -EBUSY in ERR when another VM holds the image. */
struct blk *blk_raw_new(struct loop *loop, const struct blk_raw_options *options, struct err *err);

#endif
