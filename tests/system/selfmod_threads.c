/*
 * tests/system/selfmod_threads.c - code that one thread changes and another runs.
 *
 * Spec   Intel SDM vol. 3A 8.1.3: the writer stores, the runner serializes before it relies on the
 *        new code. membarrier's SYNC_CORE makes every thread of the process do so.
 */
#include "selfmod.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { WAIT_SECONDS = 60, IN_TRANSITION = -1 };

static uint8_t *code;            /* the function that is changed */
static _Atomic int begun, ended; /* values whose change has begun, and is complete */
static _Atomic bool stop;
static _Atomic unsigned calls;
static _Atomic bool is_wrong;
static _Atomic int wrong, wrong_low, wrong_high;

static void sync_cores(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) != 0)
        serialize();
}

static void pin(unsigned cpu)
{
    cpu_set_t set;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    CPU_ZERO(&set);
    CPU_SET(cpu % (unsigned)cpus, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static bool in_time(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - start->tv_sec < WAIT_SECONDS;
}

static pthread_t thread_new(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, argument) != 0)
        fail("setup", "pthread_create");
    return thread;
}

/* ---- a value that changes while it is run -------------------------------------------------------
 */

/* The break point of a change in progress: as if the instruction had been another one. */
static void step_over(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (regs[REG_RIP] != (greg_t)(uintptr_t)(code + 1))
        fail("int3", "a trap at %llx", (unsigned long long)regs[REG_RIP]);
    regs[REG_RAX] = IN_TRANSITION;
    regs[REG_RIP] += 4;
}

static void *run_changing(void *unused)
{
    pin(1);
    while (!stop) {
        int low = ended, got = call(code), high = begun;
        if (got != IN_TRANSITION && (got < low || got > high)) {
            wrong_low = low;
            wrong_high = high;
            wrong = got;
            is_wrong = true;
            stop = true;
        }
        calls++;
    }
    return NULL;
}

static void run_changes(const char *test, unsigned rounds, void (*change)(int value))
{
    stop = false;
    begun = ended = calls = 0;
    put_return(code, 0);
    serialize();
    pthread_t runner = thread_new(run_changing, NULL);
    pin(0);
    for (int value = 1; value <= (int)rounds && !stop; value++) {
        begun = value;
        change(value);
        ended = value;
        unsigned seen = calls;
        struct timespec start;
        clock_gettime(CLOCK_MONOTONIC, &start);
        while (calls == seen && !stop && in_time(&start))
            sched_yield();
        if (calls == seen && !stop)
            fail(test, "the other thread does not come back from value %d", value);
    }
    stop = true;
    pthread_join(runner, NULL);
    if (is_wrong)
        fail(test, "%d instead of %d to %d", wrong, wrong_low, wrong_high);
}

static void change_by_int3(int value)
{
    *(volatile uint8_t *)code = 0xcc;
    sync_cores();
    memcpy(code + 1, &value, 4);
    sync_cores();
    *(volatile uint8_t *)code = 0xb8;
    sync_cores();
}

/* The value lies within eight bytes that are stored at once. */
static void change_at_once(int value)
{
    *(volatile int *)(code + 1) = value;
    sync_cores();
}

static uint8_t *code_alias;

static void change_through_alias(int value)
{
    *(volatile int *)(code_alias + 1) = value;
    sync_cores();
}

/* ---- loops that must end ------------------------------------------------------------------------
 */

static sigjmp_buf out_of_loop;
static _Atomic bool looping, left;

static void leave_loop(int number, siginfo_t *info, void *context)
{
    siglongjmp(out_of_loop, 1);
}

static void *run_loop(void *unused)
{
    pin(1);
    looping = true;
    if (sigsetjmp(out_of_loop, 1) == 0)
        call(code);
    left = true;
    return NULL;
}

static void cut_patch(void)
{
    *(volatile uint16_t *)code = 0x90c3; /* ret; nop in place of a jump to itself */
    sync_cores();
}

static void cut_rights(void)
{
    mprotect(code, PAGE, RW);
}

static void cut_page(void)
{
    munmap(code, PAGE);
}

