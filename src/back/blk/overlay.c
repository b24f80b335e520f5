/*
 * back/blk/overlay.c - where a snapshot disk's writes go.
 *
 * Runs   on the loop.
 */
#include "back/blk/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/fault.h"
#include "host/fd.h"

/* A nameless file in the first folder that takes one; memory only where no folder does. */
static int temporary_file(void)
{
    const char *chosen = getenv("TMPDIR");
    const char *folders[] = {chosen != NULL ? chosen : "/var/tmp", "/var/tmp", "/tmp"};
    int fd = -ENOENT;
    for (unsigned i = 0; i < ARRAY_LEN(folders); i++) {
        fd = fd_open(folders[i], O_TMPFILE | O_RDWR | O_EXCL, 0600);
        if (fd >= 0)
            return fd;
    }
    fd = memfd_create("snapshot", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int overlay_init(struct overlay *ret_overlay, u64 size_bytes, u32 sector_bytes, struct err *err)
{
    struct overlay overlay = {.sector_bytes = sector_bytes};
    overlay.bits_bytes = align_up(size_bytes / sector_bytes / 8 + 8, 4096);
    overlay.fd = temporary_file();
    int result = overlay.fd < 0 ? overlay.fd : host_fault(FAULT_ALLOCATE);
    if (result == 0 && ftruncate(overlay.fd, (off_t)size_bytes) != 0)
        result = -errno;
    if (result == 0)
        result = host_fault(FAULT_MAP);
    if (result == 0) {
        void *bits = mmap(NULL, overlay.bits_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        result = bits == MAP_FAILED ? -errno : 0;
        overlay.bits = bits == MAP_FAILED ? NULL : bits;
    }
    if (result != 0) {
        overlay_fini(&overlay);
        return err_set(err, result,
                       "snapshot: temporary file: %s; name a folder that can hold it in TMPDIR",
                       strerror(-result));
    }
    *ret_overlay = overlay;
    return 0;
}

void overlay_fini(struct overlay *overlay)
{
    if (overlay->bits != NULL)
        munmap(overlay->bits, overlay->bits_bytes);
    overlay->bits = NULL;
    fd_close(&overlay->fd);
}

static bool is_here(const struct overlay *overlay, u64 sector)
{
    return (overlay->bits[sector / 64] & BIT(sector % 64)) != 0;
}

u64 overlay_run(const struct overlay *overlay, u64 offset, u64 bytes, bool *ret_is_here)
{
    u64 sector = offset / overlay->sector_bytes, end = sector + bytes / overlay->sector_bytes;
    u64 first = sector;
    bool here = is_here(overlay, sector);
    while (sector < end) {
        u64 same = here ? ~0ull : 0;
        if (sector % 64 == 0 && end - sector >= 64 && overlay->bits[sector / 64] == same)
            sector += 64;
        else if (is_here(overlay, sector) == here)
            sector++;
        else
            break;
    }
    *ret_is_here = here;
    return (sector - first) * overlay->sector_bytes;
}

void overlay_mark(struct overlay *overlay, u64 offset, u64 bytes)
{
    u64 sector = offset / overlay->sector_bytes, end = sector + bytes / overlay->sector_bytes;
    while (sector < end) {
        if (sector % 64 == 0 && end - sector >= 64) {
            overlay->bits[sector / 64] = ~0ull;
            sector += 64;
        } else {
            overlay->bits[sector / 64] |= BIT(sector % 64);
            sector++;
        }
    }
}
