/*
 * back/display/rfb_decode_zlib.c - the compressed encodings for the other end of the protocol: ZRLE
 * and Tight.
 *
 * Spec   RFC 6143, 7.7.5 and 7.7.6; the RFB community's specification of Tight.
 * Runs   in tests.
 */
#include "back/display/rfb_decode_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

/* CPIXEL: what of 32 bits is unused at one end is left out. */
static bool is_compact(const struct rfb_peer *peer)
{
    u32 mask = 0;
    for (unsigned i = 0; i < 3; i++)
        mask |= (u32)peer->max[i] << peer->shift[i];
    return peer->bits == 32 && peer->depth <= 24 && (mask >> 24 == 0 || (mask & 0xff) == 0);
}

static unsigned compact_size(const struct rfb_peer *peer)
{
    return is_compact(peer) ? 3 : rfb_pixel_size(peer);
}

static u32 compact_parse(const struct rfb_peer *peer, const u8 *at)
{
    u32 mask = 0;
    u8 whole[4] = {0};
    if (!is_compact(peer))
        return rfb_pixel_parse(peer, at);
    for (unsigned i = 0; i < 3; i++)
        mask |= (u32)peer->max[i] << peer->shift[i];
    bool is_low = mask >> 24 == 0;
    memcpy(whole + (is_low == peer->is_big_endian), at, 3);
    return rfb_pixel_parse(peer, whole);
}

static bool is_tight_rgb(const struct rfb_peer *peer)
{
    return peer->bits == 32 && peer->depth == 24 && peer->max[0] == 255 && peer->max[1] == 255 &&
           peer->max[2] == 255;
}

static unsigned tight_size(const struct rfb_peer *peer)
{
    return is_tight_rgb(peer) ? 3 : rfb_pixel_size(peer);
}

static u32 tight_parse(const struct rfb_peer *peer, const u8 *at)
{
    return is_tight_rgb(peer) ? rfb_be(at, 3) : rfb_pixel_parse(peer, at);
}

/* Takes exactly BYTES out of what the stream has been given. */
static void inflate_exactly(z_stream *z, u8 *to, size_t bytes)
{
    z->next_out = to;
    z->avail_out = (uInt)bytes;
    while (z->avail_out > 0) {
        uInt before = z->avail_out;
        int result = inflate(z, Z_SYNC_FLUSH);
        assert(result == Z_OK || result == Z_BUF_ERROR);
        assert(z->avail_out < before);
    }
}

static u32 zrle_byte(struct rfb_peer *peer)
{
    u8 byte;
    inflate_exactly(&peer->zrle, &byte, 1);
    return byte;
}

static u32 zrle_pixel(struct rfb_peer *peer)
{
    u8 wire[4];
    inflate_exactly(&peer->zrle, wire, compact_size(peer));
    return compact_parse(peer, wire);
}

static u32 zrle_run(struct rfb_peer *peer)
{
    u32 length = 1, byte;
    do {
        byte = zrle_byte(peer);
        length += byte;
    } while (byte == 255);
    return length;
}

static void zrle_packed(struct rfb_peer *peer, const u32 *palette, u32 colors, u32 x, u32 y, u32 w,
                        u32 h)
{
    unsigned bits = colors == 2 ? 1 : colors <= 4 ? 2 : 4;
    for (u32 row = 0; row < h; row++) {
        u32 byte = 0, left = 0;
        for (u32 column = 0; column < w; column++) {
            if (left == 0) {
                byte = zrle_byte(peer);
                left = 8;
            }
            left -= bits;
            u32 index = byte >> left & ((1u << bits) - 1);
            assert(index < colors);
            rfb_put(peer, x + column, y + row, palette[index]);
        }
    }
}

static void zrle_runs(struct rfb_peer *peer, const u32 *palette, u32 colors, u32 x, u32 y, u32 w,
                      u32 h)
{
    for (u32 at = 0; at < w * h;) {
        u32 length = 1, rgb;
        if (palette != NULL) {
            u32 index = zrle_byte(peer);
            assert((index & 127) < colors);
            rgb = palette[index & 127];
            length = index & 128 ? zrle_run(peer) : 1;
        } else {
            rgb = zrle_pixel(peer);
            length = zrle_run(peer);
        }
        assert(length <= w * h - at);
        for (; length > 0; length--, at++)
            rfb_put(peer, x + at % w, y + at / w, rgb);
    }
}

static void zrle_tile(struct rfb_peer *peer, u32 x, u32 y, u32 w, u32 h)
{
    u32 kind = zrle_byte(peer), palette[128], colors = kind & 127;
    if (kind == 0) {
        for (u32 at = 0; at < w * h; at++)
            rfb_put(peer, x + at % w, y + at / w, zrle_pixel(peer));
        return;
    }
    assert(kind <= 16 || kind == 128 || kind >= 130);
    for (u32 i = 0; i < colors; i++)
        palette[i] = zrle_pixel(peer);
    if (kind == 1)
        rfb_fill(peer, x, y, w, h, palette[0]);
    else if (kind <= 16)
        zrle_packed(peer, palette, colors, x, y, w, h);
    else
        zrle_runs(peer, kind == 128 ? NULL : palette, colors, x, y, w, h);
}

