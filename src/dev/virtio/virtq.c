/*
 * dev/virtio/virtq.c - walks split virtqueues.
 *
 * Spec   virtio 1.2, section 2.7 "Split Virtqueues".
 * Runs   under the device's lock, on vCPU threads and on the loop.
 * Trust  everything in the ring. Each guest value is loaded once into a local and checked there.
 *
 *   descriptor  0 address u64 | 8 length u32 | 12 flags u16 | 14 next u16
 *   avail ring  0 flags u16 | 2 index u16 | 4 heads u16[size] | 4+2*size used_event u16
 *   used ring   0 flags u16 | 2 index u16 | 4 {id u32, length u32}[size] | 4+8*size avail_event u16
 */
#include "dev/virtio/virtq.h"

#include "base/bits.h"
#include "core/mem.h"
#include "dev/virtio/virtio.h"

enum { DESC_BYTES = 16, DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4 };
enum { RING_INDEX = 2, RING_ENTRIES = 4, AVAIL_F_NO_INTERRUPT = 1 };

struct desc {
    u64 gpa;
    u32 bytes;
    u16 flags, next;
};

static u16 load_once(const u8 *from)
{
    return __atomic_load_n((const u16 *)(const void *)from, __ATOMIC_ACQUIRE);
}

static void store_shown(u8 *to, u16 value)
{
    __atomic_store_n((u16 *)(void *)to, value, __ATOMIC_RELEASE);
}

static u64 used_ring_bytes(const struct virtq *vq)
{
    return RING_ENTRIES + 8ull * vq->size + 2;
}

static void used_written(struct virtq *vq)
{
    mem_written(vq->vdev->wiring.mem, vq->used_gpa, used_ring_bytes(vq));
}

static bool broken(struct virtq *vq, const char *why)
{
    virtio_broken(vq->vdev, why);
    return false;
}

static bool ring_map(struct virtq *vq)
{
    struct mem *mem = vq->vdev->wiring.mem;
    u64 avail_bytes = RING_ENTRIES + 2ull * vq->size + 2;
    vq->desc = mem_map(mem, vq->desc_gpa, (u64)DESC_BYTES * vq->size, MEM_READ);
    vq->avail = mem_map(mem, vq->avail_gpa, avail_bytes, MEM_READ);
    vq->used = mem_map(mem, vq->used_gpa, used_ring_bytes(vq), MEM_WRITE);
    vq->mem_generation = mem->generation;
    if (vq->desc == NULL || vq->avail == NULL || vq->used == NULL)
        return broken(vq, "a ring lies outside RAM");
    return true;
}

/* True when the queue may be looked at. */
static bool ready(struct virtq *vq)
{
    if (!vq->enabled || !virtio_running(vq->vdev))
        return false;
    if (vq->used == NULL || vq->mem_generation != vq->vdev->wiring.mem->generation)
        return ring_map(vq);
    return true;
}

/* How many heads wait in the ring. When none does, asks the driver to notify of the next, and looks
 * again, because it may have come in between. False when the ring is broken. */
static bool waiting_count(struct virtq *vq, u16 *ret_count)
{
    u16 waiting = (u16)(load_once(vq->avail + RING_INDEX) - vq->next_avail);
    if (waiting == 0 && virtio_has(vq->vdev, VIRTIO_F_EVENT_IDX)) {
        u8 *avail_event = vq->used + RING_ENTRIES + 8u * vq->size;
        store_shown(avail_event, vq->next_avail);
        used_written(vq);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        waiting = (u16)(load_once(vq->avail + RING_INDEX) - vq->next_avail);
    }
    if (waiting > vq->size)
        return broken(vq, "the available index jumped by more than the queue has");
    *ret_count = waiting;
    return true;
}

bool virtq_has_work(struct virtq *vq)
{
    u16 waiting;
    return vq->vdev->is_bus_master && ready(vq) && waiting_count(vq, &waiting) && waiting > 0;
}

/* ---- descriptors ---- */

static struct desc desc_load(const u8 *table, u32 index)
{
    u8 copy[DESC_BYTES];
    __builtin_memcpy(copy, table + (size_t)index * DESC_BYTES, sizeof(copy));
    /* What follows must use the copy: the compiler may not read the guest's bytes again. */
    __asm__ volatile("" : : "r"(copy) : "memory");
    return (struct desc){load_le64(copy), load_le32(copy + 8), load_le16(copy + 12),
                         load_le16(copy + 14)};
}

static bool segment_add(struct virtq *vq, struct chain *chain, const struct desc *desc)
{
    struct mem *mem = vq->vdev->wiring.mem;
    bool writable = (desc->flags & DESC_F_WRITE) != 0;
    if (desc->bytes == 0)
        return broken(vq, "a descriptor has no bytes");
    if (!writable && chain->segment_count > chain->readable_count)
        return broken(vq, "a readable descriptor follows a writable one");
    u64 gpa = desc->gpa;
    for (u32 left = desc->bytes; left > 0;) {
        u32 bytes = left;
        u8 *data = mem_map(mem, gpa, bytes, writable ? MEM_WRITE : MEM_READ);
        if (data == NULL) { /* not in one slot: perhaps in two that touch */
            struct mem_slot *slot = mem_slot_find(mem, gpa);
            if (slot == NULL || (writable && slot->read_only))
                return broken(vq, "a buffer lies outside RAM");
            bytes = (u32)min_u64(left, slot->bytes - (gpa - slot->base));
            data = slot->host + (gpa - slot->base);
        }
        if (chain->segment_count == CHAIN_SEGMENTS_MAX)
            return broken(vq, "a chain is too long");
        chain->segments[chain->segment_count++] = (struct chain_segment){data, gpa, bytes};
        gpa += bytes;
        left -= bytes;
    }
    if (writable) {
        chain->writable_bytes += desc->bytes;
    } else {
        chain->readable_bytes += desc->bytes;
        chain->readable_count = chain->segment_count;
    }
    return true;
}

