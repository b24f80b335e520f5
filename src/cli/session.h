/*
 * cli/session.h - a command in the guest, as if it ran here: its streams are ours, its status too.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <sys/types.h>

#include "base/err.h"

struct session_options {
    int fd;                     /* owned: leads to the agent */
    pid_t vm;                   /* the VM's process, which is collected */
    const char *const *command; /* ends in NULL */
    bool ends_orderly;          /* the guest's disk is kept: shut it down through its init */
};

/* Waits for the agent, runs the command, powers the guest off. Returns the exit status for our
 * process; ERR holds a message when something else than the command failed. */
int session_run(const struct session_options *options, struct err *err);

#endif
