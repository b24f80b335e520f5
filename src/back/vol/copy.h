/*
 * back/vol/copy.h - copies from image to image in pieces.
 */
#ifndef BACK_VOL_COPY_H
#define BACK_VOL_COPY_H

#include "back/vol/vol.h"

enum { COPY_BYTES = 1 << 20 };

/* BYTES at OFFSET of what the links of FROM from FIRST on show, to TO. Zeroes are left out where
 * TO_IS_ZERO, else written. BUFFER has COPY_BYTES, and so has BYTES at most. */
MUST_CHECK int copy_piece(struct img *from, unsigned first, struct img *to, u64 offset, u64 bytes,
                          u8 *buffer, bool to_is_zero);
void progress_tell(const struct vol_progress *progress, u64 done_bytes, u64 total_bytes);
/* ERR says what failed on which image; returns RESULT. */
int copy_failed(struct err *err, const char *path, const char *what, int result);

#endif
