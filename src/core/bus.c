/*
 * core/bus.c - finds who answers at an address and calls it under its lock.
 *
 * Runs   on vCPU threads.
 * Trust  addresses come from the guest.
 *
 * A lookup copies the range out under the map's lock and releases it before the handler runs,
 * because a handler may itself change the map (a BAR moves). A device taken off the bus is freed
 * only after the vCPUs have stopped, so a copied range never dangles.
 */
#include "core/bus.h"

#include "base/bits.h"
#include "base/errno.h"

void bus_init(struct bus *bus)
{
    *bus = (struct bus){0};
}

/* The index of the first range whose base is above ADDRESS. */
static unsigned range_after(const struct bus_map *map, u64 address)
{
    unsigned low = 0, high = map->range_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (map->ranges[middle].base > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int insert(struct bus_map *map, const struct bus_range *range)
{
    unsigned at = range_after(map, range->base);
    const struct bus_range *before = at > 0 ? &map->ranges[at - 1] : NULL;
    const struct bus_range *after = at < map->range_count ? &map->ranges[at] : NULL;
    if (before && range->base - before->base < before->bytes)
        return -EBUSY;
    if (after && after->base - range->base < range->bytes)
        return -EBUSY;
    if (map->range_count == BUS_RANGES_MAX)
        return -ENOSPC;
    for (unsigned i = map->range_count; i > at; i--)
        map->ranges[i] = map->ranges[i - 1];
    map->ranges[at] = *range;
    map->range_count++;
    return 0;
}

int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range)
{
    if (range->bytes == 0 || range->base + (range->bytes - 1) < range->base)
        return -EINVAL;
    if (space == BUS_PORT && range->base + range->bytes > 0x10000)
        return -EINVAL;
    struct bus_map *map = &bus->maps[space];
    lock_acquire(&map->lock);
    int result = insert(map, range);
    lock_release(&map->lock);
    return result;
}

void bus_remove(struct bus *bus, enum bus_space space, u64 base, void *device)
{
    struct bus_map *map = &bus->maps[space];
    lock_acquire(&map->lock);
    unsigned at = range_after(map, base);
    if (at > 0 && map->ranges[at - 1].base == base && map->ranges[at - 1].device == device) {
        map->range_count--;
        for (unsigned i = at - 1; i < map->range_count; i++)
            map->ranges[i] = map->ranges[i + 1];
    }
    lock_release(&map->lock);
}

static bool range_find(struct bus_map *map, u64 address, struct bus_range *ret_range)
{
    lock_acquire(&map->lock);
    unsigned at = range_after(map, address);
    bool found = at > 0 && address - map->ranges[at - 1].base < map->ranges[at - 1].bytes;
    if (found)
        *ret_range = map->ranges[at - 1];
    lock_release(&map->lock);
    return found;
}

bool bus_claims(struct bus *bus, enum bus_space space, u64 address)
{
    struct bus_range range;
    return range_find(&bus->maps[space], address, &range);
}

static bool must_split(const struct bus_range *range, enum bus_space space, u64 offset,
                       unsigned bytes)
{
    return offset + bytes > range->bytes || (space == BUS_PORT && bytes > 4);
}

u64 bus_read(struct bus *bus, enum bus_space space, u64 address, unsigned bytes)
{
    struct bus_range range;
    if (!range_find(&bus->maps[space], address, &range)) {
        __atomic_fetch_add(&bus->unclaimed_count, 1, __ATOMIC_RELAXED);
        if (bytes == 1)
            return 0xff;
        range = (struct bus_range){.base = address, .bytes = 1};
    }
    u64 offset = address - range.base;
    if (must_split(&range, space, offset, bytes)) {
        u64 value = 0;
        for (unsigned i = 0; i < bytes; i++)
            value |= bus_read(bus, space, address + i, 1) << (8 * i);
        return value;
    }
    if (range.lock)
        lock_acquire(range.lock);
    u64 value = range.ops->read(range.device, offset, bytes);
    if (range.lock)
        lock_release(range.lock);
    return value & bytes_mask(bytes);
}

void bus_write(struct bus *bus, enum bus_space space, u64 address, unsigned bytes, u64 value)
{
    struct bus_range range;
    if (!range_find(&bus->maps[space], address, &range)) {
        __atomic_fetch_add(&bus->unclaimed_count, 1, __ATOMIC_RELAXED);
        if (bytes == 1)
            return;
        range = (struct bus_range){.base = address, .bytes = 1};
    }
    u64 offset = address - range.base;
    if (must_split(&range, space, offset, bytes)) {
        for (unsigned i = 0; i < bytes; i++)
            bus_write(bus, space, address + i, 1, (value >> (8 * i)) & 0xff);
        return;
    }
    if (range.lock)
        lock_acquire(range.lock);
    range.ops->write(range.device, offset, bytes, value & bytes_mask(bytes));
    if (range.lock)
        lock_release(range.lock);
}
