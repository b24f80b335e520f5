/*
 * back/display/rfb_decode.c - the other end of the protocol, for tests.
 *
 * Spec   RFC 6143; the RFB community's specification of Tight, fences and continuous updates.
 * Runs   in tests.
 */
#include "back/display/rfb_decode_priv.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/fd.h"

enum { RAW = 0, HEXTILE = 5, TIGHT = 7, ZRLE = 16, PATIENCE_MS = 20000 };

u32 rfb_be(const u8 *at, unsigned bytes)
{
    u32 value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

bool rfb_has_input(struct rfb_peer *peer, int ms)
{
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    if (peer->buffer_at < peer->buffer_bytes)
        return true;
    return poll(&wait, 1, ms) == 1;
}

void rfb_receive(struct rfb_peer *peer, void *to, size_t bytes)
{
    u8 *at = to;
    peer->received_bytes += bytes;
    while (bytes > 0) {
        assert(rfb_has_input(peer, PATIENCE_MS));
        if (peer->buffer_at == peer->buffer_bytes) {
            ssize_t got = read(peer->fd, peer->buffer, sizeof(peer->buffer));
            assert(got > 0);
            peer->buffer_at = 0;
            peer->buffer_bytes = (size_t)got;
        }
        size_t part = peer->buffer_bytes - peer->buffer_at;
        part = part < bytes ? part : bytes;
        memcpy(at, peer->buffer + peer->buffer_at, part);
        peer->buffer_at += part;
        at += part;
        bytes -= part;
    }
}

u32 rfb_receive_be(struct rfb_peer *peer, unsigned bytes)
{
    u8 wire[4];
    rfb_receive(peer, wire, bytes);
    return rfb_be(wire, bytes);
}

void rfb_send(struct rfb_peer *peer, const void *data, size_t bytes)
{
    assert(fd_write(peer->fd, data, bytes) == 0);
}

/* ---- pixels ---- */

unsigned rfb_pixel_size(const struct rfb_peer *peer)
{
    return peer->bits / 8u;
}

u32 rfb_pixel_parse(const struct rfb_peer *peer, const u8 *at)
{
    u32 value = 0, rgb = 0;
    for (unsigned i = 0; i < rfb_pixel_size(peer); i++)
        value |= (u32)at[i] << (8 * (peer->is_big_endian ? rfb_pixel_size(peer) - 1 - i : i));
    for (unsigned i = 0; i < 3; i++)
        rgb = rgb << 8 | ((value >> peer->shift[i] & peer->max[i]) * 255 / peer->max[i]);
    return rgb;
}

void rfb_put(struct rfb_peer *peer, u32 x, u32 y, u32 rgb)
{
    assert(x < peer->width && y < peer->height);
    peer->pixels[y * RFB_SIDE_MAX + x] = rgb;
}

void rfb_fill(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height, u32 rgb)
{
    for (u32 row = 0; row < height; row++)
        for (u32 column = 0; column < width; column++)
            rfb_put(peer, x + column, y + row, rgb);
}

/* ---- encodings ---- */

static void take_raw(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u8 row[RFB_SIDE_MAX * 4];
    for (u32 line = 0; line < height; line++) {
        rfb_receive(peer, row, width * rfb_pixel_size(peer));
        for (u32 column = 0; column < width; column++)
            rfb_put(peer, x + column, y + line,
                    rfb_pixel_parse(peer, row + column * rfb_pixel_size(peer)));
    }
}

static u32 receive_pixel(struct rfb_peer *peer)
{
    u8 wire[4];
    rfb_receive(peer, wire, rfb_pixel_size(peer));
    return rfb_pixel_parse(peer, wire);
}

static void take_hextile(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height)
{
    u32 background = 0, foreground = 0;
    for (u32 top = 0; top < height; top += 16)
        for (u32 left = 0; left < width; left += 16) {
            u32 w = width - left < 16 ? width - left : 16;
            u32 h = height - top < 16 ? height - top : 16;
            u32 kind = rfb_receive_be(peer, 1);
            if (kind & 1) {
                take_raw(peer, x + left, y + top, w, h);
                continue;
            }
            if (kind & 2)
                background = receive_pixel(peer);
            if (kind & 4)
                foreground = receive_pixel(peer);
            rfb_fill(peer, x + left, y + top, w, h, background);
            for (u32 i = kind & 8 ? rfb_receive_be(peer, 1) : 0; i > 0; i--) {
                u32 rgb = kind & 16 ? receive_pixel(peer) : foreground;
                u32 place = rfb_receive_be(peer, 1), size = rfb_receive_be(peer, 1);
                assert((place >> 4) + (size >> 4) < w && (place & 15) + (size & 15) < h);
                rfb_fill(peer, x + left + (place >> 4), y + top + (place & 15), (size >> 4) + 1,
                         (size & 15) + 1, rgb);
            }
        }
}

/* ---- messages ---- */

static void take_cursor(struct rfb_peer *peer, u32 width, u32 height)
{
    u8 rest[4096];
    size_t bytes = (size_t)width * height * rfb_pixel_size(peer) + (width + 7) / 8 * height;
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
        assert(screens[0] == 1 && rfb_be(screens + 12, 2) == width &&
               rfb_be(screens + 14, 2) == height);
    }
    peer->width = width;
    peer->height = height;
    peer->size_count++;
}

static void take_rect(struct rfb_peer *peer)
{
    u8 head[12];
    rfb_receive(peer, head, sizeof(head));
    u32 x = rfb_be(head, 2), y = rfb_be(head + 2, 2), w = rfb_be(head + 4, 2),
        h = rfb_be(head + 6, 2);
    switch ((s32)rfb_be(head + 8, 4)) {
    case RAW:
        take_raw(peer, x, y, w, h);
        break;
    case HEXTILE:
        take_hextile(peer, x, y, w, h);
        break;
    case TIGHT:
        rfb_take_tight(peer, x, y, w, h);
        break;
    case ZRLE:
        rfb_take_zrle(peer, x, y, w, h);
        break;
    case -239:
        take_cursor(peer, w, h);
        break;
    case -223:
    case -308:
        take_size(peer, w, h, (s32)rfb_be(head + 8, 4) == -308);
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
    u8 type = (u8)rfb_receive_be(peer, 1), rest[72];
    if (type == 0) {
        rfb_receive(peer, rest, 3);
        for (u32 count = rfb_be(rest + 1, 2); count > 0; count--)
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
        assert(rfb_receive_be(peer, 4) == 1);
    else {
        assert(rfb_receive_be(peer, 2) == 0x0101);
        rfb_send(peer, "\1", 1);
    }
    if (version == 8)
        assert(rfb_receive_be(peer, 4) == 0);
    rfb_send(peer, "\1", 1);
    rfb_receive(peer, bytes, 24);
    peer->width = rfb_be(bytes, 2);
    peer->height = rfb_be(bytes + 2, 2);
    assert(rfb_be(bytes + 20, 4) < sizeof(bytes));
    rfb_receive(peer, bytes + 24, rfb_be(bytes + 20, 4));
}

void rfb_peer_close(struct rfb_peer *peer)
{
    fd_close(&peer->fd);
    inflateEnd(&peer->zrle);
    for (unsigned i = 0; i < 4; i++)
        inflateEnd(&peer->tight[i]);
    free(peer->pixels);
}
