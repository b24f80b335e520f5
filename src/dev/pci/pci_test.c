/*
 * dev/pci/pci_test.c - configuration space, BARs, MSI-X, INTx and state of a function on the bus.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/errno.h"
#include "core/bus.h"
#include "core/state.h"
#include "dev/pci/pci_bus.h"

enum { ECAM = 0xe0000000, WINDOW = 0xc0000000, MEMORY64 = 0x800000000, IO = 0xc000 };
enum { SLOT = 3, MSIX_BAR = 1, MSIX_AT = 0x40 };

struct toy {
    struct pci_function function;
    struct lock lock;
    u64 last_offset, last_value;
    unsigned last_bar, reset_count;
    u8 saved_byte;
};

struct world {
    struct bus bus;
    struct pci_bus *pci;
    struct toy *toy, *other;
    bool levels[PCI_INTX_COUNT];
    unsigned message_count, reset_count;
    u64 message_address;
    u32 message_data;
};

static struct toy *toy_of(struct pci_function *function)
{
    return container_of(function, struct toy, function);
}

static u64 toy_read(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes)
{
    return (u64)bar << 32 | offset << 8 | bytes;
}

static void toy_write(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes,
                      u64 value)
{
    struct toy *toy = toy_of(function);
    toy->last_bar = bar;
    toy->last_offset = offset;
    toy->last_value = value;
}

static void toy_reset(struct pci_function *function)
{
    toy_of(function)->reset_count++;
}

static void toy_save(struct pci_function *function, struct state_writer *writer)
{
    state_put(writer, &toy_of(function)->saved_byte, 1);
}

static int toy_load(struct pci_function *function, struct state_reader *reader, struct err *err)
{
    if (state_take(reader, &toy_of(function)->saved_byte, 1) < 0)
        return err_set(err, -EPROTO, "toy: no byte");
    return 0;
}

static void toy_free(struct pci_function *function)
{
    alloc_free(toy_of(function));
}

static const struct pci_ops toy_ops = {.bar_read = toy_read,
                                       .bar_write = toy_write,
                                       .reset = toy_reset,
                                       .save = toy_save,
                                       .load = toy_load,
                                       .free = toy_free};

static void on_intx(void *ctx, unsigned pin, bool level)
{
    ((struct world *)ctx)->levels[pin] = level;
}

static void on_message(void *ctx, u64 address, u32 data)
{
    struct world *world = ctx;
    world->message_count++;
    world->message_address = address;
    world->message_data = data;
}

static void on_reset(void *ctx)
{
    ((struct world *)ctx)->reset_count++;
}

static struct toy *toy_add(struct world *world, unsigned slot)
{
    static const struct pci_ids ids = {0x1234, 0x5678, 0x1111, 0x2222, 0x020304, 7};
    struct toy *toy = new0(struct toy);
    assert_non_null(toy);
    struct pci_function *function = &toy->function;
    pci_function_init(function, &toy_ops, &ids, &toy->lock);
    pci_bar_define(function, 0, PCI_BAR_MEMORY32, 0x4000);
    assert_int_equal(pci_msix_define(function, MSIX_BAR, 3), 0);
    pci_bar_define(function, 2, PCI_BAR_MEMORY64, 0x100000);
    pci_bar_define(function, 4, PCI_BAR_IO, 0x20);
    function->config[PCI_INTERRUPT_PIN] = 1;
    assert_int_equal(pci_capability_add(function, PCI_CAPABILITY_VENDOR, 6), 0x4c);
    assert_int_equal(pci_bus_add(world->pci, function, slot, 0, NULL), 0);
    return toy;
}

static struct world *world_new(void)
{
    struct world *world = new0(struct world);
    bus_init(&world->bus);
    struct pci_bus_config config = {.bus = &world->bus,
                                    .msi = {on_message, world},
                                    .intx_irq = {10, 11, 12, 13},
                                    .ecam_base = ECAM,
                                    .ecam_bus_count = 2,
                                    .reset = on_reset,
                                    .reset_ctx = world};
    for (unsigned i = 0; i < PCI_INTX_COUNT; i++)
        config.intx[i] = (struct irq_line){on_intx, world, i};
    world->pci = pci_bus_new(&config, NULL);
    assert_non_null(world->pci);
    world->toy = toy_add(world, SLOT);
    world->other = toy_add(world, SLOT + PCI_INTX_COUNT);
    return world;
}

static void world_free(struct world *world)
{
    pci_bus_free(world->pci);
    alloc_free(world);
}

static u64 ecam_address(unsigned slot, unsigned at)
{
    return ECAM + (slot << 15) + at;
}

static u64 config_read(struct world *world, unsigned at, unsigned bytes)
{
    return bus_read(&world->bus, BUS_MMIO, ecam_address(SLOT, at), bytes);
}

static void config_write(struct world *world, unsigned at, unsigned bytes, u64 value)
{
    bus_write(&world->bus, BUS_MMIO, ecam_address(SLOT, at), bytes, value);
}

static void test_header_both_ways(void **state)
{
    struct world *world = world_new();
    struct bus *bus = &world->bus;
    assert_int_equal(config_read(world, 0, 4), 0x56781234);
    assert_int_equal(config_read(world, 0, 8), 0x56781234 | (u64)PCI_STATUS_CAPABILITIES << 48);
    assert_int_equal(config_read(world, 8, 4), 0x02030407);
    assert_int_equal(config_read(world, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x22221111);
    bus_write(bus, BUS_PORT, 0xcf8, 4, 0x80000000u | SLOT << 11 | 8);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xcf8, 4), 0x80000000u | SLOT << 11 | 8);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xcfc, 4), 0x02030407);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xcff, 1), 0x02);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xcfe, 2), 0x0203);
    /* A disabled address, an absent slot, another bus, extended space: all ones. */
    bus_write(bus, BUS_PORT, 0xcf8, 4, SLOT << 11);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xcfc, 4), 0xffffffff);
    assert_int_equal(bus_read(bus, BUS_MMIO, ecam_address(SLOT + 1, 0), 4), 0xffffffff);
    assert_int_equal(bus_read(bus, BUS_MMIO, ECAM + 0x100000, 4), 0xffffffff);
    assert_int_equal(config_read(world, 0x100, 4), 0xffffffff);
    assert_int_equal(config_read(world, 0xfe, 4), 0xffffffff);
    /* Identity is read-only. */
    config_write(world, 0, 4, 0);
    config_write(world, 0x40, 4, 0xffffffff);
    assert_int_equal(config_read(world, 0, 2), 0x1234);
    /* The capability list: MSI-X, then the vendor's. */
    assert_int_equal(config_read(world, PCI_CAPABILITIES_POINTER, 1), MSIX_AT);
    assert_int_equal(config_read(world, MSIX_AT, 2), 0x4c11);
    assert_int_equal(config_read(world, 0x4c, 2), 0x0009);
    world_free(world);
}

