/*
 * core/bus.h - the port and memory-mapped address spaces: who answers at which address.
 *
 * Threads: bus_read and bus_write come from any vCPU thread; the range's lock is held while its
 * handler runs, so a handler never meets itself. bus_add, bus_remove and bus_move may run while
 * vCPUs do (a guest moves a BAR); the map itself has its own lock. Trust: address and size come
 * from the guest. Offsets given to handlers lie wholly inside their range. Nobody there: reads give
 * all ones, writes vanish; both are counted.
 */
#ifndef CORE_BUS_H
#define CORE_BUS_H

#include "base/lock.h"
#include "base/types.h"

enum bus_space { BUS_PORT, BUS_MMIO };
enum { BUS_RANGES_MAX = 256 };

/* BYTES is 1, 2, 4 or 8 (ports: 1, 2, 4). A read returns the value in its low BYTES bytes. */
struct bus_ops {
    u64 (*read)(void *device, u64 offset, unsigned bytes);
    void (*write)(void *device, u64 offset, unsigned bytes, u64 value);
};

struct bus_range {
    u64 base;
    u64 bytes;
    const struct bus_ops *ops;
    void *device;      /* borrowed */
    struct lock *lock; /* borrowed: the device's lock; NULL where the device needs none */
    const char *name;  /* for inspection */
};

struct bus_map {
    struct lock lock;
    struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base, disjoint */
    unsigned range_count;
};

struct bus {
    struct bus_map maps[2]; /* by enum bus_space */
    u64 unclaimed_count;
};

void bus_init(struct bus *bus);

/* Puts RANGE on SPACE; -EBUSY when it overlaps another, -EINVAL when it is empty or wraps (or ends
 * above 0x10000 for ports), -ENOSPC when the map is full. */
MUST_CHECK int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range);
/* Takes away the range that starts at BASE and belongs to DEVICE; no effect when there is none. */
void bus_remove(struct bus *bus, enum bus_space space, u64 base, void *device);

/* True when a range holds ADDRESS. */
bool bus_claims(struct bus *bus, enum bus_space space, u64 address);

/* Does one access of 1 to 8 bytes. One that crosses the end of its range, or is wider than 4 bytes
 * on the port space, is split into bytes. */
u64 bus_read(struct bus *bus, enum bus_space space, u64 address, unsigned bytes);
void bus_write(struct bus *bus, enum bus_space space, u64 address, unsigned bytes, u64 value);

#endif
