/*
 * back/blk/raw.c - a disk that is a raw image file or a block device.
 *
 * A request goes through one or more steps, each one operation of the host: a step ends early where
 * a transfer came back short, where the bounce buffer is full, and where a snapshot's sectors
 * change place. Requests wait in a queue while every slot is taken. Runs   on the loop; raw_submit
 * on any thread, which only puts the request into the queue. Trust  offset, length and segments are
 * checked before anything is touched; the file may shrink.
 */
#include "back/blk/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk/image.h"
#include "back/blk/overlay.h"
#include "back/blk/segments.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/fmt.h"
#include "base/log.h"
#include "host/loop.h"

enum {
    RAW_SLOTS = 128,
    RAW_VECTORS = 128,
    RAW_BOUNCE_BYTES = 256 * 1024,
    RAW_BOUNCE_ALIGN = 4096,
    RAW_PATH_BYTES = 256
};

struct raw;

struct slot {
    struct aio_op op;
    struct raw *raw;     /* borrowed */
    struct blk_req *req; /* borrowed; NULL when the slot is free */
    u64 done_bytes;
    u64 step_bytes;  /* what the operation under way was asked to move */
    bool is_bounced; /* it goes through the bounce buffer */
    bool in_overlay; /* it goes to the snapshot's file */
    bool by_hand;    /* zeroes are written, because the host cannot make them */
    void *bounce;    /* owned; made when first needed */
    struct iovec iov[RAW_VECTORS];
};

struct raw {
    struct blk blk;
    struct loop *loop; /* borrowed */
    struct aio *aio;   /* owned */
    struct image image;
    struct overlay overlay;
    bool is_snapshot;
    bool sync_failed; /* what the host lost then cannot be flushed any more */
    bool is_logged;
    u64 error_count;
    struct slot slots[RAW_SLOTS];
    struct slot *free_slots[RAW_SLOTS];
    unsigned free_count;
    struct loop_task start;
    char path[RAW_PATH_BYTES];
    void *zeroes; /* owned: RAW_BOUNCE_BYTES of them, made when first needed */

    struct lock lock; /* guards what follows */
    struct blk_req *first, **last;
};

static void slot_step(struct slot *slot);

static void log_failure(struct raw *raw, const struct blk_req *req, int result)
{
    static const char *const names[] = {"read", "write", "flush", "discard", "write zeroes"};
    raw->error_count++;
    if (raw->is_logged)
        return;
    raw->is_logged = true;
    log_error("disk", "'%s': %s of %llu bytes at %llu: %s; further errors are not shown", raw->path,
              names[req->op], (unsigned long long)req->bytes, (unsigned long long)req->offset,
              strerror(-result));
}

static void req_done(struct raw *raw, struct blk_req *req, int result)
{
    struct lock *lock = raw->blk.lock;
    if (lock != NULL)
        lock_acquire(lock);
    req->done(req, result);
    if (lock != NULL)
        lock_release(lock);
}

static void slot_finish(struct slot *slot, int result)
{
    struct raw *raw = slot->raw;
    struct blk_req *req = slot->req;

    if (result != 0)
        log_failure(raw, req, result);
    slot->req = NULL;
    raw->free_slots[raw->free_count++] = slot;
    loop_post(raw->loop, &raw->start); /* somebody may wait for the slot */
    req_done(raw, req, result);
}

/* Steps: each ends in aio_submit, or in slot_finish. */

static void step_sync(struct slot *slot)
{
    if (slot->raw->sync_failed) {
        slot_finish(slot, -EIO);
        return;
    }
    slot->op.kind = AIO_SYNC;
    slot->op.fd = slot->raw->image.fd;
    aio_submit(slot->raw->aio, &slot->op);
}

static void step_end(struct slot *slot)
{
    bool needs_sync = (slot->req->flags & BLK_FUA) != 0 && slot->req->op != BLK_READ;
    if (!needs_sync || slot->raw->is_snapshot) {
        slot_finish(slot, 0);
        return;
    }
    step_sync(slot);
}

static void *zero_bytes(struct raw *raw)
{
    if (raw->zeroes == NULL &&
        posix_memalign(&raw->zeroes, RAW_BOUNCE_ALIGN, RAW_BOUNCE_BYTES) == 0)
        memset(raw->zeroes, 0, RAW_BOUNCE_BYTES);
    return raw->zeroes;
}