static void test_reset_port(void **state)
{
    struct world *world = world_new();
    bus_write(&world->bus, BUS_PORT, 0xcf9, 1, 2);
    assert_int_equal(world->reset_count, 0);
    bus_write(&world->bus, BUS_PORT, 0xcf9, 1, 6);
    assert_int_equal(world->reset_count, 1);
    world_free(world);
}

static void test_bar_sizing_and_moves(void **state)
{
    struct world *world = world_new();
    struct bus *bus = &world->bus;
    config_write(world, PCI_BAR0, 4, 0xffffffff);
    assert_int_equal(config_read(world, PCI_BAR0, 4), 0xffffc000);
    config_write(world, PCI_BAR0 + 8, 4, 0xffffffff);
    config_write(world, PCI_BAR0 + 12, 4, 0xffffffff);
    assert_int_equal(config_read(world, PCI_BAR0 + 8, 4), 0xfff00004);
    assert_int_equal(config_read(world, PCI_BAR0 + 12, 4), 0xffffffff);
    config_write(world, PCI_BAR0 + 16, 4, 0xffffffff);
    assert_int_equal(config_read(world, PCI_BAR0 + 16, 4), 0xffe1);
    config_write(world, PCI_BAR0 + 20, 4, 0xffffffff);
    assert_int_equal(config_read(world, PCI_BAR0 + 20, 4), 0);

    config_write(world, PCI_BAR0, 4, WINDOW);
    assert_false(bus_claims(bus, BUS_MMIO, WINDOW));
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x30, 4), 0x3004);
    bus_write(bus, BUS_MMIO, WINDOW + 0x3ffc, 4, 99);
    assert_int_equal(world->toy->last_offset, 0x3ffc);
    assert_int_equal(world->toy->last_value, 99);
    /* A move while decoding. */
    config_write(world, PCI_BAR0, 4, WINDOW + 0x10000);
    assert_false(bus_claims(bus, BUS_MMIO, WINDOW));
    assert_true(bus_claims(bus, BUS_MMIO, WINDOW + 0x13fff));
    /* Above 4 GiB, and I/O. */
    config_write(world, PCI_BAR0 + 8, 8, MEMORY64);
    assert_int_equal(bus_read(bus, BUS_MMIO, MEMORY64 + 0x10, 8), (u64)2 << 32 | 0x1008);
    config_write(world, PCI_BAR0 + 16, 4, IO);
    assert_false(bus_claims(bus, BUS_PORT, IO));
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_true(bus_claims(bus, BUS_PORT, IO + 0x1f));
    assert_false(bus_claims(bus, BUS_MMIO, MEMORY64));
    world_free(world);
}

