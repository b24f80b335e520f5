/*
 * dev/virtio/blk.c - the disk: turns guest requests into requests to a block back end, without a
 * copy.
 *
 * Spec   virtio 1.2, section 5.2 "Block Device".
 * Runs   requests start on vCPU threads or the loop, complete on the loop; under the device's lock.
 * Trust  the request header and segments are the guest's: copied, then checked against the disk.
 *
 * Requests in flight come from a pool that grows to REQUESTS_MAX and no further; a queue that finds
 * it empty is notified again when a request has come back.
 */
#include "dev/virtio/blk.h"

#include "back/blk.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/virtio/virtio.h"

enum { QUEUE_SIZE = 256, REQUESTS_MAX = 256, HEADER_BYTES = 16, RANGE_BYTES = 16, ID_BYTES = 20 };
enum { SECTOR_BYTES = 512, SEGMENT_COUNT_MAX = CHAIN_SEGMENTS_MAX - 2 };
enum { MEMORY_RETRY_NS = 20000000 };
enum { RANGE_SECTORS_MAX = 1 << 22, RANGE_F_UNMAP = 1 }; /* 2 GiB in one discard or write-zeroes */

enum blk_feature { /* bit numbers */
                   F_SEG_MAX = 2,
                   F_RO = 5,
                   F_BLK_SIZE = 6,
                   F_FLUSH = 9,
                   F_TOPOLOGY = 10,
                   F_CONFIG_WCE = 11,
                   F_MQ = 12,
                   F_DISCARD = 13,
                   F_WRITE_ZEROES = 14,
};

