/*
 * back/display/message.c - what a viewer says once it is connected: formats, encodings, requests,
 * keys, the pointer.
 *
 * Spec   RFC 6143, 7.5; the RFB community's specification of continuous updates, fences,
 *        SetDesktopSize and the QEMU client messages.
 * Runs   on the display's thread.
 * Trust  the bytes are the viewer's. Lengths that a message tells are bounded before they are used.
 */
#include <string.h>

#include "back/display/vnc_priv.h"
#include "base/bits.h"

enum message_type {
    MESSAGE_PIXEL_FORMAT = 0,
    MESSAGE_ENCODINGS = 2,
    MESSAGE_UPDATE_REQUEST = 3,
    MESSAGE_KEY = 4,
    MESSAGE_POINTER = 5,
    MESSAGE_CUT_TEXT = 6,
    MESSAGE_CONTINUOUS = 150, /* EndOfContinuousUpdates has the same number */
    MESSAGE_FENCE = 248,
    MESSAGE_DESKTOP_SIZE = 251,
    MESSAGE_QEMU = 255
};

enum { ENCODINGS_MAX = 1024, CUT_TEXT_MAX_BYTES = 1 << 24, FENCE_MAX_BYTES = 64 };
enum { QEMU_KEY = 0, QEMU_AUDIO = 1, QEMU_AUDIO_FORMAT = 2 };
enum { REASON_OTHER = 0, REASON_CLIENT = 1, STATUS_PROHIBITED = 1 };
#define FENCE_REQUEST 0x80000000u
/* Block before, block after, sync next: what this server keeps by handling messages in order. */
#define FENCE_KNOWN 0x00000007u

enum { BUTTON_LEFT = 1, BUTTON_MIDDLE = 2, BUTTON_RIGHT = 4, WHEEL_UP = 8, WHEEL_DOWN = 16 };

static int take_pixel_format(struct viewer *viewer, const u8 *message)
{
    return pixel_format_parse(&viewer->encoder.format, message + 4) ? 20 : -1;
}

/* Notes what ENCODING, a real or a pseudo one, says of the viewer. */
static void encoding_note(struct viewer *viewer, s32 encoding, bool *has_encoding)
{
    switch (encoding) {
    case ENCODING_RAW:
    case ENCODING_HEXTILE:
    case ENCODING_TIGHT:
    case ENCODING_ZRLE:
        if (!*has_encoding)
            viewer->encoding = (enum encoding)encoding;
        *has_encoding = true;
        break;
    case PSEUDO_CURSOR:
        viewer->features |= FEATURE_CURSOR;
        break;
    case PSEUDO_DESKTOP_SIZE:
        viewer->features |= FEATURE_DESKTOP_SIZE;
        break;
    case PSEUDO_EXTENDED_SIZE:
        viewer->features |= FEATURE_EXTENDED_SIZE;
        break;
    case PSEUDO_FENCE:
        viewer->features |= FEATURE_FENCE;
        break;
    case PSEUDO_CONTINUOUS:
        viewer->features |= FEATURE_CONTINUOUS;
        break;
    case PSEUDO_EXTENDED_KEY:
        viewer->features |= FEATURE_EXTENDED_KEY;
        break;
    default:
        if (encoding >= PSEUDO_QUALITY_0 && encoding <= PSEUDO_QUALITY_9)
            viewer->encoder.quality = encoding - PSEUDO_QUALITY_0;
        if (encoding >= PSEUDO_LEVEL_0 && encoding <= PSEUDO_LEVEL_9)
            viewer->encoder.level = encoding - PSEUDO_LEVEL_0;
        break;
    }
}

/* What becomes known for the first time is answered, so that the viewer knows it may be used. */
static void features_answer(struct viewer *viewer, unsigned before)
{
    unsigned now = viewer->features & ~before;

    if (now & FEATURE_FENCE) {
        buffer_put_u32(&viewer->out, (u32)MESSAGE_FENCE << 24);
        buffer_put_u32(&viewer->out, FENCE_REQUEST);
        buffer_put_u8(&viewer->out, 0);
    }
    if (now & FEATURE_CONTINUOUS)
        buffer_put_u8(&viewer->out, MESSAGE_CONTINUOUS);
    viewer->owes_cursor = viewer->owes_cursor || (now & FEATURE_CURSOR);
    viewer->owes_extended_key = viewer->owes_extended_key || (now & FEATURE_EXTENDED_KEY);
    if (now & FEATURE_EXTENDED_SIZE) {
        viewer->owes_size = true;
        viewer->size_reason = REASON_OTHER;
        viewer->size_status = 0;
    }
}