static void test_bars_on_top_of_each_other(void **state)
{
    struct world *world = world_new();
    struct bus *bus = &world->bus;
    config_write(world, PCI_BAR0, 4, WINDOW);
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    u64 other = ecam_address(SLOT + 4, PCI_BAR0);
    bus_write(bus, BUS_MMIO, other, 4, WINDOW);
    bus_write(bus, BUS_MMIO, other - PCI_BAR0 + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    bus_write(bus, BUS_MMIO, WINDOW, 4, 1);
    assert_int_equal(world->toy->last_value, 1);
    /* The first goes away: the second takes the place. */
    config_write(world, PCI_BAR0, 4, WINDOW + 0x10000);
    bus_write(bus, BUS_MMIO, WINDOW, 4, 2);
    assert_int_equal(world->toy->last_value, 1);
    assert_int_equal(world->other->last_value, 2);
    world_free(world);
}

static void test_assign(void **state)
{
    struct world *world = world_new();
    struct pci_windows windows = {.memory32_base = WINDOW,
                                  .memory32_end = WINDOW + 0x100000,
                                  .memory64_base = MEMORY64,
                                  .memory64_end = MEMORY64 + 0x200000,
                                  .io_base = IO,
                                  .io_end = IO + 0x100};
    assert_int_equal(pci_bus_assign(world->pci, &windows, NULL), 0);
    assert_int_equal(config_read(world, PCI_BAR0, 4), WINDOW);
    assert_int_equal(config_read(world, PCI_BAR0 + 8, 8), MEMORY64 | 4);
    assert_true(bus_claims(&world->bus, BUS_MMIO, MEMORY64 + 0x1fffff));
    assert_true(bus_claims(&world->bus, BUS_PORT, IO + 0x3f));
    assert_int_equal(config_read(world, PCI_INTERRUPT_LINE, 2), 0x010d);
    pci_bus_reset(world->pci);
    assert_int_equal(world->toy->reset_count, 1);
    assert_int_equal(config_read(world, PCI_BAR0, 4), 0);
    assert_false(bus_claims(&world->bus, BUS_MMIO, WINDOW));
    windows.memory64_end = MEMORY64 + 0x100000;
    struct err err;
    assert_int_equal(pci_bus_assign(world->pci, &windows, &err), -ENOSPC);
    world_free(world);
}

/* Places the MSI-X BAR and enables memory, bus mastering and MSI-X. */
static void msix_on(struct world *world)
{
    config_write(world, PCI_BAR0 + 4, 4, WINDOW);
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    config_write(world, MSIX_AT + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE);
}

static void test_msix(void **state)
{
    struct world *world = world_new();
    struct bus *bus = &world->bus;
    struct pci_function *function = &world->toy->function;
    assert_int_equal(config_read(world, MSIX_AT + MSIX_CONTROL, 2), 2);
    assert_int_equal(config_read(world, MSIX_AT + MSIX_TABLE, 4), MSIX_BAR);
    assert_int_equal(config_read(world, MSIX_AT + MSIX_PBA, 4), 0x800 | MSIX_BAR);
    pci_msix_send(function, 0); /* not enabled: lost */
    msix_on(world);
    assert_true(pci_msix_enabled(function));
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x1c, 4), 1); /* masked after reset */
    bus_write(bus, BUS_MMIO, WINDOW + 0x10, 8, 0x1fee01000);
    bus_write(bus, BUS_MMIO, WINDOW + 0x18, 4, 0x4031);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x14, 4), 1);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x10, 8), 0x1fee01000);
    pci_msix_send(function, 1);
    assert_int_equal(world->message_count, 0);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x800, 8), 2);
    bus_write(bus, BUS_MMIO, WINDOW + 0x1c, 4, 0);
    assert_int_equal(world->message_count, 1);
    assert_int_equal(world->message_address, 0x1fee01000);
    assert_int_equal(world->message_data, 0x4031);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x800, 4), 0);
    /* The function mask holds messages back too, and so does bus mastering. */
    config_write(world, MSIX_AT + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL);
    pci_msix_send(function, 1);
    assert_int_equal(world->message_count, 1);
    config_write(world, MSIX_AT + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE);
    assert_int_equal(world->message_count, 2);
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    pci_msix_send(function, 1);
    assert_int_equal(world->message_count, 2);
    config_write(world, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    assert_int_equal(world->message_count, 3);
    /* Out of range, and accesses of odd sizes. */
    pci_msix_send(function, 3);
    pci_msix_send(function, 1000);
    bus_write(bus, BUS_MMIO, WINDOW + 0x30, 4, 7);
    bus_write(bus, BUS_MMIO, WINDOW + 0x19, 1, 7);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x30, 4), 0);
    assert_int_equal(bus_read(bus, BUS_MMIO, WINDOW + 0x19, 1), 0x40);
    assert_int_equal(world->message_count, 3);
    world_free(world);
}

