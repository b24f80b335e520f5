/*
 * back/blk/aio_pool.c - asynchronous file operations by a few threads that block, for hosts where
 * io_uring is switched off.
 *
 * Runs   on the loop; pool_work on the pool's threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include "back/blk/aio_priv.h"
#include "base/alloc.h"
#include "host/thread.h"

enum { POOL_THREADS = 4 };

struct op_queue {
    struct aio_op *first, **last;
};

struct aio_pool {
    struct aio aio;
    struct loop_task tell;
    struct thread *threads[POOL_THREADS]; /* owned */
    pthread_mutex_t mutex;                /* guards what follows */
    pthread_cond_t has_work, has_done;
    struct op_queue work, done;
    bool is_ending;
};

static void queue_put(struct op_queue *queue, struct aio_op *op)
{
    op->next = NULL;
    *queue->last = op;
    queue->last = &op->next;
}

static struct aio_op *queue_take(struct op_queue *queue)
{
    struct aio_op *op = queue->first;
    if (op != NULL && (queue->first = op->next) == NULL)
        queue->last = &queue->first;
    return op;
}

static s64 op_execute(const struct aio_op *op)
{
    s64 result = -1;
    switch (op->kind) {
    case AIO_READ:
        result = preadv(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset);
        break;
    case AIO_WRITE:
        result = pwritev(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset);
        break;
    case AIO_SYNC:
        result = fdatasync(op->fd);
        break;
    case AIO_ALLOCATE:
        result = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->bytes);
        break;
    }
    return result < 0 ? -errno : result;
}

static void pool_work(void *ctx)
{
    struct aio_pool *pool = ctx;
    struct aio_op *op;

    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while ((op = queue_take(&pool->work)) == NULL && !pool->is_ending)
            pthread_cond_wait(&pool->has_work, &pool->mutex);
        if (op == NULL)
            break;
        pthread_mutex_unlock(&pool->mutex);
        op->result = op_execute(op);
        pthread_mutex_lock(&pool->mutex);
        queue_put(&pool->done, op);
        pthread_cond_signal(&pool->has_done);
        loop_post(pool->aio.loop, &pool->tell);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void pool_submit(struct aio *aio, struct aio_op *op)
{
    struct aio_pool *pool = container_of(aio, struct aio_pool, aio);
    pthread_mutex_lock(&pool->mutex);
    queue_put(&pool->work, op);
    pthread_cond_signal(&pool->has_work);
    pthread_mutex_unlock(&pool->mutex);
}

static void pool_kick(struct aio *aio)
{
}

static void on_tell(void *ctx)
{
    struct aio_pool *pool = ctx;
    struct aio_op *op;

    for (unsigned i = 0; i < AIO_OPS_MAX; i++) {
        pthread_mutex_lock(&pool->mutex);
        op = queue_take(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
        if (op == NULL)
            break;
        op->done(op, op->result);
    }
}

static void pool_wait(struct aio *aio)
{
    struct aio_pool *pool = container_of(aio, struct aio_pool, aio);
    pthread_mutex_lock(&pool->mutex);
    while (pool->done.first == NULL)
        pthread_cond_wait(&pool->has_done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    on_tell(pool);
}

static void pool_free(struct aio *aio)
{
    struct aio_pool *pool = container_of(aio, struct aio_pool, aio);
    pthread_mutex_lock(&pool->mutex);
    pool->is_ending = true;
    pthread_cond_broadcast(&pool->has_work);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < POOL_THREADS; i++)
        thread_join(pool->threads[i]);
    loop_unpost(aio->loop, &pool->tell);
    alloc_free(pool);
}

static const struct aio_ops pool_ops = {
    .name = "threads",
    .submit = pool_submit,
    .kick = pool_kick,
    .wait = pool_wait,
    .free = pool_free,
};

struct aio *aio_pool_new(struct loop *loop, struct err *err)
{
    struct aio_pool *pool = new0(struct aio_pool);
    if (pool == NULL) {
        err_set(err, -ENOMEM, "disk threads: out of memory");
        return NULL;
    }
    pool->aio.ops = &pool_ops;
    pool->aio.loop = loop;
    pool->tell = (struct loop_task){.run = on_tell, .ctx = pool};
    pool->work.last = &pool->work.first;
    pool->done.last = &pool->done.first;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->has_work, NULL);
    pthread_cond_init(&pool->has_done, NULL);
    for (unsigned i = 0; i < POOL_THREADS; i++) {
        pool->threads[i] = thread_new("disk", pool_work, pool, err);
        if (pool->threads[i] == NULL) {
            pool_free(&pool->aio);
            return NULL;
        }
    }
    return &pool->aio;
}
