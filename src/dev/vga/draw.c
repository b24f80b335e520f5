/*
 * dev/vga/draw.c - the picture of every graphics mode, row by row.
 *
 * Spec   IBM VGA Technical Reference (addressing of planes, doubling of lines and dots); Bochs VBE.
 * Runs   on the viewer's thread, under the device's lock.
 * Trust  all registers are the guest's: sizes are bounded by their width in bits, every address is
 * taken modulo the size of video memory, or checked (VBE). Video memory may change meanwhile.
 */
#include "dev/vga/vga_priv.h"

enum { BLANK_WIDTH = 640, BLANK_HEIGHT = 400, ADDRESS_MASK = VGA_MEMORY_BYTES - 1 };

static u32 widen(u8 part)
{
    return (u32)(part << 2 | part >> 4) & 0xff;
}

u32 vga_color(const struct vga *vga, u8 value)
{
    const u8 *color = vga->dac[value & vga->dac_mask];

    if (vga->vbe[VBE_ENABLE] & VBE_8BIT_DAC)
        return (u32)color[0] << 16 | (u32)color[1] << 8 | color[2];
    return widen(color[0]) << 16 | widen(color[1]) << 8 | widen(color[2]);
}

u32 vga_color_16(const struct vga *vga, u8 value)
{
    u8 color = vga->attr[value & vga->attr[ATTR_PLANE_ENABLE] & 0x0f] & 0x3f;
    u8 select = vga->attr[ATTR_COLOR_SELECT];

    if (vga->attr[ATTR_MODE] & ATTR_MODE_P54S)
        color = (u8)((color & 0x0f) | (select & 0x0f) << 4);
    else
        color = (u8)(color | (select & 0x0c) << 4);
    return vga_color(vga, color);
}

