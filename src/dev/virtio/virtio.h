/*
 * dev/virtio/virtio.h - what every virtio device is, whatever it does and however the guest reaches
 * it.
 *
 * A device embeds a struct virtio_dev as its FIRST member, sets ops, features and config, and is
 * handed to a transport (pci.h), which owns it from then on. The transport takes the device's lock
 * around every register access; back ends take it around their callbacks (they are given
 * &vdev->lock).
 *
 *   reset ──ACKNOWLEDGE, DRIVER──▶ negotiating ──FEATURES_OK──▶ queues set up ──DRIVER_OK──▶
 * running ▲ │ └── status 0, once busy_count is 0 ◀── NEEDS_RESET (virtio_broken) ◀── ring or
 * request broken
 *
 * Reset during I/O: requests that a back end still works on use guest memory, so the device status
 * does not read 0 before the last of them has ended. A device calls virtio_busy when it hands a
 * request to a back end and virtio_idle when that has ended, and drops what ended while `resetting`
 * is set.
 *
 * Threads: every call under the device's lock, but for virtio_attach and virtio_free (no vCPU
 * runs). Trust: all register values come from the guest.
 */
#ifndef DEV_VIRTIO_VIRTIO_H
#define DEV_VIRTIO_VIRTIO_H

#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"
#include "core/clock.h"
#include "core/state.h"
#include "dev/virtio/virtq.h"

struct mem;
struct virtio_dev;

enum { VIRTIO_QUEUES_MAX = 40, VIRTIO_CONFIG_MAX_BYTES = 136 };

enum virtio_device_id {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_INPUT = 18
};

enum virtio_status {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 0x40,
    VIRTIO_STATUS_FAILED = 0x80,
};

enum virtio_feature { /* bit numbers */
                      VIRTIO_F_INDIRECT_DESC = 28,
                      VIRTIO_F_EVENT_IDX = 29,
                      VIRTIO_F_VERSION_1 = 32,
};

struct virtio_ops {
    const char *name; /* "virtio-blk" */
    enum virtio_device_id device_id;
    u16 queue_count;           /* vdev->queue_count, when not 0, takes its place */
    u16 queue_size;            /* most descriptors of each queue; a power of two */
    const struct field *state; /* of the whole device (vdev is at offset 0) */

    /* The driver put something into QUEUE, or the device asked to be called again. vCPU thread or
     * loop; never blocks. */
    void (*notify)(struct virtio_dev *vdev, unsigned queue);
    /* Forget the driver. Requests out at a back end stay counted in busy_count. May be NULL. */
    void (*reset)(struct virtio_dev *vdev);
    /* The driver wrote into the configuration; the device changes vdev->config. May be NULL. */
    void (*config_write)(struct virtio_dev *vdev, unsigned offset, unsigned bytes, u64 value);
    /* DRIVER_OK was set: features are final and queues live. May be NULL. */
    void (*started)(struct virtio_dev *vdev);
    /* State was loaded: check what the device's table brought. May be NULL. */
    int (*loaded)(struct virtio_dev *vdev, struct err *err);
    void (*free)(struct virtio_dev *vdev);
};

/* How the device reaches its driver. */
struct virtio_transport {
    void (*queue_interrupt)(void *ctx, const struct virtq *vq);
    void (*config_interrupt)(void *ctx);
};

/* What the machine gives to every device. */
struct virtio_wiring {
    struct mem *mem;        /* borrowed */
    struct vm_clock *clock; /* borrowed */
    const struct virtio_transport *transport;
    void *transport_ctx; /* borrowed */
};

struct virtio_dev {
    const struct virtio_ops *ops;
    struct lock lock; /* the device's; taken by dispatchers only */
    struct virtio_wiring wiring;
    struct virtq *queues[VIRTIO_QUEUES_MAX]; /* owned */
    u16 queue_count;

    u64 offered_features; /* without the ring's own, which virtio.c adds */
    u64 driver_features;  /* what the driver wrote; final once FEATURES_OK is set */
    u8 status;
    u8 resetting;     /* a reset waits for busy_count to become 0 */
    u8 is_bus_master; /* the transport lets the device look at guest memory */
    u8 config_generation;
    u8 config[VIRTIO_CONFIG_MAX_BYTES];
    u16 config_bytes;

    u32 busy_count;    /* requests out at back ends */
    u32 budget;        /* pops left in this notify */
    u64 resume_queues; /* bit per queue to be notified again */
    struct timer resume;
    u64 broken_count; /* times that the driver broke the rules */
};

/* Makes the queues and remembers the wiring. -ENOMEM. */
MUST_CHECK int virtio_attach(struct virtio_dev *vdev, const struct virtio_wiring *wiring);
/* Frees the queues, then the device itself through its ops. */
void virtio_free(struct virtio_dev *vdev);
void virtio_save(struct virtio_dev *vdev, struct state_writer *writer);
MUST_CHECK int virtio_load(struct virtio_dev *vdev, struct state_reader *reader, struct err *err);

/* ---- for devices ---- */

/* True when the driver may be served: DRIVER_OK, not broken, no reset under way. */
static inline bool virtio_running(const struct virtio_dev *vdev)
{
    return (vdev->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
               VIRTIO_STATUS_DRIVER_OK &&
           !vdev->resetting;
}

static inline bool virtio_has(const struct virtio_dev *vdev, unsigned feature)
{
    return (vdev->driver_features >> feature) & 1;
}

/* The driver broke the rules: the device stops until it is reset. WHY is static text. */
void virtio_broken(struct virtio_dev *vdev, const char *why);
/* vdev->config has changed: tells the driver. */
void virtio_config_changed(struct virtio_dev *vdev);
/* A request went to a back end; a request came back. */
void virtio_busy(struct virtio_dev *vdev);
void virtio_idle(struct virtio_dev *vdev);
/* Has QUEUE notified again by the loop, soon or at a deadline (VM time). */
void virtio_notify_later(struct virtio_dev *vdev, unsigned queue);
void virtio_notify_at(struct virtio_dev *vdev, unsigned queue, u64 deadline_ns);
/* Runs the device's notify with a fresh budget; ignored while the device is not running. */
void virtio_notify(struct virtio_dev *vdev, unsigned queue);

/* ---- for transports ---- */

u64 virtio_offered_features(const struct virtio_dev *vdev);
u8 virtio_status_read(const struct virtio_dev *vdev);
void virtio_status_write(struct virtio_dev *vdev, u8 status);
u64 virtio_config_read(struct virtio_dev *vdev, u64 offset, unsigned bytes);
void virtio_config_write(struct virtio_dev *vdev, u64 offset, unsigned bytes, u64 value);
/* Enables QUEUE with the addresses and size it has; breaks the device when they cannot be right. */
void virtio_queue_enable(struct virtio_dev *vdev, unsigned queue);
void virtio_reset(struct virtio_dev *vdev);
/* Whether the device may look for requests in guest memory, at first not. A system that hands over
 * to the next one (kexec) takes this away, so that nobody writes into memory that is no longer its
 * own. */
void virtio_bus_master(struct virtio_dev *vdev, bool is_on);

#endif
