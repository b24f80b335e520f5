/*
 * back/blk/image.c - a disk image file or a block device, opened, locked and measured.
 *
 * Spec   fcntl(2) open file description locks; statx(2) STATX_DIOALIGN.
 * Runs   on the main thread; image_holds on the loop.
 * Trust  the file's size may change at any time.
 */
#include "back/blk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "back/img/file.h"
#include "base/bits.h"
#include "host/fault.h"
#include "host/fd.h"

enum { SECTOR_BYTES = 512, SECTOR_BYTES_MAX = 4096 };

static const char *mend_for(int code)
{
    switch (code) {
    case -ENOENT:
        return "; check the path";
    case -EACCES:
    case -EPERM:
        return "; check the file's owner and mode, or add ',readonly' or ',snapshot'";
    case -EROFS:
        return "; add ',readonly' or ',snapshot'";
    case -EINVAL:
        return "; this file system may not know O_DIRECT: leave out ',direct'";
    default:
        return "";
    }
}

static int measure_device(struct image *image)
{
    u64 bytes = 0;
    int sector_bytes = SECTOR_BYTES;
    if (ioctl(image->fd, BLKGETSIZE64, &bytes) != 0 ||
        ioctl(image->fd, BLKSSZGET, &sector_bytes) != 0)
        return -errno;
    if (sector_bytes < SECTOR_BYTES || sector_bytes > SECTOR_BYTES_MAX)
        return -EOPNOTSUPP;
    image->is_device = true;
    image->file_bytes = bytes;
    image->sector_bytes = image->memory_align = (u32)sector_bytes;
    return 0;
}

/* Asks the file system how direct transfers must be aligned; old kernels do not say. */
static void measure_direct(struct image *image)
{
    struct statx info = {0};
    image->memory_align = SECTOR_BYTES;
    if (syscall(SYS_statx, image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
        (info.stx_mask & STATX_DIOALIGN) != 0) {
        if (info.stx_dio_offset_align > image->sector_bytes &&
            info.stx_dio_offset_align <= SECTOR_BYTES_MAX)
            image->sector_bytes = info.stx_dio_offset_align;
        image->memory_align = info.stx_dio_mem_align;
    }
    image->memory_align = (u32)max_u64(image->memory_align, image->sector_bytes);
}

static int image_measure(struct image *image, const char *path, struct err *err)
{
    struct stat info;
    int result = host_fault(FAULT_STAT);
    if (result == 0 && fstat(image->fd, &info) != 0)
        result = -errno;
    if (result != 0)
        return err_set(err, result, "disk '%s': %s", path, strerror(-result));
    if (S_ISBLK(info.st_mode)) {
        result = measure_device(image);
        if (result != 0)
            return err_set(err, result, "disk '%s': size of the device: %s", path,
                           strerror(-result));
    } else if (S_ISREG(info.st_mode)) {
        image->file_bytes = (u64)info.st_size;
        image->sector_bytes = SECTOR_BYTES;
        if (image->is_direct)
            measure_direct(image);
    } else {
        return err_set(err, -EINVAL,
                       "disk '%s': a disk is a regular file or a block device; this is %s", path,
                       S_ISDIR(info.st_mode) ? "a directory" : "neither");
    }
    image->size_bytes = align_up(image->file_bytes, image->sector_bytes);
    if (image->size_bytes == 0)
        return err_set(err, -EINVAL,
                       "disk '%s': the file is empty; give it a size with 'truncate -s 10G %s'",
                       path, path);
    return 0;
}

int image_open(struct image *ret_image, const char *path, bool read_only, bool direct,
               struct err *err)
{
    struct image image = {.is_direct = direct};
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | (direct ? O_DIRECT : 0);
    image.fd = fd_open(path, flags, 0);
    if (image.fd < 0)
        return err_set(err, image.fd, "disk '%s': %s%s", path,
                       image.fd == -EISDIR ? "a disk is a file or a block device, not a directory"
                                           : strerror(-image.fd),
                       mend_for(image.fd));
    /* O_NONBLOCK was for files that are no disks at all; io_uring takes it as a wish to fail. */
    fcntl(image.fd, F_SETFL, flags & ~O_NONBLOCK);
    int result = image_measure(&image, path, err);
    if (result == 0)
        result = file_lock(image.fd, path, !read_only, err);
    if (result != 0) {
        image_close(&image);
        return result;
    }
    *ret_image = image;
    return 0;
}

void image_close(struct image *image)
{
    fd_close(&image->fd);
}

bool image_holds(const struct image *image, u64 end)
{
    struct stat info;
    if (image->is_device)
        return true;
    return fstat(image->fd, &info) == 0 && (u64)info.st_size >= min_u64(end, image->file_bytes);
}
