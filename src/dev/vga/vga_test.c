/*
 * dev/vga/vga_test.c - registers through ports, BAR and window; planes; pictures of every kind of
 * mode; the round trip of state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "core/bus.h"
#include "core/state.h"
#include "dev/dev_test.h"
#include "dev/pci/pci_bus.h"
#include "dev/vga/vga.h"

enum { FRAME = 0xd0000000, REGISTERS = 0xd1000000, WINDOW = 0xa0000 };

struct bench {
    struct bus bus;
    struct vm_clock clock;
    struct pci_bus *pci;
    struct vga *vga;
    struct surface surface;
    u8 *memory;
};

static struct bench *make(void)
{
    struct bench *bench = new0(struct bench);
    struct pci_bus_config config = {.bus = &bench->bus};
    const struct pci_bar *bar;
    u64 base;

    bus_init(&bench->bus);
    vm_clock_init(&bench->clock);
    bench->pci = pci_bus_new(&config, NULL);
    bench->vga = vga_new(&bench->clock);
    struct pci_function *function = vga_function(bench->vga);
    assert_int_equal(pci_bus_add(bench->pci, function, 2, 0, NULL), 0);
    assert_int_equal(vga_map(bench->vga, &bench->bus, NULL), 0);
    assert_true(pci_bus_ram(bench->pci, 0, &bar, &base));
    assert_int_equal(base, PCI_BAR_NOWHERE);
    bench->memory = bar->ram;
    assert_false(pci_bus_ram(bench->pci, 1, &bar, &base));
    pci_config_write(function, PCI_BAR0, 4, FRAME);
    pci_config_write(function, PCI_BAR0 + 8, 4, REGISTERS);
    pci_config_write(function, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    assert_true(pci_bus_ram(bench->pci, 0, &bar, &base));
    assert_int_equal(base, FRAME);
    surface_init(&bench->surface);
    return bench;
}

static void drop(struct bench *bench)
{
    surface_fini(&bench->surface);
    pci_bus_free(bench->pci);
    alloc_free(bench);
}

static void draw(struct bench *bench)
{
    const struct display_source source = vga_source(bench->vga);
    source.refresh(source.ctx, &bench->surface);
}

static u32 pixel(struct bench *bench, u32 x, u32 y)
{
    assert_true(x < bench->surface.width && y < bench->surface.height);
    return bench->surface.pixels[y * bench->surface.width + x] & 0xffffff;
}

static void indexed(struct bench *bench, u16 port, const u8 *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        out8(&bench->bus, port, (u8)i);
        out8(&bench->bus, port + 1, values[i]);
    }
}

/* What a video BIOS loads for a mode: four register files, and grey levels for colours. */
static void mode_set(struct bench *bench, const u8 seq[5], const u8 crtc[25], const u8 gfx[9],
                     u8 attr_mode)
{
    out8(&bench->bus, 0x3c2, 0x67);
    indexed(bench, 0x3c4, seq, 5);
    out8(&bench->bus, 0x3d4, 0x11);
    out8(&bench->bus, 0x3d5, 0);
    indexed(bench, 0x3d4, crtc, 25);
    indexed(bench, 0x3ce, gfx, 9);
    in8(&bench->bus, 0x3da);
    for (u8 i = 0; i < 16; i++) {
        out8(&bench->bus, 0x3c0, i);
        out8(&bench->bus, 0x3c0, i);
    }
    const u8 rest[] = {attr_mode, 0, 0x0f, 0, 0};
    for (u8 i = 0; i < 5; i++) {
        out8(&bench->bus, 0x3c0, 0x10 + i);
        out8(&bench->bus, 0x3c0, rest[i]);
    }
    out8(&bench->bus, 0x3c0, 0x20);
    out8(&bench->bus, 0x3c8, 0);
    for (unsigned i = 0; i < 256 * 3; i++)
        out8(&bench->bus, 0x3c9, (u8)(i / 3 % 64));
}

static const u8 crtc_text[25] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
                                 0x4f, 0x0d, 0x0e, 0,    0,    0,    1,    0x9c, 0x8e,
                                 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
