/*
 * host/thread.c - threads on pthreads, locks on a futex.
 *
 * Spec   "Futexes Are Tricky" (Drepper), mutex 2: 0 free, 1 held, 2 held with waiters.
 * Runs   on any thread.
 */
#include "host/thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "host/fault.h"

enum { LOCK_SPIN_COUNT = 64 }; /* device handlers are short: most waits end within this */

struct thread {
    pthread_t handle;
    void (*run)(void *ctx);
    void *ctx; /* borrowed */
    char name[16];
};

static void kick_handler(int signal_number)
{
    (void)signal_number;
}

void thread_kick_setup(void)
{
    struct sigaction action = {.sa_handler = kick_handler};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
}

static void *thread_main(void *argument)
{
    struct thread *thread = argument;
    pthread_setname_np(pthread_self(), thread->name);
    thread->run(thread->ctx);
    return NULL;
}

/* Signals for the process are the main thread's; only a kick and faults reach the others. */
static void block_signals(sigset_t *ret_old)
{
    static const int own[] = {SIGUSR1, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (unsigned i = 0; i < ARRAY_LEN(own); i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, ret_old);
}

struct thread *thread_new(const char *name, void (*run)(void *ctx), void *ctx, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct thread *thread = new0(struct thread);
    sigset_t old;

    if (thread == NULL) {
        err_set(err, -ENOMEM, "thread '%s': out of memory", name);
        return NULL;
    }
    pthread_once(&once, thread_kick_setup);
    thread->run = run;
    thread->ctx = ctx;
    strncpy(thread->name, name, sizeof(thread->name) - 1);
    block_signals(&old);
    int result = -host_fault(FAULT_THREAD);
    if (result == 0)
        result = pthread_create(&thread->handle, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (result != 0) {
        err_set(err, -result, "thread '%s': the host gives no more threads: %s; see 'ulimit -u'",
                name, strerror(result));
        alloc_free(thread);
        return NULL;
    }
    return thread;
}

void thread_join(struct thread *thread)
{
    if (thread == NULL)
        return;
    pthread_join(thread->handle, NULL);
    alloc_free(thread);
}

void thread_kick(struct thread *thread)
{
    pthread_kill(thread->handle, SIGUSR1);
}

static void futex(u32 *word, int operation, u32 value)
{
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void lock_acquire(struct lock *lock)
{
    for (unsigned i = 0; i < LOCK_SPIN_COUNT; i++) {
        u32 is_free = 0;
        if (__atomic_compare_exchange_n(&lock->word, &is_free, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return;
        if (is_free == 2)
            break; /* others sleep already: the wait is a long one */
        __builtin_ia32_pause();
    }
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
        futex(&lock->word, FUTEX_WAIT, 2);
}

void lock_release(struct lock *lock)
{
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
        futex(&lock->word, FUTEX_WAKE, 1);
}
