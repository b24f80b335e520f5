/*
 * host/host_test.c - the host floor: loop, threads, locks, clock, memory, descriptors, terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/lock.h"
#include "host/fault.h"
#include "host/fd.h"
#include "host/loop.h"
#include "host/map.h"
#include "host/term.h"
#include "host/thread.h"

enum { ROUNDS = 20000, THREADS = 4 };

struct shared {
    struct lock lock;
    u64 count;
};

static void count_up(void *ctx)
{
    struct shared *shared = ctx;
    for (unsigned i = 0; i < ROUNDS; i++) {
        lock_acquire(&shared->lock);
        u64 count = shared->count;
        __asm__ volatile("" ::: "memory");
        shared->count = count + 1;
        lock_release(&shared->lock);
    }
}

static void test_lock_excludes(void **state)
{
    struct shared shared = {0};
    struct thread *threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = thread_new("count", count_up, &shared, NULL);
        assert_non_null(threads[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    assert_int_equal(shared.count, ROUNDS * THREADS);
    assert_int_equal(shared.lock.word, 0);
}

static void sleep_until_kicked(void *ctx)
{
    char byte;
    int *pipe_fds = ctx;
    pipe_fds[1] = read(pipe_fds[0], &byte, 1) < 0 ? errno : 0;
}

static void test_thread_kick_ends_a_blocking_call(void **state)
{
    int fds[2], shared[2];
    assert_int_equal(pipe(fds), 0);
    shared[0] = fds[0];
    shared[1] = -1;
    struct thread *thread = thread_new("a-name-longer-than-15", sleep_until_kicked, shared, NULL);
    assert_non_null(thread);
    usleep(50000);
    thread_kick(thread);
    thread_join(thread);
    assert_int_equal(shared[1], EINTR);
    close(fds[0]);
    close(fds[1]);
}

static void test_thread_refused(void **state)
{
    struct err err;
    fault_arm(FAULT_THREAD, 1, -EAGAIN);
    assert_null(thread_new("x", count_up, NULL, &err));
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(err.code, -EAGAIN);
}

struct trace {
    struct loop *loop;
    struct loop_task task;
    struct loop_fd watch;
    struct loop_fd *victim;
    unsigned count;
    u64 fired_ns;
};

static void task_run(void *ctx)
{
    struct trace *trace = ctx;
    if (++trace->count < 3)
        loop_post(trace->loop, &trace->task);
    else
        loop_stop(trace->loop);
}

static void post_later(void *ctx)
{
    struct trace *trace = ctx;
    usleep(10000);
    loop_post(trace->loop, &trace->task);
    loop_post(trace->loop, &trace->task);
}

static void test_loop_runs_posted_tasks(void **state)
{
    struct trace trace = {.loop = loop_new(NULL), .task = {.run = task_run}};
    trace.task.ctx = &trace;
    struct thread *thread = thread_new("post", post_later, &trace, NULL);
    loop_run(trace.loop);
    thread_join(thread);
    assert_in_range(trace.count, 3, 4);
    loop_free(trace.loop);
}

static void test_loop_unposts(void **state)
{
    struct trace trace = {.loop = loop_new(NULL), .task = {.run = task_run}};
    struct loop_task other = {.run = task_run, .ctx = &trace};
    trace.task.ctx = &trace;
    trace.count = 10;
    loop_post(trace.loop, &trace.task);
    loop_post(trace.loop, &other);
    loop_unpost(trace.loop, &other);
    loop_post(trace.loop, &other);
    loop_unpost(trace.loop, &trace.task);
    loop_turn(trace.loop, 100);
    assert_int_equal(trace.count, 11);
    loop_free(trace.loop);
}

static void fire(void *ctx)
{
    struct trace *trace = ctx;
    trace->fired_ns = clock_monotonic_ns();
    loop_stop(trace->loop);
}

static void test_loop_alarm_fires_when_due(void **state)
{
    struct trace trace = {.loop = loop_new(NULL)};
    u64 now_ns = clock_monotonic_ns(), due_ns = now_ns + 30000000;
    loop_alarm_bind(trace.loop, fire, &trace);
    loop_alarm_set(trace.loop, now_ns + 5000000); /* put off before it fires */
    loop_alarm_set(trace.loop, due_ns);
    loop_run(trace.loop);
    assert_true(trace.fired_ns >= due_ns);
    assert_true(trace.fired_ns < due_ns + 2000000000u);
    loop_free(trace.loop);
}

