/*
 * back/blk/qcow2.c - a disk that is a qcow2 image with its backing files: its requests.
 *
 * A request takes steps. Each asks the map, under the lock, where the next bytes are; if memory
 * knows, and for a write the place is the image's own, the step is one operation of the host. Else
 * the rest of the request goes to the worker, which is the only one that changes tables. A request
 * that changes them is exclusive: it waits for requests under way in its clusters, and later ones
 * in its clusters wait for it. Runs   on the loop; disk_submit on any thread, which only queues;
 * job_run on the worker's thread. Trust  offset, length and segments are checked before anything is
 * touched.
 */
#include "back/blk/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk/qcow2_priv.h"
#include "base/alloc.h"
#include "base/fmt.h"
#include "base/log.h"

static void slot_go(struct slot *slot);

static void log_failure(struct disk *disk, const struct blk_req *req, int result)
{
    static const char *const names[] = {"read", "write", "flush", "discard", "write zeroes"};
    disk->error_count++;
    if (disk->is_logged)
        return;
    disk->is_logged = true;
    log_error("disk", "'%s': %s of %llu bytes at %llu: %s; further errors are not shown",
              img_file(disk->img, 0)->path, names[req->op], (unsigned long long)req->bytes,
              (unsigned long long)req->offset, strerror(-result));
}

static void req_done(struct disk *disk, struct blk_req *req, int result)
{
    struct lock *lock = disk->blk.lock;
    if (lock != NULL)
        lock_acquire(lock);
    req->done(req, result);
    if (lock != NULL)
        lock_release(lock);
}

/* Starts whoever waits and need not any more. */
static void wake_waiting(struct disk *disk)
{
    for (unsigned i = 0; i < DISK_SLOTS && disk->waiting_count > 0; i++) {
        struct slot *slot = &disk->slots[i];
        if (slot->req != NULL && slot->is_waiting && !slot_is_blocked(slot)) {
            slot->is_waiting = false;
            disk->waiting_count--;
            slot_go(slot);
        }
    }
}

static void slot_finish(struct slot *slot, int result)
{
    struct disk *disk = slot->disk;
    struct blk_req *req = slot->req;
    if (result != 0)
        log_failure(disk, req, result);
    disk->exclusive_count -= slot->is_exclusive;
    slot->is_exclusive = false;
    slot->req = NULL;
    disk->free_slots[disk->free_count++] = slot;
    loop_post(disk->loop, &disk->start); /* somebody may wait for the slot */
    req_done(disk, req, result);
}

static void to_host(struct slot *slot)
{
    slot->disk->ops_under_way++;
    aio_submit(slot->disk->aio, &slot->op);
}

static void to_worker(struct slot *slot)
{
    slot->goes_to_worker = false;
    slot->disk->jobs_under_way++;
    worker_submit(slot->disk->worker, &slot->job);
}

/* The rest of the request is the worker's. */
static void slot_hand_over(struct slot *slot)
{
    struct disk *disk = slot->disk;
    enum blk_op op = slot->req->op;
    if (op != BLK_READ && op != BLK_FLUSH && !slot->is_exclusive && !slot->is_ending) {
        slot->is_exclusive = true;
        disk->exclusive_count++;
    }
    slot->goes_to_worker = true;
    if (slot_is_blocked(slot)) {
        slot->is_waiting = true;
        disk->waiting_count++;
        return;
    }
    to_worker(slot);
}

/* A flush, or the end of a write that is to last. */
static void slot_sync(struct slot *slot)
{
    struct disk *disk = slot->disk;
    struct file *file = img_file(disk->img, 0);
    lock_acquire(img_lock(disk->img));
    bool is_more = qcow2_needs_flush(img_qcow2(disk->img, 0)) || shared_get(&file->sync_failed);
    lock_release(img_lock(disk->img));
    slot->is_ending = true;
    if (is_more) {
        slot_hand_over(slot);
        return;
    }
    slot->op.kind = AIO_SYNC;
    slot->op.fd = file->fd;
    to_host(slot);
}

static void slot_end(struct slot *slot)
{
    if ((slot->req->flags & BLK_FUA) != 0 && slot->req->op != BLK_READ && !slot->disk->is_covered)
        slot_sync(slot);
    else
        slot_finish(slot, 0);
}

static int descriptor_for(const struct slot *slot, const struct img_extent *extent)
{
    const struct file *file = extent->file;
    u64 bits = extent->host | slot->step_bytes;
    if (file->direct_fd >= 0 && bits % DIRECT_ALIGN == 0 &&
        segments_aligned(slot->req, DIRECT_ALIGN))
        return file->direct_fd;
    return file->fd;
}

enum fast { FAST_STARTED, FAST_DONE, FAST_CANNOT };