enum request_type {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13
};
enum request_status { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

enum config_offset {
    CONFIG_CAPACITY = 0,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_PHYSICAL_EXP = 24,
    CONFIG_MIN_IO = 26,
    CONFIG_WRITEBACK = 32,
    CONFIG_NUM_QUEUES = 34,
    CONFIG_DISCARD_SECTORS = 36,
    CONFIG_DISCARD_SEGMENTS = 40,
    CONFIG_DISCARD_ALIGNMENT = 44,
    CONFIG_ZEROES_SECTORS = 48,
    CONFIG_ZEROES_SEGMENTS = 52,
    CONFIG_ZEROES_MAY_UNMAP = 56,
    CONFIG_BYTES = 60,
};

struct request {
    struct blk_req req;
    struct virtio_blk *disk; /* borrowed */
    struct request *next_free;
    struct virtq *vq;  /* borrowed */
    u8 *status;        /* guest memory */
    u32 written_bytes; /* to tell the driver when it went well */
    struct chain chain;
    struct blk_segment segments[CHAIN_SEGMENTS_MAX];
};

struct virtio_blk {
    struct virtio_dev vdev;
    struct blk *blk;      /* borrowed */
    struct request *free; /* owned, and so is each in flight */
    unsigned request_count;
    u32 starved_queues; /* bit per queue that found the pool empty */
    u8 writeback;       /* what the driver chose by CONFIG_WCE */
};

static const struct field blk_state[] = {FIELD(struct virtio_blk, writeback), FIELD_END};

static struct virtio_blk *disk_of(struct virtio_dev *vdev)
{
    return container_of(vdev, struct virtio_blk, vdev);
}

/* ---- the pool ---- */

static struct request *request_take(struct virtio_blk *disk)
{
    struct request *request = disk->free;
    if (request) {
        disk->free = request->next_free;
        return request;
    }
    if (disk->request_count == REQUESTS_MAX)
        return NULL;
    request = new0(struct request);
    if (request == NULL)
        return NULL;
    disk->request_count++;
    request->disk = disk;
    return request;
}

static void request_give(struct request *request)
{
    request->next_free = request->disk->free;
    request->disk->free = request;
}

/* ---- ends of requests ---- */

static void request_finish(struct request *request, enum request_status status)
{
    *request->status = (u8)status;
    virtq_push(request->vq, &request->chain, status == S_OK ? request->written_bytes : 1);
    request_give(request);
}

static void request_done(struct blk_req *req, int result)
{
    struct request *request = req->ctx;
    struct virtio_blk *disk = request->disk;
    struct virtio_dev *vdev = &disk->vdev;
    struct virtq *vq = request->vq;
    if (virtio_running(vdev)) {
        request_finish(request, result == 0 ? S_OK : S_IOERR);
        virtq_interrupt(vq);
    } else {
        request_give(request); /* the driver that asked is gone */
    }
    virtio_idle(vdev);
    u32 starved = disk->starved_queues;
    disk->starved_queues = 0;
    for (unsigned i = 0; starved != 0; i++, starved >>= 1)
        if (starved & 1)
            virtio_notify(vdev, i);
}

/* ---- starts of requests ---- */

/* Gathers BYTES of the chain's readable or writable part. */
static void gather(struct request *request, bool writable, u64 bytes)
{
    struct blk_req *req = &request->req;
    req->segment_count = 0;
    while (bytes > 0) {
        size_t part = 0;
        void *data = writable ? chain_take_writable(&request->chain, bytes, &part)
                              : (void *)chain_take_readable(&request->chain, bytes, &part);
        if (data == NULL)
            return;
        request->segments[req->segment_count++] = (struct blk_segment){data, part};
        bytes -= part;
    }
}

/* True when the range is on the disk and made of whole sectors of it. */
static bool range_ok(const struct blk *blk, u64 sector, u64 bytes)
{
    if (bytes == 0 || sector > blk->size_bytes / SECTOR_BYTES)
        return false;
    u64 offset = sector * SECTOR_BYTES;
    return (offset | bytes) % blk->sector_bytes == 0 && bytes <= blk->size_bytes - offset;
}

static bool writethrough(const struct virtio_blk *disk)
{
    return !virtio_has(&disk->vdev, F_FLUSH) ||
           (virtio_has(&disk->vdev, F_CONFIG_WCE) && !disk->writeback);
}

/* Each *_prepare fills request->req and returns S_OK, or says why it cannot. */

static enum request_status transfer_prepare(struct request *request, enum blk_op op, u64 sector)
{
    struct virtio_blk *disk = request->disk;
    struct blk_req *req = &request->req;
    bool is_read = op == BLK_READ;
    req->op = op;
    req->offset = sector * SECTOR_BYTES;
    req->bytes = is_read ? request->chain.writable_bytes - 1 : request->chain.readable_bytes;
    if (!range_ok(disk->blk, sector, req->bytes) || (!is_read && disk->blk->read_only))
        return S_IOERR;
    if (!is_read && writethrough(disk))
        req->flags = BLK_FUA;
    gather(request, is_read, req->bytes);
    request->written_bytes = is_read ? (u32)req->bytes + 1 : 1;
    return S_OK;
}

static enum request_status range_prepare(struct request *request, enum blk_op op)
{
    struct virtio_blk *disk = request->disk;
    struct blk_req *req = &request->req;
    u8 range[RANGE_BYTES];
    if (!virtio_has(&disk->vdev, op == BLK_DISCARD ? F_DISCARD : F_WRITE_ZEROES))
        return S_UNSUPP;
    if (request->chain.readable_bytes != RANGE_BYTES ||
        chain_read(&request->chain, range, RANGE_BYTES) != RANGE_BYTES)
        return S_IOERR;
    u64 sector = load_le64(range);
    u32 sectors = load_le32(range + 8), flags = load_le32(range + 12);
    if ((flags & ~(u32)RANGE_F_UNMAP) || (op == BLK_DISCARD && flags))
        return S_UNSUPP;
    req->op = op;
    req->offset = sector * SECTOR_BYTES;
    req->bytes = (u64)sectors * SECTOR_BYTES;
    if (sectors > RANGE_SECTORS_MAX || !range_ok(disk->blk, sector, req->bytes) ||
        disk->blk->read_only)
        return S_IOERR;
    if (flags & RANGE_F_UNMAP)
        req->flags |= BLK_UNMAP;
    if (op == BLK_WRITE_ZEROES && writethrough(disk))
        req->flags |= BLK_FUA;
    return S_OK;
}

/* Answers GET_ID on the spot. */
static enum request_status id_answer(struct request *request)
{
    u64 room = request->chain.writable_bytes - 1;
    request->written_bytes =
        (u32)chain_write(&request->chain, request->disk->blk->id, min_u64(room, ID_BYTES)) + 1;
    return S_OK;
}

/* Moves the writable cursor to the last byte, where the status goes. */
static void status_find(struct request *request)
{
    size_t part;
    while (request->chain.writable_bytes > 1)
        (void)chain_take_writable(&request->chain, request->chain.writable_bytes - 1, &part);
    request->status = chain_take_writable(&request->chain, 1, &part);
}

static void request_start(struct request *request)
{
    struct virtio_blk *disk = request->disk;
    u8 header[HEADER_BYTES];
    if (request->chain.writable_bytes == 0 ||
        chain_read(&request->chain, header, HEADER_BYTES) != HEADER_BYTES) {
        virtio_broken(&disk->vdev, "a request without header or status");
        request_give(request);
        return;
    }
    struct blk_req *req = &request->req;
    *req = (struct blk_req){.segments = request->segments, .done = request_done, .ctx = request};
    request->written_bytes = 1;
    u32 type = load_le32(header);
    u64 sector = load_le64(header + 8);
    bool at_once = false;
    enum request_status status = S_UNSUPP;
    switch (type) {
    case T_IN:
        status = transfer_prepare(request, BLK_READ, sector);
        break;
    case T_OUT:
        status = transfer_prepare(request, BLK_WRITE, sector);
        break;
    case T_FLUSH:
        req->op = BLK_FLUSH;
        status = S_OK;
        break;
    case T_DISCARD:
        status = range_prepare(request, BLK_DISCARD);
        break;
    case T_WRITE_ZEROES:
        status = range_prepare(request, BLK_WRITE_ZEROES);
        break;
    case T_GET_ID:
        status = id_answer(request);
        at_once = true;
        break;
    default:
        break;
    }
    status_find(request);
    if (at_once || status != S_OK) {
        request_finish(request, status);
        return;
    }
    virtio_busy(&disk->vdev);
    blk_submit(disk->blk, req);
}

/* QUEUE goes on when a request comes back; when none is out, the host has no memory: later. */
static void starve(struct virtio_blk *disk, unsigned queue)
{
    struct virtio_dev *vdev = &disk->vdev;
    if (vdev->busy_count > 0)
        disk->starved_queues |= 1u << queue;
    else
        virtio_notify_at(vdev, queue, vm_clock_now(vdev->wiring.clock) + MEMORY_RETRY_NS);
}

static void blk_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct virtio_blk *disk = disk_of(vdev);
    struct virtq *vq = vdev->queues[queue];
    for (;;) {
        struct request *request = request_take(disk);
        if (request == NULL) {
            starve(disk, queue);
            break;
        }
        if (!virtq_pop(vq, &request->chain)) {
            request_give(request);
            break;
        }
        request->vq = vq;
        request_start(request);
    }
    virtq_interrupt(vq);
}

