/*
 * host/map.h - guest RAM: a large zeroed mapping, taken from the host page by page as it is
 * touched.
 *
 * The mapping lies on a 2 MiB boundary so that the host can back it with huge pages, and between
 * two guard regions, so that an overrun faults instead of reaching other memory.
 */
#ifndef HOST_MAP_H
#define HOST_MAP_H

#include "base/err.h"
#include "base/types.h"

enum map_flag {
    MAP_RAM_SHARED =
        1 /* backed by a memory file, whose descriptor can be given to other processes */
};

struct map {
    u8 *base; /* owned */
    size_t bytes;
    int fd; /* owned; -1 when the mapping is private */
    void *reserved;
    size_t reserved_bytes;
};

/* Maps BYTES (rounded up to pages) into RET_MAP; -ENOMEM and ERR when the host refuses. */
MUST_CHECK int map_init(struct map *ret_map, size_t bytes, unsigned flags, struct err *err);
/* Unmaps; a map of all zeroes is allowed. */
void map_fini(struct map *map);

#endif
