/*
 * back/blk/qcow2_slow.c - what a qcow2 disk's worker does, and which requests wait for which.
 *
 * Runs   slot_run on the worker's thread, the rest on the loop.
 */
#include <errno.h>
#include <string.h>

#include "back/blk/qcow2_priv.h"
#include "base/bits.h"
#include "base/fmt.h"

static int run_transfer(struct slot *slot)
{
    struct disk *disk = slot->disk;
    struct blk_req *req = slot->req;
    int result = 0;
    for (u64 done = slot->done_bytes; done < req->bytes && result == 0;) {
        u64 bytes = min_u64(req->bytes - done, DISK_BUFFER_BYTES);
        if (req->op == BLK_READ) {
            result = img_read(disk->img, 0, req->offset + done, disk->buffer, bytes);
            if (result == 0)
                segments_scatter(req, done, disk->buffer, bytes);
        } else {
            segments_gather(req, done, disk->buffer, bytes);
            result = img_write(disk->img, req->offset + done, disk->buffer, bytes);
        }
        done += bytes;
    }
    return result;
}

void slot_run(struct worker_job *job)
{
    struct slot *slot = container_of(job, struct slot, job);
    struct blk_req *req = slot->req;
    struct img *img = slot->disk->img;
    if (slot->is_ending)
        slot->result = img_flush(img);
    else if (req->op == BLK_READ || req->op == BLK_WRITE)
        slot->result = run_transfer(slot);
    else if (req->op == BLK_DISCARD)
        slot->result = img_zero(img, req->offset, req->bytes, QCOW2_UNMAP | QCOW2_ADVICE);
    else
        slot->result = img_zero(img, req->offset, req->bytes,
                                (req->flags & BLK_UNMAP) != 0 ? QCOW2_UNMAP : 0);
}

static bool has_clusters_in_common(const struct slot *a, const struct slot *b)
{
    u64 cluster_bytes = a->disk->cluster_bytes;
    u64 a_start = align_down(a->req->offset, cluster_bytes);
    u64 b_start = align_down(b->req->offset, cluster_bytes);
    return a_start < b->req->offset + b->req->bytes && b_start < a->req->offset + a->req->bytes;
}

bool slot_is_blocked(const struct slot *slot)
{
    const struct disk *disk = slot->disk;
    if (disk->exclusive_count == 0 || slot->req->op == BLK_FLUSH || slot->is_ending)
        return false;
    for (unsigned i = 0; i < DISK_SLOTS; i++) {
        const struct slot *other = &disk->slots[i];
        if (other == slot || other->req == NULL || other->req->op == BLK_FLUSH ||
            !(slot->is_exclusive || other->is_exclusive))
            continue;
        bool is_before = !other->is_waiting || other->number < slot->number;
        if (is_before && has_clusters_in_common(slot, other))
            return true;
    }
    return false;
}

void blk_id_make(struct blk *blk, const char *path)
{
    u64 hash = 0xcbf29ce484222325u; /* FNV-1a */
    char text[sizeof(blk->id) + 1];
    for (const char *c = path; *c != '\0'; c++)
        hash = (hash ^ (u8)*c) * 0x100000001b3u;
    size_t length = fmt_text(text, sizeof(text), "%016llx", (unsigned long long)hash);
    memcpy(blk->id, text, min_u64(length, sizeof(blk->id)));
}