static int take_encodings(struct viewer *viewer, const u8 *message, size_t bytes)
{
    unsigned count = rfb_u16(message + 2), before = viewer->features;
    bool has_encoding = false;

    if (count > ENCODINGS_MAX)
        return -1;
    if (bytes < 4 + 4 * (size_t)count)
        return 0;
    viewer->encoding = ENCODING_RAW;
    viewer->features = 0;
    viewer->encoder.quality = ENCODE_QUALITY_NONE;
    for (unsigned i = 0; i < count; i++)
        encoding_note(viewer, (s32)rfb_u32(message + 4 + 4 * (size_t)i), &has_encoding);
    if (viewer->encoder.level < 1)
        viewer->encoder.level = 1;
    features_answer(viewer, before);
    return (int)(4 + 4 * count);
}

static struct surface_rect rect_at(const u8 *message)
{
    return (struct surface_rect){rfb_u16(message), rfb_u16(message + 2), rfb_u16(message + 4),
                                 rfb_u16(message + 6)};
}

static int take_update_request(struct viewer *viewer, const u8 *message)
{
    const struct surface_rect rect = rect_at(message + 2);

    if (message[1] == 0)
        surface_damage_add(&viewer->vnc->surface, &viewer->damage, &rect);
    viewer->wants_update = true;
    vnc_tick_soon(viewer->vnc);
    return 10;
}

/* The area that the message names is taken to be the whole screen, as viewers mean it. */
static int take_continuous(struct viewer *viewer, const u8 *message)
{
    viewer->is_continuous = message[1] != 0;
    if (viewer->is_continuous)
        vnc_tick_soon(viewer->vnc);
    else
        buffer_put_u8(&viewer->out, MESSAGE_CONTINUOUS);
    return 10;
}

static int take_fence(struct viewer *viewer, const u8 *message, size_t bytes)
{
    u32 flags = rfb_u32(message + 4);
    size_t length = message[8];

    if (length > FENCE_MAX_BYTES)
        return -1;
    if (bytes < 9 + length)
        return 0;
    if (flags & FENCE_REQUEST) {
        buffer_put_u32(&viewer->out, (u32)MESSAGE_FENCE << 24);
        buffer_put_u32(&viewer->out, flags & FENCE_KNOWN);
        buffer_put_u8(&viewer->out, (u8)length);
        buffer_put(&viewer->out, message + 9, length);
    }
    return (int)(9 + length);
}

/* The guest chooses its resolution; the viewer is told so. */
static int take_desktop_size(struct viewer *viewer, const u8 *message, size_t bytes)
{
    size_t length = 8 + 16 * (size_t)message[6];

    if (bytes < length)
        return 0;
    if (viewer->features & FEATURE_EXTENDED_SIZE) {
        viewer->owes_size = true;
        viewer->size_reason = REASON_CLIENT;
        viewer->size_status = STATUS_PROHIBITED;
        vnc_tick_soon(viewer->vnc);
    }
    return (int)length;
}

/* ---- input ---- */

static void key(struct viewer *viewer, u16 code, bool is_down)
{
    const struct display_input *input = &viewer->vnc->display.input;
    u64 bit = BIT(code % 64);

    if (code == 0 || code >= KEYMAP_CODES)
        return;
    if (!is_down && !(viewer->pressed[code / 64] & bit))
        return;
    if (is_down)
        viewer->pressed[code / 64] |= bit;
    else
        viewer->pressed[code / 64] &= ~bit;
    if (input->key)
        input->key(input->ctx, code, is_down);
}

static int take_key(struct viewer *viewer, const u8 *message)
{
    key(viewer, keymap_from_keysym(rfb_u32(message + 4), NULL), message[1] != 0);
    return 8;
}

static u16 axis(u32 at, u32 side)
{
    if (side < 2)
        return 0;
    return (u16)((at < side ? at : side - 1) * DISPLAY_AXIS_MAX / (side - 1));
}

