/*
 * back/display/vnc.h - a display that VNC viewers connect to: an RFB 3.8 server.
 *
 * It has a thread of its own, so that encoding pictures takes nothing from devices or vCPUs. Where
 * it listens:
 *
 *   unix:PATH    a local socket, for the owner of the process only; no password is asked for
 *   [HOST]:N     TCP port 5900 + N of HOST (an IPv4 address); of 127.0.0.1 when HOST is empty. With
 *                a password, or on 127.0.0.1 only
 */
#ifndef BACK_DISPLAY_VNC_H
#define BACK_DISPLAY_VNC_H

#include "back/display.h"

struct vnc_options {
    const char *name; /* of the VM, shown by viewers */
    const char *const *addresses;
    unsigned address_count;
    const char *password; /* its first 8 bytes count; NULL: none */
};

/* Listens at once; viewers are served after start(). NULL and ERR when an address is wrong or
 * taken, or memory is exhausted. */
struct display *vnc_new(const struct vnc_options *options, struct err *err);

#endif
