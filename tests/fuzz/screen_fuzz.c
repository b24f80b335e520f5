/*
 * tests/fuzz/screen_fuzz.c - a guest that does anything to the VGA adapter, the keyboard controller
 * and what is attached to it, while somebody looks and types, and with tampered state in between.
 *
 * Input: a sequence of operations, each a byte and what it needs; see operate.
 */
#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/state.h"
#include "dev/device.h"
#include "dev/i8042.h"
#include "dev/pci/pci_bus.h"
#include "dev/ps2_keyboard.h"
#include "dev/ps2_mouse.h"
#include "dev/vga/vga.h"
#include "fuzz.h"

enum {
    OPERATIONS_MAX = 2000,
    DRAWS_MAX = 4,
    TAMPERS_MAX = 1,
    FRAME = 0xd0000000,
    REGISTERS = 0xd1000000
};

struct input {
    const u8 *data;
    size_t bytes, position;
};

struct world {
    struct bus bus;
    struct vm_clock clock;
    struct pci_bus *pci;
    struct vga *vga;
    struct lock lock;
    struct i8042 *i8042;
    struct ps2_keyboard *keyboard;
    struct ps2_mouse *mouse;
    struct surface surface;
    unsigned draw_count, tamper_count;
};

static u64 take(struct input *input, unsigned bytes)
{
    u64 value = 0;
    for (unsigned i = 0; i < bytes && input->position < input->bytes; i++)
        value |= (u64)input->data[input->position++] << (8 * i);
    return value;
}

