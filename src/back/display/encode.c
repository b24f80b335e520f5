/*
 * back/display/encode.c - what the encodings share: rectangles, palettes, zlib; and raw pixels.
 *
 * Spec   RFC 6143, 7.6.1 and 7.7.
 * Runs   on the display's thread.
 */
#include "back/display/encode.h"

#include <string.h>

#include "base/bits.h"

/* Rectangles larger than this are cut: what one makes stays small beside the viewer's bound. */
enum { RECT_PIXELS_MAX = 1 << 16, TIGHT_WIDTH_MAX = 2048, HASH_SLOTS = 1024 };
enum { SCRATCH_LIMIT_BYTES = 4 << 20, DEFLATE_STEP_BYTES = 16384 };

void encoder_init(struct encoder *encoder)
{
    *encoder = (struct encoder){.level = 1, .quality = ENCODE_QUALITY_NONE};
    pixel_format_default(&encoder->format);
    buffer_init(&encoder->scratch, SCRATCH_LIMIT_BYTES);
}

static void stream_close(struct encode_stream *stream)
{
    if (stream->is_open)
        deflateEnd(&stream->z);
    stream->is_open = false;
}

void encoder_fini(struct encoder *encoder)
{
    stream_close(&encoder->zrle);
    for (unsigned i = 0; i < ENCODE_TIGHT_STREAMS; i++)
        stream_close(&encoder->tight[i]);
    buffer_fini(&encoder->scratch);
}

/* The level stays as the stream was opened with: zlib flushes when it changes. */
static bool stream_open(struct encode_stream *stream, int level)
{
    if (stream->is_open)
        return true;
    memset(&stream->z, 0, sizeof(stream->z));
    stream->is_open = deflateInit(&stream->z, level) == Z_OK;
    return stream->is_open;
}

bool encode_deflate(struct encoder *encoder, struct encode_stream *stream, struct buffer *out)
{
    struct buffer *scratch = &encoder->scratch;

    bool is_good = !scratch->has_failed && stream_open(stream, encoder->level);
    stream->z.next_in = scratch->data;
    stream->z.avail_in = (uInt)scratch->bytes;
    while (is_good) {
        u8 *to = buffer_extend(out, DEFLATE_STEP_BYTES);
        if (to == NULL)
            return false;
        stream->z.next_out = to;
        stream->z.avail_out = DEFLATE_STEP_BYTES;
        int result = deflate(&stream->z, Z_SYNC_FLUSH);
        out->bytes -= stream->z.avail_out;
        is_good = result == Z_OK || result == Z_BUF_ERROR;
        if (stream->z.avail_out != 0)
            break;
    }
    out->has_failed = out->has_failed || !is_good;
    scratch->bytes = 0;
    scratch->has_failed = false;
    return is_good;
}

struct encode_area area_part(const struct encode_area *area, u32 x, u32 y, u32 width, u32 height)
{
    return (struct encode_area){.pixels = area->pixels + (size_t)y * area->stride + x,
                                .stride = area->stride,
                                .width = (u32)min_u64(width, area->width - x),
                                .height = (u32)min_u64(height, area->height - y)};
}

/* ---- palettes ---- */

static unsigned hash_of(u32 rgb)
{
    return (rgb * 0x9e3779b1u) >> 22;
}

/* The slot that RGB has or would get; at most 256 of the 1024 are taken. */
static unsigned slot_find(const struct palette *palette, u32 rgb)
{
    unsigned slot = hash_of(rgb);
    while (palette->slots[slot] != 0 && palette->colors[palette->slots[slot] - 1] != rgb)
        slot = (slot + 1) % HASH_SLOTS;
    return slot;
}

unsigned palette_fill(struct palette *palette, const struct encode_area *area, unsigned limit)
{
    u32 last = 0xffffffff, run = 0;
    unsigned index = 0;

    memset(palette->slots, 0, sizeof(palette->slots));
    palette->count = 0;
    for (u32 y = 0; y < area->height; y++)
        for (u32 x = 0; x < area->width; x++) {
            u32 rgb = area_rgb(area, x, y);
            run++;
            if (rgb == last)
                continue;
            if (last != 0xffffffff)
                palette->counts[index] += run - 1;
            run = 1;
            last = rgb;
            unsigned slot = slot_find(palette, rgb);
            if (palette->slots[slot] == 0) {
                if (palette->count == limit)
                    return limit + 1;
                palette->colors[palette->count] = rgb;
                palette->counts[palette->count] = 0;
                palette->slots[slot] = (u16)++palette->count;
            }
            index = palette->slots[slot] - 1u;
        }
    palette->counts[index] += run;
    return palette->count;
}

unsigned palette_index(const struct palette *palette, u32 rgb)
{
    return palette->slots[slot_find(palette, rgb)] - 1u;
}

/* ---- rectangles ---- */

void encode_header(struct buffer *out, const struct surface_rect *rect, s32 encoding)
{
    buffer_put_u16(out, (u16)rect->x);
    buffer_put_u16(out, (u16)rect->y);
    buffer_put_u16(out, (u16)rect->width);
    buffer_put_u16(out, (u16)rect->height);
    buffer_put_u32(out, (u32)encoding);
}

void encode_raw(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    const struct pixel_format *format = &encoder->format;
    size_t row_bytes = (size_t)area->width * pixel_bytes(format);

    for (u32 y = 0; y < area->height; y++) {
        u8 *to = buffer_extend(out, row_bytes);
        if (to == NULL)
            return;
        if (format->is_native) {
            memcpy(to, area->pixels + (size_t)y * area->stride, row_bytes);
            continue;
        }
        for (u32 x = 0; x < area->width; x++)
            to = pixel_put(format, to, area_rgb(area, x, y));
    }
}

static void encode_area_as(struct encoder *encoder, enum encoding encoding,
                           const struct encode_area *area, struct buffer *out)
{
    switch (encoding) {
    case ENCODING_HEXTILE:
        encode_hextile(encoder, area, out);
        break;
    case ENCODING_ZRLE:
        encode_zrle(encoder, area, out);
        break;
    case ENCODING_TIGHT:
        encode_tight(encoder, area, out);
        break;
    case ENCODING_RAW:
        encode_raw(encoder, area, out);
        break;
    }
}

unsigned encode_rect(struct encoder *encoder, enum encoding encoding, const struct surface *surface,
                     const struct surface_rect *rect, struct buffer *out)
{
    const u32 width = (u32)min_u64(rect->width, TIGHT_WIDTH_MAX);
    /* A whole number of tiles of ZRLE. */
    const u32 height = (u32)max_u64(RECT_PIXELS_MAX / width, 64) & ~63u;
    const u32 right = rect->x + rect->width, bottom = rect->y + rect->height;
    unsigned count = 0;

    for (u32 y = rect->y; y < bottom; y += height)
        for (u32 x = rect->x; x < right; x += width) {
            const struct surface_rect part = {x, y, (u32)min_u64(width, right - x),
                                              (u32)min_u64(height, bottom - y)};
            const struct encode_area area = {.pixels = surface->pixels +
                                                       (size_t)y * surface->width + x,
                                             .stride = surface->width,
                                             .width = part.width,
                                             .height = part.height};
            encode_header(out, &part, encoding);
            encode_area_as(encoder, encoding, &area, out);
            count++;
        }
    return count;
}
