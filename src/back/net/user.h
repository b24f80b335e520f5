/*
 * back/net/user.h - rootless NAT: the guest gets an address and names by DHCP, reaches what the
 * host reaches, and is reached through forwarded ports.
 *
 * The work is done by atoll-slirp, a process of its own without privileges that ends with the VM;
 * see api/slirp.h. When it dies, the link goes silent and the VM goes on.
 */
#ifndef BACK_NET_USER_H
#define BACK_NET_USER_H

#include "back/net.h"
#include "base/err.h"

struct loop;

enum { NET_FORWARDS_MAX = 64 };

struct net_forward {
    bool is_udp;
    char host_address[16]; /* IPv4, dotted; where the host listens */
    u16 host_port, guest_port;
};

/* FORWARDS are listened to when this returns; ERR names the port that cannot be had. */
struct net *net_user_new(struct loop *loop, const struct net_forward *forwards, unsigned count,
                         struct err *err);

#endif
