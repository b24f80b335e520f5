/*
 * tests/fuzz/pci_fuzz.c - a PCI bus whose functions' configuration space, BARs and MSI-X tables are
 * written at will, through both mechanisms, with tampered state in between.
 *
 * Input: a sequence of operations, each a byte and what it needs; see operate.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "core/bus.h"
#include "core/state.h"
#include "dev/pci/pci_bus.h"
#include "fuzz.h"

enum { OPERATIONS_MAX = 2000, TOY_COUNT = 3, ECAM = 0xe0000000, WINDOW = 0xc0000000 };

struct input {
    const u8 *data;
    size_t bytes, position;
};

struct toy {
    struct pci_function function;
    struct lock lock;
};

struct world {
    struct bus bus;
    struct pci_bus *pci;
    struct toy *toys[TOY_COUNT];
    bool levels[PCI_INTX_COUNT];
    unsigned reset_count;
};

static u64 take(struct input *input, unsigned bytes)
{
    u64 value = 0;
    for (unsigned i = 0; i < bytes && input->position < input->bytes; i++)
        value |= (u64)input->data[input->position++] << (8 * i);
    return value;
}

static u64 toy_read(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes)
{
    assert(offset + bytes <= function->bars[bar].bytes);
    return offset;
}

static void toy_write(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes,
                      u64 value)
{
    assert(offset + bytes <= function->bars[bar].bytes);
}

static void toy_free(struct pci_function *function)
{
    alloc_free(container_of(function, struct toy, function));
}

static const struct pci_ops toy_ops = {
    .bar_read = toy_read, .bar_write = toy_write, .free = toy_free};

static void on_intx(void *ctx, unsigned pin, bool level)
{
    struct world *world = ctx;
    assert(world->levels[pin] != level); /* only changes are told */
    world->levels[pin] = level;
}

static void on_message(void *ctx, u64 address, u32 data)
{
}

static void on_reset(void *ctx)
{
    ((struct world *)ctx)->reset_count++;
}

static struct toy *toy_add(struct world *world, unsigned index)
{
    static const struct pci_ids ids = {.vendor = 0x1234, .device = 1};
    struct toy *toy = new0(struct toy);
    pci_function_init(&toy->function, &toy_ops, &ids, &toy->lock);
    toy->function.config[PCI_INTERRUPT_PIN] = 1;
    pci_bar_define(&toy->function, 0, PCI_BAR_MEMORY32, 0x1000u << index);
    pci_bar_define(&toy->function, 2, PCI_BAR_MEMORY64, 0x10000);
    pci_bar_define(&toy->function, 4, PCI_BAR_IO, 0x20);
    assert(pci_msix_define(&toy->function, 1, 1 + index * 31) == 0);
    assert(pci_bus_add(world->pci, &toy->function, 1 + index * PCI_INTX_COUNT / 2, 0, NULL) == 0);
    return toy;
}

static void world_start(struct world *world)
{
    memset(world, 0, sizeof(*world));
    struct pci_bus_config config = {.bus = &world->bus,
                                    .msi = {on_message, world},
                                    .ecam_base = ECAM,
                                    .ecam_bus_count = 1,
                                    .reset = on_reset,
                                    .reset_ctx = world};
    for (unsigned i = 0; i < PCI_INTX_COUNT; i++)
        config.intx[i] = (struct irq_line){on_intx, world, i};
    bus_init(&world->bus);
    world->pci = pci_bus_new(&config, NULL);
    for (unsigned i = 0; i < TOY_COUNT; i++)
        world->toys[i] = toy_add(world, i);
}

/* Every BAR lies where its registers say, or nowhere; no line is up without a reason. */
static void check(struct world *world)
{
    bool levels[PCI_INTX_COUNT] = {0};
    for (unsigned i = 0; i < TOY_COUNT; i++) {
        struct pci_function *function = &world->toys[i]->function;
        for (unsigned b = 0; b < PCI_BAR_COUNT; b++) {
            const struct pci_bar *bar = &function->bars[b];
            assert(bar->mapped_base == PCI_BAR_NOWHERE || bar->mapped_base == bar->wanted_base);
            assert(bar->mapped_base == PCI_BAR_NOWHERE || bar->mapped_base % bar->bytes == 0);
        }
        assert((function->msix.pending >> (function->msix.vector_count - 1) >> 1) == 0);
        levels[pci_bus_intx_line(function->slot)] |= function->intx_driven;
    }
    assert(memcmp(levels, world->levels, sizeof(levels)) == 0);
}

