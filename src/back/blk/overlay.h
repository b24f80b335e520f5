/*
 * back/blk/overlay.h - where a snapshot disk's writes go: a temporary file that has no name and
 * vanishes with the process, and one bit for each sector that lives there.
 *
 * A sector keeps its offset in the temporary file, which is sparse. A bit per sector means that a
 * write never has to read the rest of a larger unit first.
 */
#ifndef BACK_BLK_OVERLAY_H
#define BACK_BLK_OVERLAY_H

#include "base/err.h"
#include "base/types.h"

struct overlay {
    int fd;    /* owned */
    u64 *bits; /* owned: one per sector; mapped lazily */
    u64 bits_bytes;
    u32 sector_bytes;
};

MUST_CHECK int overlay_init(struct overlay *ret_overlay, u64 size_bytes, u32 sector_bytes,
                            struct err *err);
void overlay_fini(struct overlay *overlay);

/* How many of BYTES from OFFSET on lie in the same place as the first sector; at least a sector. */
u64 overlay_run(const struct overlay *overlay, u64 offset, u64 bytes, bool *ret_is_here);
/* Says that the overlay now holds these sectors. */
void overlay_mark(struct overlay *overlay, u64 offset, u64 bytes);

#endif