static void test_intx_is_shared(void **state)
{
    struct world *world = world_new();
    unsigned line = pci_bus_intx_line(SLOT);
    pci_intx_set(&world->toy->function, true);
    pci_intx_set(&world->other->function, true);
    assert_true(world->levels[line]);
    assert_int_equal(config_read(world, PCI_STATUS, 1) & PCI_STATUS_INTERRUPT,
                     PCI_STATUS_INTERRUPT);
    pci_intx_set(&world->toy->function, false);
    assert_true(world->levels[line]);
    bus_write(&world->bus, BUS_MMIO, ecam_address(SLOT + 4, PCI_COMMAND), 2,
              PCI_COMMAND_INTX_DISABLE);
    assert_false(world->levels[line]);
    bus_write(&world->bus, BUS_MMIO, ecam_address(SLOT + 4, PCI_COMMAND), 2, 0);
    assert_true(world->levels[line]);
    pci_bus_reset(world->pci);
    assert_false(world->levels[line]);
    world_free(world);
}

static void test_state_round_trip(void **state)
{
    struct world *from = world_new(), *to = world_new();
    msix_on(from);
    bus_write(&from->bus, BUS_MMIO, WINDOW + 0x10, 8, 0xfee00000);
    pci_msix_send(&from->toy->function, 2);
    pci_intx_set(&from->other->function, true);
    from->toy->saved_byte = 42;
    struct state_writer writer = {0}, again = {0};
    pci_bus_save(from->pci, &writer);
    assert_false(writer.failed);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->pci, &reader, &err), 0);
    assert_int_equal(reader.position, reader.bytes);
    assert_int_equal(to->toy->saved_byte, 42);
    assert_true(to->levels[pci_bus_intx_line(SLOT)]);
    assert_int_equal(bus_read(&to->bus, BUS_MMIO, WINDOW + 0x800, 4), 4);
    assert_int_equal(bus_read(&to->bus, BUS_MMIO, WINDOW + 0x10, 4), 0xfee00000);
    pci_bus_save(to->pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    assert_memory_equal(again.data, writer.data, writer.bytes);
    /* A stream cut short, and one from another device. */
    for (size_t bytes = 0; bytes < writer.bytes; bytes += 97) {
        struct state_reader cut = {writer.data, bytes, 0};
        assert_true(pci_bus_load(to->pci, &cut, &err) < 0);
    }
    from->toy->function.config[PCI_DEVICE_ID] ^= 1;
    writer.bytes = 0;
    pci_bus_save(from->pci, &writer);
    reader = (struct state_reader){writer.data, writer.bytes, 0};
    assert_int_equal(pci_bus_load(to->pci, &reader, &err), -EPROTO);
    assert_int_equal(to->toy->function.config[PCI_DEVICE_ID], 0x78);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    world_free(from);
    world_free(to);
}

static void test_add_refuses(void **state)
{
    struct world *world = world_new();
    static const struct pci_ids ids = {.vendor = 1};
    struct err err;
    for (unsigned slot = SLOT; slot <= 32; slot += 32 - SLOT) {
        struct toy *toy = new0(struct toy);
        pci_function_init(&toy->function, &toy_ops, &ids, &toy->lock);
        assert_int_equal(pci_bus_add(world->pci, &toy->function, slot, 0, &err), -EBUSY);
    }
    struct toy *second = new0(struct toy);
    pci_function_init(&second->function, &toy_ops, &ids, &second->lock);
    assert_int_equal(pci_bus_add(world->pci, &second->function, SLOT, 1, &err), 0);
    assert_int_equal(config_read(world, PCI_HEADER_TYPE, 1), PCI_HEADER_MULTI_FUNCTION);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_both_ways),
        cmocka_unit_test(test_reset_port),
        cmocka_unit_test(test_bar_sizing_and_moves),
        cmocka_unit_test(test_bars_on_top_of_each_other),
        cmocka_unit_test(test_assign),
        cmocka_unit_test(test_msix),
        cmocka_unit_test(test_intx_is_shared),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_add_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