static void cut_replace(void)
{
    int fd = file_new(1);
    uint8_t *file = pages_map(NULL, fd, 0, 1, RW);
    memset(file, 0xc3, PAGE);
    pages_map(code, fd, 0, 1, RX);
    munmap(file, PAGE);
    close(fd);
}

/* A thread in an endless loop without exits, whose code is changed or taken away. */
static void endless(const char *test, unsigned rounds, void (*cut)(void))
{
    for (unsigned round = 0; round < rounds; round++) {
        code = pages_new(1, RWX);
        memcpy(code, round & 1 ? "\xeb\xfe" : "\xeb\x00\xff\xc0\xeb\xfa", round & 1 ? 2 : 6);
        looping = left = false;
        pthread_t runner = thread_new(run_loop, NULL);
        pin(0);
        while (!looping)
            sched_yield();
        usleep(round % 5 * 300);
        cut();
        struct timespec start;
        clock_gettime(CLOCK_MONOTONIC, &start);
        while (!left && in_time(&start))
            usleep(100);
        if (!left)
            fail(test, "round %u: the loop goes on", round);
        pthread_join(runner, NULL);
        if (cut != cut_page)
            munmap(code, PAGE);
    }
}

/* ---- compilers and wanderers --------------------------------------------------------------------
 */

static void *compile_and_run(void *argument)
{
    unsigned rounds = *(unsigned *)argument;
    unsigned seed = (unsigned)(uintptr_t)pthread_self() >> 12;

    for (unsigned round = 0; round < rounds; round++) {
        uint8_t *pages = pages_new(2, RW);
        seed = seed * 1103515245 + 12345;
        unsigned at = seed >> 8 & 4095;
        put_return(pages + at, (int)seed);
        mprotect(pages, 2 * PAGE, RX);
        if (call(pages + at) != (int)seed)
            fail("compilers", "round %u", round);
        mprotect(pages, 2 * PAGE, RWX);
        put_return(pages + at, (int)~seed);
        if (call(pages + at) != (int)~seed)
            fail("compilers", "round %u, second time", round);
        munmap(pages, 2 * PAGE);
    }
    return NULL;
}

static void compilers(unsigned rounds)
{
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++)
        threads[i] = thread_new(compile_and_run, &rounds);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* Written on one processor, run there and, after the kernel moved the thread, on the next. */
static void wanderer(unsigned rounds)
{
    uint8_t *page = pages_new(1, RWX);

    for (unsigned round = 0; round < rounds; round++) {
        put_return(page + round % 3 * 61, (int)round);
        if (call(page + round % 3 * 61) != (int)round)
            fail("wanderer", "round %u", round);
        pin(round);
        if (call(page + round % 3 * 61) != (int)round)
            fail("wanderer", "round %u, after the move", round);
    }
    munmap(page, PAGE);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(number, &action, NULL);
}

static void changes(unsigned rounds)
{
    int fd = file_new(1);

    code = pages_map(NULL, fd, 0, 1, RWX);
    code_alias = pages_map(NULL, fd, 0, 1, RW);
    handle(SIGTRAP, step_over);
    run_changes("int3", rounds, change_by_int3);
    done("int3");
    code += 3; /* the value is aligned */
    code_alias += 3;
    run_changes("at-once", rounds, change_at_once);
    done("at-once");
    run_changes("through-alias", rounds, change_through_alias);
    done("through-alias");
    munmap(code - 3, PAGE);
    munmap(code_alias - 3, PAGE);
    close(fd);
}

void selfmod_threads(unsigned rounds)
{
    static const struct {
        const char *name;
        void (*cut)(void);
    } cuts[] = {{"loop-patched", cut_patch},
                {"loop-without-rights", cut_rights},
                {"loop-unmapped", cut_page},
                {"loop-replaced", cut_replace}};

    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    changes(rounds);
    handle(SIGSEGV, leave_loop);
    for (unsigned i = 0; i < sizeof(cuts) / sizeof(*cuts); i++) {
        endless(cuts[i].name, rounds / 10 + 2, cuts[i].cut);
        done(cuts[i].name);
    }
    compilers(rounds);
    done("compilers");
    wanderer(rounds);
    done("wanderer");
}
