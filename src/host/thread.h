/*
 * host/thread.h - threads with names, and the signal that pulls one out of a blocking call.
 *
 * The mutex of base/lock.h is implemented here as well, on a futex.
 */
#ifndef HOST_THREAD_H
#define HOST_THREAD_H

#include "base/err.h"
#include "base/types.h"

struct thread;

/* Starts a thread called NAME (15 bytes are kept) that runs RUN(CTX) with every signal blocked but
 * SIGUSR1 and the ones that report a fault; NULL and ERR when the host refuses. */
struct thread *thread_new(const char *name, void (*run)(void *ctx), void *ctx, struct err *err);
/* Waits until the thread has returned and frees it; NULL is allowed. */
void thread_join(struct thread *thread);
/* Sends SIGUSR1, whose handler does nothing and does not restart system calls: a blocking call of
 * the thread returns EINTR. Any thread; must not run after thread_join. */
void thread_kick(struct thread *thread);
/* Installs the empty SIGUSR1 handler; thread_new does it too. */
void thread_kick_setup(void);

#endif
