/*
 * dev/virtio/net.h - the virtio network adapter.
 *
 * Threads: virtio_net_new before vCPUs run; the rest under the device's lock.
 * Ownership: the back end is borrowed, attached here, and freed after the device.
 */
#ifndef DEV_VIRTIO_NET_H
#define DEV_VIRTIO_NET_H

#include "base/types.h"

struct net;
struct virtio_dev;

/* An adapter on NET with its MAC address and MTU. Checksum and segmentation offloads are offered
 * when net->vnet_header is set. NULL when memory is exhausted. Hand the result to virtio_pci_new.
 */
struct virtio_dev *virtio_net_new(struct net *net);
/* Tells the guest that the cable was pulled out or put in. */
void virtio_net_link(struct virtio_dev *vdev, bool is_up);
/* Asks the guest to tell the network where it is now, after it moved; no effect when it cannot. */
void virtio_net_announce(struct virtio_dev *vdev);

#endif
