/*
 * base/lock.h - a mutex that pure code can name; bound at link (host/thread.c in hosted programs).
 *
 * Only dispatchers (core/bus.c, core/clock.c, the loop) take device locks; see docs/STYLE.md rule
 * 13 for the order: device, irq chip, vCPU kick. Not recursive. All-zero is an unlocked lock.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include "base/types.h"

struct lock {
    u32 word; /* 0 free, 1 held, 2 held with waiters */
};

void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);

#endif
