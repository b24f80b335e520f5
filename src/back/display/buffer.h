/*
 * back/display/buffer.h - bytes on their way to a viewer, up to a bound.
 *
 * What does not fit, or finds no memory, marks the buffer as failed and vanishes; the owner looks
 * once, at the end, and drops the viewer.
 */
#ifndef BACK_DISPLAY_BUFFER_H
#define BACK_DISPLAY_BUFFER_H

#include "base/types.h"

struct buffer {
    u8 *data; /* owned */
    size_t bytes, capacity;
    size_t limit_bytes;
    bool has_failed;
};

void buffer_init(struct buffer *buffer, size_t limit_bytes);
void buffer_fini(struct buffer *buffer);
/* BYTES more at the end, not yet written; NULL when they are not to be had. */
u8 *buffer_extend(struct buffer *buffer, size_t bytes);
void buffer_put(struct buffer *buffer, const void *from, size_t bytes);
void buffer_put_u8(struct buffer *buffer, u8 value);
/* Big-endian, as RFB has all its numbers. */
void buffer_put_u16(struct buffer *buffer, u16 value);
void buffer_put_u32(struct buffer *buffer, u32 value);
/* Writes over what is at OFFSET, inside the buffer. */
void buffer_set_u16(struct buffer *buffer, size_t offset, u16 value);
void buffer_set_u32(struct buffer *buffer, size_t offset, u32 value);

static inline u16 rfb_u16(const u8 *at)
{
    return (u16)(at[0] << 8 | at[1]);
}

static inline u32 rfb_u32(const u8 *at)
{
    return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

#endif
