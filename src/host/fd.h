/*
 * host/fd.h - file descriptors: whole reads and writes, flags, and local sockets.
 *
 * Threads: any. Every call can be made to fail by host/fault.h. All descriptors made here close on
 * exec.
 */
#ifndef HOST_FD_H
#define HOST_FD_H

#include "base/err.h"
#include "base/types.h"

/* Reads until BYTES have come or the file ends; returns how many came, or -errno. */
MUST_CHECK s64 fd_read(int fd, void *to, size_t bytes);
MUST_CHECK s64 fd_pread(int fd, void *to, size_t bytes, u64 offset);
/* Writes all BYTES; 0 or -errno. */
MUST_CHECK int fd_write(int fd, const void *from, size_t bytes);
MUST_CHECK int fd_pwrite(int fd, const void *from, size_t bytes, u64 offset);

/* open(2) with O_CLOEXEC; the descriptor or -errno. */
MUST_CHECK int fd_open(const char *path, int flags, unsigned mode);
/* Closes *FD if it is not negative, and makes it -1. */
void fd_close(int *fd);
MUST_CHECK int fd_set_nonblock(int fd);
MUST_CHECK int fd_set_inherited(int fd, bool is_inherited);

/* Two connected local stream sockets, in FDS. */
MUST_CHECK int fd_pair(int fds[2], struct err *err);
/* Listens at PATH, after taking away a socket file there that nobody listens at (-EADDRINUSE when
 * somebody does); only the owner can connect. The descriptor or a negative error. */
MUST_CHECK int fd_listen(const char *path, struct err *err);
MUST_CHECK int fd_connect(const char *path, struct err *err);

#endif