/* Follows descriptors from INDEX on through TABLE of COUNT, until one has no next. Every step adds
 * a segment, so a loop ends when the chain is full. An indirect descriptor is left in RET_LAST. */
static bool table_walk(struct virtq *vq, struct chain *chain, const u8 *table, u32 count, u32 index,
                       struct desc *ret_last)
{
    for (;;) {
        if (index >= count)
            return broken(vq, "a descriptor index is outside its table");
        *ret_last = desc_load(table, index);
        if (ret_last->flags & DESC_F_INDIRECT)
            return true;
        if (!segment_add(vq, chain, ret_last))
            return false;
        if (!(ret_last->flags & DESC_F_NEXT))
            return true;
        index = ret_last->next;
    }
}

static bool chain_build(struct virtq *vq, struct chain *chain)
{
    struct desc last;
    chain->readable_count = chain->segment_count = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    chain->read_offset = chain->write_offset = 0;
    chain->read_at = 0;
    if (!table_walk(vq, chain, vq->desc, vq->size, chain->head, &last))
        return false;
    if (last.flags & DESC_F_INDIRECT) {
        if (!virtio_has(vq->vdev, VIRTIO_F_INDIRECT_DESC) || (last.flags & DESC_F_NEXT))
            return broken(vq, "an indirect descriptor where none may be");
        if (last.bytes == 0 || last.bytes % DESC_BYTES != 0)
            return broken(vq, "an indirect table has an impossible length");
        const u8 *table = mem_map(vq->vdev->wiring.mem, last.gpa, last.bytes, MEM_READ);
        if (table == NULL)
            return broken(vq, "an indirect table lies outside RAM");
        if (!table_walk(vq, chain, table, last.bytes / DESC_BYTES, 0, &last))
            return false;
        if (last.flags & DESC_F_INDIRECT)
            return broken(vq, "an indirect descriptor inside an indirect table");
    }
    chain->write_at = chain->readable_count;
    return true;
}

bool virtq_pop(struct virtq *vq, struct chain *ret_chain)
{
    u16 waiting;
    if (!vq->vdev->is_bus_master || !ready(vq) || !waiting_count(vq, &waiting) || waiting == 0)
        return false;
    if (vq->vdev->budget == 0) {
        virtio_notify_later(vq->vdev, vq->index);
        return false;
    }
    if (vq->in_flight >= vq->size)
        return broken(vq, "more requests than the queue has");
    ret_chain->head = load_once(vq->avail + RING_ENTRIES + 2u * (vq->next_avail & (vq->size - 1)));
    if (!chain_build(vq, ret_chain))
        return false;
    vq->vdev->budget--;
    vq->next_avail++;
    vq->in_flight++;
    return true;
}

void virtq_unpop(struct virtq *vq, unsigned count)
{
    if (!virtio_running(vq->vdev) || count > vq->in_flight)
        return;
    vq->next_avail = (u16)(vq->next_avail - count);
    vq->in_flight = (u16)(vq->in_flight - count);
}

/* ---- giving back ---- */

void virtq_fill(struct virtq *vq, const struct chain *chain, u32 written_bytes, unsigned ahead)
{
    if (!ready(vq))
        return;
    struct mem *mem = vq->vdev->wiring.mem;
    unsigned touched = chain->write_at + (chain->write_offset > 0 ? 1u : 0u);
    for (unsigned i = chain->readable_count; i < touched; i++)
        mem_written(mem, chain->segments[i].gpa, chain->segments[i].bytes);
    u8 *entry = vq->used + RING_ENTRIES + 8u * ((vq->next_used + ahead) & (vq->size - 1u));
    store_le32(entry, chain->head);
    store_le32(entry + 4, written_bytes);
}

void virtq_publish(struct virtq *vq, unsigned count)
{
    if (!ready(vq) || count > vq->in_flight)
        return;
    vq->in_flight = (u16)(vq->in_flight - count);
    vq->next_used = (u16)(vq->next_used + count);
    store_shown(vq->used + RING_INDEX, vq->next_used);
    used_written(vq);
}

void virtq_push(struct virtq *vq, const struct chain *chain, u32 written_bytes)
{
    virtq_fill(vq, chain, written_bytes, 0);
    virtq_publish(vq, 1);
}

void virtq_interrupt(struct virtq *vq)
{
    struct virtio_dev *vdev = vq->vdev;
    if (vq->signalled_used == vq->next_used || !ready(vq))
        return;
    /* The driver writes its wish, then looks at the used index; we the other way round. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    u16 pushed = (u16)(vq->next_used - vq->signalled_used);
    bool wanted;
    if (virtio_has(vdev, VIRTIO_F_EVENT_IDX)) {
        u16 used_event = load_once(vq->avail + RING_ENTRIES + 2u * vq->size);
        wanted = (u16)(vq->next_used - used_event - 1) < pushed;
    } else {
        wanted = !(load_once(vq->avail) & AVAIL_F_NO_INTERRUPT);
    }
    vq->signalled_used = vq->next_used;
    if (wanted)
        vdev->wiring.transport->queue_interrupt(vdev->wiring.transport_ctx, vq);
}

void virtq_reset(struct virtq *vq)
{
    *vq = (struct virtq){.vdev = vq->vdev,
                         .index = vq->index,
                         .size_max = vq->size_max,
                         .size = vq->size_max,
                         .msix_vector = VIRTQ_NO_VECTOR};
}
