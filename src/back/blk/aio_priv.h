/*
 * back/blk/aio_priv.h - what the two kinds of asynchronous operations share.
 */
#ifndef BACK_BLK_AIO_PRIV_H
#define BACK_BLK_AIO_PRIV_H

#include "back/blk/aio.h"
#include "host/loop.h"

struct aio_ops {
    const char *name;
    void (*submit)(struct aio *aio, struct aio_op *op);
    void (*kick)(struct aio *aio);
    void (*wait)(struct aio *aio);
    void (*free)(struct aio *aio);
};

struct aio {
    const struct aio_ops *ops;
    struct loop *loop;     /* borrowed */
    struct aio_op *failed; /* completions that a test has asked for, not yet told */
    struct loop_task tell_failed;
};

struct aio *aio_ring_new(struct loop *loop, struct err *err);
struct aio *aio_pool_new(struct loop *loop, struct err *err);

#endif
