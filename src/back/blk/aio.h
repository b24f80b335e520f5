/*
 * back/blk/aio.h - asynchronous file operations: io_uring where the host has it, else threads.
 *
 * Threads: everything here is called on the loop's thread, and completions run there. An operation
 * and its vectors belong to the caller and stay until done() runs; done() never runs inside
 * aio_submit.
 */
#ifndef BACK_BLK_AIO_H
#define BACK_BLK_AIO_H

#include <sys/uio.h>

#include "base/err.h"
#include "base/types.h"

struct aio;
struct loop;

enum aio_kind { AIO_READ, AIO_WRITE, AIO_SYNC, AIO_ALLOCATE };
enum aio_choice { AIO_AUTO, AIO_RING, AIO_POOL };

struct aio_op {
    enum aio_kind kind;
    int fd;            /* borrowed */
    struct iovec *iov; /* read and write */
    unsigned iov_count;
    int mode; /* allocate: fallocate's */
    u64 offset, bytes;
    void (*done)(struct aio_op *op, s64 result); /* bytes moved, 0, or -errno */
    struct aio_op *next;                         /* aio's, while it has the operation */
    s64 result;                                  /* aio's */
};

enum { AIO_OPS_MAX = 256 /* under way at one time; the caller sees to it */ };

/* CHOICE forces one kind (for tests); NULL and ERR when it cannot be had. */
struct aio *aio_new(struct loop *loop, enum aio_choice choice, struct err *err);
/* Nothing may be under way any more. */
void aio_free(struct aio *aio);
/* "io_uring" or "threads". */
const char *aio_name(const struct aio *aio);

void aio_submit(struct aio *aio, struct aio_op *op);
/* Starts what was submitted since the last call: one call to the kernel for all of it. Runs done()
 * of what completed at once. */
void aio_kick(struct aio *aio);
/* Blocks until at least one operation has completed, and runs its done(). Something must be under
 * way. */
void aio_wait(struct aio *aio);

#endif
