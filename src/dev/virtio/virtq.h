/*
 * dev/virtio/virtq.h - a split virtqueue: the one place that walks a ring that a guest wrote.
 *
 * A device takes a request with virtq_pop, reads and fills it through the chain_* calls, gives it
 * back with virtq_push, and at the end of a batch calls virtq_interrupt.
 *
 * Threads: under the device's lock.
 * Trust: the ring and its descriptors are hostile and may change at any moment. virtq_pop copies
 * each descriptor once, checks the copy, and turns it into segments that lie wholly in guest RAM
 * (and, to be written, not in ROM). At most CHAIN_SEGMENTS_MAX segments and queue-size chains are
 * out at a time. A ring that breaks the rules breaks its device (virtio_broken), never the process.
 */
#ifndef DEV_VIRTIO_VIRTQ_H
#define DEV_VIRTIO_VIRTQ_H

#include "base/types.h"

struct virtio_dev;

enum { VIRTQ_SIZE_MAX = 1024, CHAIN_SEGMENTS_MAX = 128 };
enum { VIRTQ_NO_VECTOR = 0xffff };

struct virtq {
    struct virtio_dev *vdev; /* borrowed */
    u16 index;
    u16 size_max;

    /* What the driver told the transport. */
    u64 desc_gpa, avail_gpa, used_gpa;
    u16 size; /* descriptors; a power of two once enabled */
    u16 msix_vector;
    u8 enabled;

    /* Where we are; free-running counters as in the ring. */
    u16 next_avail;
    u16 next_used;
    u16 signalled_used; /* next_used at the last interrupt decision */
    u16 in_flight;      /* popped and not yet pushed */

    /* The ring in this process; looked up again when the memory slots change. */
    const u8 *desc, *avail;
    u8 *used;
    u32 mem_generation;
};

struct chain_segment {
    u8 *data;
    gpa_t gpa;
    u32 bytes;
};

/* One request: first the segments that the device reads, then those it writes. */
struct chain {
    u16 head;
    u16 readable_count;                 /* segments */
    u16 segment_count;                  /* readable and writable */
    u16 read_at, write_at;              /* the segments that the cursors are in */
    u32 read_offset, write_offset;      /* and how far into them */
    u64 readable_bytes, writable_bytes; /* left after the cursors */
    struct chain_segment segments[CHAIN_SEGMENTS_MAX];
};

/* Takes the next request; false when there is none (then the driver will notify), when the device
 * is not running, when the notify budget is used up (then the device is notified again soon), or
 * when the ring is broken. */
bool virtq_pop(struct virtq *vq, struct chain *ret_chain);
/* Puts the last COUNT popped chains back into the ring, as if never popped. */
void virtq_unpop(struct virtq *vq, unsigned count);
/* True when virtq_pop would find a request; when false, the driver will notify. */
bool virtq_has_work(struct virtq *vq);
/* Gives CHAIN back to the driver with WRITTEN_BYTES of its writable part filled. */
void virtq_push(struct virtq *vq, const struct chain *chain, u32 written_bytes);
/* The same in two steps, for requests that must become visible together: virtq_fill places the
 * chain AHEAD entries after those published, virtq_publish shows COUNT of them. */
void virtq_fill(struct virtq *vq, const struct chain *chain, u32 written_bytes, unsigned ahead);
void virtq_publish(struct virtq *vq, unsigned count);
/* Interrupts the driver unless it asked not to be; call after each batch of pushes. */
void virtq_interrupt(struct virtq *vq);

/* Copies out of the readable part, or into the writable part, from the cursor on; returns how many
 * bytes there were. */
size_t chain_read(struct chain *chain, void *to, size_t bytes);
size_t chain_write(struct chain *chain, const void *from, size_t bytes);
/* The next contiguous piece of the readable (or writable) part, at most MAX_BYTES of it, for I/O
 * without a copy; the cursor moves behind it. NULL at the end. The driver can change the bytes at
 * any time. */
const void *chain_take_readable(struct chain *chain, size_t max_bytes, size_t *ret_bytes);
void *chain_take_writable(struct chain *chain, size_t max_bytes, size_t *ret_bytes);

/* For virtio.c: to the state after a reset. */
void virtq_reset(struct virtq *vq);

#endif
