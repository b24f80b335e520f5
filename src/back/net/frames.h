/*
 * back/net/frames.h - frames between an adapter and a descriptor that carries one frame per read
 * and per write: a packet socket or a tap.
 *
 * Threads: frames_send and frames_rx_resume come from any thread under the device's lock, the rest
 * from the loop's.
 */
#ifndef BACK_NET_FRAMES_H
#define BACK_NET_FRAMES_H

#include "back/net.h"
#include "host/loop.h"

struct frames {
    struct net *net;   /* borrowed: whose client this serves */
    struct loop *loop; /* borrowed */
    struct loop_fd watch;
    struct loop_task resume;
    bool is_watched;
    void (*ended)(void *ctx); /* the other side has gone; may be NULL */
    void *ctx;                /* borrowed */
    u8 buffer[NET_FRAME_MAX_BYTES];
};

/* Starts to carry frames through FD, which does not block and belongs to the caller. FRAMES' net,
 * loop, ended and ctx are set. */
MUST_CHECK int frames_init(struct frames *frames, int fd);
/* Stops; to be called before the descriptor is closed. */
void frames_fini(struct frames *frames);
void frames_send(struct frames *frames, const struct net_segment *segments, unsigned count);
void frames_rx_resume(struct frames *frames);

#endif