/* Points the operation at memory: the request's own, the bounce buffer, or zeroes. */
static int step_memory(struct slot *slot)
{
    struct raw *raw = slot->raw;
    const struct blk_req *req = slot->req;
    u32 align = raw->image.is_direct && !slot->in_overlay ? raw->image.memory_align : 1;
    void *buffer = NULL;

    slot->op.iov = slot->iov;
    slot->is_bounced = false;
    if (req->op == BLK_WRITE_ZEROES || req->op == BLK_DISCARD) {
        buffer = zero_bytes(raw);
    } else if (segments_aligned(req, align)) {
        slot->step_bytes = segments_vector(req, slot->done_bytes, slot->step_bytes, slot->iov,
                                           RAW_VECTORS, &slot->op.iov_count);
        return 0;
    } else {
        if (slot->bounce == NULL &&
            posix_memalign(&slot->bounce, RAW_BOUNCE_ALIGN, RAW_BOUNCE_BYTES) != 0)
            slot->bounce = NULL;
        buffer = slot->bounce;
        slot->is_bounced = true;
    }
    if (buffer == NULL)
        return -ENOMEM;
    slot->step_bytes = min_u64(slot->step_bytes, RAW_BOUNCE_BYTES);
    if (slot->is_bounced && req->op == BLK_WRITE)
        segments_gather(req, slot->done_bytes, buffer, slot->step_bytes);
    slot->iov[0] = (struct iovec){buffer, slot->step_bytes};
    slot->op.iov_count = 1;
    return 0;
}

static void step_transfer(struct slot *slot)
{
    struct raw *raw = slot->raw;
    const struct blk_req *req = slot->req;
    bool is_read = req->op == BLK_READ;
    u64 offset = req->offset + slot->done_bytes;

    slot->step_bytes = req->bytes - slot->done_bytes;
    slot->in_overlay = raw->is_snapshot;
    if (raw->is_snapshot && is_read)
        slot->step_bytes = overlay_run(&raw->overlay, offset, slot->step_bytes, &slot->in_overlay);
    int result = step_memory(slot);
    /* Writing past the new end of a file that shrank would make it grow again, with a hole where
     * the guest's data was. */
    if (result == 0 && !is_read && !slot->in_overlay &&
        !image_holds(&raw->image, offset + slot->step_bytes))
        result = -EIO;
    if (result != 0) {
        slot_finish(slot, result);
        return;
    }
    slot->op.kind = is_read ? AIO_READ : AIO_WRITE;
    slot->op.fd = slot->in_overlay ? raw->overlay.fd : raw->image.fd;
    slot->op.offset = offset;
    aio_submit(raw->aio, &slot->op);
}

