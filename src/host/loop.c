/*
 * host/loop.c - one epoll loop: descriptors, tasks posted from other threads, and one alarm.
 *
 * Runs   on the thread that calls loop_run.
 */
#include "host/loop.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/lock.h"
#include "host/fault.h"
#include "host/fd.h"

enum { LOOP_BATCH = 32 };
#define ALARM_NEVER UINT64_MAX

static_assert(LOOP_IN == (int)EPOLLIN && LOOP_OUT == (int)EPOLLOUT && LOOP_ERROR == (int)EPOLLERR &&
                  LOOP_HANGUP == (int)EPOLLHUP,
              "loop_event has epoll's values");

struct loop {
    int epoll_fd, wake_fd, timer_fd; /* owned */
    struct loop_fd wake, timer;
    struct epoll_event batch[LOOP_BATCH];
    int batch_count;
    bool is_stopped;

    struct lock lock; /* guards what follows */
    struct loop_task *first, **last;
    unsigned task_count;
    bool is_woken;   /* wake_fd was written and not yet read */
    bool is_waiting; /* the loop's thread sleeps, or is about to without looking at the tasks again
                      */
    u64 alarm_ns;    /* what loop_alarm_set asked for */
    u64 timer_ns;    /* what timer_fd is set to; never later than alarm_ns */
    void (*fire)(void *ctx);
    void *fire_ctx; /* borrowed */
};

static void loop_wake(struct loop *loop)
{
    u64 one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof(one));
    (void)written; /* a full counter has woken the loop already */
}

/* Sets the timer to the alarm's time; under the lock. The kernel's timers do not know the raw
 * clock, so the time left is given. */
static void timer_program(struct loop *loop)
{
    struct itimerspec spec = {{0, 0}, {0, 0}};
    u64 now_ns = clock_monotonic_ns();
    loop->timer_ns = loop->alarm_ns;
    if (loop->alarm_ns != ALARM_NEVER) {
        u64 left_ns = loop->alarm_ns > now_ns ? loop->alarm_ns - now_ns : 1;
        spec.it_value.tv_sec = (time_t)(left_ns / 1000000000u);
        spec.it_value.tv_nsec = (long)(left_ns % 1000000000u);
    }
    timerfd_settime(loop->timer_fd, 0, &spec, NULL);
}

void loop_alarm_set(void *opaque, u64 host_ns)
{
    struct loop *loop = opaque;
    lock_acquire(&loop->lock);
    loop->alarm_ns = host_ns;
    /* An alarm put off leaves the timer alone: it fires early, once, and is set again then. Guests
     * put a timer off far more often than they let it fire. */
    if (host_ns < loop->timer_ns)
        timer_program(loop);
    lock_release(&loop->lock);
}

static void on_timer(void *opaque, u32 events)
{
    struct loop *loop = opaque;
    u64 count;
    bool is_due = false;

    (void)events;
    if (read(loop->timer_fd, &count, sizeof(count)) < 0)
        return; /* set again since it fired */
    lock_acquire(&loop->lock);
    loop->timer_ns = ALARM_NEVER;
    if (loop->alarm_ns != ALARM_NEVER && clock_monotonic_ns() >= loop->alarm_ns) {
        loop->alarm_ns = ALARM_NEVER;
        is_due = loop->fire != NULL;
    } else if (loop->alarm_ns != ALARM_NEVER) {
        timer_program(loop);
    }
    lock_release(&loop->lock);
    if (is_due)
        loop->fire(loop->fire_ctx);
}

void loop_alarm_bind(struct loop *loop, void (*fire)(void *ctx), void *ctx)
{
    loop->fire = fire;
    loop->fire_ctx = ctx;
}

static struct loop_task *task_take(struct loop *loop)
{
    lock_acquire(&loop->lock);
    struct loop_task *task = loop->first;
    if (task != NULL) {
        loop->first = task->next;
        if (loop->first == NULL)
            loop->last = &loop->first;
        task->next = NULL;
        task->is_queued = false;
        loop->task_count--;
    }
    lock_release(&loop->lock);
    return task;
}

static void on_wake(void *opaque, u32 events)
{
    struct loop *loop = opaque;
    u64 count;

    (void)events;
    ssize_t got = read(loop->wake_fd, &count, sizeof(count));
    (void)got; /* nothing to read: the queue is looked at all the same */
    lock_acquire(&loop->lock);
    loop->is_woken = false;
    lock_release(&loop->lock);
}

