/*
 * host/fd.c - file descriptors: whole reads and writes, flags, and local sockets.
 *
 * Runs   on any thread.
 */
#include "host/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/fault.h"

enum { LISTEN_BACKLOG = 4 };
#define OFFSET_NONE UINT64_MAX

static s64 read_all(int fd, u8 *to, size_t bytes, u64 offset)
{
    size_t done_bytes = 0;
    while (done_bytes < bytes) {
        int fault = host_fault(FAULT_READ);
        if (fault != 0)
            return fault;
        ssize_t got = offset == OFFSET_NONE ? read(fd, to + done_bytes, bytes - done_bytes)
                                            : pread(fd, to + done_bytes, bytes - done_bytes,
                                                    (off_t)(offset + done_bytes));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done_bytes += (size_t)got;
    }
    return (s64)done_bytes;
}

static int write_all(int fd, const u8 *from, size_t bytes, u64 offset)
{
    size_t done_bytes = 0;
    while (done_bytes < bytes) {
        int fault = host_fault(FAULT_WRITE);
        if (fault != 0)
            return fault;
        ssize_t put = offset == OFFSET_NONE ? write(fd, from + done_bytes, bytes - done_bytes)
                                            : pwrite(fd, from + done_bytes, bytes - done_bytes,
                                                     (off_t)(offset + done_bytes));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        done_bytes += (size_t)put;
    }
    return 0;
}

s64 fd_read(int fd, void *to, size_t bytes)
{
    return read_all(fd, to, bytes, OFFSET_NONE);
}

s64 fd_pread(int fd, void *to, size_t bytes, u64 offset)
{
    return read_all(fd, to, bytes, offset);
}

int fd_write(int fd, const void *from, size_t bytes)
{
    return write_all(fd, from, bytes, OFFSET_NONE);
}

int fd_pwrite(int fd, const void *from, size_t bytes, u64 offset)
{
    return write_all(fd, from, bytes, offset);
}

int fd_open(const char *path, int flags, unsigned mode)
{
    int fd = host_fault(FAULT_OPEN);
    if (fd != 0)
        return fd;
    do {
        fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int fd_set_inherited(int fd, bool is_inherited)
{
    return fcntl(fd, F_SETFD, is_inherited ? 0 : FD_CLOEXEC) < 0 ? -errno : 0;
}

int fd_pair(int fds[2], struct err *err)
{
    int fault = host_fault(FAULT_SOCKET);
    if (fault != 0)
        errno = -fault;
    if (fault != 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return err_set(err, -errno, "socket pair: %s", strerror(errno));
    return 0;
}

/* A socket and the address that PATH makes; the descriptor or a negative error. */
static int local_socket(const char *path, struct sockaddr_un *ret_address, struct err *err)
{
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(ret_address->sun_path))
        return err_set(err, -ENAMETOOLONG,
                       "socket '%s': a socket's path has 1 to %zu bytes; choose a shorter one",
                       path, sizeof(ret_address->sun_path) - 1);
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_address->sun_path, path, length);
    int fd = host_fault(FAULT_SOCKET);
    if (fd == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        fd = fd < 0 ? -errno : fd;
    }
    return fd < 0 ? err_set(err, fd, "socket '%s': %s", path, strerror(-fd)) : fd;
}

int fd_connect(const char *path, struct err *err)
{
    struct sockaddr_un address;
    int fd = local_socket(path, &address, err);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int code = -errno;
        close(fd);
        return err_set(err, code, "socket '%s': %s", path, strerror(-code));
    }
    return fd;
}

/* A socket file whose owner has gone stays behind and would refuse the new owner. */
static int clear_stale(const char *path, struct err *err)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return 0;
    if (!S_ISSOCK(info.st_mode))
        return err_set(err, -EEXIST, "socket '%s': a file of that name exists and is no socket",
                       path);
    int fd = fd_connect(path, NULL);
    if (fd >= 0) {
        close(fd);
        return err_set(err, -EADDRINUSE, "socket '%s': another process listens there", path);
    }
    if (fd == -ECONNREFUSED)
        unlink(path);
    return 0;
}

int fd_listen(const char *path, struct err *err)
{
    struct sockaddr_un address;
    int fd = local_socket(path, &address, err);
    if (fd < 0)
        return fd;
    int result = clear_stale(path, err);
    if (result != 0) {
        close(fd);
        return result;
    }
    /* The mode of the socket file comes from the descriptor: nobody else gets a moment to connect.
     */
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0) {
        result = -errno;
        close(fd);
        return err_set(err, result, "socket '%s': %s", path, strerror(-result));
    }
    return fd;
}