static void world_start(struct world *world)
{
    const struct irq_line none = {0};
    const struct power_sink power = {0};

    memset(world, 0, sizeof(*world));
    struct pci_bus_config config = {.bus = &world->bus};
    bus_init(&world->bus);
    vm_clock_init(&world->clock);
    vm_clock_set(&world->clock, 1000000);
    world->pci = pci_bus_new(&config, NULL);
    world->vga = vga_new(&world->clock);
    struct pci_function *function = vga_function(world->vga);
    assert(pci_bus_add(world->pci, function, 2, 0, NULL) == 0);
    assert(vga_map(world->vga, &world->bus, NULL) == 0);
    pci_config_write(function, PCI_BAR0, 4, FRAME);
    pci_config_write(function, PCI_BAR0 + 8, 4, REGISTERS);
    pci_config_write(function, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    world->i8042 = i8042_new(&none, &none, &power);
    assert(device_map(&i8042_device, world->i8042, &world->bus, 0, &world->lock, NULL) == 0);
    world->keyboard = ps2_keyboard_new(&world->clock, &world->lock, world->i8042);
    world->mouse = ps2_mouse_new(world->i8042);
    surface_init(&world->surface);
}

static void world_end(struct world *world)
{
    surface_fini(&world->surface);
    ps2_keyboard_device.free(world->keyboard);
    ps2_mouse_device.free(world->mouse);
    i8042_device.free(world->i8042);
    pci_bus_free(world->pci);
}

/* Pictures are the expensive part: a few in each run. */
static void draw(struct world *world)
{
    struct surface_rect rect;
    struct display_source source = vga_source(world->vga);

    if (world->draw_count++ >= DRAWS_MAX)
        return;
    source.refresh(source.ctx, &world->surface);
    assert(world->surface.width > 0 && world->surface.width <= SURFACE_SIDE_MAX);
    while (surface_damage_take(&world->surface, &world->surface.damage, &rect))
        assert(rect.x + rect.width <= world->surface.width &&
               rect.y + rect.height <= world->surface.height && rect.width > 0);
}

static void access_bus(struct world *world, struct input *input, enum bus_space space, u64 address)
{
    u8 how = (u8)take(input, 1);
    unsigned bytes = 1u << (how & (space == BUS_PORT ? 1 : 3));
    if (how & 4)
        bus_write(&world->bus, space, address, bytes, take(input, bytes));
    else
        assert((bus_read(&world->bus, space, address, bytes) & ~bytes_mask(bytes)) == 0);
}

static void tamper(struct world *world, struct input *input, const struct device_ops *ops,
                   void *device)
{
    struct state_writer writer = {0};
    struct err err;

    device_save(ops, device, &writer);
    for (unsigned i = (unsigned)take(input, 1) % 8; i > 0; i--) {
        size_t at = take(input, 2) % writer.bytes;
        writer.data[at] = (u8)take(input, 1);
    }
    struct state_reader reader = {writer.data, writer.bytes, 0};
    /* A device that refuses its state is reset, as its machine would be. */
    if (device_load(ops, device, &reader, &err) < 0)
        ops->reset(device);
    state_writer_fini(&writer);
}

/* The adapter's registers, which come before video memory in its section. */
static void tamper_vga(struct world *world, struct input *input)
{
    enum { PLACE_BYTES = 4096 };
    struct state_writer writer = {0};
    struct err err;

    if (world->tamper_count++ >= TAMPERS_MAX) /* 16 MiB each */
        return;
    pci_bus_save(world->pci, &writer);
    for (unsigned i = (unsigned)take(input, 1) % 8; i > 0; i--) {
        size_t at = take(input, 2) % PLACE_BYTES;
        writer.data[at] = (u8)take(input, 1);
    }
    struct state_reader reader = {writer.data, writer.bytes, 0};
    if (pci_bus_load(world->pci, &reader, &err) < 0)
        pci_bus_reset(world->pci);
    state_writer_fini(&writer);
}

static void type(struct world *world, struct input *input)
{
    u8 what = (u8)take(input, 1);

    lock_acquire(&world->lock);
    if (what & 1)
        ps2_keyboard_key(world->keyboard, (u16)take(input, 1), what & 2);
    else
        ps2_mouse_move(world->mouse, (s8)take(input, 1) * (what & 0x10 ? 1 << 20 : 1),
                       (s8)take(input, 1), (s8)take(input, 1), what >> 5);
    lock_release(&world->lock);
}

static void operate(struct world *world, struct input *input)
{
    static const u16 indexes[4] = {0x3c4, 0x3ce, 0x3d4, 0x1ce};
    u8 what = (u8)take(input, 1);
    u16 port = indexes[what >> 4 & 3];

    switch (what % 12) {
    case 0:
        access_bus(world, input, BUS_PORT, 0x3b0 + take(input, 1) % 0x30);
        break;
    case 1: /* an indexed register */
    case 2:
    case 3:
        bus_write(&world->bus, BUS_PORT, port, port == 0x1ce ? 2 : 1, take(input, 1));
        bus_write(&world->bus, BUS_PORT, port + 1, port == 0x1ce ? 2 : 1, take(input, 2));
        break;
    case 4:
        access_bus(world, input, BUS_MMIO, 0xa0000 + take(input, 3) % 0x20000);
        break;
    case 5:
        access_bus(world, input, BUS_MMIO, FRAME + take(input, 3) % VGA_MEMORY_BYTES);
        break;
    case 6:
        access_bus(world, input, BUS_MMIO, REGISTERS + take(input, 2) % 0x1000);
        break;
    case 7:
        draw(world);
        break;
    case 8:
        access_bus(world, input, BUS_PORT, what & 0x10 ? 0x60 : 0x64);
        break;
    case 9:
        type(world, input);
        break;
    case 10:
        vm_clock_set(&world->clock, vm_clock_now(&world->clock) + (take(input, 1) << 24));
        vm_clock_start(&world->clock);
        vm_clock_run(&world->clock);
        vm_clock_stop(&world->clock);
        break;
    default:
        if (what & 0x80)
            tamper_vga(world, input);
        else if (what & 0x40)
            tamper(world, input, &ps2_keyboard_device, world->keyboard);
        else if (what & 0x20)
            tamper(world, input, &ps2_mouse_device, world->mouse);
        else
            tamper(world, input, &i8042_device, world->i8042);
        break;
    }
}

/* Register files of modes, as a BIOS loads them, each followed by memory and a picture. */
static const struct {
    u8 seq[5], crtc[25], gfx[9];
} modes[] = {
    {{3, 0, 3, 0, 2},
     {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,    0x4f, 0x0d, 0x0e, 0,
      0,    0,    1,    0x9c, 0x0e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
     {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff}},
    {{3, 1, 15, 0, 6},
     {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,    0x40, 0,    0,   0,
      0,    0,    0,    0xea, 0x0c, 0xdf, 0x28, 0,    0xe7, 0x04, 0xe3, 0xff},
     {0, 0, 0, 0, 0, 0, 5, 15, 0xff}},
    {{3, 9, 3, 0, 2},
     {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0,    0xc1, 0,    0,   0,
      0,    0,    0,    0x9c, 0x0e, 0x8f, 0x14, 0,    0x96, 0xb9, 0xa2, 0xff},
     {0, 0, 0, 0, 0, 0x30, 0x0f, 15, 0xff}},
};

static u8 *seed_put(u8 *to, u8 what, u8 index, u8 value)
{
    *to++ = what;
    *to++ = index;
    *to++ = value;
    *to++ = 0;
    return to;
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    static const u8 head[] = {0, 0x12, 4, 0x67, 0, 0x10, 4, 0x20}; /* 0x3c2, 0x3c0 */
    static const u8 tail[] = {7, 4, 0, 0x80, 1, 6, 1, 2, 3, 4, 7, 0x8b, 3, 40, 1, 7, 7};
    static const u8 typing[] = {9, 3,    30,   9,    1, 30,   10,   255, 8, 0, 0x18, 0,
                                8, 4,    0xd4, 0x18, 4, 0xf4, 9,    0,   5, 5, 1,    0x18,
                                0, 0x4b, 2,    5,    0, 1,    0x2b, 1,   9, 0};
    static const u8 linear[] = {49, 1, 0x40, 1, 49, 2, 200, 0, 49, 3, 16, 0, 49, 4, 0x41, 0};
    u8 *at = to;

    if (index > ARRAY_LEN(modes) + 1)
        return 0;
    memcpy(at, head, sizeof(head));
    at += sizeof(head);
    if (index < ARRAY_LEN(modes)) {
        /* 1 + 16 * n is divided by 12 with 1 to 3 over for the ports that are meant. */
        for (u8 i = 0; i < 5; i++)
            at = seed_put(at, 1, i, modes[index].seq[i]);
        for (u8 i = 0; i < 9; i++)
            at = seed_put(at, 26, i, modes[index].gfx[i]);
        for (u8 i = 0; i < 25; i++)
            at = seed_put(at, 37, i, modes[index].crtc[i]);
    } else {
        const u8 *more = index == ARRAY_LEN(modes) ? typing : linear;
        size_t bytes = index == ARRAY_LEN(modes) ? sizeof(typing) : sizeof(linear);
        memcpy(at, more, bytes);
        at += bytes;
    }
    memcpy(at, tail, sizeof(tail));
    return (size_t)(at - to) + sizeof(tail);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct world world;
    struct input input = {data, bytes, 0};

    world_start(&world);
    for (unsigned i = 0; i < OPERATIONS_MAX && input.position < input.bytes; i++)
        operate(&world, &input);
    draw(&world);
    world_end(&world);
    return 0;
}
