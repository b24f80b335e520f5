/*
 * dev/vga/vga_priv.h - the adapter's registers, for the files that implement them.
 *
 * Video memory is kept as display drivers of the linear modes see it. The four planes of the
 * planar modes lie in it side by side: the byte at address A of plane P is memory[4 * A + P].
 */
#ifndef DEV_VGA_VGA_PRIV_H
#define DEV_VGA_VGA_PRIV_H

#include "base/bits.h"
#include "core/clock.h"
#include "dev/vga/vga.h"

/* VBE registers, by index. */
enum vbe_register {
    VBE_ID,
    VBE_XRES,
    VBE_YRES,
    VBE_BPP,
    VBE_ENABLE,
    VBE_BANK,
    VBE_VIRTUAL_WIDTH,
    VBE_VIRTUAL_HEIGHT,
    VBE_X_OFFSET,
    VBE_Y_OFFSET,
    VBE_MEMORY_64K,
    VBE_COUNT
};

enum vbe_enable {
    VBE_ENABLED = 0x01,
    VBE_GET_CAPS = 0x02,
    VBE_8BIT_DAC = 0x20,
    VBE_LINEAR = 0x40,
    VBE_NO_CLEAR = 0x80
};

/* Registers of the sequencer, the graphics controller, the CRTC and the attribute controller that
 * code names. */
enum { SEQ_CLOCK = 1, SEQ_MAP_MASK = 2, SEQ_FONT = 3, SEQ_MEMORY = 4, SEQ_COUNT = 8 };
enum { SEQ_CLOCK_8_DOTS = 0x01, SEQ_CLOCK_HALF = 0x08, SEQ_CLOCK_OFF = 0x20 };
enum { SEQ_MEMORY_CHAIN4 = 0x08 };
enum {
    GFX_SET_RESET = 0,
    GFX_ENABLE_SET_RESET = 1,
    GFX_COMPARE = 2,
    GFX_ROTATE = 3,
    GFX_READ_MAP = 4,
    GFX_MODE = 5,
    GFX_MISC = 6,
    GFX_DONT_CARE = 7,
    GFX_BIT_MASK = 8,
    GFX_COUNT = 16
};
enum { GFX_MODE_ODD_EVEN = 0x10, GFX_MISC_GRAPHICS = 0x01 };
enum {
    CRTC_WIDTH = 0x01,
    CRTC_OVERFLOW = 0x07,
    CRTC_PRESET_ROW = 0x08,
    CRTC_MAX_SCAN = 0x09,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_END = 0x0b,
    CRTC_START_HIGH = 0x0c,
    CRTC_START_LOW = 0x0d,
    CRTC_CURSOR_HIGH = 0x0e,
    CRTC_CURSOR_LOW = 0x0f,
    CRTC_RETRACE_END = 0x11,
    CRTC_HEIGHT = 0x12,
    CRTC_OFFSET = 0x13,
    CRTC_MODE = 0x17,
    CRTC_LINE_COMPARE = 0x18,
    CRTC_COUNT = 0x19
};
enum { ATTR_MODE = 0x10, ATTR_PLANE_ENABLE = 0x12, ATTR_COLOR_SELECT = 0x14, ATTR_COUNT = 0x15 };
enum { ATTR_INDEX_ON = 0x20 }; /* the palette belongs to the screen, not to the CPU */
enum { ATTR_MODE_LINE_GRAPHICS = 0x04, ATTR_MODE_BLINK = 0x08, ATTR_MODE_P54S = 0x80 };
enum { MISC_COLOR = 0x01 }; /* CRTC at 0x3d4, not 0x3b4 */

enum { VGA_EDID_BYTES = 128, VGA_LINE_MAX = 4096 };

struct vga {
    struct pci_function function;
    struct lock lock;
    struct vm_clock *clock; /* borrowed */
    u8 *memory;             /* page aligned, inside of allocation */
    void *allocation;       /* owned */
    u8 edid[VGA_EDID_BYTES];

    u8 seq_index, gfx_index, crtc_index, attr_index;
    u8 attr_takes_data; /* the next write to 0x3c0 is data */
    u8 misc, feature;
    u8 seq[SEQ_COUNT], gfx[GFX_COUNT], crtc[CRTC_COUNT], attr[ATTR_COUNT];
    u8 dac_mask, dac_state, dac_read_index, dac_write_index, dac_component;
    u8 dac_pending[3];
    u8 dac[256][3];
    u32 latch; /* a byte of each plane */
    u16 vbe_index;
    u16 vbe[VBE_COUNT];

    u32 line[VGA_LINE_MAX]; /* the row that is being drawn */
};

static inline struct vga *vga_of(struct pci_function *function)
{
    return container_of(function, struct vga, function);
}

static inline bool vga_vbe_on(const struct vga *vga)
{
    return vga->vbe[VBE_ENABLE] & VBE_ENABLED;
}

/* ports.c: PORT is 0x3b0 to 0x3df. */
u8 vga_port_read(struct vga *vga, u16 port);
void vga_port_write(struct vga *vga, u16 port, u8 value);
void vga_ports_reset(struct vga *vga);

/* planes.c: OFFSET counts from 0xa0000. */
u8 vga_window_read(struct vga *vga, u32 offset);
void vga_window_write(struct vga *vga, u32 offset, u8 value);

/* vbe.c */
u16 vga_vbe_read(const struct vga *vga, u16 index);
void vga_vbe_write(struct vga *vga, u16 index, u16 value);
void vga_vbe_reset(struct vga *vga);
/* Bytes from one line of the linear mode to the next, and of the first pixel shown. */
u32 vga_vbe_stride(const struct vga *vga);
u32 vga_vbe_start(const struct vga *vga);
/* True when the registers describe a mode whose every line lies in video memory. */
bool vga_vbe_valid(const struct vga *vga);

/* edid.c: what a monitor that likes WIDTH by HEIGHT says of itself. */
void vga_edid_fill(u8 edid[VGA_EDID_BYTES], u32 width, u32 height);

/* draw.c, draw_text.c: false for a size that no surface can have. */
void vga_draw(struct vga *vga, struct surface *surface);
bool vga_draw_text(struct vga *vga, struct surface *surface);
/* The colour of a value of the DAC as 0x00RRGGBB. */
u32 vga_color(const struct vga *vga, u8 value);
/* The same of a 4-bit value that passes the attribute controller first. */
u32 vga_color_16(const struct vga *vga, u8 value);
/* Lines that are displayed, of the CRTC. */
u32 vga_crtc_lines(const struct vga *vga);

#endif
