/*
 * back/display/encode_hextile.c - tiles of 16 by 16 pixels, each as rectangles on a background.
 *
 * Spec   RFC 6143, 7.7.4.
 * Runs   on the display's thread.
 */
#include <string.h>

#include "back/display/encode.h"

enum { TILE = 16 };
enum { HAS_RAW = 1, HAS_BACKGROUND = 2, HAS_FOREGROUND = 4, HAS_RECTS = 8, HAS_COLORS = 16 };

/* Takes the largest rectangle of one colour at X, Y, first as wide, then as high as it goes. */
static void rect_take(const struct encode_area *tile, u16 done[TILE], u32 x, u32 y, u32 *ret_width,
                      u32 *ret_height)
{
    u32 rgb = area_rgb(tile, x, y), width = 1, height = 1;

    while (x + width < tile->width && !(done[y] >> (x + width) & 1) &&
           area_rgb(tile, x + width, y) == rgb)
        width++;
    u16 bits = (u16)(((1u << width) - 1) << x);
    for (; y + height < tile->height && !(done[y + height] & bits); height++) {
        u32 same = 0;
        while (same < width && area_rgb(tile, x + same, y + height) == rgb)
            same++;
        if (same < width)
            break;
    }
    for (u32 row = y; row < y + height; row++)
        done[row] |= bits;
    *ret_width = width;
    *ret_height = height;
}

/* The rectangles that are not BACKGROUND into TO, whose room is LIMIT bytes; 0 when they need
 * more. */
static size_t rects_put(const struct pixel_format *format, const struct encode_area *tile,
                        u32 background, bool has_colors, u8 *to, size_t limit)
{
    size_t each = 2 + (has_colors ? pixel_bytes(format) : 0);
    u16 done[TILE] = {0};
    u8 *at = to + 1;
    unsigned count = 0;
    u32 width, height;

    for (u32 y = 0; y < tile->height; y++)
        for (u32 x = 0; x < tile->width; x++) {
            u32 rgb = area_rgb(tile, x, y);
            if (rgb == background || (done[y] >> x & 1))
                continue;
            rect_take(tile, done, x, y, &width, &height);
            if ((size_t)(at - to) + each > limit || count == 255)
                return 0;
            if (has_colors)
                at = pixel_put(format, at, rgb);
            *at++ = (u8)(x << 4 | y);
            *at++ = (u8)((width - 1) << 4 | (height - 1));
            count++;
        }
    to[0] = (u8)count;
    return (size_t)(at - to);
}

static void tile_put(struct encoder *encoder, const struct encode_area *tile, struct buffer *out)
{
    const struct pixel_format *format = &encoder->format;
    size_t raw_bytes = (size_t)tile->width * tile->height * pixel_bytes(format);
    struct palette palette;
    u8 head[1 + 2 * 4], *at = head + 1, body[TILE * TILE * 4];

    unsigned colors = palette_fill(&palette, tile, PALETTE_MAX);
    unsigned most = 0;
    for (unsigned i = 1; i < palette.count; i++)
        most = palette.counts[i] > palette.counts[most] ? i : most;
    u32 background = palette.colors[most];
    head[0] = HAS_BACKGROUND;
    at = pixel_put(format, at, background);
    size_t body_bytes = 0;
    if (colors == 2) {
        head[0] |= HAS_FOREGROUND | HAS_RECTS;
        at = pixel_put(format, at, palette.colors[1 - most]);
    } else if (colors > 2)
        head[0] |= HAS_RECTS | HAS_COLORS;
    if (colors > 1)
        body_bytes = rects_put(format, tile, background, colors > 2, body, raw_bytes);
    if (colors > 1 && body_bytes == 0) {
        buffer_put_u8(out, HAS_RAW);
        encode_raw(encoder, tile, out);
        return;
    }
    buffer_put(out, head, (size_t)(at - head));
    buffer_put(out, body, body_bytes);
}

void encode_hextile(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    for (u32 y = 0; y < area->height; y += TILE)
        for (u32 x = 0; x < area->width; x += TILE) {
            const struct encode_area tile = area_part(area, x, y, TILE, TILE);
            tile_put(encoder, &tile, out);
        }
}
