/*
 * core/clock.c - VM time, and the heap of all device timers.
 *
 * Runs   timers fire on the loop; everything else on any thread.
 *
 * Lock order: a device's lock, then the clock's. So vm_clock_run looks for a due timer under the
 * clock's lock, lets go, takes the device's lock, and only then, with both, decides whether the
 * timer is still due and takes it off the heap.
 */
#include "core/clock.h"

#include "base/clock.h"

static u64 now_locked(const struct vm_clock *clock)
{
    return clock->running ? clock_monotonic_ns() + clock->offset_ns : clock->stopped_ns;
}

/* ---- heap ---- */

static void place(struct vm_clock *clock, unsigned at, struct timer *timer)
{
    clock->heap[at] = timer;
    timer->heap_index = (int)at;
}

static void sift_up(struct vm_clock *clock, unsigned at)
{
    struct timer *timer = clock->heap[at];
    while (at > 0 && clock->heap[(at - 1) / 2]->deadline_ns > timer->deadline_ns) {
        place(clock, at, clock->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(clock, at, timer);
}

static void sift_down(struct vm_clock *clock, unsigned at)
{
    struct timer *timer = clock->heap[at];
    for (;;) {
        unsigned child = 2 * at + 1;
        if (child >= clock->heap_count)
            break;
        if (child + 1 < clock->heap_count &&
            clock->heap[child + 1]->deadline_ns < clock->heap[child]->deadline_ns)
            child++;
        if (clock->heap[child]->deadline_ns >= timer->deadline_ns)
            break;
        place(clock, at, clock->heap[child]);
        at = child;
    }
    place(clock, at, timer);
}

static void heap_remove(struct vm_clock *clock, struct timer *timer)
{
    unsigned at = (unsigned)timer->heap_index;
    timer->heap_index = -1;
    timer->deadline_ns = TIMER_NEVER;
    struct timer *last = clock->heap[--clock->heap_count];
    if (last == timer)
        return;
    place(clock, at, last);
    sift_up(clock, at);
    sift_down(clock, (unsigned)last->heap_index);
}

static void rearm_locked(struct vm_clock *clock)
{
    if (clock->rearm == NULL)
        return;
    u64 host_ns = TIMER_NEVER;
    if (clock->running && clock->heap_count > 0) {
        u64 deadline_ns = clock->heap[0]->deadline_ns;
        u64 now_ns = now_locked(clock);
        host_ns = clock_monotonic_ns() + (deadline_ns > now_ns ? deadline_ns - now_ns : 0);
    }
    clock->rearm(clock->rearm_ctx, host_ns);
}

/* ---- the clock ---- */

void vm_clock_init(struct vm_clock *clock)
{
    *clock = (struct vm_clock){0};
}

void vm_clock_start(struct vm_clock *clock)
{
    lock_acquire(&clock->lock);
    if (!clock->running) {
        clock->offset_ns = clock->stopped_ns - clock_monotonic_ns();
        clock->running = true;
        rearm_locked(clock);
    }
    lock_release(&clock->lock);
}

void vm_clock_stop(struct vm_clock *clock)
{
    lock_acquire(&clock->lock);
    if (clock->running) {
        clock->stopped_ns = now_locked(clock);
        clock->running = false;
        rearm_locked(clock);
    }
    lock_release(&clock->lock);
}

void vm_clock_set(struct vm_clock *clock, u64 now_ns)
{
    lock_acquire(&clock->lock);
    if (!clock->running)
        clock->stopped_ns = now_ns;
    lock_release(&clock->lock);
}

u64 vm_clock_now(struct vm_clock *clock)
{
    lock_acquire(&clock->lock);
    u64 now_ns = now_locked(clock);
    lock_release(&clock->lock);
    return now_ns;
}

/* Takes TIMER off the heap if it is due; both locks' order is kept by the caller. */
static bool take_if_due(struct vm_clock *clock, struct timer *timer)
{
    lock_acquire(&clock->lock);
    bool due = clock->running && timer->heap_index >= 0 && timer->deadline_ns <= now_locked(clock);
    if (due)
        heap_remove(clock, timer);
    lock_release(&clock->lock);
    return due;
}

void vm_clock_run(struct vm_clock *clock)
{
    /* A timer that re-arms itself in the past must not hold the loop: at most one round. */
    for (unsigned budget = VM_CLOCK_TIMERS_MAX; budget > 0; budget--) {
        lock_acquire(&clock->lock);
        struct timer *timer = clock->heap_count > 0 ? clock->heap[0] : NULL;
        if (timer && !(clock->running && timer->deadline_ns <= now_locked(clock)))
            timer = NULL;
        lock_release(&clock->lock);
        if (timer == NULL)
            break;
        if (timer->lock)
            lock_acquire(timer->lock);
        if (take_if_due(clock, timer))
            timer->fire(timer->ctx);
        if (timer->lock)
            lock_release(timer->lock);
    }
    lock_acquire(&clock->lock);
    rearm_locked(clock);
    lock_release(&clock->lock);
}

/* ---- timers ---- */

void timer_init(struct timer *timer, struct vm_clock *clock, struct lock *lock,
                void (*fire)(void *ctx), void *ctx)
{
    *timer = (struct timer){clock, lock, fire, ctx, TIMER_NEVER, -1};
}

void timer_arm(struct timer *timer, u64 deadline_ns)
{
    struct vm_clock *clock = timer->clock;
    lock_acquire(&clock->lock);
    struct timer *first = clock->heap_count > 0 ? clock->heap[0] : NULL;
    u64 first_ns = first ? first->deadline_ns : TIMER_NEVER;
    if (timer->heap_index >= 0)
        heap_remove(clock, timer);
    if (deadline_ns != TIMER_NEVER && clock->heap_count < VM_CLOCK_TIMERS_MAX) {
        timer->deadline_ns = deadline_ns;
        place(clock, clock->heap_count++, timer);
        sift_up(clock, clock->heap_count - 1);
    }
    struct timer *now_first = clock->heap_count > 0 ? clock->heap[0] : NULL;
    if (now_first && (now_first != first || now_first->deadline_ns != first_ns))
        rearm_locked(clock);
    lock_release(&clock->lock);
}

void timer_cancel(struct timer *timer)
{
    if (timer->clock == NULL)
        return;
    lock_acquire(&timer->clock->lock);
    if (timer->heap_index >= 0)
        heap_remove(timer->clock, timer);
    lock_release(&timer->clock->lock);
}
