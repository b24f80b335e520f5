/*
 * back/blk/image.h - a disk image file or a block device, opened, locked and measured.
 *
 * One image is written by one VM: a writer holds an exclusive lock on the open file, a reader a
 * shared one. The kernel drops the lock when the process ends, however it ends.
 */
#ifndef BACK_BLK_IMAGE_H
#define BACK_BLK_IMAGE_H

#include "base/err.h"
#include "base/types.h"

struct image {
    int fd; /* owned */
    bool is_device;
    bool is_direct;   /* past the page cache */
    u64 file_bytes;   /* as the file had them when it was opened */
    u64 size_bytes;   /* rounded up to whole sectors */
    u32 sector_bytes; /* what offsets must be multiples of */
    u32 memory_align; /* direct only: what addresses must be multiples of */
};

MUST_CHECK int image_open(struct image *ret_image, const char *path, bool read_only, bool direct,
                          struct err *err);
void image_close(struct image *image);
/* True when the file still holds at least END bytes. */
bool image_holds(const struct image *image, u64 end);

#endif
