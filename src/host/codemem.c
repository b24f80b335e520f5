/*
 * host/codemem.c - base/codemem.h by two mappings of one memory file.
 *
 * Two views keep the rule that no page is writable and executable at once without a system call at
 * each change, and hold on hosts that forbid making a writable page executable.
 * Runs   on any thread.
 */
#include "base/codemem.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/fault.h"

enum { PAGE_BYTES = 4096 };
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; headers may be older than the kernel */
#endif

/* Maps FD where large pages can be. MAP_FAILED as mmap. */
static void *view_map(size_t bytes, int protection, int fd)
{
    size_t room = bytes + CODEMEM_LARGE_BYTES;
    if (bytes < CODEMEM_LARGE_BYTES)
        return mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    u8 *start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return MAP_FAILED;
    size_t skip = align_up((uintptr_t)start, CODEMEM_LARGE_BYTES) - (uintptr_t)start;
    void *view = mmap(start + skip, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (view == MAP_FAILED) {
        int error = errno;
        munmap(start, room);
        errno = error;
        return MAP_FAILED;
    }
    if (skip > 0)
        munmap(start, skip);
    if (skip < CODEMEM_LARGE_BYTES)
        munmap(start + skip + bytes, CODEMEM_LARGE_BYTES - skip);
    return view;
}

static int codemem_map(struct codemem *codemem, int fd)
{
    if (ftruncate(fd, (off_t)codemem->bytes) != 0)
        return -errno;
    void *write = view_map(codemem->bytes, PROT_READ | PROT_WRITE, fd);
    if (write == MAP_FAILED)
        return -errno;
    codemem->write = write;
    void *execute = view_map(codemem->bytes, PROT_READ | PROT_EXEC, fd);
    if (execute == MAP_FAILED)
        return -errno;
    codemem->execute = execute;
    return 0;
}

int codemem_init(struct codemem *ret_codemem, size_t bytes)
{
    int result = host_fault(FAULT_MAP);
    if (result != 0)
        return result;
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return -EINVAL;
    int fd = memfd_create("code", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct codemem codemem = {.bytes = align_up(bytes, PAGE_BYTES)};
    result = codemem_map(&codemem, fd);
    close(fd); /* the mappings keep the file */
    if (result != 0)
        codemem_fini(&codemem);
    else
        *ret_codemem = codemem;
    return result;
}

/* A host without large pages, or whose memory is in pieces, is not asked for long: looking for one
 * may take it milliseconds. */
enum { LARGE_REFUSED_MAX = 4 };

/* Unlike MADV_HUGEPAGE, MADV_COLLAPSE does not depend on what the host's administrator has set for
 * memory files. One page must be there before; the others come zeroed without a fault each. */
void codemem_large(struct codemem *codemem, size_t from)
{
    if (from % CODEMEM_LARGE_BYTES != 0 || codemem->bytes < CODEMEM_LARGE_BYTES ||
        from > codemem->bytes - CODEMEM_LARGE_BYTES || codemem->large_refused == LARGE_REFUSED_MAX)
        return;
    u8 *write = codemem->write + from;
    (void)__atomic_fetch_add(write, 0, __ATOMIC_RELAXED); /* a write that changes nothing */
    int error = errno;
    if (host_fault(FAULT_MAP) != 0 || madvise(write, CODEMEM_LARGE_BYTES, MADV_COLLAPSE) != 0)
        codemem->large_refused++;
    else
        (void)madvise((void *)(uintptr_t)(codemem->execute + from), CODEMEM_LARGE_BYTES,
                      MADV_COLLAPSE);
    errno = error;
}

void codemem_fini(struct codemem *codemem)
{
    if (codemem->write != NULL)
        munmap(codemem->write, codemem->bytes);
    if (codemem->execute != NULL)
        munmap((void *)codemem->execute, codemem->bytes);
    *codemem = (struct codemem){0};
}
