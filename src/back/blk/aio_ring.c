/*
 * back/blk/aio_ring.c - asynchronous file operations through io_uring.
 *
 * The ring's own descriptor is watched by the loop: it is readable while completions wait.
 * Spec   io_uring(7), io_uring_enter(2).
 * Runs   on the loop.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "back/blk/aio_priv.h"
#include "base/alloc.h"
#include "host/fault.h"

struct aio_ring {
    struct aio aio;
    struct io_uring ring;
    struct loop_fd watch;
    struct loop_task retry; /* the kernel was short of something: kick again soon */
};

static void ring_reap(struct aio_ring *ring)
{
    struct io_uring_cqe *cqe;
    /* At most what may be under way; operations that done() starts are left for the next turn. */
    for (unsigned i = 0; i < AIO_OPS_MAX && io_uring_peek_cqe(&ring->ring, &cqe) == 0; i++) {
        struct aio_op *op = io_uring_cqe_get_data(cqe);
        s64 result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);
        op->done(op, result);
    }
}

static void on_ready(void *ctx, u32 events)
{
    struct aio_ring *ring = ctx;
    ring_reap(ring);
    ring->aio.ops->kick(&ring->aio);
}

static void ring_submit(struct aio *aio, struct aio_op *op)
{
    struct aio_ring *ring = container_of(aio, struct aio_ring, aio);
    /* Never NULL: the ring has room for AIO_OPS_MAX. */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    switch (op->kind) {
    case AIO_READ:
        io_uring_prep_readv(sqe, op->fd, op->iov, op->iov_count, op->offset);
        break;
    case AIO_WRITE:
        io_uring_prep_writev(sqe, op->fd, op->iov, op->iov_count, op->offset);
        break;
    case AIO_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case AIO_ALLOCATE:
        io_uring_prep_fallocate(sqe, op->fd, op->mode, (off_t)op->offset, (off_t)op->bytes);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

static void ring_kick(struct aio *aio)
{
    struct aio_ring *ring = container_of(aio, struct aio_ring, aio);
    if (io_uring_sq_ready(&ring->ring) == 0)
        return;
    if (io_uring_submit(&ring->ring) < 0)
        loop_post(aio->loop, &ring->retry);
    /* What the page cache answers is complete by now: no need to wait for the loop to say so. */
    ring_reap(ring);
}

static void on_retry(void *ctx)
{
    ring_kick(ctx);
}

static void ring_wait(struct aio *aio)
{
    struct aio_ring *ring = container_of(aio, struct aio_ring, aio);
    io_uring_submit_and_wait(&ring->ring, 1);
    ring_reap(ring);
}

static void ring_free(struct aio *aio)
{
    struct aio_ring *ring = container_of(aio, struct aio_ring, aio);
    loop_remove(aio->loop, &ring->watch);
    loop_unpost(aio->loop, &ring->retry);
    io_uring_queue_exit(&ring->ring);
    alloc_free(ring);
}

static const struct aio_ops ring_ops = {
    .name = "io_uring",
    .submit = ring_submit,
    .kick = ring_kick,
    .wait = ring_wait,
    .free = ring_free,
};

static bool ring_has_ops(struct io_uring *ring)
{
    static const int needed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                 IORING_OP_FALLOCATE};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool has_all = probe != NULL;
    for (unsigned i = 0; has_all && i < ARRAY_LEN(needed); i++)
        has_all = io_uring_opcode_supported(probe, needed[i]) != 0;
    io_uring_free_probe(probe);
    return has_all;
}

struct aio *aio_ring_new(struct loop *loop, struct err *err)
{
    struct aio_ring *ring = new0(struct aio_ring);
    if (ring == NULL) {
        err_set(err, -ENOMEM, "io_uring: out of memory");
        return NULL;
    }
    int result = host_fault(FAULT_RING);
    if (result == 0)
        result = io_uring_queue_init(AIO_OPS_MAX, &ring->ring, 0);
    if (result != 0) {
        alloc_free(ring);
        err_set(err, result, "io_uring: %s", strerror(-result));
        return NULL;
    }
    ring->aio.ops = &ring_ops;
    ring->aio.loop = loop;
    ring->retry = (struct loop_task){.run = on_retry, .ctx = &ring->aio};
    ring->watch = (struct loop_fd){ring->ring.ring_fd, LOOP_IN, on_ready, ring};
    result = ring_has_ops(&ring->ring) ? loop_add(loop, &ring->watch) : -EOPNOTSUPP;
    if (result != 0) {
        io_uring_queue_exit(&ring->ring);
        alloc_free(ring);
        err_set(err, result, "io_uring: %s", strerror(-result));
        return NULL;
    }
    return &ring->aio;
}