static void on_ready(void *ctx, u32 events)
{
    struct trace *trace = ctx;
    trace->count++;
    loop_remove(trace->loop, trace->victim);
    loop_remove(trace->loop, &trace->watch);
}

static void test_loop_removed_watch_stays_silent(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct trace a = {.loop = loop}, b = {.loop = loop};
    int fds[2];
    assert_int_equal(fd_pair(fds, NULL), 0);
    a.watch = (struct loop_fd){fds[0], LOOP_OUT, on_ready, &a};
    b.watch = (struct loop_fd){fds[1], LOOP_OUT, on_ready, &b};
    a.victim = &b.watch;
    b.victim = &a.watch;
    assert_int_equal(loop_add(loop, &a.watch), 0);
    assert_int_equal(loop_add(loop, &b.watch), 0);
    loop_turn(loop, 100);
    loop_turn(loop, 0);
    assert_int_equal(a.count + b.count, 1);
    close(fds[0]);
    close(fds[1]);
    loop_free(loop);
}

static void test_loop_new_fails_cleanly(void **state)
{
    for (u64 nth = 1;; nth++) {
        struct err err = {0};
        fault_arm(FAULT_ANY, nth, -ENOMEM);
        struct loop *loop = loop_new(&err);
        u64 count = fault_disarm();
        if (loop != NULL) {
            assert_true(count < nth);
            loop_free(loop);
            break;
        }
        assert_int_not_equal(err.text[0], '\0');
    }
}

static void test_clock_tsc_rate(void **state)
{
    u64 hz = clock_tsc_hz();
    u64 ns0 = clock_monotonic_ns(), tsc0 = clock_tsc();
    usleep(20000);
    u64 ns1 = clock_monotonic_ns(), tsc1 = clock_tsc();
    double measured = (double)(tsc1 - tsc0) * 1e9 / (double)(ns1 - ns0);
    assert_true(measured > 0.98 * (double)hz && measured < 1.02 * (double)hz);
    assert_true(clock_realtime_ns() > 1600000000ull * 1000000000ull);
}

/* Waiting for a processor is counted in the nanoseconds of all clocks, if at all. */
static void test_clock_waiting(void **state)
{
    u64 start_ns = clock_monotonic_ns();
    u64 waited_ns = clock_thread_waited_ns();

    for (unsigned i = 0; i < 50; i++) {
        u64 before_ns = waited_ns;
        sched_yield();
        waited_ns = clock_thread_waited_ns();
        assert_true(waited_ns >= before_ns);
        assert_true(waited_ns - before_ns <= clock_monotonic_ns() - start_ns);
    }
}

static void test_map_is_zero_and_guarded(void **state)
{
    for (unsigned flags = 0; flags <= MAP_RAM_SHARED; flags++) {
        struct map map;
        int status;
        assert_int_equal(map_init(&map, 5 << 20, flags, NULL), 0);
        assert_int_equal((u64)(uintptr_t)map.base & ((2 << 20) - 1), 0);
        assert_int_equal(map.base[0] | map.base[map.bytes - 1], 0);
        map.base[map.bytes - 1] = 1;
        pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL); /* the test library catches it */
            *(volatile u8 *)(map.base + map.bytes) = 1;
            _exit(0);
        }
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        map_fini(&map);
        map_fini(&map);
    }
}

