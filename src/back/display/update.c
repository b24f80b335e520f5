/*
 * back/display/update.c - what a viewer is sent: changed rectangles, sizes, a cursor.
 *
 * Spec   RFC 6143, 7.6.1, 7.8.1 (Cursor), 7.8.2 (DesktopSize); the RFB community's specification of
 *        ExtendedDesktopSize and of the QEMU extended key event.
 * Runs   on the display's thread.
 *
 * A viewer gets a new update only after the last one has left: one that is slow sees fewer
 * pictures, each of them whole and new, and holds nobody up.
 */
#include <string.h>

#include "back/display/vnc_priv.h"
#include "base/bits.h"

/* Of one update; what is left over goes into the next. The largest surface in raw pixels fits: who
 * asks for the whole screen gets it in one piece. */
enum { UPDATE_SOFT_BYTES = 17 << 20, RECTS_MAX = 1000 };
enum { CURSOR_SIDE = 3, SERVER_UPDATE = 0 };

bool update_is_wanted(const struct viewer *viewer)
{
    return viewer->state == VIEWER_RUNNING && (viewer->wants_update || viewer->is_continuous);
}

/* A dot: systems draw their own pointer into the picture, and this shows where the hand is. */
static void put_cursor(struct viewer *viewer)
{
    static const u8 mask[CURSOR_SIDE] = {0xe0, 0xe0, 0xe0};
    const struct surface_rect rect = {1, 1, CURSOR_SIDE, CURSOR_SIDE};
    const struct pixel_format *format = &viewer->encoder.format;
    u8 pixels[CURSOR_SIDE * CURSOR_SIDE * 4], *at = pixels;

    encode_header(&viewer->out, &rect, PSEUDO_CURSOR);
    for (unsigned i = 0; i < CURSOR_SIDE * CURSOR_SIDE; i++)
        at = pixel_put(format, at, i == CURSOR_SIDE * CURSOR_SIDE / 2 ? 0xffffff : 0);
    buffer_put(&viewer->out, pixels, (size_t)(at - pixels));
    buffer_put(&viewer->out, mask, sizeof(mask));
}

static void put_size(struct viewer *viewer)
{
    struct surface_rect rect = {0, 0, viewer->width, viewer->height};

    if (!(viewer->features & FEATURE_EXTENDED_SIZE)) {
        encode_header(&viewer->out, &rect, PSEUDO_DESKTOP_SIZE);
        return;
    }
    rect.x = viewer->size_reason;
    rect.y = viewer->size_status;
    encode_header(&viewer->out, &rect, PSEUDO_EXTENDED_SIZE);
    buffer_put_u32(&viewer->out, 1u << 24); /* one screen, which is all */
    buffer_put_u32(&viewer->out, 0);
    buffer_put_u32(&viewer->out, 0);
    buffer_put_u16(&viewer->out, (u16)viewer->width);
    buffer_put_u16(&viewer->out, (u16)viewer->height);
    buffer_put_u32(&viewer->out, 0);
}

/* A new size of the screen, for viewers that can follow it; others see what they have room for. */
static void size_follow(struct viewer *viewer)
{
    const struct surface *surface = &viewer->vnc->surface;
    const struct surface_rect all = {0, 0, surface->width, surface->height};

    if (viewer->size_count == surface->size_count)
        return;
    viewer->size_count = surface->size_count;
    memset(&viewer->damage, 0, sizeof(viewer->damage));
    surface_damage_add(surface, &viewer->damage, &all);
    if (!(viewer->features & (FEATURE_DESKTOP_SIZE | FEATURE_EXTENDED_SIZE)))
        return;
    viewer->width = surface->width;
    viewer->height = surface->height;
    viewer->owes_size = true;
    viewer->size_reason = viewer->size_status = 0;
}

static bool damage_is_empty(const struct surface_damage *damage)
{
    u64 any = 0;
    for (unsigned row = 0; row < SURFACE_TILE_ROWS; row++)
        for (unsigned word = 0; word < SURFACE_TILE_WORDS; word++)
            any |= damage->rows[row][word];
    return any == 0;
}

/* Cuts RECT to what the viewer knows of; false when nothing is left. */
static bool rect_clip(const struct viewer *viewer, struct surface_rect *rect)
{
    if (rect->x >= viewer->width || rect->y >= viewer->height)
        return false;
    rect->width = (u32)min_u64(rect->width, viewer->width - rect->x);
    rect->height = (u32)min_u64(rect->height, viewer->height - rect->y);
    return true;
}

static unsigned put_pixels(struct viewer *viewer, unsigned count)
{
    const struct surface *surface = &viewer->vnc->surface;
    struct surface_rect rect;

    while (viewer->out.bytes < UPDATE_SOFT_BYTES && count < RECTS_MAX &&
           surface_damage_take(surface, &viewer->damage, &rect)) {
        if (!rect_clip(viewer, &rect))
            continue;
        count += encode_rect(&viewer->encoder, viewer->encoding, surface, &rect, &viewer->out);
    }
    return count;
}

void update_send(struct viewer *viewer)
{
    unsigned count = 0;

    if (!update_is_wanted(viewer) || viewer->out.bytes > 0)
        return;
    size_follow(viewer);
    bool has_news = viewer->owes_size || viewer->owes_cursor || viewer->owes_extended_key;
    if (!has_news && damage_is_empty(&viewer->damage))
        return;
    buffer_put_u32(&viewer->out, SERVER_UPDATE);
    if (viewer->owes_size && ++count)
        put_size(viewer);
    if (viewer->owes_cursor && ++count)
        put_cursor(viewer);
    if (viewer->owes_extended_key && ++count)
        encode_header(&viewer->out, &(const struct surface_rect){0}, PSEUDO_EXTENDED_KEY);
    viewer->owes_size = viewer->owes_cursor = viewer->owes_extended_key = false;
    count = put_pixels(viewer, count);
    buffer_set_u16(&viewer->out, 2, (u16)count);
    viewer->wants_update = false;
    viewer_flush(viewer);
}
