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

static int codemem_map(struct codemem *codemem, int fd)
{
    if (ftruncate(fd, (off_t)codemem->bytes) != 0)
        return -errno;
    void *write = mmap(NULL, codemem->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (write == MAP_FAILED)
        return -errno;
    codemem->write = write;
    void *execute = mmap(NULL, codemem->bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
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

void codemem_fini(struct codemem *codemem)
{
    if (codemem->write != NULL)
        munmap(codemem->write, codemem->bytes);
    if (codemem->execute != NULL)
        munmap((void *)codemem->execute, codemem->bytes);
    *codemem = (struct codemem){0};
}
