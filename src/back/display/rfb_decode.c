/*
 * back/display/rfb_decode.c - the other end of the protocol, for tests.
 *
 * Spec   RFC 6143; the RFB community's specification of Tight, fences and continuous updates.
 * Runs   in tests.
 */
#include "back/display/rfb_decode.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

#include "host/fd.h"

enum { RAW = 0, HEXTILE = 5, TIGHT = 7, ZRLE = 16, PATIENCE_MS = 20000 };

static u32 be(const u8 *at, unsigned bytes)
{
    u32 value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

bool rfb_has_input(struct rfb_peer *peer, int ms)
{
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    return poll(&wait, 1, ms) == 1;
}

void rfb_receive(struct rfb_peer *peer, void *to, size_t bytes)
{
    u8 *at = to;
    peer->received_bytes += bytes;
    while (bytes > 0) {
        assert(rfb_has_input(peer, PATIENCE_MS));
        ssize_t got = read(peer->fd, at, bytes);
        assert(got > 0);
        at += got;
        bytes -= (size_t)got;
    }
}

static u32 receive_be(struct rfb_peer *peer, unsigned bytes)
{
    u8 wire[4];
    rfb_receive(peer, wire, bytes);
    return be(wire, bytes);
}

void rfb_send(struct rfb_peer *peer, const void *data, size_t bytes)
{
    assert(fd_write(peer->fd, data, bytes) == 0);
}

/* ---- pixels ---- */

static unsigned pixel_size(const struct rfb_peer *peer)
{
    return peer->bits / 8u;
}

static u32 pixel_parse(const struct rfb_peer *peer, const u8 *at)
{
    u32 value = 0, rgb = 0;
    for (unsigned i = 0; i < pixel_size(peer); i++)
        value |= (u32)at[i] << (8 * (peer->is_big_endian ? pixel_size(peer) - 1 - i : i));
    for (unsigned i = 0; i < 3; i++)
        rgb = rgb << 8 | ((value >> peer->shift[i] & peer->max[i]) * 255 / peer->max[i]);
    return rgb;
}

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
    return is_compact(peer) ? 3 : pixel_size(peer);
}

static u32 compact_parse(const struct rfb_peer *peer, const u8 *at)
{
    u32 mask = 0;
    u8 whole[4] = {0};
    if (!is_compact(peer))
        return pixel_parse(peer, at);
    for (unsigned i = 0; i < 3; i++)
        mask |= (u32)peer->max[i] << peer->shift[i];
    bool is_low = mask >> 24 == 0;
    memcpy(whole + (is_low == peer->is_big_endian), at, 3);
    return pixel_parse(peer, whole);
}

static bool is_tight_rgb(const struct rfb_peer *peer)
{
    return peer->bits == 32 && peer->depth == 24 && peer->max[0] == 255 && peer->max[1] == 255 &&
           peer->max[2] == 255;
}

static unsigned tight_size(const struct rfb_peer *peer)
{
    return is_tight_rgb(peer) ? 3 : pixel_size(peer);
}

static u32 tight_parse(const struct rfb_peer *peer, const u8 *at)
{
    return is_tight_rgb(peer) ? be(at, 3) : pixel_parse(peer, at);
}

static void put(struct rfb_peer *peer, u32 x, u32 y, u32 rgb)
{
    assert(x < peer->width && y < peer->height);
    peer->pixels[y * RFB_SIDE_MAX + x] = rgb;
}

static void fill(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height, u32 rgb)
{
    for (u32 row = 0; row < height; row++)
        for (u32 column = 0; column < width; column++)
            put(peer, x + column, y + row, rgb);
}

/* ---- zlib ---- */

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

/* ---- encodings ---- */

static void take_raw(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u8 row[RFB_SIDE_MAX * 4];
    for (u32 line = 0; line < height; line++) {
        rfb_receive(peer, row, width * pixel_size(peer));
        for (u32 column = 0; column < width; column++)
            put(peer, x + column, y + line, pixel_parse(peer, row + column * pixel_size(peer)));
    }
}

static u32 receive_pixel(struct rfb_peer *peer)
{
    u8 wire[4];
    rfb_receive(peer, wire, pixel_size(peer));
    return pixel_parse(peer, wire);
}

