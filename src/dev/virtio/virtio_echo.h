/*
 * dev/virtio/virtio_echo.h - a virtio device that copies what it reads into what it may write, for
 * the tests of the transport and of the ring. Not linked into the programs.
 */
#ifndef DEV_VIRTIO_VIRTIO_ECHO_H
#define DEV_VIRTIO_VIRTIO_ECHO_H

#include "base/bits.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { ECHO_QUEUE_SIZE = 16, ECHO_F_TOY = 5, ECHO_HELD_MAX = 20 };
#define RING_FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC))

struct echo {
    struct virtio_dev vdev;
    u32 served_count, started_count, reset_count;
    u32 hold; /* keep requests until echo_release */
    struct chain held[ECHO_HELD_MAX];
    unsigned held_count;
    struct driver *driver;
    void (*after_pop)(struct driver *driver);
};

/* The device in its machine, and two buffers of 64 bytes, the first with text in it. */
struct rig {
    struct driver driver;
    struct echo *echo;
    gpa_t from, to;
};

/* With FEATURES of 0 the driver has not started. Ends the test when memory is exhausted. */
struct rig *rig_new(u64 features);
void rig_free(struct rig *rig);
/* The held requests end. */
void echo_release(struct echo *echo);

#endif
