/*
 * dev/virtio/pci.h - the modern virtio-pci transport: makes a virtio device a PCI function.
 *
 * Threads: as dev/pci/function.h says.
 */
#ifndef DEV_VIRTIO_PCI_H
#define DEV_VIRTIO_PCI_H

#include "base/types.h"

struct mem;
struct pci_function;
struct virtio_dev;
struct vm_clock;

/* Wraps VDEV, which it owns from now on also when it fails, so that pci_bus_add can take it. VDEV
 * may be NULL, for a constructor that failed. NULL when memory is exhausted. MEM and CLOCK are
 * borrowed. */
struct pci_function *virtio_pci_new(struct virtio_dev *vdev, struct mem *mem,
                                    struct vm_clock *clock);

#endif
