/*
 * dev/vga/vga.c - the adapter as a PCI function: BARs, legacy ranges, reset, state.
 *
 * Runs   on vCPU threads and, for the picture, on the viewer's thread; under the device's lock.
 * Trust  offsets lie inside their ranges (bus.h); everything else about them is checked.
 */
#include "dev/vga/vga.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "core/bus.h"
#include "core/mem.h"
#include "core/state.h"
#include "dev/device.h"
#include "dev/vga/vga_priv.h"

enum { REGISTER_BYTES = 0x1000, REGISTER_PORTS = 0x400, REGISTER_VBE = 0x500 };
enum { REGISTER_PORTS_BYTES = 0x20, REGISTER_VBE_BYTES = 2 * VBE_COUNT };
enum { PORT_FIRST = 0x3b0, PORT_BYTES = 0x30, PORT_COLOR = 0x3c0, PORT_VBE = 0x1ce };
enum { PORT_VBE_BYTES = 3, WINDOW_BASE = 0xa0000, WINDOW_BYTES = 0x20000 };
enum { PREFERRED_WIDTH = 1280, PREFERRED_HEIGHT = 800 };

/* ---- the old ranges ---- */

static u8 port_byte_read(void *device, u64 offset)
{
    return vga_port_read(device, (u16)(PORT_FIRST + offset));
}

static void port_byte_write(void *device, u64 offset, u8 value)
{
    vga_port_write(device, (u16)(PORT_FIRST + offset), value);
}

static u64 ports_read(void *device, u64 offset, unsigned bytes)
{
    return device_read_bytes(device, offset, bytes, port_byte_read);
}

static void ports_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    device_write_bytes(device, offset, bytes, value, port_byte_write);
}

static u8 window_byte_read(void *device, u64 offset)
{
    return vga_window_read(device, (u32)offset);
}

static void window_byte_write(void *device, u64 offset, u8 value)
{
    vga_window_write(device, (u32)offset, value);
}

static u64 window_read(void *device, u64 offset, unsigned bytes)
{
    return device_read_bytes(device, offset, bytes, window_byte_read);
}

static void window_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    device_write_bytes(device, offset, bytes, value, window_byte_write);
}

static u64 vbe_read(void *device, u64 offset, unsigned bytes)
{
    const struct vga *vga = device;
    return offset == 0 ? vga->vbe_index : vga_vbe_read(vga, vga->vbe_index);
}

static void vbe_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct vga *vga = device;
    if (offset == 0)
        vga->vbe_index = (u16)value;
    else
        vga_vbe_write(vga, vga->vbe_index, (u16)value);
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write};
static const struct bus_ops window_ops = {.read = window_read, .write = window_write};
static const struct bus_ops vbe_ops = {.read = vbe_read, .write = vbe_write};

static const struct device_region regions[] = {
    {BUS_PORT, PORT_FIRST, PORT_BYTES, &ports_ops},
    {BUS_PORT, PORT_VBE, PORT_VBE_BYTES, &vbe_ops},
    {BUS_MMIO, WINDOW_BASE, WINDOW_BYTES, &window_ops},
};
static const struct device_ops legacy = {
    .name = "vga", .regions = regions, .region_count = ARRAY_LEN(regions)};

int vga_map(struct vga *vga, struct bus *bus, struct err *err)
{
    return device_map(&legacy, vga, bus, 0, &vga->lock, err);
}

/* ---- the BARs ---- */

static u8 register_read(void *device, u64 offset)
{
    struct vga *vga = device;

    if (offset < VGA_EDID_BYTES)
        return vga->edid[offset];
    if (offset - REGISTER_PORTS < REGISTER_PORTS_BYTES)
        return vga_port_read(vga, (u16)(PORT_COLOR + offset - REGISTER_PORTS));
    if (offset - REGISTER_VBE < REGISTER_VBE_BYTES)
        return (u8)(vga_vbe_read(vga, (u16)((offset - REGISTER_VBE) / 2)) >> (offset % 2 * 8));
    return offset < REGISTER_PORTS ? 0 : 0xff;
}

/* VBE registers take whole 16-bit writes only: half a size would be a mode of its own. */
static void register_write(struct vga *vga, u64 offset, unsigned bytes, u64 value)
{
    for (unsigned at = 0; at < bytes; at++) {
        u64 place = offset + at;
        if (place - REGISTER_PORTS < REGISTER_PORTS_BYTES)
            vga_port_write(vga, (u16)(PORT_COLOR + place - REGISTER_PORTS),
                           (u8)(value >> (8 * at)));
        else if (place - REGISTER_VBE < REGISTER_VBE_BYTES && place % 2 == 0 && at + 1 < bytes)
            vga_vbe_write(vga, (u16)((place - REGISTER_VBE) / 2), (u16)(value >> (8 * at)));
    }
}

