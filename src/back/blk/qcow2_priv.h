/*
 * back/blk/qcow2_priv.h - a qcow2 disk and its requests, for the files that serve them.
 */
#ifndef BACK_BLK_QCOW2_PRIV_H
#define BACK_BLK_QCOW2_PRIV_H

#include "back/blk/qcow2.h"
#include "back/blk/segments.h"
#include "back/blk/worker.h"
#include "back/img/file.h"
#include "back/img/img.h"
#include "back/img/qcow2_header.h"
#include "host/loop.h"

enum {
    DISK_SLOTS = 128,
    DISK_VECTORS = 128,
    DISK_BUFFER_BYTES = 1 << 20,
    DIRECT_ALIGN = 4096,
    SECTOR_BYTES = 512
};

struct disk;

struct slot {
    struct aio_op op;
    struct worker_job job;
    struct disk *disk;   /* borrowed */
    struct blk_req *req; /* borrowed; NULL when the slot is free */
    u64 number;          /* requests are numbered in their order */
    u64 done_bytes;
    u64 step_bytes; /* what the operation under way was asked to move */
    int result;     /* the worker's */
    bool is_exclusive, is_waiting, goes_to_worker;
    bool is_ending; /* only the sync is left */
    struct iovec iov[DISK_VECTORS];
};

struct disk {
    struct blk blk;
    struct loop *loop;     /* borrowed */
    struct aio *aio;       /* owned */
    struct worker *worker; /* owned */
    struct img *img;       /* owned */
    void *buffer;          /* owned: the worker's */
    u64 cluster_bytes;     /* of the first image */
    bool is_covered;       /* writes vanish with the process */
    bool is_logged;
    u64 error_count, next_number;
    unsigned exclusive_count; /* requests that change tables, or wait to */
    unsigned waiting_count, jobs_under_way, ops_under_way;
    struct slot slots[DISK_SLOTS];
    struct slot *free_slots[DISK_SLOTS];
    unsigned free_count;
    struct loop_task start;

    struct lock lock; /* guards what follows */
    struct blk_req *first, **last;
};

/* Does the rest of a request, on the worker's thread. */
void slot_run(struct worker_job *job);
/* True while an earlier or running request has clusters in common with this one, and one of the two
 * changes where they are. */
bool slot_is_blocked(const struct slot *slot);
/* A serial number that stays the same for the same path: what udev's by-id names are made of. */
void blk_id_make(struct blk *blk, const char *path);

#endif