static const u8 seq_text[5] = {3, 0, 3, 0, 2}, gfx_text[9] = {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff};
static const u8 crtc_13[25] = {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00,
                               0x41, 0,    0,    0,    0,    0,    0,    0x9c, 0x8e,
                               0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff};
static const u8 seq_13[5] = {3, 1, 0x0f, 0, 0x0e}, gfx_13[9] = {0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff};
static const u8 crtc_12[25] = {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00,
                               0x40, 0,    0,    0,    0,    0,    0,    0xea, 0x8c,
                               0xdf, 0x28, 0,    0xe7, 0x04, 0xe3, 0xff};
static const u8 seq_12[5] = {3, 1, 0x0f, 0, 6}, gfx_12[9] = {0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff};

static void window(struct bench *bench, u32 offset, u8 value)
{
    bus_write(&bench->bus, BUS_MMIO, WINDOW + offset, 1, value);
}

static u8 window_get(struct bench *bench, u32 offset)
{
    return (u8)bus_read(&bench->bus, BUS_MMIO, WINDOW + offset, 1);
}

static void gfx(struct bench *bench, u8 index, u8 value)
{
    out8(&bench->bus, 0x3ce, index);
    out8(&bench->bus, 0x3cf, value);
}

static void test_text(void **state)
{
    struct bench *bench = make();

    draw(bench); /* switched off: black */
    assert_int_equal(pixel(bench, 0, 0), 0);
    /* A shape for 'A' in plane 2: the second scan is its first and last dot. */
    mode_set(bench, (const u8[5]){3, 0, 4, 0, 6}, crtc_text,
             (const u8[9]){0, 0, 0, 0, 2, 0, 4, 0, 0xff}, 0x0c);
    window(bench, 0x41 * 32 + 1, 0x81);
    window(bench, 0xc4 * 32 + 1, 0x01);
    mode_set(bench, seq_text, crtc_text, gfx_text, 0x0c);
    bus_write(&bench->bus, BUS_MMIO, 0xb8000, 4, 0x17c41741); /* white 7 on blue 1 */
    draw(bench);
    assert_int_equal(bench->surface.width, 720);
    assert_int_equal(bench->surface.height, 400);
    u32 ink = 0x1c1c1c, paper = 0x040404;
    assert_int_equal(pixel(bench, 0, 1), ink);
    assert_int_equal(pixel(bench, 1, 1), paper);
    assert_int_equal(pixel(bench, 7, 1), ink);
    assert_int_equal(pixel(bench, 8, 1), paper);   /* the ninth column */
    assert_int_equal(pixel(bench, 9 + 8, 1), ink); /* but frames join */
    assert_int_equal(pixel(bench, 0, 0), paper);
    /* The cursor is at cell 1, scans 13 and 14; it blinks. */
    assert_int_equal(pixel(bench, 9, 13), ink);
    assert_int_equal(pixel(bench, 9, 15), paper);
    step(&bench->clock, 300000000);
    draw(bench);
    assert_int_equal(pixel(bench, 9, 13), paper);
    /* Scrolled by a line, the cell is gone. */
    out8(&bench->bus, 0x3d4, 0x0d);
    out8(&bench->bus, 0x3d5, 80);
    draw(bench);
    assert_int_equal(pixel(bench, 0, 1), 0);
    assert_int_equal(window_get(bench, 0x18000), 0x41);
    assert_int_equal(window_get(bench, 0x10000), 0xff); /* not mapped there */
    drop(bench);
}

static void test_chain4(void **state)
{
    struct bench *bench = make();

    mode_set(bench, seq_13, crtc_13, gfx_13, 0x41);
    window(bench, 0, 5);
    window(bench, 321, 63);
    draw(bench);
    assert_int_equal(bench->surface.width, 640);
    assert_int_equal(bench->surface.height, 400);
    assert_int_equal(pixel(bench, 0, 0), 0x141414);
    assert_int_equal(pixel(bench, 1, 1), 0x141414);
    assert_int_equal(pixel(bench, 2, 0), 0);
    assert_int_equal(pixel(bench, 2, 2), 0xffffff);
    assert_int_equal(bench->memory[321], 63);
    assert_int_equal(window_get(bench, 321), 63);
    drop(bench);
}