static void take_hextile(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u32 background = 0, foreground = 0;
    for (u32 top = 0; top < height; top += 16)
        for (u32 left = 0; left < width; left += 16) {
            u32 w = width - left < 16 ? width - left : 16;
            u32 h = height - top < 16 ? height - top : 16;
            u32 kind = receive_be(peer, 1);
            if (kind & 1) {
                take_raw(peer, x + left, y + top, w, h);
                continue;
            }
            if (kind & 2)
                background = receive_pixel(peer);
            if (kind & 4)
                foreground = receive_pixel(peer);
            fill(peer, x + left, y + top, w, h, background);
            for (u32 i = kind & 8 ? receive_be(peer, 1) : 0; i > 0; i--) {
                u32 rgb = kind & 16 ? receive_pixel(peer) : foreground;
                u32 place = receive_be(peer, 1), size = receive_be(peer, 1);
                assert((place >> 4) + (size >> 4) < w && (place & 15) + (size & 15) < h);
                fill(peer, x + left + (place >> 4), y + top + (place & 15), (size >> 4) + 1,
                     (size & 15) + 1, rgb);
            }
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
            put(peer, x + column, y + row, palette[index]);
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
            put(peer, x + at % w, y + at / w, rgb);
    }
}

static void zrle_tile(struct rfb_peer *peer, u32 x, u32 y, u32 w, u32 h)
{
    u32 kind = zrle_byte(peer), palette[128], colors = kind & 127;
    if (kind == 0) {
        for (u32 at = 0; at < w * h; at++)
            put(peer, x + at % w, y + at / w, zrle_pixel(peer));
        return;
    }
    assert(kind <= 16 || kind == 128 || kind >= 130);
    for (u32 i = 0; i < colors; i++)
        palette[i] = zrle_pixel(peer);
    if (kind == 1)
        fill(peer, x, y, w, h, palette[0]);
    else if (kind <= 16)
        zrle_packed(peer, palette, colors, x, y, w, h);
    else
        zrle_runs(peer, kind == 128 ? NULL : palette, colors, x, y, w, h);
}

static void take_zrle(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u32 length = receive_be(peer, 4);
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
    u32 byte = receive_be(peer, 1), length = byte & 127;
    for (unsigned shift = 7; byte & 128 && shift <= 14; shift += 7) {
        byte = receive_be(peer, 1);
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
            put(peer, x + column, y + line, be(row + 3 * column, 3));
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    free(data);
    peer->jpeg_count++;
}

static void tight_palette(struct rfb_peer *peer, unsigned stream, u32 x, u32 y, u32 w, u32 h)
{
    u32 colors = receive_be(peer, 1) + 1, palette[256];
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
        put(peer, x + column, y + at / w, palette[index]);
    }
    free(data);
}

static void take_tight(struct rfb_peer *peer, u32 x, u32 y, u32 w, u32 h)
{
    u32 control = receive_be(peer, 1);
    u8 wire[4];
    assert((control & 15) == 0 && w <= 2048);
    if (control >> 4 == 8) {
        rfb_receive(peer, wire, tight_size(peer));
        fill(peer, x, y, w, h, tight_parse(peer, wire));
        return;
    }
    if (control >> 4 == 9) {
        take_jpeg(peer, x, y, w, h);
        return;
    }
    assert(control >> 7 == 0);
    unsigned stream = control >> 4 & 3;
    u32 filter = control & 0x40 ? receive_be(peer, 1) : 0;
    assert(filter <= 1);
    if (filter == 1) {
        tight_palette(peer, stream, x, y, w, h);
        return;
    }
    u8 *data = tight_data(peer, stream, (size_t)w * h * tight_size(peer));
    for (u32 at = 0; at < w * h; at++)
        put(peer, x + at % w, y + at / w, tight_parse(peer, data + at * tight_size(peer)));
    free(data);
}

/* ---- messages ---- */

static void take_cursor(struct rfb_peer *peer, u32 width, u32 height)
{
    u8 rest[4096];
    size_t bytes = (size_t)width * height * pixel_size(peer) + (width + 7) / 8 * height;
    assert(bytes <= sizeof(rest));
    rfb_receive(peer, rest, bytes);
    peer->cursor_count++;
}

static void take_size(struct rfb_peer *peer, u32 width, u32 height, bool is_extended)
{
    u8 screens[4 + 16];
    assert(width <= RFB_SIDE_MAX && height <= RFB_SIDE_MAX);
    if (is_extended) {
        rfb_receive(peer, screens, sizeof(screens));
        assert(screens[0] == 1 && be(screens + 12, 2) == width && be(screens + 14, 2) == height);
    }
    peer->width = width;
    peer->height = height;
    peer->size_count++;
}