static void state_tamper(struct world *world, struct input *input)
{
    struct state_writer writer = {0};
    struct err err;
    pci_bus_save(world->pci, &writer);
    for (unsigned i = (unsigned)take(input, 1) % 4; i > 0; i--) {
        size_t at = take(input, 2) % writer.bytes;
        writer.data[at] = (u8)take(input, 1);
    }
    struct state_reader reader = {writer.data, writer.bytes, 0};
    assert(pci_bus_load(world->pci, &reader, &err) <= 0);
    state_writer_fini(&writer);
}

static void access_bus(struct world *world, struct input *input, enum bus_space space, u64 address)
{
    u8 how = (u8)take(input, 1);
    unsigned bytes = 1u << (how & 3);
    if (space == BUS_PORT && bytes == 8)
        bytes = 4;
    if (how & 4)
        bus_write(&world->bus, space, address, bytes, take(input, bytes));
    else
        assert((bus_read(&world->bus, space, address, bytes) & ~bytes_mask(bytes)) == 0);
}

static void operate(struct world *world, struct input *input)
{
    u8 what = (u8)take(input, 1);
    struct toy *toy = world->toys[what / 16 % TOY_COUNT];
    struct pci_function *function = &toy->function;
    u64 ecam = ECAM + ((u64)function->slot << 15);
    switch (what % 10) {
    case 0:
        access_bus(world, input, BUS_PORT, 0xcf8 + take(input, 1) % 8);
        break;
    case 1:
    case 2:
        access_bus(world, input, BUS_MMIO, ecam + take(input, 2) % 0x1002);
        break;
    case 3: /* a BAR, near the window */
        bus_write(&world->bus, BUS_MMIO, ecam + PCI_BAR0 + take(input, 1) % 6 * 4, 4,
                  WINDOW + take(input, 1) * 0x400);
        break;
    case 4: /* what decodes */
        bus_write(&world->bus, BUS_MMIO, ecam + PCI_COMMAND, 2, take(input, 2));
        break;
    case 5:
        access_bus(world, input, BUS_MMIO, WINDOW + take(input, 3) % 0x40000);
        break;
    case 6:
        lock_acquire(&toy->lock);
        pci_msix_send(function, (unsigned)take(input, 1));
        pci_intx_set(function, what & 0x80);
        lock_release(&toy->lock);
        break;
    case 7: /* MSI-X control, and its table wherever it is */
        bus_write(&world->bus, BUS_MMIO, ecam + 0x40 + MSIX_CONTROL, 2, take(input, 1) << 8);
        access_bus(world, input, BUS_MMIO, function->bars[1].mapped_base + take(input, 2) % 0x1000);
        break;
    case 8:
        state_tamper(world, input);
        break;
    default:
        if (take(input, 1) % 4 == 0)
            pci_bus_reset(world->pci);
        break;
    }
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    static const u8 operations[] = {
        3,  0,    16,   3,  1, 32, 4,    0xff, 7,    /* BARs placed and switched on */
        19, 0,    16,   20, 7, 0,                    /* another on top */
        5,  0x10, 0x40, 0,  0, 5,  4,    0,    0, 0, /* an access */
        7,  0x80, 4,    0,  0, 6,  0,    0x86, 1,    /* MSI-X on, a message, a line */
        0,  0,    6,    0,  8, 0,  0x80, 0,    4, 2, /* the old mechanism */
        8,  0,    9,    1,  9, 0,  4,    0,    0,    /* state; reset */
    };
    if (index >= 4)
        return 0;
    for (unsigned i = 0; i <= index; i++)
        memcpy(to + i * sizeof(operations), operations, sizeof(operations));
    return (index + 1) * sizeof(operations);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct world world;
    struct input input = {data, bytes, 0};
    world_start(&world);
    for (unsigned i = 0; i < OPERATIONS_MAX && input.position < input.bytes; i++) {
        operate(&world, &input);
        check(&world);
    }
    pci_bus_free(world.pci);
    return 0;
}
