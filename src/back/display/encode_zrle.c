/*
 * back/display/encode_zrle.c - tiles of 64 by 64 pixels as palettes and runs, through zlib.
 *
 * Spec   RFC 6143, 7.7.6.
 * Runs   on the display's thread.
 */
#include "back/display/encode.h"

enum { TILE = 64, PACKED_MAX = 16, PALETTE_RLE_MAX = 127 };
enum { KIND_RAW = 0, KIND_SOLID = 1, KIND_RLE = 128 };

/* Writes a run's length: 255s, then the rest; length - 1 is their sum. */
static u8 *run_put(u8 *to, u32 length)
{
    for (length--; length >= 255; length -= 255)
        *to++ = 255;
    *to++ = (u8)length;
    return to;
}

/* The pixels of a tile are in one row here (see tile_put), with nothing in their top bytes. */
static u32 run_at(const struct encode_area *tile, u32 at)
{
    u32 count = tile->width * tile->height, end = at + 1;
    u32 rgb = tile->pixels[at];

    while (end < count && tile->pixels[end] == rgb)
        end++;
    return end - at;
}

/* Bits of an index into a packed palette. */
static unsigned packed_bits(unsigned colors)
{
    return colors <= 2 ? 1 : colors <= 4 ? 2 : 4;
}

static u8 *packed_put(const struct palette *palette, const struct encode_area *tile, u8 *to)
{
    unsigned bits = packed_bits(palette->count);

    for (u32 y = 0; y < tile->height; y++) {
        const u32 *row = tile->pixels + y * tile->width;
        unsigned filled = 0, index = 0;
        u8 byte = 0;
        for (u32 x = 0; x < tile->width; x++) {
            if (row[x] != palette->colors[index])
                index = palette_index(palette, row[x]);
            byte = (u8)(byte << bits | index);
            filled += bits;
            if (filled == 8) {
                *to++ = byte;
                filled = byte = 0;
            }
        }
        if (filled > 0)
            *to++ = (u8)(byte << (8 - filled));
    }
    return to;
}

static u8 *runs_put(const struct pixel_format *format, const struct palette *palette,
                    const struct encode_area *tile, u8 *to)
{
    u32 count = tile->width * tile->height;

    for (u32 at = 0, run; at < count; at += run) {
        u32 rgb = tile->pixels[at];
        run = run_at(tile, at);
        if (palette == NULL) {
            to = run_put(pixel_put_compact(format, to, rgb), run);
            continue;
        }
        unsigned index = palette_index(palette, rgb);
        *to++ = (u8)(index | (run > 1 ? 128 : 0));
        if (run > 1)
            to = run_put(to, run);
    }
    return to;
}

/* What each kind of tile would take, in bytes. */
struct sizes {
    size_t raw, packed, plain_rle, palette_rle;
};

static struct sizes sizes_of(const struct pixel_format *format, const struct palette *palette,
                             unsigned colors, const struct encode_area *tile)
{
    unsigned pixel = pixel_compact_bytes(format);
    u32 count = tile->width * tile->height, runs = 0, singles = 0, lengths = 0;
    struct sizes sizes = {
        .raw = (size_t)count * pixel, .packed = SIZE_MAX, .palette_rle = SIZE_MAX};

    for (u32 at = 0, run; at < count; at += run) {
        run = run_at(tile, at);
        runs++;
        singles += run == 1;
        lengths += (run - 1) / 255 + 1;
    }
    sizes.plain_rle = (size_t)runs * pixel + lengths;
    if (colors <= PALETTE_RLE_MAX)
        sizes.palette_rle = (size_t)colors * pixel + runs + lengths - singles;
    if (colors <= PACKED_MAX)
        sizes.packed = (size_t)colors * pixel +
                       (size_t)(tile->width * packed_bits(colors) + 7) / 8 * tile->height;
    return sizes;
}

static u8 *palette_put(const struct pixel_format *format, const struct palette *palette, u8 *to)
{
    for (unsigned i = 0; i < palette->count; i++)
        to = pixel_put_compact(format, to, palette->colors[i]);
    return to;
}

static u8 *raw_put(const struct pixel_format *format, const struct encode_area *tile, u8 *to)
{
    for (u32 at = 0; at < tile->width * tile->height; at++)
        to = pixel_put_compact(format, to, tile->pixels[at]);
    return to;
}

static void tile_put(struct encoder *encoder, const struct encode_area *tile)
{
    const struct pixel_format *format = &encoder->format;
    struct palette palette;
    u8 bytes[1 + TILE * TILE * 5], *at = bytes + 1;

    unsigned colors = palette_fill(&palette, tile, PALETTE_RLE_MAX);
    if (colors == 1) {
        bytes[0] = KIND_SOLID;
        at = pixel_put_compact(format, at, palette.colors[0]);
        buffer_put(&encoder->scratch, bytes, (size_t)(at - bytes));
        return;
    }
    struct sizes sizes = sizes_of(format, &palette, colors, tile);
    if (sizes.packed <= sizes.palette_rle && sizes.packed <= sizes.plain_rle &&
        sizes.packed <= sizes.raw) {
        bytes[0] = (u8)colors;
        at = packed_put(&palette, tile, palette_put(format, &palette, at));
    } else if (sizes.palette_rle <= sizes.plain_rle && sizes.palette_rle <= sizes.raw) {
        bytes[0] = (u8)(KIND_RLE + colors);
        at = runs_put(format, &palette, tile, palette_put(format, &palette, at));
    } else if (sizes.plain_rle <= sizes.raw) {
        bytes[0] = KIND_RLE;
        at = runs_put(format, NULL, tile, at);
    } else {
        bytes[0] = KIND_RAW;
        at = raw_put(format, tile, at);
    }
    buffer_put(&encoder->scratch, bytes, (size_t)(at - bytes));
}

void encode_zrle(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    size_t length_at = out->bytes;
    u32 flat[TILE * TILE];

    for (u32 y = 0; y < area->height; y += TILE)
        for (u32 x = 0; x < area->width; x += TILE) {
            struct encode_area tile = area_part(area, x, y, TILE, TILE);
            for (u32 row = 0; row < tile.height; row++)
                for (u32 column = 0; column < tile.width; column++)
                    flat[row * tile.width + column] = area_rgb(&tile, column, row);
            tile.pixels = flat;
            tile.stride = tile.width;
            tile_put(encoder, &tile);
        }
    buffer_put_u32(out, 0);
    if (encode_deflate(encoder, &encoder->zrle, out))
        buffer_set_u32(out, length_at, (u32)(out->bytes - length_at - 4));
}
