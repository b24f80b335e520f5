/*
 * cli/rfb_client.c - the screen of a running VM over its own socket.
 *
 * Spec   RFC 6143: version 3.8, no password, raw pixels of 32 bits.
 * Runs   on the main thread.
 * Trust  the other end is this user's own VM; its numbers are checked all the same.
 */
#include "cli/rfb_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "host/fd.h"

enum { TIMEOUT_SECONDS = 10, NAME_MAX_BYTES = 256, SIDE_MAX = 8192, PIXELS_MAX = 1 << 24 };
enum { MESSAGE_ENCODINGS = 2, MESSAGE_REQUEST = 3, MESSAGE_KEY = 4, RECT_BYTES = 12 };

static u16 get_u16(const u8 *at)
{
    return (u16)(at[0] << 8 | at[1]);
}

static u32 get_u32(const u8 *at)
{
    return (u32)get_u16(at) << 16 | get_u16(at + 2);
}

static int receive(struct rfb_client *client, void *to, size_t bytes, struct err *err)
{
    s64 got = fd_read(client->fd, to, bytes);
    if (got == -EAGAIN)
        return err_set(err, -ETIMEDOUT, "the VM's screen does not answer");
    if (got < 0)
        return err_set(err, (int)got, "the VM's screen: %s", strerror((int)-got));
    return (size_t)got == bytes ? 0 : err_set(err, -ECONNRESET, "the VM has ended");
}

static int transmit(struct rfb_client *client, const void *from, size_t bytes, struct err *err)
{
    int r = fd_write(client->fd, from, bytes);
    return r < 0 ? err_set(err, r, "the VM's screen: %s", strerror(-r)) : 0;
}

static int refused(struct err *err)
{
    return err_set(err, -EPROTO, "the VM's screen speaks another protocol: is it of this version?");
}

/* Version, security type "none", and ClientInit. */
static int greet(struct rfb_client *client, struct err *err)
{
    u8 bytes[24], name[NAME_MAX_BYTES];
    static const u8 encodings[8] = {MESSAGE_ENCODINGS, 0, 0, 1};

    int r = receive(client, bytes, 12, err);
    if (r == 0)
        r = transmit(client, "RFB 003.008\n", 12, err);
    if (r == 0)
        r = receive(client, bytes, 2, err);
    if (r == 0 && (bytes[0] != 1 || bytes[1] != 1))
        return refused(err);
    if (r == 0)
        r = transmit(client, "\1", 1, err);
    if (r == 0)
        r = receive(client, bytes, 4, err);
    if (r == 0 && get_u32(bytes) != 0)
        return refused(err);
    if (r == 0)
        r = transmit(client, "\1", 1, err);
    if (r == 0)
        r = receive(client, bytes, 24, err);
    if (r < 0)
        return r;
    client->width = get_u16(bytes);
    client->height = get_u16(bytes + 2);
    u32 name_bytes = get_u32(bytes + 20);
    if (client->width == 0 || client->height == 0 || name_bytes > sizeof(name) || bytes[4] != 32 ||
        (u64)client->width * client->height > PIXELS_MAX)
        return refused(err);
    r = receive(client, name, name_bytes, err);
    return r == 0 ? transmit(client, encodings, sizeof(encodings), err) : r;
}

int rfb_client_open(struct rfb_client *ret_client, const char *path, struct err *err)
{
    const struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    struct rfb_client client = {.fd = fd_connect(path, err)};

    if (client.fd < 0)
        return client.fd;
    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    int r = greet(&client, err);
    if (r < 0) {
        rfb_client_close(&client);
        return r;
    }
    *ret_client = client;
    return 0;
}

void rfb_client_close(struct rfb_client *client)
{
    fd_close(&client->fd);
}

static int request(struct rfb_client *client, u32 width, u32 height, struct err *err)
{
    const u8 message[10] = {MESSAGE_REQUEST,   0,         0, 0, 0, 0, (u8)(width >> 8), (u8)width,
                            (u8)(height >> 8), (u8)height};
    return transmit(client, message, sizeof(message), err);
}

/* One update; adds the pixels that came to *TOTAL. PIXELS may be NULL: they are dropped. */
static int take_update(struct rfb_client *client, u32 *pixels, u64 *total, struct err *err)
{
    u8 head[4], rect[RECT_BYTES];
    u32 row[SIDE_MAX];

    int r = receive(client, head, sizeof(head), err);
    if (r < 0)
        return r;
    if (head[0] != 0)
        return refused(err);
    for (unsigned i = get_u16(head + 2); i > 0; i--) {
        r = receive(client, rect, sizeof(rect), err);
        if (r < 0)
            return r;
        u32 x = get_u16(rect), y = get_u16(rect + 2);
        u32 width = get_u16(rect + 4), height = get_u16(rect + 6);
        if (get_u32(rect + 8) != 0 || x + width > client->width || y + height > client->height ||
            width > SIDE_MAX)
            return refused(err);
        for (u32 line = 0; line < height; line++) {
            u32 *to = pixels ? pixels + (size_t)(y + line) * client->width + x : row;
            r = receive(client, to, width * sizeof(*to), err);
            if (r < 0)
                return r;
        }
        *total += (u64)width * height;
    }
    return 0;
}

int rfb_client_picture(struct rfb_client *client, u32 **ret_pixels, struct err *err)
{
    u64 count = (u64)client->width * client->height, total = 0;
    u32 *pixels = calloc(count, sizeof(*pixels));

    if (pixels == NULL)
        return err_set(err, -ENOMEM, "no memory for the picture");
    int r = request(client, client->width, client->height, err);
    /* A large picture comes in several updates; each but the first is asked for by itself. */
    while (r == 0 && total < count) {
        r = take_update(client, pixels, &total, err);
        if (r == 0 && total < count) {
            const u8 more[10] = {MESSAGE_REQUEST,
                                 1,
                                 0,
                                 0,
                                 0,
                                 0,
                                 (u8)(client->width >> 8),
                                 (u8)client->width,
                                 (u8)(client->height >> 8),
                                 (u8)client->height};
            r = transmit(client, more, sizeof(more), err);
        }
    }
    if (r < 0) {
        free(pixels);
        return r;
    }
    for (u64 i = 0; i < count; i++)
        pixels[i] &= 0xffffff;
    *ret_pixels = pixels;
    return 0;
}

int rfb_client_key(struct rfb_client *client, u32 keysym, bool is_down, struct err *err)
{
    const u8 message[8] = {MESSAGE_KEY,        is_down,           0,         0, (u8)(keysym >> 24),
                           (u8)(keysym >> 16), (u8)(keysym >> 8), (u8)keysym};
    return transmit(client, message, sizeof(message), err);
}

int rfb_client_sync(struct rfb_client *client, struct err *err)
{
    u64 total = 0;
    int r = request(client, 1, 1, err);
    return r == 0 ? take_update(client, NULL, &total, err) : r;
}