/* One operation of the host, or zeroes, if memory knows where. */
static enum fast slot_fast(struct slot *slot)
{
    struct disk *disk = slot->disk;
    struct blk_req *req = slot->req;
    struct img_extent extent;
    u64 offset = req->offset + slot->done_bytes, left = req->bytes - slot->done_bytes;

    lock_acquire(img_lock(disk->img));
    int result = img_map(disk->img, 0, offset, left, false, &extent);
    lock_release(img_lock(disk->img));
    if (result != 0 || extent.kind == QCOW2_PACKED)
        return FAST_CANNOT;
    slot->step_bytes = extent.bytes;
    if (req->op == BLK_WRITE && (extent.kind != QCOW2_DATA || !extent.is_own ||
                                 extent.host + extent.bytes > shared_get(&extent.file->bytes)))
        return FAST_CANNOT;
    if (extent.kind == QCOW2_ZEROES) {
        segments_zero(req, slot->done_bytes, extent.bytes);
        slot->done_bytes += extent.bytes;
        return FAST_DONE;
    }
    slot->op.fd = descriptor_for(slot, &extent);
    slot->step_bytes = segments_vector(req, slot->done_bytes, slot->step_bytes, slot->iov,
                                       DISK_VECTORS, &slot->op.iov_count);
    slot->op.kind = req->op == BLK_READ ? AIO_READ : AIO_WRITE;
    slot->op.iov = slot->iov;
    slot->op.offset = extent.host;
    to_host(slot);
    return FAST_STARTED;
}

static void slot_go(struct slot *slot)
{
    const struct blk_req *req = slot->req;
    enum fast fast = FAST_DONE;
    if (slot->goes_to_worker) {
        to_worker(slot);
        return;
    }
    if (req->op == BLK_FLUSH) {
        slot_sync(slot);
        return;
    }
    if (req->op == BLK_DISCARD || req->op == BLK_WRITE_ZEROES)
        fast = FAST_CANNOT;
    while (fast == FAST_DONE && slot->done_bytes < req->bytes)
        fast = slot_fast(slot);
    if (fast == FAST_CANNOT)
        slot_hand_over(slot);
    else if (fast == FAST_DONE)
        slot_end(slot);
}

static void op_done(struct aio_op *op, s64 result)
{
    struct slot *slot = container_of(op, struct slot, op);
    struct disk *disk = slot->disk;

    disk->ops_under_way--;
    if (result == -EINTR || result == -EAGAIN) {
        to_host(slot);
    } else if (op->kind == AIO_SYNC) {
        /* The host forgets the pages that it could not write: a later success would be a lie. */
        if (result != 0)
            shared_set(&img_file(disk->img, 0)->sync_failed, true);
        slot_finish(slot, (int)result);
    } else if (result < 0) {
        slot_finish(slot, (int)result);
    } else {
        u64 moved_bytes = min_u64((u64)result, slot->step_bytes);
        /* A file that ends early reads as zeroes from there on. */
        if (moved_bytes == 0 && op->kind == AIO_READ) {
            segments_zero(slot->req, slot->done_bytes, slot->step_bytes);
            moved_bytes = slot->step_bytes;
        }
        slot->done_bytes += moved_bytes;
        if (moved_bytes == 0)
            slot_finish(slot, -EIO);
        else
            slot_go(slot);
    }
    loop_post(disk->loop, &disk->start); /* which kicks what has been submitted */
}

static void job_done(struct worker_job *job)
{
    struct slot *slot = container_of(job, struct slot, job);
    struct disk *disk = slot->disk;
    disk->jobs_under_way--;
    if (slot->result != 0 || slot->is_ending || slot->req->op == BLK_READ)
        slot_finish(slot, slot->result);
    else
        slot_end(slot);
    loop_post(disk->loop, &disk->start);
}

/* Requests */

static int req_check(const struct disk *disk, const struct blk_req *req)
{
    u64 mask = disk->blk.sector_bytes - 1;
    if (req->op > BLK_WRITE_ZEROES)
        return -EOPNOTSUPP;
    if (req->op == BLK_FLUSH)
        return 0;
    if (((req->offset | req->bytes) & mask) != 0 || req->offset > disk->blk.size_bytes ||
        req->bytes > disk->blk.size_bytes - req->offset)
        return -EINVAL;
    if (req->op != BLK_READ && disk->blk.read_only)
        return -EROFS;
    if ((req->op == BLK_READ || req->op == BLK_WRITE) && !segments_fit(req))
        return -EINVAL;
    return 0;
}

static struct blk_req *req_take(struct disk *disk)
{
    lock_acquire(&disk->lock);
    struct blk_req *req = disk->first;
    if (req != NULL && (disk->first = req->next) == NULL)
        disk->last = &disk->first;
    lock_release(&disk->lock);
    return req;
}