static void take_rect(struct rfb_peer *peer)
{
    u8 head[12];
    rfb_receive(peer, head, sizeof(head));
    u32 x = be(head, 2), y = be(head + 2, 2), w = be(head + 4, 2), h = be(head + 6, 2);
    switch ((s32)be(head + 8, 4)) {
    case RAW:
        take_raw(peer, x, y, w, h);
        break;
    case HEXTILE:
        take_hextile(peer, x, y, w, h);
        break;
    case TIGHT:
        take_tight(peer, x, y, w, h);
        break;
    case ZRLE:
        take_zrle(peer, x, y, w, h);
        break;
    case -239:
        take_cursor(peer, w, h);
        break;
    case -223:
    case -308:
        take_size(peer, w, h, (s32)be(head + 8, 4) == -308);
        break;
    case -258:
        peer->key_count++;
        break;
    default:
        assert(!"an encoding that was not asked for");
    }
}

u8 rfb_take(struct rfb_peer *peer)
{
    u8 type = (u8)receive_be(peer, 1), rest[72];
    if (type == 0) {
        rfb_receive(peer, rest, 3);
        for (u32 count = be(rest + 1, 2); count > 0; count--)
            take_rect(peer);
    } else if (type == 248) {
        rfb_receive(peer, rest, 8);
        assert(rest[7] <= 64);
        rfb_receive(peer, rest + 8, rest[7]);
    } else
        assert(type == 150);
    return type;
}

void rfb_set_format(struct rfb_peer *peer, u8 bits, u8 depth, bool is_big_endian, const u16 max[3],
                    const u8 shift[3])
{
    u8 message[20] = {[4] = bits, [5] = depth, [6] = is_big_endian, [7] = 1};
    for (unsigned i = 0; i < 3; i++) {
        message[8 + 2 * i] = (u8)(max[i] >> 8);
        message[9 + 2 * i] = (u8)max[i];
        message[14 + i] = shift[i];
        peer->max[i] = max[i];
        peer->shift[i] = shift[i];
    }
    peer->bits = bits;
    peer->depth = depth;
    peer->is_big_endian = is_big_endian;
    rfb_send(peer, message, sizeof(message));
}

void rfb_set_encodings(struct rfb_peer *peer, const s32 *encodings, unsigned count)
{
    u8 message[4 + 4 * 32] = {2, 0, 0, (u8)count};
    assert(count <= 32);
    for (unsigned i = 0; i < 4 * count; i++)
        message[4 + i] = (u8)((u32)encodings[i / 4] >> (24 - i % 4 * 8));
    rfb_send(peer, message, 4 + 4 * (size_t)count);
}

void rfb_request(struct rfb_peer *peer, bool is_incremental)
{
    const u8 message[10] = {3,
                            is_incremental,
                            0,
                            0,
                            0,
                            0,
                            (u8)(peer->width >> 8),
                            (u8)peer->width,
                            (u8)(peer->height >> 8),
                            (u8)peer->height};
    rfb_send(peer, message, sizeof(message));
}

void rfb_peer_open(struct rfb_peer *peer, const char *path, unsigned version)
{
    u8 bytes[64];
    char greeting[13];

    *peer = (struct rfb_peer){.bits = 32, .depth = 24, .max = {255, 255, 255}, .shift = {16, 8}};
    peer->fd = fd_connect(path, NULL);
    assert(peer->fd >= 0);
    peer->pixels = calloc(RFB_SIDE_MAX, RFB_SIDE_MAX * sizeof(u32));
    assert(inflateInit(&peer->zrle) == Z_OK);
    for (unsigned i = 0; i < 4; i++)
        assert(inflateInit(&peer->tight[i]) == Z_OK);
    rfb_receive(peer, bytes, 12);
    assert(memcmp(bytes, "RFB 003.008\n", 12) == 0);
    snprintf(greeting, sizeof(greeting), "RFB 003.00%u\n", version);
    rfb_send(peer, greeting, 12);
    if (version == 3)
        assert(receive_be(peer, 4) == 1);
    else {
        assert(receive_be(peer, 2) == 0x0101);
        rfb_send(peer, "\1", 1);
    }
    if (version == 8)
        assert(receive_be(peer, 4) == 0);
    rfb_send(peer, "\1", 1);
    rfb_receive(peer, bytes, 24);
    peer->width = be(bytes, 2);
    peer->height = be(bytes + 2, 2);
    assert(be(bytes + 20, 4) < sizeof(bytes));
    rfb_receive(peer, bytes + 24, be(bytes + 20, 4));
}

void rfb_peer_close(struct rfb_peer *peer)
{
    fd_close(&peer->fd);
    inflateEnd(&peer->zrle);
    for (unsigned i = 0; i < 4; i++)
        inflateEnd(&peer->tight[i]);
    free(peer->pixels);
}
