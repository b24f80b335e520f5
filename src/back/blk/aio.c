/*
 * back/blk/aio.c - asynchronous file operations: the choice of the kind, and failures for tests.
 *
 * Runs   on the loop.
 */
#include "back/blk/aio.h"

#include <stddef.h>

#include "back/blk/aio_priv.h"
#include "host/fault.h"

static void tell_failed(void *ctx)
{
    struct aio *aio = ctx;
    struct aio_op *op = aio->failed;
    aio->failed = NULL;
    while (op != NULL) {
        struct aio_op *next = op->next;
        op->done(op, op->result);
        op = next;
    }
}

struct aio *aio_new(struct loop *loop, enum aio_choice choice, struct err *err)
{
    struct aio *aio = choice == AIO_POOL ? NULL : aio_ring_new(loop, err);
    if (aio == NULL && choice != AIO_RING)
        aio = aio_pool_new(loop, err);
    if (aio == NULL)
        return NULL;
    aio->loop = loop;
    aio->tell_failed = (struct loop_task){.run = tell_failed, .ctx = aio};
    return aio;
}

void aio_free(struct aio *aio)
{
    if (aio == NULL)
        return;
    loop_unpost(aio->loop, &aio->tell_failed);
    aio->ops->free(aio);
}

const char *aio_name(const struct aio *aio)
{
    return aio->ops->name;
}

void aio_submit(struct aio *aio, struct aio_op *op)
{
    static const enum fault_point points[] = {
        [AIO_READ] = FAULT_READ,
        [AIO_WRITE] = FAULT_WRITE,
        [AIO_SYNC] = FAULT_SYNC,
        [AIO_ALLOCATE] = FAULT_ALLOCATE,
    };
    int fault = host_fault(points[op->kind]);
    if (fault == 0) {
        aio->ops->submit(aio, op);
        return;
    }
    op->result = fault;
    op->next = aio->failed;
    aio->failed = op;
    loop_post(aio->loop, &aio->tell_failed);
}

void aio_kick(struct aio *aio)
{
    aio->ops->kick(aio);
}

void aio_wait(struct aio *aio)
{
    if (aio->failed != NULL)
        tell_failed(aio);
    else
        aio->ops->wait(aio);
}
