/*
 * back/surface.c - the picture that a graphics device shows, and which parts of it have changed.
 *
 * Runs   on the thread of whoever shows it.
 * Trust  sizes come from the guest and are checked here; the pixels that a device offers may be
 * guest memory that changes meanwhile, and are copied before anybody looks at them twice.
 */
#include "back/surface.h"

#include "base/alloc.h"
#include "base/bits.h"

void surface_init(struct surface *surface)
{
    *surface = (struct surface){0};
}

void surface_fini(struct surface *surface)
{
    alloc_free(surface->pixels);
    surface->pixels = NULL;
    surface->width = surface->height = 0;
}

bool surface_resize(struct surface *surface, u32 width, u32 height)
{
    if (width == surface->width && height == surface->height)
        return width != 0;
    if (width == 0 || height == 0 || width > SURFACE_SIDE_MAX || height > SURFACE_SIDE_MAX ||
        width * height > SURFACE_PIXELS_MAX)
        return false;
    u32 *pixels = new0_array(u32, (size_t)width * height);
    if (pixels == NULL)
        return false;
    alloc_free(surface->pixels);
    surface->pixels = pixels;
    surface->width = width;
    surface->height = height;
    surface->size_count++;
    const struct surface_rect all = {0, 0, width, height};
    __builtin_memset(&surface->damage, 0, sizeof(surface->damage));
    surface_damage_add(surface, &surface->damage, &all);
    return true;
}

void surface_row(struct surface *surface, u32 row, const u32 *pixels)
{
    if (row >= surface->height)
        return;
    u32 *to = surface->pixels + (size_t)row * surface->width;
    if (__builtin_memcmp(to, pixels, (size_t)surface->width * sizeof(*to)) == 0)
        return;
    u64 *words = surface->damage.rows[row / SURFACE_TILE_HEIGHT];
    for (u32 x = 0; x < surface->width; x += SURFACE_TILE_WIDTH) {
        size_t bytes = min_u64(SURFACE_TILE_WIDTH, surface->width - x) * sizeof(*to);
        if (__builtin_memcmp(to + x, pixels + x, bytes) == 0)
            continue;
        __builtin_memcpy(to + x, pixels + x, bytes);
        words[x / SURFACE_TILE_WIDTH / 64] |= BIT(x / SURFACE_TILE_WIDTH % 64);
    }
}

/* The bits of the tiles FIRST to LAST that lie in the WORD-th word of a row. */
static u64 tile_mask(u32 first, u32 last, u32 word)
{
    u64 mask = ~0ull;
    if (first / 64 > word || last / 64 < word)
        return 0;
    if (first / 64 == word)
        mask &= ~0ull << (first % 64);
    if (last / 64 == word)
        mask &= ~0ull >> (63 - last % 64);
    return mask;
}

void surface_damage_add(const struct surface *surface, struct surface_damage *damage,
                        const struct surface_rect *rect)
{
    if (rect->x >= surface->width || rect->y >= surface->height || rect->width == 0 ||
        rect->height == 0)
        return;
    u32 right = (u32)min_u64((u64)rect->x + rect->width, surface->width) - 1;
    u32 bottom = (u32)min_u64((u64)rect->y + rect->height, surface->height) - 1;
    for (u32 row = rect->y / SURFACE_TILE_HEIGHT; row <= bottom / SURFACE_TILE_HEIGHT; row++)
        for (u32 word = 0; word < SURFACE_TILE_WORDS; word++)
            damage->rows[row][word] |= tile_mask(rect->x / SURFACE_TILE_WIDTH,
                                                 right / SURFACE_TILE_WIDTH, word);
}

static bool is_damaged(const struct surface_damage *damage, u32 row, u32 column)
{
    return damage->rows[row][column / 64] >> (column % 64) & 1;
}

/* True when all tiles FIRST to LAST of ROW are damaged. */
static bool run_is_damaged(const struct surface_damage *damage, u32 row, u32 first, u32 last)
{
    for (u32 word = 0; word < SURFACE_TILE_WORDS; word++) {
        u64 mask = tile_mask(first, last, word);
        if ((damage->rows[row][word] & mask) != mask)
            return false;
    }
    return true;
}

static void run_clear(struct surface_damage *damage, u32 row, u32 first, u32 last)
{
    for (u32 word = 0; word < SURFACE_TILE_WORDS; word++)
        damage->rows[row][word] &= ~tile_mask(first, last, word);
}

/* The first damaged tile; false when there is none. */
static bool first_find(const struct surface_damage *damage, u32 rows, u32 *ret_row, u32 *ret_column)
{
    for (u32 row = 0; row < rows; row++)
        for (u32 word = 0; word < SURFACE_TILE_WORDS; word++)
            if (damage->rows[row][word] != 0) {
                *ret_row = row;
                *ret_column = word * 64 + (u32)__builtin_ctzll(damage->rows[row][word]);
                return true;
            }
    return false;
}

bool surface_damage_take(const struct surface *surface, struct surface_damage *damage,
                         struct surface_rect *ret_rect)
{
    u32 rows = (surface->height + SURFACE_TILE_HEIGHT - 1) / SURFACE_TILE_HEIGHT;
    u32 columns = (surface->width + SURFACE_TILE_WIDTH - 1) / SURFACE_TILE_WIDTH;
    u32 top = 0, left = 0;

    if (!first_find(damage, rows, &top, &left) || left >= columns)
        return false;
    u32 right = left, bottom = top;
    while (right + 1 < columns && is_damaged(damage, top, right + 1))
        right++;
    while (bottom + 1 < rows && run_is_damaged(damage, bottom + 1, left, right))
        bottom++;
    for (u32 row = top; row <= bottom; row++)
        run_clear(damage, row, left, right);
    *ret_rect = (struct surface_rect){.x = left * SURFACE_TILE_WIDTH,
                                      .y = top * SURFACE_TILE_HEIGHT};
    ret_rect->width = (u32)min_u64((right + 1) * SURFACE_TILE_WIDTH, surface->width) - ret_rect->x;
    ret_rect->height = (u32)min_u64((bottom + 1) * SURFACE_TILE_HEIGHT, surface->height) -
                       ret_rect->y;
    return true;
}

bool surface_damage_merge(struct surface_damage *to, const struct surface_damage *from)
{
    u64 any = 0;
    for (unsigned row = 0; row < SURFACE_TILE_ROWS; row++)
        for (unsigned word = 0; word < SURFACE_TILE_WORDS; word++) {
            to->rows[row][word] |= from->rows[row][word];
            any |= from->rows[row][word];
        }
    return any != 0;
}
