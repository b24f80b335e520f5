/*
 * back/net.h - what a network adapter may ask of the link behind it: whole Ethernet frames.
 *
 * Threads: net_send comes from any thread under the device's lock and never blocks; a frame that
 * cannot be sent now is dropped and counted. rx() runs on the device loop with the device's lock
 * held. The back end calls rx_ready() before it reads a frame and leaves it in the host's queue
 * when false; the device calls net_rx_resume when it has room again. Frames start with the 12-byte
 * virtio-net header (virtio 1.2, 5.1.6) only when vnet_header is true.
 */
#ifndef BACK_NET_H
#define BACK_NET_H

#include "base/lock.h"
#include "base/types.h"

enum { NET_FRAME_MAX_BYTES = 65550 + 12 };

struct net_segment {
    const void *data;
    size_t bytes;
};

struct net_client {
    bool (*rx_ready)(void *ctx);
    void (*rx)(void *ctx, const void *frame, size_t bytes);
    void *ctx;         /* borrowed */
    struct lock *lock; /* borrowed: the device's */
};

struct net;

struct net_ops {
    void (*send)(struct net *net, const struct net_segment *segments, unsigned count);
    void (*rx_resume)(struct net *net);
    void (*free)(struct net *net);
};

struct net {
    const struct net_ops *ops;
    struct net_client client; /* filled by net_attach before the loop runs */
    bool vnet_header;
    u16 mtu; /* bytes of payload the link carries */
    u8 mac[6];
    u64 dropped_count;
};

static inline void net_attach(struct net *net, const struct net_client *client)
{
    net->client = *client;
}

#endif
