/*
 * back/display/encode.h - rectangles of a surface in the encodings of RFB.
 *
 * An encoder writes what follows a rectangle's header: the pixels. The streams of zlib go on from
 * one rectangle to the next for as long as the viewer stays.
 */
#ifndef BACK_DISPLAY_ENCODE_H
#define BACK_DISPLAY_ENCODE_H

#include <zlib.h>

#include "back/display/buffer.h"
#include "back/display/pixel.h"
#include "back/surface.h"

enum encoding { ENCODING_RAW = 0, ENCODING_HEXTILE = 5, ENCODING_TIGHT = 7, ENCODING_ZRLE = 16 };

enum { ENCODE_TIGHT_STREAMS = 4, ENCODE_QUALITY_NONE = -1 };

/* A zlib stream that starts with its first use. */
struct encode_stream {
    z_stream z;
    bool is_open;
};

struct encoder {
    struct pixel_format format;
    int level;   /* of zlib, 1 to 9 */
    int quality; /* of JPEG, 0 to 9; ENCODE_QUALITY_NONE: no JPEG */
    struct encode_stream zrle, tight[ENCODE_TIGHT_STREAMS];
    struct buffer scratch; /* what goes through zlib next */
};

/* The pixels of one rectangle: row Y begins at pixels + Y * stride. */
struct encode_area {
    const u32 *pixels;
    u32 stride;
    u32 width, height;
};

void encoder_init(struct encoder *encoder);
void encoder_fini(struct encoder *encoder);

static inline u32 area_rgb(const struct encode_area *area, u32 x, u32 y)
{
    return area->pixels[(size_t)y * area->stride + x] & 0xffffff;
}

/* The part of AREA from X, Y on, at most WIDTH by HEIGHT. */
struct encode_area area_part(const struct encode_area *area, u32 x, u32 y, u32 width, u32 height);

/* Writes RECT of SURFACE to OUT, with its header, or with several of them. Returns how many
 * rectangles that made. Failure shows in OUT. */
unsigned encode_rect(struct encoder *encoder, enum encoding encoding, const struct surface *surface,
                     const struct surface_rect *rect, struct buffer *out);
/* The header of a rectangle. */
void encode_header(struct buffer *out, const struct surface_rect *rect, s32 encoding);

/* Appends what STREAM makes of the scratch buffer, up to a flush, to OUT, and empties the scratch
 * buffer. False and OUT failed when zlib does. */
bool encode_deflate(struct encoder *encoder, struct encode_stream *stream, struct buffer *out);

void encode_raw(struct encoder *encoder, const struct encode_area *area, struct buffer *out);
void encode_hextile(struct encoder *encoder, const struct encode_area *area, struct buffer *out);
void encode_zrle(struct encoder *encoder, const struct encode_area *area, struct buffer *out);
/* AREA is at most 2048 wide. */
void encode_tight(struct encoder *encoder, const struct encode_area *area, struct buffer *out);
/* encode_jpeg.c: AREA as a JPEG image; false when that cannot be made. */
bool encode_jpeg(const struct encode_area *area, int quality, struct buffer *out);

/* Up to LIMIT colours of AREA in order of appearance, into COLORS; returns how many, or LIMIT + 1
 * for more. LIMIT is at most 256. */
enum { PALETTE_MAX = 256 };
struct palette {
    u32 colors[PALETTE_MAX];
    u32 counts[PALETTE_MAX];
    u16 slots[1024]; /* index + 1 by hash; 0: free */
    unsigned count;
};
unsigned palette_fill(struct palette *palette, const struct encode_area *area, unsigned limit);
unsigned palette_index(const struct palette *palette, u32 rgb);

#endif
