/*
 * tests/system/smp_stress.c - makes a guest's processors interrupt one another, and checks what the
 * interrupts are for: TLBs that must be flushed elsewhere, barriers on all processors, wake-ups.
 *
 * Usage: smp_stress SECONDS. Runs four jobs one after the other, each for a quarter of the time,
 * with one thread more than there are processors. Ends with "STRESS OK" and the rounds of each job,
 * or with "STRESS FAILED" and status 1 at the first thing that was wrong.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 65, PAGE_BYTES = 4096, PAGE_COUNT = 8 };

static int thread_count; /* besides the main one */
static atomic_bool stop;
static double job_seconds;

static _Noreturn void failed(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf("STRESS FAILED: ");
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void threads_run(void *(*body)(void *), unsigned long (*job)(double end), const char *name)
{
    pthread_t threads[THREADS_MAX];

    atomic_store(&stop, false);
    for (long i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, body, (void *)i) != 0)
            failed("%s: no thread", name);
    unsigned long rounds = job(now() + job_seconds);
    atomic_store(&stop, true);
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    printf("%s: %lu rounds\n", name, rounds);
    fflush(stdout);
}

/* ---- pages that change under readers -----------------------------------------------------------
 *
 * The state of all pages is one number, which never comes back: its two lowest bits say whether
 * they may be read, and while they may, it stands in each of them. A reader that finds the same
 * state before and after its look must have seen that state: what the main thread's call has
 * changed is then known to every processor.
 */
enum page_rights { READABLE, PROTECTED, CHANGING, RIGHTS_MASK = 3 };

static atomic_ulong page_state;
static volatile unsigned long *pages[PAGE_COUNT];
static __thread sigjmp_buf fault_jump;
static __thread volatile sig_atomic_t fault_expected;

static void on_fault(int number)
{
    if (!fault_expected)
        failed("a fault where none may be");
    siglongjmp(fault_jump, 1);
}

/* True and the value, or false when the page faults. */
static bool page_look(unsigned index, unsigned long *value)
{
    fault_expected = 1;
    if (sigsetjmp(fault_jump, 1) != 0) {
        fault_expected = 0;
        return false;
    }
    *value = *pages[index];
    fault_expected = 0;
    return true;
}

static void *page_reader(void *number)
{
    unsigned index = (unsigned)(uintptr_t)number;
    const struct timespec nap = {.tv_nsec = 200000};

    for (unsigned long turn = 0; !atomic_load(&stop); turn++) {
        unsigned long value = 0;
        unsigned long before = atomic_load(&page_state);
        index = (index + 1) % PAGE_COUNT;
        bool readable = page_look(index, &value);
        if (atomic_load(&page_state) != before || (before & RIGHTS_MASK) == CHANGING)
            continue;
        if ((before & RIGHTS_MASK) == PROTECTED && readable)
            failed("page %u is read after mprotect has returned", index);
        if ((before & RIGHTS_MASK) == READABLE && !readable)
            failed("page %u cannot be read", index);
        if (readable && value != before)
            failed("page %u holds %lx, must be %lx", index, value, before);
        /* Asleep in between, so that its processor halts and is told of changes only later. */
        if (turn % 64 == 63)
            nanosleep(&nap, NULL);
    }
    return NULL;
}

static void pages_fill(unsigned long value)
{
    for (unsigned i = 0; i < PAGE_COUNT; i++)
        *pages[i] = value;
}

static void pages_map(void)
{
    for (unsigned i = 0; i < PAGE_COUNT; i++) {
        void *page = mmap((void *)(uintptr_t)pages[i], PAGE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | (pages[i] ? MAP_FIXED : 0), -1, 0);
        if (page == MAP_FAILED)
            failed("mmap: %d", errno);
        pages[i] = page;
    }
}

static void pages_protect(int rights)
{
    for (unsigned i = 0; i < PAGE_COUNT; i++)
        if (mprotect((void *)(uintptr_t)pages[i], PAGE_BYTES, rights) != 0)
            failed("mprotect: %d", errno);
}

/* Gives readers some time with the next state. */
static void pages_state(unsigned long *state, enum page_rights rights)
{
    *state = (*state & ~(unsigned long)RIGHTS_MASK) + 4 + rights;
    atomic_store(&page_state, *state);
    for (volatile int i = 0; rights != CHANGING && i < 2000; i++)
        ;
}

static unsigned long pages_change(double end)
{
    unsigned long state = atomic_load(&page_state), rounds = 0;

    for (; now() < end; rounds++) {
        pages_state(&state, CHANGING);
        pages_protect(PROT_NONE);
        pages_state(&state, PROTECTED);
        pages_state(&state, CHANGING);
        if (rounds % 3 == 0)
            pages_map(); /* other memory at the same place */
        else
            pages_protect(PROT_READ | PROT_WRITE);
        for (unsigned i = 0; rounds % 3 == 1 && i < PAGE_COUNT; i++)
            madvise((void *)(uintptr_t)pages[i], PAGE_BYTES, MADV_DONTNEED);
        pages_fill((state & ~(unsigned long)RIGHTS_MASK) + 4);
        pages_state(&state, READABLE);
    }
    return rounds;
}

