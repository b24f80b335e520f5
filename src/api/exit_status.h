/*
 * api/exit_status.h - the exit statuses of atoll-vm and of `atoll run`.
 *
 * All are even: a guest that ends through the isa-debug-exit port gives (value * 2 + 1), always
 * odd. `atoll run ... -- COMMAND` ends with the command's own status once the command has run.
 */
#ifndef API_EXIT_STATUS_H
#define API_EXIT_STATUS_H

enum exit_status {
    EXIT_STATUS_POWEROFF = 0, /* the guest powered off, or the user left with ^] */
    EXIT_STATUS_ARGUMENT = 2, /* an option or its value is wrong */
    EXIT_STATUS_FILE = 4,     /* a file is missing, cannot be read, or is not what it should be */
    EXIT_STATUS_ENGINE = 6,   /* no engine could be started, or it cannot go on */
    EXIT_STATUS_GUEST_CRASH = 8, /* triple fault */
    EXIT_STATUS_HOST = 10, /* the host refused something: memory, a lock, a network, a process */
    EXIT_STATUS_AGENT = 12 /* the guest's agent did not answer or could not start the command */
};

#endif