/* Runs as many tasks as stand in the queue now; what they post is left for the next turn, so that
 * no task keeps descriptors and timers waiting. */
static void tasks_run(struct loop *loop)
{
    struct loop_task *task;
    lock_acquire(&loop->lock);
    unsigned left = loop->task_count;
    lock_release(&loop->lock);
    for (; left > 0 && (task = task_take(loop)) != NULL; left--)
        task->run(task->ctx);
}

/* True when there is nothing to do but to sleep: from then on a post writes to wake_fd. */
static bool may_wait(struct loop *loop)
{
    lock_acquire(&loop->lock);
    bool may = loop->is_waiting = loop->first == NULL;
    lock_release(&loop->lock);
    return may;
}

static void wait_over(struct loop *loop)
{
    lock_acquire(&loop->lock);
    loop->is_waiting = false;
    lock_release(&loop->lock);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    bool must_wake = false;
    lock_acquire(&loop->lock);
    if (!task->is_queued) {
        task->is_queued = true;
        task->next = NULL;
        *loop->last = task;
        loop->last = &task->next;
        loop->task_count++;
        /* A loop that is awake looks at its tasks before it sleeps: no system call then. */
        must_wake = loop->is_waiting && !loop->is_woken;
        loop->is_woken |= must_wake;
    }
    lock_release(&loop->lock);
    if (must_wake)
        loop_wake(loop);
}

void loop_unpost(struct loop *loop, struct loop_task *task)
{
    lock_acquire(&loop->lock);
    for (struct loop_task **link = &loop->first; *link != NULL; link = &(*link)->next) {
        if (*link != task)
            continue;
        *link = task->next;
        if (*link == NULL)
            loop->last = link;
        task->is_queued = false;
        loop->task_count--;
        break;
    }
    lock_release(&loop->lock);
}

int loop_add(struct loop *loop, struct loop_fd *watch)
{
    struct epoll_event event = {.events = watch->events, .data.ptr = watch};
    int fault = host_fault(FAULT_SOCKET);
    if (fault != 0)
        return fault;
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0 ? 0 : -errno;
}

void loop_change(struct loop *loop, struct loop_fd *watch, u32 events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (watch->events == events)
        return;
    watch->events = events;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_remove(struct loop *loop, struct loop_fd *watch)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = 0; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL; /* reported in this turn, not handled yet */
    }
}

struct loop *loop_new(struct err *err)
{
    struct loop *loop = new0(struct loop);
    if (loop == NULL) {
        err_set(err, -ENOMEM, "event loop: out of memory");
        return NULL;
    }
    loop->last = &loop->first;
    loop->alarm_ns = loop->timer_ns = ALARM_NEVER;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->wake = (struct loop_fd){loop->wake_fd, LOOP_IN, on_wake, loop};
    loop->timer = (struct loop_fd){loop->timer_fd, LOOP_IN, on_timer, loop};
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->timer_fd < 0 ||
        loop_add(loop, &loop->wake) != 0 || loop_add(loop, &loop->timer) != 0) {
        err_set(err, -errno, "event loop: %s; see 'ulimit -n'", strerror(errno));
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    fd_close(&loop->epoll_fd);
    fd_close(&loop->wake_fd);
    fd_close(&loop->timer_fd);
    alloc_free(loop);
}

void loop_turn(struct loop *loop, int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH,
                           may_wait(loop) ? timeout_ms : 0);
    wait_over(loop);
    loop->batch_count = count > 0 ? count : 0;
    for (int i = 0; i < loop->batch_count; i++) {
        struct loop_fd *watch = loop->batch[i].data.ptr;
        if (watch != NULL)
            watch->ready(watch->ctx, loop->batch[i].events);
    }
    loop->batch_count = 0;
    tasks_run(loop);
}

void loop_run(struct loop *loop)
{
    while (!__atomic_load_n(&loop->is_stopped, __ATOMIC_ACQUIRE))
        loop_turn(loop, -1);
}

void loop_stop(struct loop *loop)
{
    __atomic_store_n(&loop->is_stopped, true, __ATOMIC_RELEASE);
    loop_wake(loop);
}
