/*
 * back/blk/worker.h - a thread that does a disk's slow jobs, one after the other.
 *
 * Threads: worker_submit and worker_wait on the loop's thread; run() on the worker's; done() on the
 * loop's, never inside worker_submit. A job belongs to the caller and stays until done() runs.
 */
#ifndef BACK_BLK_WORKER_H
#define BACK_BLK_WORKER_H

#include "base/err.h"
#include "base/types.h"

struct loop;
struct worker;

struct worker_job {
    void (*run)(struct worker_job *job);
    void (*done)(struct worker_job *job);
    struct worker_job *next; /* the worker's */
};

struct worker *worker_new(struct loop *loop, struct err *err);
/* No job may be under way; NULL is allowed. */
void worker_free(struct worker *worker);
void worker_submit(struct worker *worker, struct worker_job *job);
/* Blocks until at least one job has ended, and runs done() of all that have. One must be under way.
 */
void worker_wait(struct worker *worker);

#endif
