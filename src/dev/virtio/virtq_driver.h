/*
 * dev/virtio/virtq_driver.h - plays a guest's virtio driver, for tests, fuzzers and benchmarks.
 *
 * A struct driver is a whole small machine: RAM, a bus, a PCI bus with one virtio function, and the
 * driver's side of its queues. It reaches the device only as a guest does: configuration space,
 * BARs, and rings in RAM. Not linked into the programs.
 *
 * Threads: one. Trust: none needed; a wrong use of this interface ends the test.
 */
#ifndef DEV_VIRTIO_VIRTQ_DRIVER_H
#define DEV_VIRTIO_VIRTQ_DRIVER_H

#include "base/types.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/mem.h"

struct pci_bus;
struct pci_function;
struct virtio_dev;

enum { DRIVER_RAM_BYTES = 1 << 22, DRIVER_QUEUES_MAX = 40, DRIVER_RINGS_GPA = 0x1000 };

struct driver_ring {
    u16 queue, size;
    gpa_t desc, avail, used;
    u16 next_desc; /* descriptors are handed out round robin */
    u16 next_avail, last_used;
    gpa_t notify;
};

struct driver_segment {
    gpa_t gpa;
    u32 bytes;
    bool writable;
};

struct driver {
    u8 *ram; /* DRIVER_RAM_BYTES */
    bool owns_ram;
    struct mem mem;
    struct bus bus;
    struct vm_clock clock;
    struct pci_bus *pci; /* owned */
    struct pci_function *function;
    struct virtio_dev *vdev;
    gpa_t common, notify, isr, device; /* where the capabilities say the registers are */
    u32 notify_multiplier;
    struct driver_ring rings[DRIVER_QUEUES_MAX];
    unsigned ring_count;
    gpa_t next_free;                            /* RAM is handed out upwards */
    unsigned interrupts[DRIVER_QUEUES_MAX + 1]; /* by MSI-X vector: 0 configuration, 1 + queue */
    bool intx;
};

/* Builds the machine around VDEV; false when memory is exhausted. RAM may be NULL: then it is
 * made. */
bool driver_init_at(struct driver *driver, struct virtio_dev *vdev, void *ram);
bool driver_init(struct driver *driver, struct virtio_dev *vdev);
void driver_fini(struct driver *driver);

/* Resets the device, negotiates exactly FEATURES, sets every queue up with at most RING_SIZE
 * descriptors and an MSI-X vector, and sets DRIVER_OK. Returns the status read back. */
u8 driver_start(struct driver *driver, u64 features, u16 ring_size);
u64 driver_offered(struct driver *driver);
void driver_status_write(struct driver *driver, u8 status);
u8 driver_status(struct driver *driver);

/* BYTES of fresh RAM, aligned to 16; and the host's view of guest RAM. */
gpa_t driver_alloc(struct driver *driver, size_t bytes);
void *driver_at(struct driver *driver, gpa_t gpa);

/* Writes one descriptor. */
void driver_desc(struct driver *driver, gpa_t table, unsigned index,
                 const struct driver_segment *segment, u16 flags, u16 next);
/* Makes a chain of SEGMENTS available (directly, or in an indirect table); returns its head. */
u16 driver_post(struct driver *driver, unsigned queue, const struct driver_segment *segments,
                unsigned count);
u16 driver_post_indirect(struct driver *driver, unsigned queue,
                         const struct driver_segment *segments, unsigned count);
/* The same with the indirect table at TABLE. */
u16 driver_post_table(struct driver *driver, unsigned queue, const struct driver_segment *segments,
                      unsigned count, gpa_t table);
/* Makes HEAD available as it stands. */
void driver_expose(struct driver *driver, unsigned queue, u16 head);
void driver_kick(struct driver *driver, unsigned queue);
/* Takes the next used entry; false when there is none. */
bool driver_take_used(struct driver *driver, unsigned queue, u32 *ret_head, u32 *ret_bytes);

/* Register accesses. */
u64 driver_read(struct driver *driver, gpa_t at, unsigned bytes);
void driver_write(struct driver *driver, gpa_t at, unsigned bytes, u64 value);
u32 driver_pci_read(struct driver *driver, unsigned offset, unsigned bytes);
void driver_pci_write(struct driver *driver, unsigned offset, unsigned bytes, u32 value);

#endif
