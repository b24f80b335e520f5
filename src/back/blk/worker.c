/*
 * back/blk/worker.c - a thread that does a disk's slow jobs, one after the other.
 *
 * Runs   on the loop; work() on the worker's thread.
 */
#include "back/blk/worker.h"

#include <errno.h>
#include <pthread.h>

#include "base/alloc.h"
#include "host/loop.h"
#include "host/thread.h"

struct job_queue {
    struct worker_job *first, **last;
};

struct worker {
    struct loop *loop; /* borrowed */
    struct loop_task tell;
    struct thread *thread; /* owned */
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t has_work, has_done;
    struct job_queue work, done;
    bool is_ending;
};

static void queue_put(struct job_queue *queue, struct worker_job *job)
{
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static struct worker_job *queue_take(struct job_queue *queue)
{
    struct worker_job *job = queue->first;
    if (job != NULL && (queue->first = job->next) == NULL)
        queue->last = &queue->first;
    return job;
}

static void work(void *ctx)
{
    struct worker *worker = ctx;
    struct worker_job *job;

    pthread_mutex_lock(&worker->mutex);
    for (;;) {
        while ((job = queue_take(&worker->work)) == NULL && !worker->is_ending)
            pthread_cond_wait(&worker->has_work, &worker->mutex);
        if (job == NULL)
            break;
        pthread_mutex_unlock(&worker->mutex);
        job->run(job);
        pthread_mutex_lock(&worker->mutex);
        queue_put(&worker->done, job);
        pthread_cond_signal(&worker->has_done);
        loop_post(worker->loop, &worker->tell);
    }
    pthread_mutex_unlock(&worker->mutex);
}

static void on_tell(void *ctx)
{
    struct worker *worker = ctx;
    pthread_mutex_lock(&worker->mutex);
    struct worker_job *job = worker->done.first;
    worker->done = (struct job_queue){.last = &worker->done.first};
    pthread_mutex_unlock(&worker->mutex);
    while (job != NULL) {
        struct worker_job *next = job->next;
        job->done(job);
        job = next;
    }
}

struct worker *worker_new(struct loop *loop, struct err *err)
{
    struct worker *worker = new0(struct worker);
    if (worker == NULL) {
        err_set(err, -ENOMEM, "disk thread: out of memory");
        return NULL;
    }
    worker->loop = loop;
    worker->tell = (struct loop_task){.run = on_tell, .ctx = worker};
    worker->work.last = &worker->work.first;
    worker->done.last = &worker->done.first;
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->has_work, NULL);
    pthread_cond_init(&worker->has_done, NULL);
    worker->thread = thread_new("disk", work, worker, err);
    if (worker->thread == NULL) {
        worker_free(worker);
        return NULL;
    }
    return worker;
}

void worker_free(struct worker *worker)
{
    if (worker == NULL)
        return;
    pthread_mutex_lock(&worker->mutex);
    worker->is_ending = true;
    pthread_cond_signal(&worker->has_work);
    pthread_mutex_unlock(&worker->mutex);
    thread_join(worker->thread);
    loop_unpost(worker->loop, &worker->tell);
    pthread_cond_destroy(&worker->has_work);
    pthread_cond_destroy(&worker->has_done);
    pthread_mutex_destroy(&worker->mutex);
    alloc_free(worker);
}

void worker_submit(struct worker *worker, struct worker_job *job)
{
    pthread_mutex_lock(&worker->mutex);
    queue_put(&worker->work, job);
    pthread_cond_signal(&worker->has_work);
    pthread_mutex_unlock(&worker->mutex);
}

void worker_wait(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    while (worker->done.first == NULL)
        pthread_cond_wait(&worker->has_done, &worker->mutex);
    pthread_mutex_unlock(&worker->mutex);
    on_tell(worker);
}
