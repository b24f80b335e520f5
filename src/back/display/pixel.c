/*
 * back/display/pixel.c - a viewer's pixel format, and pixels in it.
 *
 * Spec   RFC 6143, 7.4 and 7.7.5 (CPIXEL); the Tight encoding's TPIXEL.
 * Runs   on the display's thread.
 * Trust  the format comes from the viewer: shifts and maxima are checked against its width.
 */
#include "back/display/pixel.h"

#include <string.h>

#include "back/display/buffer.h"

static u32 fields_mask(const struct pixel_format *format)
{
    return (u32)format->red_max << format->red_shift |
           (u32)format->green_max << format->green_shift |
           (u32)format->blue_max << format->blue_shift;
}

static void channel_fill(u32 table[256], u16 max, u8 shift)
{
    for (u32 i = 0; i < 256; i++)
        table[i] = (i * max + 127) / 255 << shift;
}

static void format_derive(struct pixel_format *format)
{
    u32 mask = fields_mask(format);
    bool is_888 = format->red_max == 255 && format->green_max == 255 && format->blue_max == 255;

    channel_fill(format->red, format->red_max, format->red_shift);
    channel_fill(format->green, format->green_max, format->green_shift);
    channel_fill(format->blue, format->blue_max, format->blue_shift);
    format->is_native = format->bits == 32 && !format->is_big_endian && is_888 &&
                        format->red_shift == 16 && format->green_shift == 8 &&
                        format->blue_shift == 0;
    format->is_compact = format->bits == 32 && format->depth <= 24 &&
                         (mask <= 0xffffff || (mask & 0xff) == 0);
    /* The byte that is left out is the most or the least significant one. */
    bool top_is_unused = mask <= 0xffffff;
    format->compact_skip = top_is_unused == format->is_big_endian ? 0 : 3;
    format->is_tight_rgb = format->bits == 32 && format->depth == 24 && is_888;
}

void pixel_format_default(struct pixel_format *format)
{
    *format = (struct pixel_format){.bits = 32,
                                    .depth = 24,
                                    .red_max = 255,
                                    .green_max = 255,
                                    .blue_max = 255,
                                    .red_shift = 16,
                                    .green_shift = 8};
    format_derive(format);
}

static bool channel_fits(u16 max, u8 shift, u8 bits)
{
    return max != 0 && shift < bits && (u64)max << shift < 1ull << bits;
}

bool pixel_format_parse(struct pixel_format *ret_format, const u8 wire[PIXEL_FORMAT_BYTES])
{
    struct pixel_format format = {.bits = wire[0],
                                  .depth = wire[1],
                                  .is_big_endian = wire[2] != 0,
                                  .red_max = rfb_u16(wire + 4),
                                  .green_max = rfb_u16(wire + 6),
                                  .blue_max = rfb_u16(wire + 8),
                                  .red_shift = wire[10],
                                  .green_shift = wire[11],
                                  .blue_shift = wire[12]};

    if ((format.bits != 8 && format.bits != 16 && format.bits != 32) || wire[3] == 0)
        return false;
    if (!channel_fits(format.red_max, format.red_shift, format.bits) ||
        !channel_fits(format.green_max, format.green_shift, format.bits) ||
        !channel_fits(format.blue_max, format.blue_shift, format.bits))
        return false;
    format_derive(&format);
    *ret_format = format;
    return true;
}

void pixel_format_write(const struct pixel_format *format, u8 wire[PIXEL_FORMAT_BYTES])
{
    const u16 maxima[3] = {format->red_max, format->green_max, format->blue_max};

    memset(wire, 0, PIXEL_FORMAT_BYTES);
    wire[0] = format->bits;
    wire[1] = format->depth;
    wire[2] = format->is_big_endian;
    wire[3] = 1;
    for (unsigned i = 0; i < 3; i++) {
        wire[4 + 2 * i] = (u8)(maxima[i] >> 8);
        wire[5 + 2 * i] = (u8)maxima[i];
    }
    wire[10] = format->red_shift;
    wire[11] = format->green_shift;
    wire[12] = format->blue_shift;
}

unsigned pixel_compact_bytes(const struct pixel_format *format)
{
    return format->is_compact ? 3 : pixel_bytes(format);
}

unsigned pixel_tight_bytes(const struct pixel_format *format)
{
    return format->is_tight_rgb ? 3 : pixel_bytes(format);
}

u8 *pixel_put(const struct pixel_format *format, u8 *to, u32 rgb)
{
    u32 value = pixel_value(format, rgb);
    unsigned bytes = pixel_bytes(format);

    for (unsigned i = 0; i < bytes; i++)
        to[i] = (u8)(value >> (8 * (format->is_big_endian ? bytes - 1 - i : i)));
    return to + bytes;
}

u8 *pixel_put_compact(const struct pixel_format *format, u8 *to, u32 rgb)
{
    u8 whole[4];

    if (!format->is_compact)
        return pixel_put(format, to, rgb);
    pixel_put(format, whole, rgb);
    memcpy(to, whole + (format->compact_skip == 0), 3);
    return to + 3;
}

u8 *pixel_put_tight(const struct pixel_format *format, u8 *to, u32 rgb)
{
    if (!format->is_tight_rgb)
        return pixel_put(format, to, rgb);
    to[0] = (u8)(rgb >> 16);
    to[1] = (u8)(rgb >> 8);
    to[2] = (u8)rgb;
    return to + 3;
}
