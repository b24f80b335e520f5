/*
 * base/errno.h - the Linux error numbers that pure code returns, negated; the values are the kernel
 * ABI's for x86-64, so that host code may mix them with its own.
 */
#ifndef BASE_ERRNO_H
#define BASE_ERRNO_H

#ifndef ENOENT
enum {
    EPERM = 1,
    ENOENT = 2,
    EIO = 5,
    E2BIG = 7,
    ENOEXEC = 8,
    EAGAIN = 11,
    ENOMEM = 12,
    EFAULT = 14,
    EBUSY = 16,
    EEXIST = 17,
    ENODEV = 19,
    EINVAL = 22,
    EFBIG = 27,
    ENOSPC = 28,
    EROFS = 30,
    ERANGE = 34,
    ENOSYS = 38,
    EPROTO = 71,
    EOVERFLOW = 75,
    EMSGSIZE = 90,
    EOPNOTSUPP = 95
};
#endif

#endif
