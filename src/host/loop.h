/*
 * host/loop.h - one epoll loop: descriptors, tasks posted from other threads, and one alarm.
 *
 * Threads: loop_post, loop_stop and loop_alarm_set come from any thread; everything else from the
 * thread that runs the loop (or before it runs). Callbacks run to completion, do bounded work, and
 * may add and remove anything, themselves included.
 * Ownership: struct loop_fd and struct loop_task belong to the caller and stay until they are
 * removed.
 */
#ifndef HOST_LOOP_H
#define HOST_LOOP_H

#include "base/err.h"
#include "base/types.h"

struct loop;

enum loop_event {
    LOOP_IN = 1,
    LOOP_OUT = 4,
    LOOP_ERROR = 8,
    LOOP_HANGUP = 16
}; /* as epoll has them */

struct loop_fd {
    int fd; /* borrowed */
    u32 events;
    void (*ready)(void *ctx, u32 events);
    void *ctx; /* borrowed */
};

struct loop_task {
    void (*run)(void *ctx);
    void *ctx;              /* borrowed */
    struct loop_task *next; /* the loop's */
    bool is_queued;         /* the loop's */
};

struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);

/* Watches WATCH->fd for WATCH->events (0: only errors); -errno as epoll_ctl gives it, -EPERM for a
 * regular file, which is always ready. */
MUST_CHECK int loop_add(struct loop *loop, struct loop_fd *watch);
/* Watches for EVENTS from now on. */
void loop_change(struct loop *loop, struct loop_fd *watch, u32 events);
/* Stops watching; its callback does not run again. To be called before the descriptor is closed. */
void loop_remove(struct loop *loop, struct loop_fd *watch);

/* Has the loop run TASK once, soon; no effect while it is queued already. Tasks run in the order in
 * which they were posted. */
void loop_post(struct loop *loop, struct loop_task *task);
/* Takes TASK out of the queue if it is there. */
void loop_unpost(struct loop *loop, struct loop_task *task);

/* Names what runs when the alarm's time has come. */
void loop_alarm_bind(struct loop *loop, void (*fire)(void *ctx), void *ctx);
/* Sets the alarm to HOST_NS of clock_monotonic_ns(), UINT64_MAX for none; firing turns it off. The
 * type fits struct vm_clock's rearm, with the loop as its context. */
void loop_alarm_set(void *loop, u64 host_ns);

/* Runs until loop_stop; a stop that came before counts. */
void loop_run(struct loop *loop);
/* Handles what is ready, waiting at most TIMEOUT_MS (-1: without end) for something to be. */
void loop_turn(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

#endif
