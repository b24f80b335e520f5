/*
 * core/clock.h - the VM's clock and the timers of all its devices.
 *
 * The clock counts nanoseconds of VM time: it runs while the VM runs, stops with it, and is saved
 * with it. Timers fire on the device loop (vm_clock_run), with their device's lock held. Threads:
 * vm_clock_now, timer_arm and timer_cancel come from any thread; timer_arm and timer_cancel under
 * the timer's own device lock. After timer_cancel returns under that lock, the timer does not fire.
 */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "base/lock.h"
#include "base/types.h"

enum { VM_CLOCK_TIMERS_MAX = 512 };
#define TIMER_NEVER UINT64_MAX

struct vm_clock;

struct timer {
    struct vm_clock *clock; /* borrowed */
    struct lock *lock;      /* borrowed: held while FIRE runs; may be NULL */
    void (*fire)(void *ctx);
    void *ctx;       /* borrowed */
    u64 deadline_ns; /* VM time; TIMER_NEVER when not armed */
    int heap_index;  /* -1 when not armed */
};

struct vm_clock {
    struct lock lock;
    bool running;
    u64 offset_ns;  /* VM time = host monotonic time + offset, while running */
    u64 stopped_ns; /* VM time while stopped */
    struct timer *heap[VM_CLOCK_TIMERS_MAX];
    unsigned heap_count;
    /* Tells the loop that the earliest deadline is now HOST_NS (monotonic; TIMER_NEVER: none). Any
     * thread; must not block. May be NULL. */
    void (*rearm)(void *ctx, u64 host_ns);
    void *rearm_ctx; /* borrowed */
};

/* A clock that stands at 0. */
void vm_clock_init(struct vm_clock *clock);
void vm_clock_start(struct vm_clock *clock);
void vm_clock_stop(struct vm_clock *clock);
/* Sets VM time of a stopped clock. */
void vm_clock_set(struct vm_clock *clock, u64 now_ns);
u64 vm_clock_now(struct vm_clock *clock);
/* Fires every timer that is due; called by the loop when the time told to rearm() has come. */
void vm_clock_run(struct vm_clock *clock);

void timer_init(struct timer *timer, struct vm_clock *clock, struct lock *lock,
                void (*fire)(void *ctx), void *ctx);
/* (Re)arms for DEADLINE_NS of VM time; a past deadline fires at once, TIMER_NEVER cancels. */
void timer_arm(struct timer *timer, u64 deadline_ns);
void timer_cancel(struct timer *timer);

#endif
