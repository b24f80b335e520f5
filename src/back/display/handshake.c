/*
 * back/display/handshake.c - a viewer's first messages: version, security, ClientInit.
 *
 * Spec   RFC 6143, 7.1 to 7.3.
 * Runs   on the display's thread.
 * Trust  the bytes are the viewer's; each message has a fixed length.
 */
#include <string.h>
#include <sys/random.h>

#include <nettle/des.h>
#include <nettle/memops.h>

#include "back/display/vnc_priv.h"

enum { VERSION_BYTES = 12, SECURITY_NONE = 1, SECURITY_VNC = 2 };

bool handshake_begin(struct viewer *viewer)
{
    viewer->state = VIEWER_VERSION;
    if (viewer->needs_password &&
        getrandom(viewer->challenge, VNC_CHALLENGE_BYTES, 0) != VNC_CHALLENGE_BYTES)
        return false;
    buffer_put(&viewer->out, "RFB 003.008\n", VERSION_BYTES);
    return true;
}

static int take_version(struct viewer *viewer, const u8 *message)
{
    u8 type = viewer->needs_password ? SECURITY_VNC : SECURITY_NONE;

    if (memcmp(message, "RFB 003.00", 10) != 0 || message[11] != '\n')
        return -1;
    viewer->minor = message[10] == '8' ? 8 : message[10] == '7' ? 7 : 3;
    if (viewer->minor >= 7) {
        const u8 types[2] = {1, type};
        buffer_put(&viewer->out, types, sizeof(types));
        viewer->state = VIEWER_SECURITY;
        return VERSION_BYTES;
    }
    buffer_put_u32(&viewer->out, type);
    if (type == SECURITY_VNC)
        buffer_put(&viewer->out, viewer->challenge, VNC_CHALLENGE_BYTES);
    viewer->state = type == SECURITY_VNC ? VIEWER_RESPONSE : VIEWER_INIT;
    return VERSION_BYTES;
}

static int take_security(struct viewer *viewer, const u8 *message)
{
    u8 type = viewer->needs_password ? SECURITY_VNC : SECURITY_NONE;

    if (message[0] != type)
        return -1;
    if (type == SECURITY_VNC) {
        buffer_put(&viewer->out, viewer->challenge, VNC_CHALLENGE_BYTES);
        viewer->state = VIEWER_RESPONSE;
        return 1;
    }
    if (viewer->minor == 8)
        buffer_put_u32(&viewer->out, 0);
    viewer->state = VIEWER_INIT;
    return 1;
}

/* What a viewer that knows the password answers: DES of the challenge, with each byte of the key
 * taken from its other end. */
static void response_make(const struct viewer *viewer, u8 response[VNC_CHALLENGE_BYTES])
{
    struct des_ctx context;
    u8 key[DES_KEY_SIZE] = {0};

    for (unsigned i = 0; i < DES_KEY_SIZE; i++)
        for (unsigned bit = 0; bit < 8; bit++)
            if ((u8)viewer->vnc->password[i] >> bit & 1)
                key[i] |= (u8)(0x80 >> bit);
    /* The result only says whether the key is a weak one, which is the user's to choose. */
    des_set_key(&context, key);
    des_encrypt(&context, VNC_CHALLENGE_BYTES, response, viewer->challenge);
}

static int take_response(struct viewer *viewer, const u8 *message)
{
    static const char reason[] = "the password is wrong";
    u8 expected[VNC_CHALLENGE_BYTES];

    response_make(viewer, expected);
    if (memeql_sec(expected, message, sizeof(expected))) {
        buffer_put_u32(&viewer->out, 0);
        viewer->state = VIEWER_INIT;
        return VNC_CHALLENGE_BYTES;
    }
    buffer_put_u32(&viewer->out, 1);
    if (viewer->minor == 8) {
        buffer_put_u32(&viewer->out, sizeof(reason) - 1);
        buffer_put(&viewer->out, reason, sizeof(reason) - 1);
    }
    return -1;
}

static int take_init(struct viewer *viewer)
{
    const struct surface *surface = &viewer->vnc->surface;
    const char *name = viewer->vnc->name;
    u8 format[PIXEL_FORMAT_BYTES];

    viewer->width = surface->width;
    viewer->height = surface->height;
    viewer->size_count = surface->size_count;
    buffer_put_u16(&viewer->out, (u16)viewer->width);
    buffer_put_u16(&viewer->out, (u16)viewer->height);
    pixel_format_write(&viewer->encoder.format, format);
    buffer_put(&viewer->out, format, sizeof(format));
    buffer_put_u32(&viewer->out, (u32)strlen(name));
    buffer_put(&viewer->out, name, strlen(name));
    viewer->state = VIEWER_RUNNING;
    return 1;
}

int handshake_take(struct viewer *viewer, const u8 *message, size_t bytes)
{
    static const u8 sizes[] = {[VIEWER_VERSION] = VERSION_BYTES,
                               [VIEWER_SECURITY] = 1,
                               [VIEWER_RESPONSE] = VNC_CHALLENGE_BYTES,
                               [VIEWER_INIT] = 1};

    if (bytes < sizes[viewer->state])
        return 0;
    switch (viewer->state) {
    case VIEWER_VERSION:
        return take_version(viewer, message);
    case VIEWER_SECURITY:
        return take_security(viewer, message);
    case VIEWER_RESPONSE:
        return take_response(viewer, message);
    default:
        return take_init(viewer);
    }
}
