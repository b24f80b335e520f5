/*
 * back/surface.h - the picture that a graphics device shows, and which parts of it have changed.
 *
 * A surface belongs to whoever shows it. Its device draws row by row with surface_row(), which
 * compares with what is there, so that what has not changed is not damage; devices need not know
 * what the guest has written since. Pixels are 0x00RRGGBB in host order; the top byte is undefined.
 * Damage is kept in tiles of SURFACE_TILE_WIDTH by SURFACE_TILE_HEIGHT pixels.
 *
 * Threads: one at a time; the owner's.
 */
#ifndef BACK_SURFACE_H
#define BACK_SURFACE_H

#include "base/types.h"

enum { SURFACE_SIDE_MAX = 4096, SURFACE_PIXELS_MAX = 4 << 20 };
enum { SURFACE_TILE_WIDTH = 32, SURFACE_TILE_HEIGHT = 16 };
enum {
    SURFACE_TILE_COLUMNS = SURFACE_SIDE_MAX / SURFACE_TILE_WIDTH,
    SURFACE_TILE_ROWS = SURFACE_SIDE_MAX / SURFACE_TILE_HEIGHT,
    SURFACE_TILE_WORDS = SURFACE_TILE_COLUMNS / 64
};

struct surface_rect {
    u32 x, y, width, height;
};

/* One bit for each tile. */
struct surface_damage {
    u64 rows[SURFACE_TILE_ROWS][SURFACE_TILE_WORDS];
};

struct surface {
    u32 width, height; /* pixels; both 0 before the first surface_resize */
    u32 *pixels;       /* owned: height rows of width pixels */
    u32 size_count;    /* counts changes of size */
    struct surface_damage damage;
};

void surface_init(struct surface *surface);
void surface_fini(struct surface *surface);

/* Makes the surface WIDTH by HEIGHT; black and wholly damaged when that is new, else as it was.
 * False for sizes of 0 or beyond the limits, and when there is no memory: nothing has changed. */
MUST_CHECK bool surface_resize(struct surface *surface, u32 width, u32 height);
/* Puts width pixels at ROW; PIXELS may change while this runs. Rows outside are ignored. */
void surface_row(struct surface *surface, u32 row, const u32 *pixels);

/* Marks the tiles that RECT meets; it is cut at the surface's edges. */
void surface_damage_add(const struct surface *surface, struct surface_damage *damage,
                        const struct surface_rect *rect);
/* Takes a run of damaged tiles out of DAMAGE, from the top, as a rectangle of pixels; false when
 * there is none left. */
bool surface_damage_take(const struct surface *surface, struct surface_damage *damage,
                         struct surface_rect *ret_rect);
/* Adds all of FROM to TO; returns whether FROM has any. */
bool surface_damage_merge(struct surface_damage *to, const struct surface_damage *from);

#endif
