/*
 * back/chr/unix.h - a console or port on a local socket.
 *
 * Either a connected socket that is handed over, or a listening one to which a peer may attach
 * late: it then gets the history of what the guest wrote first. A new peer takes the place of the
 * old one. client.connected() tells the device of both.
 */
#ifndef BACK_CHR_UNIX_H
#define BACK_CHR_UNIX_H

#include "back/chr.h"
#include "base/err.h"

struct loop;

enum { CHR_UNIX_HISTORY_BYTES = 256 * 1024 };

/* Listens at PATH, which is removed with the object. */
struct chr *chr_unix_listen(struct loop *loop, const char *path, struct err *err);
/* Speaks over the connected stream socket FD, which it owns from now on, also when it fails. */
struct chr *chr_unix_take(struct loop *loop, int fd, struct err *err);

#endif