static void step_allocate(struct slot *slot)
{
    struct raw *raw = slot->raw;
    const struct blk_req *req = slot->req;
    bool may_unmap = req->op == BLK_DISCARD || (req->flags & BLK_UNMAP) != 0;

    slot->in_overlay = raw->is_snapshot;
    if (!slot->in_overlay && !image_holds(&raw->image, req->offset + req->bytes)) {
        slot_finish(slot, -EIO);
        return;
    }
    slot->op.kind = AIO_ALLOCATE;
    slot->op.fd = slot->in_overlay ? raw->overlay.fd : raw->image.fd;
    slot->op.mode = (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
    slot->op.offset = req->offset;
    slot->op.bytes = req->bytes;
    aio_submit(raw->aio, &slot->op);
}

static void slot_step(struct slot *slot)
{
    const struct blk_req *req = slot->req;
    if (req->op == BLK_FLUSH)
        step_sync(slot);
    else if (slot->done_bytes == req->bytes)
        step_end(slot);
    else if (req->op == BLK_READ || req->op == BLK_WRITE || slot->by_hand)
        step_transfer(slot);
    else
        step_allocate(slot);
}

/* Completions */

static void done_allocate(struct slot *slot, s64 result)
{
    const struct blk_req *req = slot->req;
    if (result == 0) {
        if (slot->in_overlay)
            overlay_mark(&slot->raw->overlay, req->offset, req->bytes);
        slot->done_bytes = req->bytes;
    } else if (result != -EOPNOTSUPP && result != -ENOSYS && result != -EINVAL) {
        slot_finish(slot, (int)result);
        return;
    } else if (req->op == BLK_DISCARD) {
        slot->done_bytes = req->bytes; /* advice only, and this host has no use for it */
    } else {
        slot->by_hand = true;
    }
    slot_step(slot);
}

static void done_sync(struct slot *slot, s64 result)
{
    /* The host forgets the pages that it could not write: a later success would be a lie. */
    if (result != 0)
        slot->raw->sync_failed = true;
    slot_finish(slot, (int)result);
}

/* The end of the file: zeroes where the file ends within its last sector, else it has shrunk. */
static void done_at_end(struct slot *slot)
{
    const struct raw *raw = slot->raw;
    struct blk_req *req = slot->req;
    u64 at = req->offset + slot->done_bytes;
    if (req->op != BLK_READ || slot->in_overlay || at < raw->image.file_bytes) {
        slot_finish(slot, -EIO);
        return;
    }
    segments_zero(req, slot->done_bytes, req->bytes - slot->done_bytes);
    slot->done_bytes = req->bytes;
    slot_step(slot);
}

static void done_transfer(struct slot *slot, s64 result)
{
    struct raw *raw = slot->raw;
    struct blk_req *req = slot->req;
    u64 moved_bytes = min_u64((u64)result, slot->step_bytes);
    u64 at = req->offset + slot->done_bytes;
    bool at_end = req->op == BLK_READ && !slot->in_overlay &&
                  at + moved_bytes == raw->image.file_bytes;

    /* A transfer that stopped within a sector goes on from that sector's start. */
    if (!at_end)
        moved_bytes = align_down(moved_bytes, raw->blk.sector_bytes);
    if (slot->is_bounced && req->op == BLK_READ)
        segments_scatter(req, slot->done_bytes, slot->bounce, moved_bytes);
    slot->done_bytes += moved_bytes;
    if (slot->in_overlay && req->op != BLK_READ)
        overlay_mark(&raw->overlay, at, moved_bytes);
    if (moved_bytes == 0 || (at_end && slot->done_bytes < req->bytes))
        done_at_end(slot);
    else
        slot_step(slot);
}

static void slot_done(struct aio_op *op, s64 result)
{
    struct slot *slot = container_of(op, struct slot, op);
    struct raw *raw = slot->raw;

    if (result == -EINTR || result == -EAGAIN)
        aio_submit(raw->aio, op);
    else if (op->kind == AIO_ALLOCATE)
        done_allocate(slot, result);
    else if (op->kind == AIO_SYNC)
        done_sync(slot, result);
    else if (result < 0)
        slot_finish(slot, (int)result);
    else
        done_transfer(slot, result);
    loop_post(raw->loop, &raw->start); /* which kicks what has been submitted */
}

/* Requests */

static int req_check(const struct raw *raw, const struct blk_req *req)
{
    u64 mask = raw->blk.sector_bytes - 1;
    if (req->op > BLK_WRITE_ZEROES)
        return -EOPNOTSUPP;
    if (req->op == BLK_FLUSH)
        return 0;
    if (((req->offset | req->bytes) & mask) != 0 || req->offset > raw->blk.size_bytes ||
        req->bytes > raw->blk.size_bytes - req->offset)
        return -EINVAL;
    if (req->op != BLK_READ && raw->blk.read_only)
        return -EROFS;
    if ((req->op == BLK_READ || req->op == BLK_WRITE) && !segments_fit(req))
        return -EINVAL;
    return 0;
}

static struct blk_req *req_take(struct raw *raw)
{
    lock_acquire(&raw->lock);
    struct blk_req *req = raw->first;
    if (req != NULL && (raw->first = req->next) == NULL)
        raw->last = &raw->first;
    lock_release(&raw->lock);
    return req;
}

static void req_start(struct raw *raw, struct blk_req *req)
{
    int result = req_check(raw, req);
    if (result != 0) {
        req_done(raw, req, result); /* the guest's own mistake: not logged */
        return;
    }
    if (req->op == BLK_FLUSH && (raw->is_snapshot || raw->blk.read_only)) {
        req_done(raw, req, 0);
        return;
    }
    struct slot *slot = raw->free_slots[--raw->free_count];
    slot->req = req;
    slot->done_bytes = 0;
    slot->by_hand = false;
    slot_step(slot);
}

static void on_start(void *ctx)
{
    struct raw *raw = ctx;
    struct blk_req *req;
    while (raw->free_count > 0 && (req = req_take(raw)) != NULL)
        req_start(raw, req);
    aio_kick(raw->aio);
}

static void raw_submit(struct blk *blk, struct blk_req *req)
{
    struct raw *raw = container_of(blk, struct raw, blk);
    req->next = NULL;
    lock_acquire(&raw->lock);
    *raw->last = req;
    raw->last = &req->next;
    lock_release(&raw->lock);
    loop_post(raw->loop, &raw->start);
}

static bool has_requests(struct raw *raw)
{
    lock_acquire(&raw->lock);
    bool has = raw->first != NULL;
    lock_release(&raw->lock);
    return has;
}

static void raw_drain(struct blk *blk)
{
    struct raw *raw = container_of(blk, struct raw, blk);
    while (raw->free_count < RAW_SLOTS || has_requests(raw)) {
        on_start(raw);
        if (raw->free_count < RAW_SLOTS)
            aio_wait(raw->aio);
    }
}

static void raw_free(struct blk *blk)
{
    struct raw *raw = container_of(blk, struct raw, blk);
    if (raw->aio != NULL) {
        raw_drain(blk);
        loop_unpost(raw->loop, &raw->start);
        aio_free(raw->aio);
    }
    for (unsigned i = 0; i < RAW_SLOTS; i++)
        free(raw->slots[i].bounce);
    free(raw->zeroes);
    if (raw->is_snapshot)
        overlay_fini(&raw->overlay);
    image_close(&raw->image);
    alloc_free(raw);
}

static const struct blk_ops raw_ops = {raw_submit, raw_drain, raw_free};

/* A serial number that stays the same for the same path: what udev's by-id names are made of. */
static void make_id(struct raw *raw, const char *path)
{
    u64 hash = 0xcbf29ce484222325u; /* FNV-1a */
    char text[sizeof(raw->blk.id) + 1];
    for (const char *c = path; *c != '\0'; c++)
        hash = (hash ^ (u8)*c) * 0x100000001b3u;
    size_t length = fmt_text(text, sizeof(text), "%016llx", (unsigned long long)hash);
    memcpy(raw->blk.id, text, min_u64(length, sizeof(raw->blk.id)));
}

static void raw_prepare(struct raw *raw, struct loop *loop, const struct blk_raw_options *options)
{
    raw->loop = loop;
    raw->start = (struct loop_task){.run = on_start, .ctx = raw};
    raw->last = &raw->first;
    for (unsigned i = 0; i < RAW_SLOTS; i++) {
        raw->slots[i].raw = raw;
        raw->slots[i].op.done = slot_done;
        raw->free_slots[raw->free_count++] = &raw->slots[i];
    }
    raw->blk.ops = &raw_ops;
    raw->blk.read_only = options->read_only;
    raw->blk.can_discard = !options->read_only;
    raw->blk.size_bytes = raw->image.size_bytes;
    raw->blk.sector_bytes = raw->image.sector_bytes;
    fmt_text(raw->path, sizeof(raw->path), "%s", options->path);
    make_id(raw, options->path);
}

struct blk *blk_raw_new(struct loop *loop, const struct blk_raw_options *options, struct err *err)
{
    bool reads_only = options->read_only || options->snapshot;
    struct raw *raw = new0(struct raw);

    if (raw == NULL) {
        err_set(err, -ENOMEM, "disk '%s': out of memory", options->path);
        return NULL;
    }
    raw->image.fd = -1;
    if (image_open(&raw->image, options->path, reads_only, options->direct, err) != 0)
        goto fail;
    raw_prepare(raw, loop, options);
    if (options->snapshot && !options->read_only) {
        if (overlay_init(&raw->overlay, raw->image.size_bytes, raw->image.sector_bytes, err) != 0)
            goto fail;
        raw->is_snapshot = true;
    }
    raw->aio = aio_new(loop, options->aio, err);
    if (raw->aio == NULL)
        goto fail;
    return &raw->blk;
fail:
    raw_free(&raw->blk);
    return NULL;
}
