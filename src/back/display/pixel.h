/*
 * back/display/pixel.h - a viewer's pixel format, and pixels in it.
 *
 * Spec   RFC 6143, 7.4 (pixel format data structure). Only true colour.
 */
#ifndef BACK_DISPLAY_PIXEL_H
#define BACK_DISPLAY_PIXEL_H

#include "base/types.h"

struct buffer;

enum { PIXEL_FORMAT_BYTES = 16 };

struct pixel_format {
    u8 bits, depth; /* bits is 8, 16 or 32 */
    bool is_big_endian;
    u16 red_max, green_max, blue_max;
    u8 red_shift, green_shift, blue_shift;
    /* What follows from it. */
    bool is_native;    /* 32 bits as a surface has them */
    bool is_compact;   /* three of the four bytes carry all: ZRLE leaves one out */
    u8 compact_skip;   /* that byte's place, 0 or 3 */
    bool is_tight_rgb; /* Tight sends red, green, blue */
    u32 red[256], green[256], blue[256];
};

/* What a surface has: 32 bits, 0x00RRGGBB, little-endian. */
void pixel_format_default(struct pixel_format *format);
/* Takes the 16 bytes of the wire; false when it is no format that can be served. */
bool pixel_format_parse(struct pixel_format *ret_format, const u8 wire[PIXEL_FORMAT_BYTES]);
void pixel_format_write(const struct pixel_format *format, u8 wire[PIXEL_FORMAT_BYTES]);

static inline u32 pixel_value(const struct pixel_format *format, u32 rgb)
{
    return format->red[rgb >> 16 & 0xff] | format->green[rgb >> 8 & 0xff] |
           format->blue[rgb & 0xff];
}

static inline unsigned pixel_bytes(const struct pixel_format *format)
{
    return format->bits / 8u;
}

/* Bytes of a pixel in ZRLE and in Tight. */
unsigned pixel_compact_bytes(const struct pixel_format *format);
unsigned pixel_tight_bytes(const struct pixel_format *format);

/* Each writes one pixel and returns where the next goes. */
u8 *pixel_put(const struct pixel_format *format, u8 *to, u32 rgb);
u8 *pixel_put_compact(const struct pixel_format *format, u8 *to, u32 rgb);
u8 *pixel_put_tight(const struct pixel_format *format, u8 *to, u32 rgb);

#endif
