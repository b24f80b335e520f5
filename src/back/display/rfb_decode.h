/*
 * back/display/rfb_decode.h - the other end of the protocol, for tests: takes updates apart and
 * keeps the picture that they make. Not part of the product.
 *
 * It is written from the protocol's text, not from the encoders. What the server sends wrongly ends
 * the test.
 */
#ifndef BACK_DISPLAY_RFB_DECODE_H
#define BACK_DISPLAY_RFB_DECODE_H

#include <zlib.h>

#include "base/types.h"

enum { RFB_SIDE_MAX = 2560 };

struct rfb_peer {
    int fd;
    u32 width, height;
    u32 *pixels; /* owned: RFB_SIDE_MAX wide; 0x00RRGGBB as the format can tell it */
    /* The format asked for; bits 8, 16 or 32. */
    u8 bits, depth;
    bool is_big_endian;
    u16 max[3];
    u8 shift[3];
    z_stream zrle, tight[4];
    unsigned size_count, cursor_count, key_count, jpeg_count; /* pseudo-encodings, images seen */
    u64 received_bytes;
    u8 buffer[65536]; /* what has come and was not taken */
    size_t buffer_at, buffer_bytes;
};

/* Connects to PATH and does the handshake as VERSION (3, 7 or 8). */
void rfb_peer_open(struct rfb_peer *peer, const char *path, unsigned version);
void rfb_peer_close(struct rfb_peer *peer);
void rfb_send(struct rfb_peer *peer, const void *data, size_t bytes);
void rfb_receive(struct rfb_peer *peer, void *to, size_t bytes);
/* False when nothing comes within MS. */
bool rfb_has_input(struct rfb_peer *peer, int ms);
void rfb_set_format(struct rfb_peer *peer, u8 bits, u8 depth, bool is_big_endian, const u16 max[3],
                    const u8 shift[3]);
void rfb_set_encodings(struct rfb_peer *peer, const s32 *encodings, unsigned count);
void rfb_request(struct rfb_peer *peer, bool is_incremental);
/* Takes one message of the server's; its type. Updates go into pixels. */
u8 rfb_take(struct rfb_peer *peer);

#endif