static void test_map_refused(void **state)
{
    struct map map;
    struct err err;
    assert_int_equal(map_init(&map, 0, 0, &err), -EINVAL);
    assert_int_equal(map_init(&map, (size_t)1 << 60, 0, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "--memory"));
    fault_arm(FAULT_MAP, 1, -ENOMEM);
    assert_int_equal(map_init(&map, 4096, 0, &err), -ENOMEM);
    fault_disarm();
}

static void test_alloc(void **state)
{
    assert_null(alloc_array(SIZE_MAX / 2, 4));
    u8 *memory = alloc_zero(100);
    assert_int_equal(((uintptr_t)memory & 15) | memory[0] | memory[99], 0);
    alloc_free(memory);
    alloc_free(NULL);
    fault_arm(FAULT_MEMORY, 2, -ENOMEM);
    void *first = alloc_zero(0), *second = alloc_zero(1);
    fault_disarm();
    assert_non_null(first);
    assert_null(second);
    alloc_free(first);
}

static void test_fd_listen(void **state)
{
    char folder[] = "/tmp/atoll-test-XXXXXX", path[64];
    struct err err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    int fd = fd_listen(path, &err);
    assert_true(fd >= 0);
    assert_int_equal(fd_listen(path, &err), -EADDRINUSE);
    int peer = fd_connect(path, &err);
    assert_true(peer >= 0);
    close(peer);
    close(fd);
    fd = fd_listen(path, &err); /* the stale file is taken over */
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(fd_write(fd, "text", 4), 0);
    close(fd);
    assert_int_equal(fd_listen(path, &err), -EEXIST);
    fd = fd_open(path, O_RDONLY, 0);
    char text[8];
    assert_int_equal(fd_read(fd, text, sizeof(text)), 4);
    close(fd);
    unlink(path);
    rmdir(folder);
    char longer[200];
    memset(longer, 'x', sizeof(longer));
    longer[199] = '\0';
    assert_int_equal(fd_listen(longer, &err), -ENAMETOOLONG);
}

/* The child puts the terminal into raw mode and ends in the way that MODE names. */
static void end_raw(int slave, int mode)
{
    signal(SIGSEGV, SIG_DFL);
    if (term_raw(slave, NULL) != 0 || !term_is_raw())
        _exit(9);
    if (mode == 0)
        exit(0);
    raise(mode);
    _exit(8);
}

static void test_term_is_restored(void **state)
{
    static const int modes[] = {0, SIGTERM, SIGSEGV, SIGINT};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct termios before, after;
    assert_true(slave >= 0);
    assert_int_equal(tcgetattr(slave, &before), 0);
    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            end_raw(slave, modes[i]);
        waitpid(child, &status, 0);
        if (modes[i] == 0)
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == modes[i]);
        assert_int_equal(tcgetattr(slave, &after), 0);
        assert_int_equal(before.c_lflag, after.c_lflag);
        assert_int_equal(before.c_oflag, after.c_oflag);
    }
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(term_raw(fds[0], NULL), -ENOTTY);
    close(fds[0]);
    close(fds[1]);
    close(slave);
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock_excludes),
        cmocka_unit_test(test_thread_kick_ends_a_blocking_call),
        cmocka_unit_test(test_thread_refused),
        cmocka_unit_test(test_loop_runs_posted_tasks),
        cmocka_unit_test(test_loop_unposts),
        cmocka_unit_test(test_loop_alarm_fires_when_due),
        cmocka_unit_test(test_loop_removed_watch_stays_silent),
        cmocka_unit_test(test_loop_new_fails_cleanly),
        cmocka_unit_test(test_clock_tsc_rate),
        cmocka_unit_test(test_clock_waiting),
        cmocka_unit_test(test_map_is_zero_and_guarded),
        cmocka_unit_test(test_map_refused),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_fd_listen),
        cmocka_unit_test(test_term_is_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
