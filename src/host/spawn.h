/*
 * host/spawn.h - child processes: programs that stand beside ours, and tools of the host.
 *
 * Threads: spawn from the main thread only: a child that is to die with its parent dies with the
 * thread that made it.
 */
#ifndef HOST_SPAWN_H
#define HOST_SPAWN_H

#include <sys/types.h>

#include "base/err.h"
#include "base/types.h"

enum { SPAWN_PATH_BYTES = 4096, SPAWN_KEEP_MAX = 8 };

struct spawn_options {
    const char *const
        *argv; /* ends in NULL; argv[0] is the program: a path, or looked up in PATH */
    int in_fd, out_fd, err_fd; /* become 0, 1 and 2; -1: as ours */
    const int *keep_fds;       /* stay open in the child under the same number */
    unsigned keep_count;
    bool dies_with_parent;
};

/* Starts the program; the process id or a negative error, also when it cannot be executed. */
MUST_CHECK pid_t spawn(const struct spawn_options *options, struct err *err);
/* Waits for the child to end; its status as a shell shows it (128 + signal when killed). */
int spawn_wait(pid_t child);

/* The path of NAME in the folder of the running program, else NAME itself, to be found in PATH. */
void spawn_beside(const char *name, char ret_path[SPAWN_PATH_BYTES]);

#endif
