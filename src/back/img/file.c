/*
 * back/img/file.c - one host file or block device of a disk image.
 *
 * Spec   fcntl(2) open file description locks; fallocate(2).
 * Runs   on one thread at a time.
 * Trust  the file may change under us: its size is a hint, and reads past its end give zeroes.
 */
#include "back/img/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/log.h"
#include "host/fault.h"
#include "host/fd.h"

enum { ZERO_CHUNK_BYTES = 64 * 1024 };

static const char *mend_for(int code)
{
    switch (code) {
    case -ENOENT:
        return "; check the path";
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return "; check the file's owner and mode, or open it for reading only";
    default:
        return "";
    }
}

int file_lock(int fd, const char *path, bool is_writer, struct err *err)
{
    struct flock lock = {.l_type = is_writer ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    int result = host_fault(FAULT_LOCK);
    if (result == 0 && fcntl(fd, F_OFD_SETLK, &lock) != 0)
        result = -errno;
    if (result == -EAGAIN || result == -EACCES)
        return err_set(err, -EBUSY,
                       "disk '%s': another VM %s it; stop that VM first, or give each its own "
                       "changes with ',snapshot'",
                       path, is_writer ? "uses" : "writes to");
    if (result == -ENOLCK || result == -ENOSYS || result == -EOPNOTSUPP) {
        log_warn("disk", "'%s': this file system has no locks; make sure that only one VM uses it",
                 path);
        return 0;
    }
    return result == 0 ? 0 : err_set(err, result, "disk '%s': lock: %s", path, strerror(-result));
}

static int file_measure(struct file *file, struct err *err)
{
    struct stat info;
    int result = host_fault(FAULT_STAT);
    if (result == 0 && fstat(file->fd, &info) != 0)
        result = -errno;
    if (result != 0)
        return err_set(err, result, "disk '%s': %s", file->path, strerror(-result));
    file->device = S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev;
    file->inode = S_ISBLK(info.st_mode) ? 0 : info.st_ino;
    file->is_device = S_ISBLK(info.st_mode);
    file->bytes = (u64)info.st_size;
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return err_set(err, -EINVAL,
                       "disk '%s': a disk is a regular file or a block device; this is %s",
                       file->path, S_ISDIR(info.st_mode) ? "a directory" : "neither");
    if (file->is_device && ioctl(file->fd, BLKGETSIZE64, &file->bytes) != 0)
        return err_set(err, -errno, "disk '%s': size of the device: %s", file->path,
                       strerror(errno));
    return 0;
}

static struct file *file_new(const char *path)
{
    struct file *file = host_fault(FAULT_MEMORY) == 0 ? new0(struct file) : NULL;
    if (file == NULL)
        return NULL;
    file->fd = file->direct_fd = -1;
    file->path = strdup(path);
    if (file->path == NULL) {
        alloc_free(file);
        return NULL;
    }
    return file;
}

int file_open(struct file **ret_file, const char *path, unsigned flags, struct err *err)
{
    bool is_writer = (flags & FILE_WRITABLE) != 0;
    int mode = (is_writer ? O_RDWR : O_RDONLY) | O_NONBLOCK;
    struct file *file = file_new(path);
    if (file == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", path);
    if ((flags & FILE_CREATE) != 0)
        mode |= O_CREAT | O_EXCL;
    file->read_only = !is_writer;
    file->fd = fd_open(path, mode, 0666);
    int result = file->fd < 0 ? file->fd : 0;
    if (result != 0) {
        err_set(err, result, "disk '%s': %s%s", path, strerror(-result), mend_for(result));
        goto fail;
    }
    /* O_NONBLOCK was for files that are no disks at all; io_uring takes it as a wish to fail. */
    fcntl(file->fd, F_SETFL, mode & ~O_NONBLOCK);
    result = file_measure(file, err);
    if (result == 0)
        result = file_lock(file->fd, path, is_writer, err);
    if (result == 0 && (flags & FILE_DIRECT) != 0) {
        file->direct_fd = fd_open(path, (is_writer ? O_RDWR : O_RDONLY) | O_DIRECT, 0);
        if (file->direct_fd < 0)
            result = err_set(err, file->direct_fd,
                             "disk '%s': %s; this file system may not know O_DIRECT: leave out "
                             "',direct'",
                             path, strerror(-file->direct_fd));
    }
    if (result != 0)
        goto fail;
    *ret_file = file;
    return 0;
fail:
    file_close(file);
    return result;
}

int file_open_temporary(struct file **ret_file, struct err *err)
{
    const char *chosen = getenv("TMPDIR");
    const char *folders[] = {chosen != NULL ? chosen : "/var/tmp", "/var/tmp", "/tmp"};
    struct file *file = file_new("(temporary)");
    if (file == NULL)
        return err_set(err, -ENOMEM, "snapshot: out of memory");
    for (unsigned i = 0; i < ARRAY_LEN(folders) && file->fd < 0; i++)
        file->fd = fd_open(folders[i], O_TMPFILE | O_RDWR | O_EXCL, 0600);
    int result = file->fd < 0 ? file->fd : file_measure(file, err);
    if (result != 0) {
        file_close(file);
        return err_set(err, result,
                       "snapshot: temporary file: %s; name a folder that can hold it in TMPDIR",
                       strerror(-result));
    }
    *ret_file = file;
    return 0;
}

void file_close(struct file *file)
{
    if (file == NULL)
        return;
    fd_close(&file->direct_fd);
    fd_close(&file->fd);
    free(file->path);
    alloc_free(file);
}

static void note(struct file *file, enum file_event event, u64 offset, const void *data, u64 bytes)
{
    if (file->watch != NULL)
        file->watch->note(file->watch->ctx, event, offset, data, bytes);
}

int file_read(struct file *file, u64 offset, void *to, u64 bytes)
{
    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return -EFBIG;
    s64 got = fd_pread(file->fd, to, bytes, offset);
    if (got < 0)
        return (int)got;
    memset((u8 *)to + got, 0, bytes - (u64)got);
    return 0;
}

int file_write(struct file *file, u64 offset, const void *from, u64 bytes)
{
    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return -EFBIG;
    int result = fd_pwrite(file->fd, from, bytes, offset);
    if (result != 0)
        return result;
    shared_set(&file->bytes, max_u64(file->bytes, offset + bytes));
    note(file, FILE_WROTE, offset, from, bytes);
    return 0;
}

static int call_fallocate(struct file *file, int mode, u64 offset, u64 bytes)
{
    int result = host_fault(FAULT_ALLOCATE);
    if (result == 0 && fallocate(file->fd, mode, (off_t)offset, (off_t)bytes) != 0)
        result = -errno;
    return result;
}

static int zero_by_hand(struct file *file, u64 offset, u64 bytes)
{
    static const u8 zeroes[ZERO_CHUNK_BYTES];
    for (u64 done = 0; done < bytes; done += ZERO_CHUNK_BYTES) {
        int result = file_write(file, offset + done, zeroes,
                                min_u64(bytes - done, ZERO_CHUNK_BYTES));
        if (result != 0)
            return result;
    }
    return 0;
}

int file_zero(struct file *file, u64 offset, u64 bytes, bool may_punch)
{
    if (bytes == 0)
        return 0;
    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return -EFBIG;
    int mode = may_punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    int result = call_fallocate(file, mode, offset, bytes);
    if (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL)
        return zero_by_hand(file, offset, bytes);
    if (result != 0)
        return result;
    note(file, FILE_ZEROED, offset, NULL, bytes);
    if (!may_punch)
        shared_set(&file->bytes, max_u64(file->bytes, offset + bytes));
    else if (offset + bytes > file->bytes)
        return file_resize(file, offset + bytes);
    return 0;
}

void file_punch(struct file *file, u64 offset, u64 bytes)
{
    if (file->is_device)
        return;
    if (call_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) == 0)
        note(file, FILE_ZEROED, offset, NULL, bytes);
}

int file_resize(struct file *file, u64 bytes)
{
    if (file->is_device)
        return bytes <= file->bytes ? 0 : -ENOSPC;
    int result = host_fault(FAULT_ALLOCATE);
    if (result == 0 && ftruncate(file->fd, (off_t)bytes) != 0)
        result = -errno;
    if (result != 0)
        return result;
    shared_set(&file->bytes, bytes);
    note(file, FILE_RESIZED, bytes, NULL, 0);
    return 0;
}

int file_allocate(struct file *file, u64 offset, u64 bytes)
{
    if (file->is_device)
        return 0;
    int result = call_fallocate(file, 0, offset, bytes);
    if (result != 0)
        return result;
    if (offset + bytes > file->bytes) {
        shared_set(&file->bytes, offset + bytes);
        note(file, FILE_RESIZED, file->bytes, NULL, 0);
    }
    return 0;
}

u64 file_hole(struct file *file, u64 offset)
{
    off_t data = lseek(file->fd, (off_t)offset, SEEK_DATA);
    if (data >= 0)
        return (u64)data - offset;
    return errno == ENXIO ? UINT64_MAX - offset : 0;
}

int file_sync(struct file *file)
{
    if (file->sync_failed)
        return -EIO;
    int result = host_fault(FAULT_SYNC);
    if (result == 0 && fdatasync(file->fd) != 0)
        result = -errno;
    if (result != 0) {
        /* The host forgets the pages that it could not write: a later success would be a lie. */
        shared_set(&file->sync_failed, true);
        return result;
    }
    note(file, FILE_SYNCED, 0, NULL, 0);
    return 0;
}
