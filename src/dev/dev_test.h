/*
 * dev/dev_test.h - what the device tests share: a stepped clock, lines that remember, register
 * access through a bus, and the round trip of saved state.
 */
#ifndef DEV_DEV_TEST_H
#define DEV_DEV_TEST_H

#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

/* Lets NS of VM time pass on a stopped clock, with what is due then. */
static inline void step(struct vm_clock *clock, u64 ns)
{
    vm_clock_set(clock, vm_clock_now(clock) + ns);
    vm_clock_start(clock);
    vm_clock_run(clock);
    vm_clock_stop(clock);
}

struct wire {
    bool level;
    unsigned rise_count;
};

static inline void wire_set(void *ctx, unsigned pin, bool level)
{
    struct wire *wire = (struct wire *)ctx + pin;

    if (level && !wire->level)
        wire->rise_count++;
    wire->level = level;
}

static inline struct irq_line wire_line(struct wire *wires, unsigned pin)
{
    return (struct irq_line){.set = wire_set, .ctx = wires, .pin = pin};
}

static inline u8 in8(struct bus *bus, u64 port)
{
    return (u8)bus_read(bus, BUS_PORT, port, 1);
}

static inline void out8(struct bus *bus, u64 port, u8 value)
{
    bus_write(bus, BUS_PORT, port, 1, value);
}

static inline u32 mmio32(struct bus *bus, u64 address)
{
    return (u32)bus_read(bus, BUS_MMIO, address, 4);
}

static inline void mmio32_set(struct bus *bus, u64 address, u32 value)
{
    bus_write(bus, BUS_MMIO, address, 4, value);
}

/* Saves FROM, loads it into TO, saves that, and says whether both streams are the same; and that a
 * stream cut short is refused. */
static inline bool round_trip(const struct device_ops *ops, void *from, void *to)
{
    struct state_writer first = {0}, second = {0};
    struct err err;

    device_save(ops, from, &first);
    struct state_reader short_reader = {.data = first.data, .bytes = first.bytes - 1};
    bool same = device_load(ops, to, &short_reader, &err) < 0;
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    same = same && device_load(ops, to, &reader, &err) == 0 && reader.position == first.bytes;
    device_save(ops, to, &second);
    same = same && first.bytes == second.bytes &&
           __builtin_memcmp(first.data, second.data, first.bytes) == 0;
    state_writer_fini(&first);
    state_writer_fini(&second);
    return same;
}

#endif