static void point(struct viewer *viewer, u8 buttons, u16 x, u16 y)
{
    const struct display_input *input = &viewer->vnc->display.input;
    const struct surface *surface = &viewer->vnc->surface;
    u8 pressed = buttons & (u8)~viewer->buttons;
    struct display_pointer pointer = {.x = axis(x, surface->width),
                                      .y = axis(y, surface->height),
                                      .dx = x - viewer->x,
                                      .dy = y - viewer->y};

    pointer.buttons = (u8)((buttons & BUTTON_LEFT ? DISPLAY_LEFT : 0) |
                           (buttons & BUTTON_MIDDLE ? DISPLAY_MIDDLE : 0) |
                           (buttons & BUTTON_RIGHT ? DISPLAY_RIGHT : 0));
    pointer.wheel = (s8)((pressed & WHEEL_UP ? 1 : 0) - (pressed & WHEEL_DOWN ? 1 : 0));
    viewer->buttons = buttons;
    viewer->x = x;
    viewer->y = y;
    if (input->pointer)
        input->pointer(input->ctx, &pointer);
}

static int take_pointer(struct viewer *viewer, const u8 *message)
{
    point(viewer, message[1], rfb_u16(message + 2), rfb_u16(message + 4));
    return 6;
}

static int take_qemu(struct viewer *viewer, const u8 *message, size_t bytes)
{
    if (message[1] == QEMU_AUDIO) {
        int length = rfb_u16(message + 2) == QEMU_AUDIO_FORMAT ? 10 : 4;
        return bytes < (size_t)length ? 0 : length;
    }
    if (message[1] != QEMU_KEY)
        return -1;
    if (bytes < 12)
        return 0;
    u16 code = keymap_from_xt(rfb_u32(message + 8));
    if (code == 0)
        code = keymap_from_keysym(rfb_u32(message + 4), NULL);
    key(viewer, code, rfb_u16(message + 2) != 0);
    return 12;
}

void message_release_all(struct viewer *viewer)
{
    for (u16 code = 1; code < KEYMAP_CODES; code++)
        key(viewer, code, false);
    if (viewer->buttons != 0)
        point(viewer, 0, viewer->x, viewer->y);
}

/* ---- dispatch ---- */

/* Text for a clipboard that guests do not have: read past. */
static int take_cut_text(struct viewer *viewer, const u8 *message)
{
    s32 told = (s32)rfb_u32(message + 4);
    u32 length = told < 0 ? 0u - (u32)told : (u32)told; /* negative: an extended message */

    if (length > CUT_TEXT_MAX_BYTES)
        return -1;
    viewer->skip_bytes = length;
    return 8;
}

/* The bytes of a message up to where its length is known; 0: there is no such message. */
static size_t head_bytes(u8 type)
{
    switch (type) {
    case MESSAGE_PIXEL_FORMAT:
        return 20;
    case MESSAGE_ENCODINGS:
    case MESSAGE_QEMU:
        return 4;
    case MESSAGE_UPDATE_REQUEST:
    case MESSAGE_CONTINUOUS:
        return 10;
    case MESSAGE_KEY:
    case MESSAGE_CUT_TEXT:
    case MESSAGE_DESKTOP_SIZE:
        return 8;
    case MESSAGE_POINTER:
        return 6;
    case MESSAGE_FENCE:
        return 9;
    default:
        return 0;
    }
}

int message_take(struct viewer *viewer, const u8 *message, size_t bytes)
{
    size_t head = head_bytes(message[0]);

    if (head == 0)
        return -1;
    if (bytes < head)
        return 0;
    switch (message[0]) {
    case MESSAGE_PIXEL_FORMAT:
        return take_pixel_format(viewer, message);
    case MESSAGE_ENCODINGS:
        return take_encodings(viewer, message, bytes);
    case MESSAGE_UPDATE_REQUEST:
        return take_update_request(viewer, message);
    case MESSAGE_KEY:
        return take_key(viewer, message);
    case MESSAGE_POINTER:
        return take_pointer(viewer, message);
    case MESSAGE_CUT_TEXT:
        return take_cut_text(viewer, message);
    case MESSAGE_CONTINUOUS:
        return take_continuous(viewer, message);
    case MESSAGE_FENCE:
        return take_fence(viewer, message, bytes);
    case MESSAGE_DESKTOP_SIZE:
        return take_desktop_size(viewer, message, bytes);
    default:
        return take_qemu(viewer, message, bytes);
    }
}