u32 vga_crtc_lines(const struct vga *vga)
{
    u32 overflow = vga->crtc[CRTC_OVERFLOW];
    return (vga->crtc[CRTC_HEIGHT] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1;
}

/* ---- linear modes ---- */

static u32 color_15(u32 value)
{
    u32 red = value >> 10 & 31, green = value >> 5 & 31, blue = value & 31;
    return (red << 3 | red >> 2) << 16 | (green << 3 | green >> 2) << 8 | (blue << 3 | blue >> 2);
}

static u32 color_565(u32 value)
{
    u32 red = value >> 11 & 31, green = value >> 5 & 63, blue = value & 31;
    return (red << 3 | red >> 2) << 16 | (green << 2 | green >> 4) << 8 | (blue << 3 | blue >> 2);
}

/* One row of 8 to 24 bits a pixel into the line buffer. */
static void linear_row(struct vga *vga, const u8 *from, const u32 colors[256], u32 width)
{
    u32 *to = vga->line;

    switch (vga->vbe[VBE_BPP]) {
    case 8:
        for (u32 x = 0; x < width; x++)
            to[x] = colors[from[x]];
        break;
    case 15:
        for (u32 x = 0; x < width; x++)
            to[x] = color_15(load_le16(from + 2 * x));
        break;
    case 16:
        for (u32 x = 0; x < width; x++)
            to[x] = color_565(load_le16(from + 2 * x));
        break;
    default:
        for (u32 x = 0; x < width; x++)
            to[x] = from[3 * x] | (u32)from[3 * x + 1] << 8 | (u32)from[3 * x + 2] << 16;
        break;
    }
}

static void planar_row(struct vga *vga, u32 address, const u32 colors[16], u32 width)
{
    for (u32 x = 0; x < width; x += 8, address += 4) {
        const u8 *planes = vga->memory + (address & ADDRESS_MASK & ~3u);
        for (u32 dot = 0; dot < 8 && x + dot < width; dot++) {
            unsigned shift = 7 - dot;
            vga->line[x + dot] =
                colors[(planes[0] >> shift & 1) | (planes[1] >> shift & 1) << 1 |
                       (planes[2] >> shift & 1) << 2 | (planes[3] >> shift & 1) << 3];
        }
    }
}

static void colors_16(const struct vga *vga, u32 colors[16])
{
    for (unsigned i = 0; i < 16; i++)
        colors[i] = vga_color_16(vga, (u8)i);
}

static bool draw_linear(struct vga *vga, struct surface *surface)
{
    u32 width = vga->vbe[VBE_XRES], height = vga->vbe[VBE_YRES], colors[256];
    u32 stride = vga_vbe_stride(vga), start = vga_vbe_start(vga);

    if (!surface_resize(surface, width, height))
        return false;
    if (vga->vbe[VBE_BPP] == 4)
        colors_16(vga, colors);
    for (unsigned i = 0; vga->vbe[VBE_BPP] == 8 && i < 256; i++)
        colors[i] = vga_color(vga, (u8)i);
    for (u32 y = 0; y < height; y++) {
        const u8 *from = vga->memory + start + (size_t)y * stride;
        if (vga->vbe[VBE_BPP] == 32) {
            surface_row(surface, y, (const u32 *)(const void *)from);
            continue;
        }
        if (vga->vbe[VBE_BPP] == 4)
            planar_row(vga, start + y * stride, colors, width);
        else
            linear_row(vga, from, colors, width);
        surface_row(surface, y, vga->line);
    }
    return true;
}

/* ---- the modes of the old registers ---- */

/* 256 colours: a byte is two dots wide. */
static void chained_row(struct vga *vga, u32 address, u32 width)
{
    for (u32 x = 0; x < width; x += 2, address++)
        vga->line[x] = vga->line[x + 1] = vga_color(vga, vga->memory[address & ADDRESS_MASK]);
}

/* Four colours, as the CGA had them: two bits a dot, in planes 0 and 1 by turns. */
static void cga_row(struct vga *vga, u32 address, const u32 colors[16], u32 width)
{
    for (u32 x = 0; x < width; x += 8, address += 4) {
        const u8 *planes = vga->memory + (address & ADDRESS_MASK & ~3u);
        for (u32 dot = 0; dot < 8; dot++)
            vga->line[x + dot] = colors[planes[dot / 4] >> (6 - dot % 4 * 2) & 3];
    }
}

/* Each dot twice, from the right. */
static void double_dots(struct vga *vga, u32 width)
{
    for (u32 x = width; x-- > 0;)
        vga->line[2 * x] = vga->line[2 * x + 1] = vga->line[x];
}

/* The CGA and Hercules modes interlace their rows in banks of 8 KiB. */
static u32 interlaced(const struct vga *vga, u32 address, u32 scan)
{
    u8 mode = vga->crtc[CRTC_MODE];

    if (!(mode & 1)) {
        unsigned shift = 14 + (mode >> 6 & 1);
        address = (address & ~(1u << shift)) | (scan & 1) << shift;
    }
    if (!(mode & 2))
        address = (address & ~0x8000u) | (scan & 2) << 14;
    return address;
}

static void row_draw(struct vga *vga, u32 address, const u32 colors[16], u32 width)
{
    unsigned shift = vga->gfx[GFX_MODE] >> 5 & 3;
    bool is_half = vga->seq[SEQ_CLOCK] & SEQ_CLOCK_HALF;

    if (shift >= 2) {
        chained_row(vga, address, width);
        return;
    }
    u32 dots = is_half ? width / 2 : width;
    if (shift == 0)
        planar_row(vga, address, colors, dots);
    else
        cga_row(vga, address, colors, dots);
    if (is_half)
        double_dots(vga, dots);
}

static bool draw_old(struct vga *vga, struct surface *surface)
{
    const u8 *crtc = vga->crtc;
    bool is_half = vga->seq[SEQ_CLOCK] & SEQ_CLOCK_HALF && !(vga->gfx[GFX_MODE] & 0x40);
    u32 width = (crtc[CRTC_WIDTH] + 1u) * 8 * (is_half ? 2 : 1);
    u32 height = vga_crtc_lines(vga);
    u32 stride = (u32)crtc[CRTC_OFFSET] << 3;
    u32 address = ((u32)crtc[CRTC_START_HIGH] << 8 | crtc[CRTC_START_LOW]) * 4;
    u32 split = crtc[CRTC_LINE_COMPARE] | (crtc[CRTC_OVERFLOW] & 0x10u) << 4 |
                (crtc[CRTC_MAX_SCAN] & 0x40u) << 3;
    unsigned doubled = crtc[CRTC_MAX_SCAN] >> 7;
    u32 colors[16], first = 0;

    if (!surface_resize(surface, width, height))
        return false;
    colors_16(vga, colors);
    for (u32 y = 0; y < height; y++) {
        /* A row of the memory is shown as several scans, and each of them once or twice. */
        u32 scans = (crtc[CRTC_MAX_SCAN] & 0x1fu) + 1, at = (y - first) >> doubled;
        row_draw(vga, interlaced(vga, address + at / scans * stride, at % scans), colors, width);
        surface_row(surface, y, vga->line);
        if (y == split) { /* what is below begins at the start of the memory */
            address = 0;
            first = y + 1;
        }
    }
    return true;
}

static void draw_blank(struct vga *vga, struct surface *surface)
{
    if (surface->width == 0 && !surface_resize(surface, BLANK_WIDTH, BLANK_HEIGHT))
        return;
    __builtin_memset(vga->line, 0, sizeof(vga->line));
    for (u32 y = 0; y < surface->height; y++)
        surface_row(surface, y, vga->line);
}

void vga_draw(struct vga *vga, struct surface *surface)
{
    bool is_off = !(vga->attr_index & ATTR_INDEX_ON) || (vga->seq[SEQ_CLOCK] & SEQ_CLOCK_OFF);

    bool is_drawn = false;

    if (is_off || (vga_vbe_on(vga) && !vga_vbe_valid(vga)))
        is_drawn = false;
    else if (vga_vbe_on(vga))
        is_drawn = draw_linear(vga, surface);
    else if (vga->gfx[GFX_MISC] & GFX_MISC_GRAPHICS)
        is_drawn = draw_old(vga, surface);
    else
        is_drawn = vga_draw_text(vga, surface);
    if (!is_drawn)
        draw_blank(vga, surface);
}
