/*
 * back/display/listen.h - where a VNC server listens, as people write it.
 */
#ifndef BACK_DISPLAY_LISTEN_H
#define BACK_DISPLAY_LISTEN_H

#include "base/err.h"
#include "base/types.h"

enum { LISTEN_PATH_BYTES = 108 };

/* Listens at ADDRESS (see vnc.h). RET_PATH is the socket file of a unix address, to be taken away
 * at the end, else empty. The descriptor, or a negative error. */
MUST_CHECK int listen_at(const char *address, bool has_password, char ret_path[LISTEN_PATH_BYTES],
                         struct err *err);
/* -EINVAL and ERR for what is no address. */
MUST_CHECK int listen_check(const char *address, struct err *err);

#endif
