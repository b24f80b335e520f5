/*
 * back/display/buffer.c - bytes on their way to a viewer, up to a bound.
 *
 * Runs   on the display's thread.
 */
#include "back/display/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 4096 };

void buffer_init(struct buffer *buffer, size_t limit_bytes)
{
    *buffer = (struct buffer){.limit_bytes = limit_bytes};
}

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){.limit_bytes = buffer->limit_bytes};
}

static bool grow(struct buffer *buffer, size_t bytes)
{
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_BYTES;

    if (buffer->has_failed || bytes > buffer->limit_bytes - buffer->bytes)
        return false;
    while (capacity - buffer->bytes < bytes)
        capacity *= 2;
    if (capacity == buffer->capacity)
        return true;
    u8 *data = realloc(buffer->data, capacity);
    if (data == NULL)
        return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

u8 *buffer_extend(struct buffer *buffer, size_t bytes)
{
    if (!grow(buffer, bytes)) {
        buffer->has_failed = true;
        return NULL;
    }
    u8 *at = buffer->data + buffer->bytes;
    buffer->bytes += bytes;
    return at;
}

void buffer_put(struct buffer *buffer, const void *from, size_t bytes)
{
    u8 *at = buffer_extend(buffer, bytes);
    if (at != NULL && bytes > 0)
        memcpy(at, from, bytes);
}

void buffer_put_u8(struct buffer *buffer, u8 value)
{
    buffer_put(buffer, &value, 1);
}

void buffer_put_u16(struct buffer *buffer, u16 value)
{
    const u8 bytes[2] = {(u8)(value >> 8), (u8)value};
    buffer_put(buffer, bytes, sizeof(bytes));
}

void buffer_put_u32(struct buffer *buffer, u32 value)
{
    buffer_put_u16(buffer, (u16)(value >> 16));
    buffer_put_u16(buffer, (u16)value);
}

void buffer_set_u16(struct buffer *buffer, size_t offset, u16 value)
{
    if (offset + 2 > buffer->bytes)
        return;
    buffer->data[offset] = (u8)(value >> 8);
    buffer->data[offset + 1] = (u8)value;
}

void buffer_set_u32(struct buffer *buffer, size_t offset, u32 value)
{
    buffer_set_u16(buffer, offset, (u16)(value >> 16));
    buffer_set_u16(buffer, offset + 2, (u16)value);
}
