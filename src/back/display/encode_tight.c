/*
 * back/display/encode_tight.c - each rectangle as what suits it: one colour, a palette, JPEG, or
 * plain pixels, the last three compressed.
 *
 * Spec   the RFB community's specification of the Tight encoding (rfbproto, "Tight Encoding").
 * Runs   on the display's thread.
 */
#include "back/display/encode.h"

enum { CONTROL_FILTER = 0x40, CONTROL_FILL = 0x80, CONTROL_JPEG = 0x90 };
enum { FILTER_PALETTE = 1 };
enum { STREAM_FULL = 0, STREAM_MONO = 1, STREAM_INDEXED = 2 };
enum { PLAIN_MAX_BYTES = 11, PALETTE_FEW = 96, LENGTH_MAX = (1 << 22) - 1 };

static void length_set(struct buffer *out, size_t at, size_t length)
{
    if (out->has_failed || length > LENGTH_MAX) {
        out->has_failed = true;
        return;
    }
    out->data[at] = (u8)((length & 0x7f) | 0x80);
    out->data[at + 1] = (u8)((length >> 7 & 0x7f) | 0x80);
    out->data[at + 2] = (u8)(length >> 14);
}

/* The scratch buffer's bytes as they are when they are few, else through STREAM. The length is
 * always written with three bytes, as is allowed. */
static void data_put(struct encoder *encoder, unsigned stream, struct buffer *out)
{
    struct buffer *scratch = &encoder->scratch;

    if (scratch->bytes <= PLAIN_MAX_BYTES && !scratch->has_failed) {
        buffer_put(out, scratch->data, scratch->bytes);
        scratch->bytes = 0;
        return;
    }
    size_t at = out->bytes;
    buffer_put(out, "\0\0", 3);
    if (encode_deflate(encoder, &encoder->tight[stream], out))
        length_set(out, at, out->bytes - at - 3);
}

static void put_color(struct encoder *encoder, u32 rgb, struct buffer *out)
{
    u8 pixel[4];
    u8 *end = pixel_put_tight(&encoder->format, pixel, rgb);
    buffer_put(out, pixel, (size_t)(end - pixel));
}

static void put_mono(struct encoder *encoder, const struct encode_area *area, u32 first,
                     struct buffer *out)
{
    size_t row_bytes = (area->width + 7) / 8;

    for (u32 y = 0; y < area->height; y++) {
        u8 *to = buffer_extend(&encoder->scratch, row_bytes);
        if (to == NULL)
            break;
        for (u32 x = 0; x < area->width; x += 8) {
            u8 byte = 0;
            for (u32 dot = 0; dot < 8; dot++) {
                bool is_set = x + dot < area->width && area_rgb(area, x + dot, y) != first;
                byte = (u8)(byte << 1 | is_set);
            }
            *to++ = byte;
        }
    }
    data_put(encoder, STREAM_MONO, out);
}

static void put_indexed(struct encoder *encoder, const struct encode_area *area,
                        const struct palette *palette, struct buffer *out)
{
    unsigned index = 0;

    for (u32 y = 0; y < area->height; y++) {
        u8 *to = buffer_extend(&encoder->scratch, area->width);
        for (u32 x = 0; to != NULL && x < area->width; x++) {
            u32 rgb = area_rgb(area, x, y);
            if (rgb != palette->colors[index])
                index = palette_index(palette, rgb);
            *to++ = (u8)index;
        }
    }
    data_put(encoder, STREAM_INDEXED, out);
}

static void put_palette(struct encoder *encoder, const struct encode_area *area,
                        const struct palette *palette, struct buffer *out)
{
    unsigned stream = palette->count == 2 ? STREAM_MONO : STREAM_INDEXED;

    buffer_put_u8(out, (u8)(stream << 4 | CONTROL_FILTER));
    buffer_put_u8(out, FILTER_PALETTE);
    buffer_put_u8(out, (u8)(palette->count - 1));
    for (unsigned i = 0; i < palette->count; i++)
        put_color(encoder, palette->colors[i], out);
    if (palette->count == 2)
        put_mono(encoder, area, palette->colors[0], out);
    else
        put_indexed(encoder, area, palette, out);
}

static void put_full(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    size_t row_bytes = (size_t)area->width * pixel_tight_bytes(&encoder->format);

    buffer_put_u8(out, STREAM_FULL << 4);
    for (u32 y = 0; y < area->height; y++) {
        u8 *to = buffer_extend(&encoder->scratch, row_bytes);
        for (u32 x = 0; to != NULL && x < area->width; x++)
            to = pixel_put_tight(&encoder->format, to, area_rgb(area, x, y));
    }
    data_put(encoder, STREAM_FULL, out);
}

static bool put_jpeg(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    size_t at = out->bytes;

    buffer_put_u8(out, CONTROL_JPEG);
    buffer_put(out, "\0\0", 3);
    if (!encode_jpeg(area, encoder->quality, out)) {
        out->bytes = at < out->bytes ? at : out->bytes;
        return false;
    }
    length_set(out, at + 1, out->bytes - at - 4);
    return true;
}

void encode_tight(struct encoder *encoder, const struct encode_area *area, struct buffer *out)
{
    bool may_jpeg = encoder->quality != ENCODE_QUALITY_NONE && encoder->format.bits >= 16;
    struct palette palette;

    /* Text has few colours even with smooth letters; a photograph has more than a palette. */
    unsigned limit = may_jpeg ? PALETTE_FEW : PALETTE_MAX;
    if ((u64)area->width * area->height / 4 < limit)
        limit = area->width * area->height / 4 + 2;
    unsigned colors = palette_fill(&palette, area, limit < PALETTE_MAX ? limit : PALETTE_MAX);
    if (colors == 1) {
        buffer_put_u8(out, CONTROL_FILL);
        put_color(encoder, palette.colors[0], out);
    } else if (colors <= limit && colors <= PALETTE_MAX)
        put_palette(encoder, area, &palette, out);
    else if (!may_jpeg || !put_jpeg(encoder, area, out))
        put_full(encoder, area, out);
}
