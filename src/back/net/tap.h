/*
 * back/net/tap.h - a tap interface of the host: bridged or routed as the host's owner likes.
 *
 * Frames carry the virtio-net header. The host takes unfinished checksums and large segments from
 * the guest; it is told to hand over none, so that a guest needs no feature to receive.
 */
#ifndef BACK_NET_TAP_H
#define BACK_NET_TAP_H

#include "back/net.h"
#include "base/err.h"

struct loop;

/* Attaches to the tap interface NAME, which is made if we may and it does not exist. */
struct net *net_tap_new(struct loop *loop, const char *name, struct err *err);

#endif