/* ---- barriers on other processors --------------------------------------------------------------
 *
 * Two threads each set their own flag and read the other's. The first has no barrier between, so
 * that its processor may delay its store; the second makes all processors pass one by membarrier().
 * Then at least one of them sees the other's flag.
 */

static atomic_ulong barrier_round, barrier_done;
static volatile unsigned long flag_light, flag_heavy, seen_by_light;

static void *barrier_light(void *number)
{
    if (number != NULL)
        return NULL;
    for (unsigned long round = 1; !atomic_load(&stop);) {
        if (atomic_load(&barrier_round) != round)
            continue;
        flag_light = round;
        __asm__ volatile("" ::: "memory");
        seen_by_light = flag_heavy;
        atomic_store(&barrier_done, round++);
    }
    return NULL;
}

static unsigned long barrier_heavy(double end)
{
    unsigned long round = 0;

    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0)
        failed("membarrier: %d", errno);
    while (now() < end) {
        atomic_store(&barrier_round, ++round);
        flag_heavy = round;
        if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
            failed("membarrier: %d", errno);
        unsigned long light = flag_light;
        double give_up = now() + 60;
        while (atomic_load(&barrier_done) != round)
            if (now() > give_up)
                failed("a thread has not run for 60 s");
        if (light != round && seen_by_light != round)
            failed("round %lu: a store was not seen after membarrier", round);
    }
    return round;
}

/* ---- a token handed round ----------------------------------------------------------------------
 */

static atomic_uint token; /* whose turn it is; a futex */

static void token_wait(unsigned mine)
{
    const struct timespec long_time = {.tv_sec = 60};
    unsigned seen;

    while ((seen = atomic_load(&token)) != mine && !atomic_load(&stop))
        if (syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, seen, &long_time, NULL, 0) != 0 &&
            errno == ETIMEDOUT)
            failed("thread %u was not woken for 60 s", mine);
}

static void token_pass(unsigned mine)
{
    atomic_store(&token, (mine + 1) % (unsigned)(thread_count + 1));
    syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void *token_member(void *number)
{
    unsigned mine = 1 + (unsigned)(uintptr_t)number;

    while (!atomic_load(&stop)) {
        token_wait(mine);
        if (atomic_load(&token) == mine)
            token_pass(mine);
    }
    return NULL;
}

static unsigned long token_rounds(double end)
{
    unsigned long rounds = 0;

    for (; now() < end; rounds++) {
        token_wait(0);
        token_pass(0);
    }
    atomic_store(&stop, true);
    syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    return rounds;
}

/* ---- address spaces that come and go, and locks of the kernel ----------------------------------
 */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long under_mutex;
static atomic_ulong beside_mutex;

/* Children share memory with their parent until either writes; then each has its own. */
static void *fork_member(void *number)
{
    static volatile unsigned long shared[THREADS_MAX][512];
    volatile unsigned long *mine = shared[(uintptr_t)number];

    for (unsigned long round = 1; !atomic_load(&stop); round++) {
        int status = 0;
        mine[0] = round;
        pid_t child = fork();
        if (child < 0)
            failed("fork: %d", errno);
        if (child == 0) {
            bool same = mine[0] == round;
            mine[0] = 0;
            _exit(same && mine[0] == 0 ? 7 : 8);
        }
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
            failed("a child's memory was not its parent's: status %x", status);
        if (mine[0] != round)
            failed("a child's write is seen by its parent");
        for (unsigned i = 0; i < 200; i++) {
            pthread_mutex_lock(&mutex);
            under_mutex++;
            pthread_mutex_unlock(&mutex);
        }
        atomic_fetch_add(&beside_mutex, 200);
    }
    return NULL;
}

static unsigned long fork_rounds(double end)
{
    const struct timespec nap = {.tv_nsec = 10000000};

    while (now() < end)
        nanosleep(&nap, NULL);
    return atomic_load(&beside_mutex) / 200;
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    thread_count = (int)(processors < THREADS_MAX ? processors : THREADS_MAX - 1);
    job_seconds = (argc > 1 ? atof(argv[1]) : 8) / 4;
    sigaction(SIGSEGV, &action, NULL);
    pages_map();
    pages_fill(4);
    atomic_store(&page_state, 4);
    threads_run(page_reader, pages_change, "pages");
    threads_run(barrier_light, barrier_heavy, "barriers");
    threads_run(token_member, token_rounds, "token");
    threads_run(fork_member, fork_rounds, "forks");
    if (under_mutex != atomic_load(&beside_mutex))
        failed("%lu increments under a lock, %lu were made", under_mutex,
               atomic_load(&beside_mutex));
    printf("STRESS OK\n");
    return 0;
}