void rfb_take_zrle(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u32 length = rfb_receive_be(peer, 4);
    assert(length < 64 << 20);
    u8 *data = malloc(length);
    rfb_receive(peer, data, length);
    peer->zrle.next_in = data;
    peer->zrle.avail_in = length;
    for (u32 top = 0; top < height; top += 64)
        for (u32 left = 0; left < width; left += 64)
            zrle_tile(peer, x + left, y + top, width - left < 64 ? width - left : 64,
                      height - top < 64 ? height - top : 64);
    u8 none; /* the flush marker is there, and nothing else */
    peer->zrle.next_out = &none;
    peer->zrle.avail_out = 1;
    inflate(&peer->zrle, Z_SYNC_FLUSH);
    assert(peer->zrle.avail_out == 1 && peer->zrle.avail_in == 0);
    free(data);
}

static u32 tight_length(struct rfb_peer *peer)
{
    u32 byte = rfb_receive_be(peer, 1), length = byte & 127;
    for (unsigned shift = 7; byte & 128 && shift <= 14; shift += 7) {
        byte = rfb_receive_be(peer, 1);
        length |= (shift == 14 ? byte : byte & 127) << shift;
    }
    return length;
}

/* BYTES of a basic rectangle: as they are when few, else of STREAM. */
static u8 *tight_data(struct rfb_peer *peer, unsigned stream, size_t bytes)
{
    u8 *data = malloc(bytes);
    if (bytes < 12) {
        rfb_receive(peer, data, bytes);
        return data;
    }
    u32 length = tight_length(peer);
    u8 *packed = malloc(length);
    rfb_receive(peer, packed, length);
    peer->tight[stream].next_in = packed;
    peer->tight[stream].avail_in = length;
    inflate_exactly(&peer->tight[stream], data, bytes);
    free(packed);
    return data;
}

static void take_jpeg(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u32 length = tight_length(peer);
    u8 *data = malloc(length), row[RFB_SIDE_MAX * 3], *rows[1] = {row};
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;

    rfb_receive(peer, data, length);
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, data, length);
    assert(jpeg_read_header(&info, TRUE) == JPEG_HEADER_OK);
    jpeg_start_decompress(&info);
    assert(info.output_width == width && info.output_height == height);
    for (u32 line = 0; line < height; line++) {
        jpeg_read_scanlines(&info, rows, 1);
        for (u32 column = 0; column < width; column++)
            rfb_put(peer, x + column, y + line, rfb_be(row + 3 * column, 3));
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    free(data);
    peer->jpeg_count++;
}

static void tight_palette(struct rfb_peer *peer, unsigned stream, u32 x, u32 y, u32 w, u32 h)
{
    u32 colors = rfb_receive_be(peer, 1) + 1, palette[256];
    u8 wire[4];
    for (u32 i = 0; i < colors; i++) {
        rfb_receive(peer, wire, tight_size(peer));
        palette[i] = tight_parse(peer, wire);
    }
    size_t row_bytes = colors == 2 ? (w + 7) / 8 : w;
    u8 *data = tight_data(peer, stream, row_bytes * h);
    for (u32 at = 0; at < w * h; at++) {
        const u8 *row = data + at / w * row_bytes;
        u32 column = at % w;
        u32 index = colors == 2 ? row[column / 8] >> (7 - column % 8) & 1u : row[column];
        assert(index < colors);
        rfb_put(peer, x + column, y + at / w, palette[index]);
    }
    free(data);
}

void rfb_take_tight(struct rfb_peer *peer, u32 x, u32 y, u32 w, u32 h)
{
    u32 control = rfb_receive_be(peer, 1);
    u8 wire[4];
    assert((control & 15) == 0 && w <= 2048);
    if (control >> 4 == 8) {
        rfb_receive(peer, wire, tight_size(peer));
        rfb_fill(peer, x, y, w, h, tight_parse(peer, wire));
        return;
    }
    if (control >> 4 == 9) {
        take_jpeg(peer, x, y, w, h);
        return;
    }
    assert(control >> 7 == 0);
    unsigned stream = control >> 4 & 3;
    u32 filter = control & 0x40 ? rfb_receive_be(peer, 1) : 0;
    assert(filter <= 1);
    if (filter == 1) {
        tight_palette(peer, stream, x, y, w, h);
        return;
    }
    u8 *data = tight_data(peer, stream, (size_t)w * h * tight_size(peer));
    for (u32 at = 0; at < w * h; at++)
        rfb_put(peer, x + at % w, y + at / w, tight_parse(peer, data + at * tight_size(peer)));
    free(data);
}
