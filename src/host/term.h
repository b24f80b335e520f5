/*
 * host/term.h - the terminal in raw mode, put back on every way out that a process can see.
 *
 * One terminal per process. It is restored by term_restore, at exit, and by the signals that end a
 * process, faults included; after SIGCONT raw mode is set again.
 */
#ifndef HOST_TERM_H
#define HOST_TERM_H

#include "base/err.h"
#include "base/types.h"

/* Puts the terminal FD into raw mode; -ENOTTY when it is none. */
MUST_CHECK int term_raw(int fd, struct err *err);
/* Puts it back as it was; no effect when it is not raw. Safe in a signal handler. */
void term_restore(void);
bool term_is_raw(void);
/* The size in characters; -ENOTTY when FD is no terminal. */
MUST_CHECK int term_size(int fd, u16 *ret_columns, u16 *ret_rows);

#endif
