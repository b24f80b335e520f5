/*
 * cli/cpio.h - an initial RAM disk, written entry by entry.
 */
#ifndef CLI_CPIO_H
#define CLI_CPIO_H

#include <stdio.h>

#include "base/types.h"

/* Errors stay in FILE: ask ferror() after cpio_end. Names are without the leading '/'. */
struct cpio {
    FILE *file; /* borrowed */
    u32 entry_count;
};

void cpio_folder(struct cpio *cpio, const char *name);
/* A character device with all rights for root. */
void cpio_device(struct cpio *cpio, const char *name, u32 major, u32 minor);
/* The file at PATH of the host as an executable NAME; -errno when it cannot be read. */
MUST_CHECK int cpio_file(struct cpio *cpio, const char *name, const char *path);
void cpio_end(struct cpio *cpio);

#endif
