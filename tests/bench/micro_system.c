/*
 * tests/bench/micro_system.c - what an operating system's users pay for: calls, faults, processes.
 */
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "micro.h"

static uint64_t run_getppid(uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t n = 0; n < count * 16; n++)
        sum += (uint64_t)syscall(SYS_getppid);
    return sum > 0;
}

static uint64_t run_page_touch(uint64_t count)
{
    enum { PAGES = 64 };
    uint64_t touched = 0;
    for (uint64_t n = 0; n < count; n++) {
        char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
        if (pages == MAP_FAILED)
            exit(1);
        for (int i = 0; i < PAGES; i++, touched++)
            pages[i * 4096] = 1;
        munmap(pages, PAGES * 4096);
    }
    return touched;
}

static uint64_t run_fork(uint64_t count)
{
    uint64_t done = 0;
    for (uint64_t n = 0; n < count; n++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0)
            _exit(7);
        if (child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7)
            done++;
    }
    return done;
}

static uint64_t run_exec(uint64_t count)
{
    static char *const words[] = {"micro", "--exit", NULL};
    uint64_t done = 0;
    for (uint64_t n = 0; n < count; n++) {
        int status = 0;
        pid_t child;
        if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, words, environ) == 0 &&
            waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7)
            done++;
    }
    return done;
}

/* A child that sends back what it gets, for as long as there is somebody to send. */
static void echo(int from, int to)
{
    char byte;
    while (read(from, &byte, 1) == 1)
        if (write(to, &byte, 1) != 1)
            break;
    _exit(0);
}

static uint64_t run_pipe(uint64_t count)
{
    static int there[2], back[2];
    char byte = 1;
    uint64_t rounds = 0;
    if (there[1] == 0) {
        if (pipe(there) < 0 || pipe(back) < 0)
            exit(1);
        if (fork() == 0) {
            close(there[1]);
            echo(there[0], back[1]);
        }
        close(there[0]);
        close(back[1]);
    }
    for (uint64_t n = 0; n < count; n++)
        if (write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1)
            rounds++;
    return rounds;
}

const struct micro micro_system[] = {
    {"getppid", "system", run_getppid}, {"page-touch", "system", run_page_touch},
    {"fork-wait", "system", run_fork},  {"exec", "system", run_exec},
    {"pipe", "system", run_pipe},       {0},
};