static void req_start(struct disk *disk, struct blk_req *req)
{
    int result = req_check(disk, req);
    bool is_nothing = req->op == BLK_FLUSH && (disk->blk.read_only || disk->is_covered);
    if (result != 0 || is_nothing) {
        req_done(disk, req, result); /* the guest's own mistake: not logged */
        return;
    }
    struct slot *slot = disk->free_slots[--disk->free_count];
    slot->req = req;
    slot->done_bytes = 0;
    slot->is_ending = slot->goes_to_worker = slot->is_waiting = false;
    slot->number = disk->next_number++;
    if (slot_is_blocked(slot)) {
        slot->is_waiting = true;
        disk->waiting_count++;
        return;
    }
    slot_go(slot);
}

static void on_start(void *ctx)
{
    struct disk *disk = ctx;
    struct blk_req *req;
    if (disk->waiting_count > 0)
        wake_waiting(disk);
    while (disk->free_count > 0 && (req = req_take(disk)) != NULL)
        req_start(disk, req);
    aio_kick(disk->aio);
}

static void disk_submit(struct blk *blk, struct blk_req *req)
{
    struct disk *disk = container_of(blk, struct disk, blk);
    req->next = NULL;
    lock_acquire(&disk->lock);
    *disk->last = req;
    disk->last = &req->next;
    lock_release(&disk->lock);
    loop_post(disk->loop, &disk->start);
}

static bool has_requests(struct disk *disk)
{
    lock_acquire(&disk->lock);
    bool has = disk->first != NULL;
    lock_release(&disk->lock);
    return has;
}

static void disk_drain(struct blk *blk)
{
    struct disk *disk = container_of(blk, struct disk, blk);
    while (disk->free_count < DISK_SLOTS || has_requests(disk)) {
        on_start(disk);
        if (disk->jobs_under_way > 0)
            worker_wait(disk->worker);
        else if (disk->ops_under_way > 0)
            aio_wait(disk->aio);
    }
}

static void disk_free(struct blk *blk)
{
    struct disk *disk = container_of(blk, struct disk, blk);
    if (disk->aio != NULL && disk->worker != NULL) {
        disk_drain(blk);
        loop_unpost(disk->loop, &disk->start);
    }
    worker_free(disk->worker);
    aio_free(disk->aio);
    img_close(disk->img);
    free(disk->buffer);
    alloc_free(disk);
}

static const struct blk_ops disk_ops = {disk_submit, disk_drain, disk_free};

static void disk_prepare(struct disk *disk, struct loop *loop,
                         const struct blk_qcow2_options *options)
{
    disk->loop = loop;
    disk->start = (struct loop_task){.run = on_start, .ctx = disk};
    disk->last = &disk->first;
    for (unsigned i = 0; i < DISK_SLOTS; i++) {
        struct slot *slot = &disk->slots[i];
        slot->disk = disk;
        slot->op.done = op_done;
        slot->job = (struct worker_job){.run = slot_run, .done = job_done};
        disk->free_slots[disk->free_count++] = slot;
    }
    disk->blk.ops = &disk_ops;
    disk->blk.read_only = options->read_only;
    disk->blk.can_discard = !options->read_only;
    disk->blk.sector_bytes = SECTOR_BYTES;
    blk_id_make(&disk->blk, options->path);
}

struct blk *blk_qcow2_new(struct loop *loop, const struct blk_qcow2_options *options,
                          struct err *err)
{
    struct disk *disk = new0(struct disk);
    struct img_options open = {.path = options->path,
                               .format = IMG_QCOW2,
                               .is_writable = !options->read_only,
                               .is_covered = options->snapshot && !options->read_only,
                               .is_direct = options->direct,
                               .data_path = options->data_path,
                               .folders = options->folders,
                               .watch = options->watch};
    if (disk == NULL) {
        err_set(err, -ENOMEM, "disk '%s': out of memory", options->path);
        return NULL;
    }
    disk_prepare(disk, loop, options);
    disk->is_covered = open.is_covered;
    if (img_open(&disk->img, &open, err) != 0)
        goto fail;
    disk->blk.size_bytes = img_size(disk->img);
    disk->cluster_bytes = BIT(qcow2_header_of(img_qcow2(disk->img, 0))->cluster_bits);
    if (posix_memalign(&disk->buffer, DIRECT_ALIGN, DISK_BUFFER_BYTES) != 0) {
        disk->buffer = NULL;
        err_set(err, -ENOMEM, "disk '%s': out of memory", options->path);
        goto fail;
    }
    disk->aio = aio_new(loop, options->aio, err);
    disk->worker = disk->aio != NULL ? worker_new(loop, err) : NULL;
    if (disk->worker == NULL)
        goto fail;
    return &disk->blk;
fail:
    disk_free(&disk->blk);
    return NULL;
}
