/*
 * dev/virtio/rng.h - the virtio entropy device.
 */
#ifndef DEV_VIRTIO_RNG_H
#define DEV_VIRTIO_RNG_H

struct entropy;
struct virtio_dev;

/* SOURCE is borrowed and freed after the device. NULL when memory is exhausted. Hand the result to
 * virtio_pci_new. */
struct virtio_dev *virtio_rng_new(struct entropy *source);

#endif
