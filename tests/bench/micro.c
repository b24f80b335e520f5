/*
 * tests/bench/micro.c - runs the micro-benchmarks, as a plain program or as a guest's init.
 *
 * Output, one line each: "RESULT name group nanoseconds-a-unit check". As process 1 it says "READY"
 * first (the end of boot), mounts /proc, runs everything and powers the machine off.
 * Usage: micro [--ms N] [--only NAME,...], or micro --work COUNT; on a kernel command line:
 * micro.ms=N micro.only=NAME,... micro.boot (boot: power off at once).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

enum { ROUND_NS = 4000000, DEFAULT_MS = 150 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t took_ns(const struct micro *micro, uint64_t count, uint64_t *check)
{
    uint64_t start_ns = now_ns();
    *check ^= micro->run(count);
    return now_ns() - start_ns;
}

/* TOTAL_NS in short rounds, of which the best counts: one of a few milliseconds is likely to have
 * the processor for itself even where others want it. For the same reason two rounds must agree
 * that there are enough units in one. */
static void measure(const struct micro *micro, uint64_t total_ns)
{
    uint64_t count = 1, one_ns, spent_ns = 0, check = 0;
    for (;;) {
        one_ns = took_ns(micro, count, &check);
        if (one_ns >= ROUND_NS / 2)
            one_ns = took_ns(micro, count, &check);
        if (one_ns >= ROUND_NS / 2)
            break;
        count *= one_ns < ROUND_NS / 16 ? 4 : 2;
    }
    double best = (double)one_ns / (double)count;
    while (spent_ns < total_ns) {
        one_ns = took_ns(micro, count, &check);
        spent_ns += one_ns;
        if ((double)one_ns / (double)count < best)
            best = (double)one_ns / (double)count;
    }
    printf("RESULT %s %s %.2f %llx\n", micro->name, micro->group, best,
           (unsigned long long)(micro->run(3) ^ (check & 0)));
    fflush(stdout);
}

/* ONLY lists names, parted by commas; NULL: all. */
static int is_wanted(const char *only, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = only; at != NULL; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return 1;
    return only == NULL;
}

static void measure_all(uint64_t total_ns, const char *only)
{
    const struct micro *const tables[] = {micro_integer, micro_vector, micro_system};
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (const struct micro *micro = tables[t]; micro->name != NULL; micro++)
            if (is_wanted(only, micro->name))
                measure(micro, total_ns);
}

/* A fixed amount of integer work, for those who measure from outside. */
static void work(uint64_t count)
{
    for (const struct micro *micro = micro_integer; micro->name != NULL; micro++)
        printf("%s %llx\n", micro->name, (unsigned long long)micro->run(count));
}

static void run_as_init(void)
{
    char line[4096] = "", *word;
    uint64_t ms = DEFAULT_MS;
    const char *only = NULL;
    puts("READY");
    fflush(stdout);
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    FILE *file = fopen("/proc/cmdline", "r");
    if (file == NULL || fgets(line, sizeof(line), file) == NULL)
        puts("no /proc/cmdline");
    if (strstr(line, "micro.boot") == NULL) {
        if ((word = strstr(line, "micro.ms=")) != NULL)
            ms = strtoull(word + 9, NULL, 10);
        if ((word = strstr(line, "micro.only=")) != NULL)
            only = strtok(word + 11, " \n");
        measure_all(ms * 1000000, only);
    }
    puts("DONE");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    uint64_t ms = DEFAULT_MS;
    const char *only = NULL;
    if (argc > 1 && strcmp(argv[1], "--exit") == 0)
        _exit(7);
    if (argc > 2 && strcmp(argv[1], "--work") == 0) {
        work(strtoull(argv[2], NULL, 10));
        return 0;
    }
    if (getpid() == 1)
        run_as_init();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ms") == 0)
            ms = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
    }
    measure_all(ms * 1000000, only);
    return 0;
}
