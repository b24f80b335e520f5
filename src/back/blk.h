/*
 * back/blk.h - what a disk device may ask of the storage behind it.
 *
 * Threads: blk_submit comes from any thread, under the device's lock, and never blocks on I/O. The
 * completion runs on the device loop, with the lock given to blk_attach held, never inside submit.
 * blk_drain (loop thread, no device lock held) returns when nothing is in flight.
 * Ownership: the request and its segments belong to the caller and stay until done() runs.
 * Trust: offsets and lengths may come from a guest; a request beyond the end fails with -EINVAL and
 * touches nothing. A completed flush means that everything completed before it is on stable
 * storage.
 */
#ifndef BACK_BLK_H
#define BACK_BLK_H

#include "base/lock.h"
#include "base/types.h"

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };

enum blk_flag { BLK_FUA = 1, BLK_UNMAP = 2 /* write-zeroes may leave a hole */ };

struct blk_segment {
    void *data;
    size_t bytes;
};

struct blk_req {
    enum blk_op op;
    u32 flags;
    u64 offset; /* bytes; a multiple of the sector size */
    u64 bytes;  /* total; the segments' sum for read and write */
    struct blk_segment *segments;
    unsigned segment_count;
    void (*done)(struct blk_req *req, int result); /* 0 or -errno */
    void *ctx;
    struct blk_req *next; /* the back end's, while in flight */
    void *back_private;   /* the back end's, while in flight */
};

struct blk;

struct blk_ops {
    void (*submit)(struct blk *blk, struct blk_req *req);
    void (*drain)(struct blk *blk);
    void (*free)(struct blk *blk);
};

struct blk {
    const struct blk_ops *ops;
    u64 size_bytes;   /* a multiple of 512 */
    u32 sector_bytes; /* 512 or 4096: what offsets and lengths must be multiples of */
    bool read_only;
    bool can_discard;
    struct lock *lock; /* borrowed: held around done() */
    char id[20];       /* serial number shown to the guest; need not end in NUL */
};

static inline void blk_attach(struct blk *blk, struct lock *device_lock)
{
    blk->lock = device_lock;
}

static inline void blk_submit(struct blk *blk, struct blk_req *req)
{
    blk->ops->submit(blk, req);
}

#endif
