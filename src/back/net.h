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

/* What the guest's driver can take in a received frame's virtio-net header. */
enum net_offload {
    NET_OFFLOAD_CSUM = 1, /* checksums not yet filled in; the others need it */
    NET_OFFLOAD_TSO4 = 2, /* TCP segments longer than the link's */
    NET_OFFLOAD_TSO6 = 4,
    NET_OFFLOAD_ECN = 8,
};

struct net_ops {
    void (*send)(struct net *net, const struct net_segment *segments, unsigned count);
    void (*rx_resume)(struct net *net);
    /* vnet_header only: from now on received frames may ask for OFFLOADS (bits of enum
     * net_offload), at first for none. NULL where they never do. */
    void (*offload)(struct net *net, u32 offloads);
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
