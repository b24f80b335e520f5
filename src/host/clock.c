/*
 * host/clock.c - base/clock.h: the kernel's raw clock, and the rate of the time stamp counter.
 *
 * CLOCK_MONOTONIC_RAW is the one that follows the counter: the network time daemon does not slew
 * it, so VM time and the guest's own reading of the counter keep step. Spec   SDM vol. 2A, CPUID
 * leaves 15h and 16h; leaf 40000010h as VMware and KVM publish it (kHz); Linux
 * Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat. Runs   on any thread.
 */
#include "base/clock.h"

#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { CALIBRATE_NS = 4000000, CALIBRATE_TRIES = 8 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static u64 tsc_hz;

static u64 read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

u64 clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC_RAW);
}

u64 clock_realtime_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

/* Three numbers: nanoseconds on a processor, nanoseconds waiting for one, times scheduled. Opened
 * each time: a descriptor kept would have to be closed when the thread ends. */
u64 clock_thread_waited_ns(void)
{
    char text[64];
    u64 waited_ns = 0;

    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t bytes = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (bytes <= 0)
        return 0;
    text[bytes] = 0;
    const char *at = text;
    while (*at >= '0' && *at <= '9')
        at++;
    if (*at++ != ' ')
        return 0;
    for (; *at >= '0' && *at <= '9'; at++)
        waited_ns = waited_ns * 10 + (u64)(*at - '0');
    return waited_ns;
}

/* One reading of both clocks, from the try that was disturbed least. */
static void read_pair(u64 *ret_tsc, u64 *ret_ns)
{
    u64 best = UINT64_MAX;
    for (unsigned i = 0; i < CALIBRATE_TRIES; i++) {
        u64 before = clock_tsc(), ns = clock_monotonic_ns(), after = clock_tsc();
        if (after - before < best) {
            best = after - before;
            *ret_tsc = before + best / 2;
            *ret_ns = ns;
        }
    }
}

static u64 measured_hz(void)
{
    u64 tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;
    read_pair(&tsc0, &ns0);
    while (clock_monotonic_ns() - ns0 < CALIBRATE_NS)
        __builtin_ia32_pause();
    read_pair(&tsc1, &ns1);
    return (u64)((unsigned __int128)(tsc1 - tsc0) * 1000000000u / (ns1 - ns0));
}

/* What the processor or the hypervisor below says; 0 when neither does. */
static u64 stated_hz(void)
{
    u32 a, b, c, d;
    if (__get_cpuid_max(0, NULL) >= 0x15) {
        __cpuid_count(0x15, 0, a, b, c, d);
        if (a != 0 && b != 0 && c != 0)
            return (u64)c * b / a;
    }
    __cpuid(1, a, b, c, d);
    if ((c & (1u << 31)) == 0)
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    if (a < 0x40000010 || a > 0x400000ff)
        return 0;
    __cpuid(0x40000010, a, b, c, d);
    return (u64)a * 1000;
}

static void find_tsc_hz(void)
{
    u64 measured = measured_hz(), stated = stated_hz();
    u64 difference = stated > measured ? stated - measured : measured - stated;
    /* A hypervisor may publish a rate and then scale the counter: believe only what fits. */
    tsc_hz = stated != 0 && difference < measured / 1000 ? stated : measured;
    if (tsc_hz == 0)
        tsc_hz = 1;
}

u64 clock_tsc_hz(void)
{
    pthread_once(&once, find_tsc_hz);
    return tsc_hz;
}