static void test_planes(void **state)
{
    struct bench *bench = make();

    mode_set(bench, seq_12, crtc_12, gfx_12, 1);
    window(bench, 0, 0x80); /* write mode 0, all planes */
    draw(bench);
    assert_int_equal(bench->surface.height, 480);
    assert_int_equal(pixel(bench, 0, 0), 0x3c3c3c);
    assert_int_equal(pixel(bench, 1, 0), 0);
    gfx(bench, 8, 0x40); /* bit mask: the rest comes from the latch */
    assert_int_equal(window_get(bench, 0), 0x80);
    gfx(bench, 5, 2);
    window(bench, 0, 0x05); /* write mode 2: colour 5 */
    draw(bench);
    assert_int_equal(pixel(bench, 0, 0), 0x3c3c3c);
    assert_int_equal(pixel(bench, 1, 0), 0x141414);
    gfx(bench, 5, 0x0a); /* read mode 1 and write mode 2: where is colour 5? */
    gfx(bench, 2, 5);
    assert_int_equal(window_get(bench, 0), 0x40);
    gfx(bench, 5, 1); /* write mode 1 copies the latches */
    window(bench, 80, 0);
    draw(bench);
    assert_int_equal(pixel(bench, 1, 1), 0x141414);
    gfx(bench, 5, 3); /* write mode 3: the byte is the mask, the colour set/reset */
    gfx(bench, 0, 3);
    gfx(bench, 3, 1); /* rotated by one */
    gfx(bench, 8, 0xff);
    window_get(bench, 160);
    window(bench, 160, 0x01);
    draw(bench);
    assert_int_equal(pixel(bench, 0, 2), 0x0c0c0c);
    assert_int_equal(pixel(bench, 7, 2), 0);
    gfx(bench, 5, 0); /* write mode 0 with XOR */
    gfx(bench, 3, 0x18);
    window_get(bench, 160);
    window(bench, 160, 0x80);
    draw(bench);
    assert_int_equal(pixel(bench, 0, 2), 0x303030);
    drop(bench);
}

static void vbe(struct bench *bench, u16 index, u16 value)
{
    bus_write(&bench->bus, BUS_PORT, 0x1ce, 2, index);
    bus_write(&bench->bus, BUS_PORT, 0x1cf, 2, value);
}

static u16 vbe_get(struct bench *bench, u16 index)
{
    bus_write(&bench->bus, BUS_PORT, 0x1ce, 2, index);
    return (u16)bus_read(&bench->bus, BUS_PORT, 0x1cf, 2);
}

static void linear(struct bench *bench, u16 width, u16 height, u16 depth)
{
    out8(&bench->bus, 0x3c0, 0x20);
    vbe(bench, 4, 0);
    vbe(bench, 3, depth);
    vbe(bench, 1, width);
    vbe(bench, 2, height);
    vbe(bench, 4, 0x41);
}

static void test_linear(void **state)
{
    struct bench *bench = make();
    static const struct {
        u16 depth;
        u32 value, color;
    } depths[] = {{15, 0x7c1f, 0xff00ff},
                  {16, 0x07e0, 0x00ff00},
                  {24, 0x123456, 0x123456},
                  {32, 0x123456, 0x123456}};

    assert_int_equal(vbe_get(bench, 0), 0xb0c5);
    assert_int_equal(vbe_get(bench, 10), 256);
    in8(&bench->bus, 0x3da);
    for (unsigned i = 0; i < ARRAY_LEN(depths); i++) {
        linear(bench, 800, 600, depths[i].depth);
        in8(&bench->bus, 0x3da);
        bus_write(&bench->bus, BUS_MMIO, FRAME, 4, depths[i].value);
        draw(bench);
        assert_int_equal(bench->surface.width, 800);
        assert_int_equal(pixel(bench, 0, 0), depths[i].color);
        assert_int_equal(pixel(bench, 2, 0), 0);
    }
    vbe(bench, 6, 1600); /* a virtual screen, moved */
    assert_int_equal(vbe_get(bench, 7), (16 << 20) / 6400);
    vbe(bench, 8, 10);
    vbe(bench, 9, 2);
    store_le32(bench->memory + (2 * 1600 + 10) * 4, 0xabcdef);
    draw(bench);
    assert_int_equal(pixel(bench, 0, 0), 0xabcdef);
    vbe(bench, 9, 0xffff); /* beyond memory: nothing is shown */
    draw(bench);
    assert_int_equal(pixel(bench, 0, 0), 0);
    linear(bench, 4096, 4096, 32);
    draw(bench);
    linear(bench, 0xffff, 0xffff, 0xffff);
    draw(bench);
    vbe(bench, 4, 2);
    assert_int_equal(vbe_get(bench, 1), 4096);
    drop(bench);
}

