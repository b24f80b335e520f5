/*
 * back/net/frames.c - frames between an adapter and a descriptor.
 *
 * Runs   on the loop; frames_send on any thread.
 * Trust  frames are not looked at: the guest parses what comes, the other side what goes.
 */
#include "back/net/frames.h"

#include <assert.h>
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "host/fault.h"

enum { FRAMES_PER_TURN = 64, SEGMENTS_MAX = 1024 /* IOV_MAX */ };

static void watch_set(struct frames *frames, bool is_on)
{
    if (is_on && !frames->is_watched)
        frames->is_watched = loop_add(frames->loop, &frames->watch) == 0;
    else if (!is_on && frames->is_watched) {
        loop_remove(frames->loop, &frames->watch);
        frames->is_watched = false;
    }
}

/* One frame from the descriptor to the client: 1 when there may be more, 0 when not now, -1 at the
 * end. The device's lock is held. */
static int frame_take(struct frames *frames, const struct net_client *client)
{
    if (!client->rx_ready(client->ctx))
        return 0;
    int fault = host_fault(FAULT_READ);
    ssize_t got = fault != 0 ? -1 : read(frames->watch.fd, frames->buffer, sizeof(frames->buffer));
    if (got > 0) {
        client->rx(client->ctx, frames->buffer, (size_t)got);
        return 1;
    }
    return got < 0 && (fault != 0 || errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void on_ready(void *opaque, u32 events)
{
    struct frames *frames = opaque;
    const struct net_client *client = &frames->net->client;
    bool has_room = false;
    int result = 1;

    if (client->rx == NULL) {
        watch_set(frames, false); /* nobody is attached: the host's queue keeps the frames */
        return;
    }
    if (client->lock != NULL)
        lock_acquire(client->lock);
    for (unsigned i = 0; i < FRAMES_PER_TURN && result > 0; i++)
        result = frame_take(frames, client);
    has_room = client->rx_ready(client->ctx);
    if (client->lock != NULL)
        lock_release(client->lock);
    watch_set(frames, has_room && result >= 0);
    if (result < 0 && frames->ended != NULL)
        frames->ended(frames->ctx);
}

static void on_resume(void *opaque)
{
    watch_set(opaque, true);
}

void frames_rx_resume(struct frames *frames)
{
    loop_post(frames->loop, &frames->resume);
}

void frames_send(struct frames *frames, const struct net_segment *segments, unsigned count)
{
    /* One segment is one vector: the names differ, the meaning and the layout do not. */
    static_assert(sizeof(struct net_segment) == sizeof(struct iovec) &&
                      offsetof(struct net_segment, bytes) == offsetof(struct iovec, iov_len),
                  "net_segment has iovec's layout");
    size_t bytes = 0;
    for (unsigned i = 0; i < count && i < SEGMENTS_MAX; i++)
        bytes += segments[i].bytes;
    /* An empty message would mean the end of the connection. */
    if (bytes == 0 || bytes > NET_FRAME_MAX_BYTES || count > SEGMENTS_MAX ||
        host_fault(FAULT_WRITE) != 0 ||
        writev(frames->watch.fd, (const struct iovec *)(const void *)segments, (int)count) < 0)
        frames->net->dropped_count++;
}

int frames_init(struct frames *frames, int fd)
{
    frames->watch = (struct loop_fd){fd, LOOP_IN, on_ready, frames};
    frames->resume = (struct loop_task){.run = on_resume, .ctx = frames};
    int result = loop_add(frames->loop, &frames->watch);
    frames->is_watched = result == 0;
    return result;
}

void frames_fini(struct frames *frames)
{
    if (frames->loop == NULL)
        return;
    watch_set(frames, false);
    loop_unpost(frames->loop, &frames->resume);
}