/* ---- configuration ---- */

static void config_fill(struct virtio_blk *disk)
{
    const struct blk *blk = disk->blk;
    u8 *config = disk->vdev.config;
    u32 sectors_per_block = blk->sector_bytes / SECTOR_BYTES;
    store_le64(config + CONFIG_CAPACITY, blk->size_bytes / SECTOR_BYTES);
    store_le32(config + CONFIG_SEG_MAX, SEGMENT_COUNT_MAX);
    store_le32(config + CONFIG_BLK_SIZE, blk->sector_bytes);
    config[CONFIG_PHYSICAL_EXP] = blk->sector_bytes == SECTOR_BYTES ? 3 : 0; /* 4 KiB */
    store_le16(config + CONFIG_MIN_IO, 1);
    config[CONFIG_WRITEBACK] = disk->writeback;
    store_le16(config + CONFIG_NUM_QUEUES, disk->vdev.queue_count);
    store_le32(config + CONFIG_DISCARD_SECTORS, RANGE_SECTORS_MAX);
    store_le32(config + CONFIG_DISCARD_SEGMENTS, 1);
    store_le32(config + CONFIG_DISCARD_ALIGNMENT, sectors_per_block);
    store_le32(config + CONFIG_ZEROES_SECTORS, RANGE_SECTORS_MAX);
    store_le32(config + CONFIG_ZEROES_SEGMENTS, 1);
    config[CONFIG_ZEROES_MAY_UNMAP] = blk->can_discard;
}

