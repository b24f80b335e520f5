/*
 * host/map.c - guest RAM by mmap.
 *
 * Runs   on the main thread.
 */
#include "host/map.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/fault.h"

enum { PAGE_BYTES = 4096, HUGE_BYTES = 2 << 20 };

static int map_backing(struct map *map, unsigned flags)
{
    int fault = host_fault(FAULT_MAP);
    if (fault != 0)
        return fault;
    if ((flags & MAP_RAM_SHARED) == 0)
        return 0;
    map->fd = memfd_create("guest-ram", MFD_CLOEXEC);
    if (map->fd < 0)
        return -errno;
    return ftruncate(map->fd, (off_t)map->bytes) == 0 ? 0 : -errno;
}

int map_init(struct map *ret_map, size_t bytes, unsigned flags, struct err *err)
{
    struct map map = {.fd = -1, .bytes = align_up(bytes, PAGE_BYTES)};
    int result = bytes == 0 || bytes > SIZE_MAX / 2 ? -EINVAL : map_backing(&map, flags);
    if (result != 0)
        goto fail;
    map.reserved_bytes = align_up(map.bytes, HUGE_BYTES) + 3 * (size_t)HUGE_BYTES;
    map.reserved = mmap(NULL, map.reserved_bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map.reserved == MAP_FAILED) {
        map.reserved = NULL;
        result = -errno;
        goto fail;
    }
    /* At least one huge page of guard stays below, and one above. */
    map.base = (u8 *)align_up((u64)(uintptr_t)map.reserved + HUGE_BYTES, HUGE_BYTES);
    int kind = map.fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    if (mmap(map.base, map.bytes, PROT_READ | PROT_WRITE, kind | MAP_FIXED | MAP_NORESERVE, map.fd,
             0) == MAP_FAILED) {
        result = -errno;
        goto fail;
    }
    madvise(map.base, map.bytes, MADV_HUGEPAGE); /* a wish: hosts without huge pages refuse it */
    *ret_map = map;
    return 0;
fail:
    map_fini(&map);
    return err_set(err, result,
                   "guest memory of %zu MiB: %s; ask for less with --memory, or see "
                   "'ulimit -v' and /proc/sys/vm/overcommit_memory",
                   bytes >> 20, strerror(-result));
}

void map_fini(struct map *map)
{
    if (map->reserved != NULL)
        munmap(map->reserved, map->reserved_bytes);
    if (map->bytes != 0 && map->fd >= 0)
        close(map->fd);
    *map = (struct map){.fd = -1};
}
