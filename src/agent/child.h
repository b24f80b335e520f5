/*
 * agent/child.h - the command that the host asked for: its process and its streams.
 */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <sys/types.h>

#include "base/types.h"

struct child {
    pid_t pid;                 /* 0: none runs */
    int pid_fd;                /* readable when the process has ended */
    int in_fd, out_fd, err_fd; /* owned; -1 when closed; with a terminal, all output is at out_fd */
    bool has_terminal;
};

struct child_request {
    char **arguments;   /* ends in NULL */
    char **environment; /* ends in NULL */
    bool wants_terminal;
    u16 columns, rows;
};

/* A child of which nothing runs. */
void child_init(struct child *child);
/* Starts the command; 0 or -errno, also when it cannot be executed. */
MUST_CHECK int child_start(struct child *child, const struct child_request *request);
void child_resize(struct child *child, u16 columns, u16 rows);
void child_signal(struct child *child, int number);
/* Collects the process after pid_fd became readable: its status as a shell shows it. */
u32 child_collect(struct child *child);
/* Ends what runs and closes all. */
void child_fini(struct child *child);

#endif