static u64 bar_read(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes)
{
    struct vga *vga = vga_of(function);
    u64 value = 0;

    if (bar == VGA_BAR_REGISTERS)
        return device_read_bytes(vga, offset, bytes, register_read);
    __builtin_memcpy(&value, vga->memory + offset, bytes);
    return value;
}

static void bar_write(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes,
                      u64 value)
{
    struct vga *vga = vga_of(function);

    if (bar == VGA_BAR_REGISTERS)
        register_write(vga, offset, bytes, value);
    else
        __builtin_memcpy(vga->memory + offset, &value, bytes);
}

/* ---- life and state ---- */

static void reset(struct pci_function *function)
{
    struct vga *vga = vga_of(function);

    vga_ports_reset(vga);
    vga_vbe_reset(vga);
}

static void vga_free(struct pci_function *function)
{
    struct vga *vga = vga_of(function);

    alloc_free(vga->allocation);
    alloc_free(vga);
}

static const struct field fields[] = {
    FIELD(struct vga, seq_index),
    FIELD(struct vga, gfx_index),
    FIELD(struct vga, crtc_index),
    FIELD(struct vga, attr_index),
    FIELD(struct vga, attr_takes_data),
    FIELD(struct vga, misc),
    FIELD(struct vga, feature),
    FIELD(struct vga, seq),
    FIELD(struct vga, gfx),
    FIELD(struct vga, crtc),
    FIELD(struct vga, attr),
    FIELD(struct vga, dac_mask),
    FIELD(struct vga, dac_state),
    FIELD(struct vga, dac_read_index),
    FIELD(struct vga, dac_write_index),
    FIELD(struct vga, dac_component),
    FIELD(struct vga, dac_pending),
    FIELD(struct vga, dac),
    FIELD(struct vga, latch),
    FIELD(struct vga, vbe_index),
    FIELD(struct vga, vbe),
    FIELD_END,
};

static void save(struct pci_function *function, struct state_writer *writer)
{
    struct vga *vga = vga_of(function);

    state_save(writer, fields, vga);
    state_put(writer, vga->memory, VGA_MEMORY_BYTES);
}

static int load(struct pci_function *function, struct state_reader *reader, struct err *err)
{
    struct vga *vga = vga_of(function);

    int r = state_load(reader, fields, vga, err);
    if (r < 0)
        return r;
    vga->seq_index &= 7;
    vga->gfx_index &= 0x0f;
    vga->attr_takes_data &= 1;
    if (vga->dac_component > 2)
        return err_set(err, -EINVAL, "vga: the saved state writes a fourth part of a colour");
    vga->vbe[VBE_BANK] &= VGA_MEMORY_BYTES / 0x10000 - 1;
    if (state_take(reader, vga->memory, VGA_MEMORY_BYTES) < 0)
        return err_set(err, -EPROTO, "vga: the saved state ends inside video memory");
    return 0;
}

static const struct pci_ops ops = {.bar_read = bar_read,
                                   .bar_write = bar_write,
                                   .reset = reset,
                                   .save = save,
                                   .load = load,
                                   .free = vga_free};

static void refresh(void *ctx, struct surface *surface)
{
    vga_draw(ctx, surface);
}

struct display_source vga_source(struct vga *vga)
{
    return (struct display_source){.refresh = refresh, .ctx = vga, .lock = &vga->lock};
}

struct pci_function *vga_function(struct vga *vga)
{
    return &vga->function;
}

struct vga *vga_new(struct vm_clock *clock)
{
    static const struct pci_ids ids = {.vendor = 0x1234,
                                       .device = 0x1111,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x030000,
                                       .revision = 2};
    struct vga *vga = new0(struct vga);
    void *allocation = alloc_zero(VGA_MEMORY_BYTES + MEM_PAGE_BYTES);

    if (vga == NULL || allocation == NULL) {
        alloc_free(vga);
        alloc_free(allocation);
        return NULL;
    }
    vga->allocation = allocation;
    vga->memory = (u8 *)align_up((uintptr_t)allocation, MEM_PAGE_BYTES);
    vga->clock = clock;
    pci_function_init(&vga->function, &ops, &ids, &vga->lock);
    vga->function.name = "vga";
    pci_bar_define(&vga->function, VGA_BAR_MEMORY, PCI_BAR_MEMORY32, VGA_MEMORY_BYTES);
    vga->function.config[PCI_BAR0] |= PCI_BAR_IS_PREFETCHABLE;
    vga->function.bars[VGA_BAR_MEMORY].ram = vga->memory;
    pci_bar_define(&vga->function, VGA_BAR_REGISTERS, PCI_BAR_MEMORY32, REGISTER_BYTES);
    vga_edid_fill(vga->edid, PREFERRED_WIDTH, PREFERRED_HEIGHT);
    vga_ports_reset(vga);
    vga_vbe_reset(vga);
    return vga;
}