static void blk_config_write(struct virtio_dev *vdev, unsigned offset, unsigned bytes, u64 value)
{
    struct virtio_blk *disk = disk_of(vdev);
    if (offset != CONFIG_WRITEBACK || bytes != 1 || !virtio_has(vdev, F_CONFIG_WCE))
        return;
    disk->writeback = value & 1;
    vdev->config[CONFIG_WRITEBACK] = disk->writeback;
}

void virtio_blk_resized(struct virtio_dev *vdev)
{
    config_fill(disk_of(vdev));
    virtio_config_changed(vdev);
}

/* ---- life ---- */

static void blk_reset(struct virtio_dev *vdev)
{
    struct virtio_blk *disk = disk_of(vdev);
    disk->starved_queues = 0;
    disk->writeback = 1;
    config_fill(disk);
}

static int blk_loaded(struct virtio_dev *vdev, struct err *err)
{
    struct virtio_blk *disk = disk_of(vdev);
    disk->writeback &= 1;
    config_fill(disk);
    return 0;
}

static void blk_free(struct virtio_dev *vdev)
{
    struct virtio_blk *disk = disk_of(vdev);
    while (disk->free) {
        struct request *request = disk->free;
        disk->free = request->next_free;
        alloc_free(request);
    }
    alloc_free(disk);
}

static const struct virtio_ops blk_ops = {
    .name = "virtio-blk",
    .device_id = VIRTIO_ID_BLK,
    .queue_count = 1,
    .queue_size = QUEUE_SIZE,
    .state = blk_state,
    .notify = blk_notify,
    .reset = blk_reset,
    .config_write = blk_config_write,
    .loaded = blk_loaded,
    .free = blk_free,
};

struct virtio_dev *virtio_blk_new(struct blk *blk, unsigned queue_count)
{
    struct virtio_blk *disk = new0(struct virtio_blk);
    if (disk == NULL)
        return NULL;
    struct virtio_dev *vdev = &disk->vdev;
    vdev->ops = &blk_ops;
    vdev->queue_count = (u16)max_u64(1, min_u64(queue_count, VIRTIO_BLK_QUEUES_MAX));
    vdev->offered_features = BIT(F_SEG_MAX) | BIT(F_BLK_SIZE) | BIT(F_FLUSH) | BIT(F_TOPOLOGY) |
                             BIT(F_CONFIG_WCE) | BIT(F_WRITE_ZEROES);
    if (vdev->queue_count > 1)
        vdev->offered_features |= BIT(F_MQ);
    if (blk->read_only)
        vdev->offered_features |= BIT(F_RO);
    if (blk->can_discard)
        vdev->offered_features |= BIT(F_DISCARD);
    vdev->config_bytes = CONFIG_BYTES;
    disk->blk = blk;
    disk->writeback = 1;
    config_fill(disk);
    blk_attach(blk, &vdev->lock);
    return vdev;
}
