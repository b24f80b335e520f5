/*
 * host/futex.h - sleeping on a word until somebody changes it.
 *
 * Threads: any. Spurious wake-ups happen: the caller looks at its word again.
 */
#ifndef HOST_FUTEX_H
#define HOST_FUTEX_H

#include "base/types.h"

/* Sleeps while *WORD is VALUE, at most TIMEOUT_NS (UINT64_MAX: without end). */
void futex_wait(u32 *word, u32 value, u64 timeout_ns);
/* Wakes one thread that sleeps on WORD. */
void futex_wake(u32 *word);

#endif
