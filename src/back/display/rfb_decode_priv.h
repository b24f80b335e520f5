/*
 * back/display/rfb_decode_priv.h - what the two files of the other end of the protocol share.
 */
#ifndef BACK_DISPLAY_RFB_DECODE_PRIV_H
#define BACK_DISPLAY_RFB_DECODE_PRIV_H

#include "back/display/rfb_decode.h"

/* A big-endian number of BYTES bytes at AT; the same as it comes. */
u32 rfb_be(const u8 *at, unsigned bytes);
u32 rfb_receive_be(struct rfb_peer *peer, unsigned bytes);
/* A pixel in the peer's format: its bytes, and its colour. */
unsigned rfb_pixel_size(const struct rfb_peer *peer);
u32 rfb_pixel_parse(const struct rfb_peer *peer, const u8 *at);
void rfb_put(struct rfb_peer *peer, u32 x, u32 y, u32 rgb);
void rfb_fill(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height, u32 rgb);
void rfb_take_zrle(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height);
void rfb_take_tight(struct rfb_peer *peer, u32 x, u32 y, u32 width, u32 height);

#endif
