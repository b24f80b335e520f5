/*
 * dev/virtio/blk.h - the virtio disk.
 *
 * Threads: virtio_blk_new before vCPUs run; virtio_blk_resized under the device's lock.
 * Ownership: the back end is borrowed. It must be drained (blk->ops->drain) before the device is
 * saved, reset by the machine, or freed, and it is freed after the device.
 */
#ifndef DEV_VIRTIO_BLK_H
#define DEV_VIRTIO_BLK_H

#include "base/types.h"

struct blk;
struct virtio_dev;

enum { VIRTIO_BLK_QUEUES_MAX = 16 };

/* A disk on BLK with QUEUE_COUNT request queues (1 to 16; one for each vCPU is plenty). NULL when
 * memory is exhausted. Hand the result to virtio_pci_new. */
struct virtio_dev *virtio_blk_new(struct blk *blk, unsigned queue_count);
/* Tells the guest that blk->size_bytes has changed. */
void virtio_blk_resized(struct virtio_dev *vdev);

#endif