static void test_registers(void **state)
{
    struct bench *bench = make();
    u8 sum = 0;

    for (unsigned i = 0; i < 128; i++)
        sum = (u8)(sum + bus_read(&bench->bus, BUS_MMIO, REGISTERS + i, 1));
    assert_int_equal(sum, 0);
    assert_int_equal(bus_read(&bench->bus, BUS_MMIO, REGISTERS, 8), 0x00ffffffffffff00);
    assert_int_equal(bus_read(&bench->bus, BUS_MMIO, REGISTERS + 0x500, 2), 0xb0c5);
    bus_write(&bench->bus, BUS_MMIO, REGISTERS + 0x502, 2, 1280);
    assert_int_equal(vbe_get(bench, 1), 1280);
    /* Port 0x3c2 through the BAR: the CRTC moves to 0x3b4. */
    bus_write(&bench->bus, BUS_MMIO, REGISTERS + 0x402, 1, 0);
    assert_int_equal(in8(&bench->bus, 0x3d4), 0xff);
    out8(&bench->bus, 0x3b4, 0x0e);
    out8(&bench->bus, 0x3b5, 0x55);
    assert_int_equal(in8(&bench->bus, 0x3b5), 0x55);
    assert_int_equal(in8(&bench->bus, 0x3cc), 0);
    /* The CRTC's first registers are protected by bit 7 of index 0x11. */
    out8(&bench->bus, 0x3b4, 0x11);
    out8(&bench->bus, 0x3b5, 0x80);
    out8(&bench->bus, 0x3b4, 0x01);
    out8(&bench->bus, 0x3b5, 0x4f);
    assert_int_equal(in8(&bench->bus, 0x3b5), 0);
    /* The retrace comes and goes. */
    unsigned seen = 0;
    for (unsigned i = 0; i < 64; i++) {
        seen |= 1u << (in8(&bench->bus, 0x3ba) >> 3 & 1);
        step(&bench->clock, 777777);
    }
    assert_int_equal(seen, 3);
    drop(bench);
}

static void test_state(void **state)
{
    struct bench *from = make(), *to = make();
    struct state_writer first = {0}, second = {0};
    struct err err;

    mode_set(from, seq_12, crtc_12, gfx_12, 1);
    window(from, 100, 0xff);
    draw(from);
    pci_bus_save(from->pci, &first);
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    assert_int_equal(pci_bus_load(to->pci, &reader, &err), 0);
    pci_bus_save(to->pci, &second);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    draw(to);
    assert_int_equal(from->surface.width, to->surface.width);
    assert_memory_equal(from->surface.pixels, to->surface.pixels,
                        from->surface.width * from->surface.height * 4);
    reader = (struct state_reader){.data = first.data, .bytes = first.bytes - 1};
    assert_true(pci_bus_load(to->pci, &reader, &err) < 0);
    state_writer_fini(&first);
    state_writer_fini(&second);
    drop(from);
    drop(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),      cmocka_unit_test(test_chain4),
        cmocka_unit_test(test_planes),    cmocka_unit_test(test_linear),
        cmocka_unit_test(test_registers), cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests_name("vga", tests, NULL, NULL);
}
