/*
 * dev/vga/draw_text.c - the picture of the text modes: characters of plane 0, their colours from
 * plane 1, their shapes from plane 2.
 *
 * Spec   IBM VGA Technical Reference: alphanumeric modes, character map select, cursor.
 * Runs   on the viewer's thread, under the device's lock.
 * Trust  all registers are the guest's; addresses are taken modulo the size of video memory.
 */
#include "dev/vga/vga_priv.h"

enum { ADDRESS_MASK = VGA_MEMORY_BYTES - 1, FONT_BYTES = 0x2000, GLYPH_BYTES = 32 };
enum { CURSOR_NS = 266666667, BLINK_NS = 533333333, CURSOR_OFF = 0x20 };
enum { LINE_GRAPHICS_FIRST = 0xc0, LINE_GRAPHICS_LAST = 0xdf };

struct text {
    u32 columns, rows;           /* cells */
    u32 cell_width, cell_height; /* dots of a cell, before doubling */
    u32 repeat;                  /* dots that one dot becomes: 2 in 40-column modes */
    u32 start, stride;           /* bytes of video memory */
    u32 fonts[2]; /* where the shapes are, by bit 3 of the attribute: plane addresses */
    u32 cursor;   /* address of its cell, or none in range */
    u32 cursor_first, cursor_last; /* scans */
    bool is_cursor_shown, is_blink_shown, has_blink, has_line_graphics;
    u32 colors[16];
};

/* Where font number SELECT begins: the order of its bits is the hardware's. */
static u32 font_address(u8 select)
{
    return (u32)((select & 3) * 2 + (select >> 2 & 1)) * FONT_BYTES;
}

static void text_measure(const struct vga *vga, struct text *text)
{
    const u8 *crtc = vga->crtc;
    u8 font = vga->seq[SEQ_FONT];
    u64 now_ns = vm_clock_now(vga->clock);

    text->columns = crtc[CRTC_WIDTH] + 1u;
    text->cell_height = (crtc[CRTC_MAX_SCAN] & 0x1fu) + 1;
    text->cell_width = vga->seq[SEQ_CLOCK] & SEQ_CLOCK_8_DOTS ? 8 : 9;
    text->repeat = vga->seq[SEQ_CLOCK] & SEQ_CLOCK_HALF ? 2 : 1;
    u32 lines = vga_crtc_lines(vga);
    text->rows = lines / text->cell_height;
    text->start = ((u32)crtc[CRTC_START_HIGH] << 8 | crtc[CRTC_START_LOW]) * 4;
    text->stride = (u32)crtc[CRTC_OFFSET] << 3;
    text->fonts[0] = font_address((font & 3) | (font >> 2 & 4));
    text->fonts[1] = font_address((font >> 2 & 3) | (font >> 3 & 4));
    text->cursor = ((u32)crtc[CRTC_CURSOR_HIGH] << 8 | crtc[CRTC_CURSOR_LOW]) * 4;
    text->cursor_first = crtc[CRTC_CURSOR_START] & 0x1f;
    text->cursor_last = crtc[CRTC_CURSOR_END] & 0x1f;
    text->is_cursor_shown = !(crtc[CRTC_CURSOR_START] & CURSOR_OFF) && now_ns / CURSOR_NS % 2 == 0;
    text->has_blink = vga->attr[ATTR_MODE] & ATTR_MODE_BLINK;
    text->is_blink_shown = now_ns / BLINK_NS % 2 == 0;
    text->has_line_graphics = vga->attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS;
    for (unsigned i = 0; i < 16; i++)
        text->colors[i] = vga_color_16(vga, (u8)i);
}

/* The dots of one scan of a character, the first in bit 8. */
static u32 glyph_dots(const struct vga *vga, const struct text *text, u8 character, u8 attribute,
                      u32 scan)
{
    u32 at = text->fonts[attribute >> 3 & 1] + character * GLYPH_BYTES + scan;
    u32 dots = (u32)vga->memory[(at * 4 + 2) & ADDRESS_MASK] << 1;

    /* Frames are to join: their ninth column repeats the eighth. */
    if (text->has_line_graphics && character >= LINE_GRAPHICS_FIRST &&
        character <= LINE_GRAPHICS_LAST)
        dots |= dots >> 1 & 1;
    return dots;
}

static u32 *cell_scan(const struct vga *vga, const struct text *text, u32 address, u32 scan,
                      u32 *to)
{
    u8 character = vga->memory[address & ADDRESS_MASK];
    u8 attribute = vga->memory[(address + 1) & ADDRESS_MASK];
    u32 dots = glyph_dots(vga, text, character, attribute, scan);
    u32 ink = text->colors[attribute & 0x0f];
    u32 paper = text->colors[text->has_blink ? attribute >> 4 & 7 : attribute >> 4];

    if (text->has_blink && (attribute & 0x80) && !text->is_blink_shown)
        ink = paper;
    if (address == text->cursor && text->is_cursor_shown && scan >= text->cursor_first &&
        scan <= text->cursor_last)
        dots = 0x1ff;
    for (u32 dot = 0; dot < text->cell_width; dot++) {
        u32 color = dots >> (8 - dot) & 1 ? ink : paper;
        for (u32 i = 0; i < text->repeat; i++)
            *to++ = color;
    }
    return to;
}

bool vga_draw_text(struct vga *vga, struct surface *surface)
{
    struct text text = {0};

    text_measure(vga, &text);
    u32 width = text.columns * text.cell_width * text.repeat;
    if (width > VGA_LINE_MAX || !surface_resize(surface, width, text.rows * text.cell_height))
        return false;
    for (u32 row = 0; row < text.rows; row++) {
        u32 address = text.start + row * text.stride;
        for (u32 scan = 0; scan < text.cell_height; scan++) {
            u32 *to = vga->line;
            for (u32 column = 0; column < text.columns; column++)
                to = cell_scan(vga, &text, address + 4 * column, scan, to);
            surface_row(surface, row * text.cell_height + scan, vga->line);
        }
    }
    return true;
}
