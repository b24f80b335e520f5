/*
 * dev/device.c - mapping, saving and loading of any chipset device by its description.
 *
 * Runs   at machine build, save and load; the byte helpers under the device's lock.
 * Trust  saved streams are hostile: state_load checks their form, the device's loaded() their
 * values.
 */
#include "dev/device.h"

int device_map(const struct device_ops *ops, void *device, struct bus *bus, u64 base,
               struct lock *lock, struct err *err)
{
    for (unsigned i = 0; i < ops->region_count; i++) {
        const struct device_region *region = &ops->regions[i];
        struct bus_range range = {.base = base + region->base,
                                  .bytes = region->bytes,
                                  .ops = region->ops,
                                  .device = device,
                                  .lock = lock,
                                  .name = ops->name};
        int r = bus_add(bus, region->space, &range);
        if (r < 0) {
            while (i-- > 0)
                bus_remove(bus, ops->regions[i].space, base + ops->regions[i].base, device);
            return err_set(err, r, "device %s: its %s range at 0x%llx is taken by another device",
                           ops->name, region->space == BUS_PORT ? "port" : "memory",
                           (unsigned long long)range.base);
        }
    }
    return 0;
}

void device_unmap(const struct device_ops *ops, void *device, struct bus *bus, u64 base)
{
    for (unsigned i = 0; i < ops->region_count; i++)
        bus_remove(bus, ops->regions[i].space, base + ops->regions[i].base, device);
}

void device_save(const struct device_ops *ops, const void *device, struct state_writer *writer)
{
    state_save(writer, ops->fields, device);
}

int device_load(const struct device_ops *ops, void *device, struct state_reader *reader,
                struct err *err)
{
    int r = state_load(reader, ops->fields, device, err);
    if (r == 0 && ops->loaded)
        r = ops->loaded(device, err);
    if (r < 0)
        err_prefix(err, "device %s", ops->name);
    return r;
}

u64 device_read_bytes(void *device, u64 offset, unsigned bytes, u8 (*read)(void *, u64))
{
    u64 value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (u64)read(device, offset + i) << (8 * i);
    return value;
}

void device_write_bytes(void *device, u64 offset, unsigned bytes, u64 value,
                        void (*write)(void *, u64, u8))
{
    for (unsigned i = 0; i < bytes; i++)
        write(device, offset + i, (u8)(value >> (8 * i)));
}
