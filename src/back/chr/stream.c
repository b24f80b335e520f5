/*
 * back/chr/stream.c - bytes between a chr's client and a pair of descriptors.
 *
 * Runs   on the loop; stream_write on any thread, under the device's lock.
 * Trust  the peer's bytes go to the client as they are.
 */
#include "back/chr/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/clock.h"
#include "host/fault.h"
#include "host/fd.h"

static void client_lock(struct stream *stream)
{
    if (stream->chr->client.lock != NULL)
        lock_acquire(stream->chr->client.lock);
}

static void client_unlock(struct stream *stream)
{
    if (stream->chr->client.lock != NULL)
        lock_release(stream->chr->client.lock);
}

void stream_tell_connected(struct stream *stream, bool is_on)
{
    struct chr_client *client = &stream->chr->client;
    client_lock(stream);
    if (client->connected != NULL)
        client->connected(client->ctx, is_on);
    client_unlock(stream);
}

/* Input */

static void in_watch(struct stream *stream, bool is_on)
{
    if (stream->in_unpollable) {
        if (is_on)
            loop_post(stream->loop, &stream->pump);
        return;
    }
    if (is_on && !stream->in_watched)
        stream->in_watched = loop_add(stream->loop, &stream->in) == 0;
    else if (!is_on && stream->in_watched) {
        loop_remove(stream->loop, &stream->in);
        stream->in_watched = false;
    }
}

/* Offers what was read; true when the client has taken all of it. */
static bool rx_offer(struct stream *stream)
{
    struct chr_client *client = &stream->chr->client;
    if (stream->rx_bytes == 0)
        return true;
    size_t taken_bytes = stream->rx_bytes;
    client_lock(stream);
    if (client->rx != NULL)
        taken_bytes = client->rx(client->ctx, stream->rx + stream->rx_position, stream->rx_bytes);
    client_unlock(stream);
    taken_bytes = min_u64(taken_bytes, stream->rx_bytes);
    stream->rx_position += taken_bytes;
    stream->rx_bytes -= taken_bytes;
    return stream->rx_bytes == 0;
}

static void in_end(struct stream *stream)
{
    in_watch(stream, false);
    stream->in_ended = true;
    if (stream->ended != NULL)
        stream->ended(stream->ctx);
}

/* One chunk from the descriptor to the client. */
static void on_pump(void *opaque)
{
    struct stream *stream = opaque;

    if (stream->in.fd < 0 || stream->in_ended)
        return;
    if (!rx_offer(stream)) {
        in_watch(stream, false);
        return;
    }
    int fault = host_fault(FAULT_READ);
    ssize_t got = fault != 0 ? -1 : read(stream->in.fd, stream->rx, sizeof(stream->rx));
    if (got < 0 && fault == 0 && (errno == EAGAIN || errno == EINTR)) {
        in_watch(stream, true);
        return;
    }
    if (got <= 0) {
        in_end(stream);
        return;
    }
    stream->rx_position = 0;
    stream->rx_bytes = (size_t)got;
    if (stream->filter != NULL)
        stream->rx_bytes = stream->filter(stream->ctx, stream->rx, stream->rx_bytes);
    in_watch(stream, rx_offer(stream));
}

static void on_in(void *opaque, u32 events)
{
    on_pump(opaque);
}

void stream_rx_resume(struct stream *stream)
{
    loop_post(stream->loop, &stream->pump);
}

/* Output */

/* Gives the host what it takes now; under the stream's lock. A peer that has gone takes all. */
static size_t out_try(struct stream *stream, const u8 *data, size_t bytes)
{
    int fault = host_fault(FAULT_WRITE);
    ssize_t put = fault != 0 ? -1 : write(stream->out.fd, data, bytes);
    if (put >= 0)
        return (size_t)put;
    return fault == 0 && (errno == EAGAIN || errno == EINTR) ? 0 : bytes;
}

/* Sends from the queue's front until the host takes no more; under the stream's lock. */
static void queue_send(struct stream *stream)
{
    while (stream->queue_bytes > 0) {
        size_t run = min_u64(stream->queue_bytes, STREAM_QUEUE_BYTES - stream->queue_first);
        size_t put = out_try(stream, stream->queue + stream->queue_first, run);
        stream->queue_first = (stream->queue_first + put) % STREAM_QUEUE_BYTES;
        stream->queue_bytes -= put;
        if (put < run)
            break;
    }
}

/* Appends what there is room for; under the stream's lock. */
static size_t queue_put(struct stream *stream, const u8 *data, size_t bytes)
{
    size_t taken = min_u64(bytes, STREAM_QUEUE_BYTES - stream->queue_bytes);
    size_t last = (stream->queue_first + stream->queue_bytes) % STREAM_QUEUE_BYTES;
    size_t run = min_u64(taken, STREAM_QUEUE_BYTES - last);
    memcpy(stream->queue + last, data, run);
    memcpy(stream->queue, data + run, taken - run);
    stream->queue_bytes += taken;
    return taken;
}

static void on_flush(void *opaque)
{
    struct stream *stream = opaque;
    struct chr_client *client = &stream->chr->client;
    bool has_room = false;

    lock_acquire(&stream->lock);
    if (stream->is_open)
        queue_send(stream);
    bool must_wait = stream->is_open && stream->queue_bytes > 0;
    if (stream->is_short && stream->queue_bytes <= STREAM_QUEUE_BYTES / 2) {
        stream->is_short = false;
        has_room = true;
    }
    lock_release(&stream->lock);
    if (must_wait && !stream->out_watched)
        stream->out_watched = loop_add(stream->loop, &stream->out) == 0;
    if (!must_wait && stream->out_watched) {
        loop_remove(stream->loop, &stream->out);
        stream->out_watched = false;
    }
    if (has_room && client->writable != NULL) {
        client_lock(stream);
        client->writable(client->ctx);
        client_unlock(stream);
    }
}

static void on_out(void *opaque, u32 events)
{
    on_flush(opaque);
}

size_t stream_write(struct stream *stream, const void *data, size_t bytes)
{
    size_t taken = 0;
    lock_acquire(&stream->lock);
    if (!stream->is_open) {
        lock_release(&stream->lock);
        return bytes;
    }
    if (stream->queue_bytes == 0 && bytes > 0)
        taken = out_try(stream, data, bytes);
    if (taken < bytes) {
        taken += queue_put(stream, (const u8 *)data + taken, bytes - taken);
        stream->is_short = taken < bytes;
        loop_post(stream->loop, &stream->flush);
    }
    lock_release(&stream->lock);
    return taken;
}

void stream_drain(struct stream *stream, int timeout_ms)
{
    u64 end_ns = clock_monotonic_ns() + (u64)timeout_ms * 1000000u;
    lock_acquire(&stream->lock);
    while (stream->is_open && stream->queue_bytes > 0 && clock_monotonic_ns() < end_ns) {
        struct pollfd wait = {.fd = stream->out.fd, .events = POLLOUT};
        queue_send(stream);
        if (stream->queue_bytes > 0)
            poll(&wait, 1, 20);
    }
    lock_release(&stream->lock);
}

/* Life */

int stream_init(struct stream *stream)
{
    stream->in = (struct loop_fd){-1, LOOP_IN, on_in, stream};
    stream->out = (struct loop_fd){-1, LOOP_OUT, on_out, stream};
    stream->pump = (struct loop_task){.run = on_pump, .ctx = stream};
    stream->flush = (struct loop_task){.run = on_flush, .ctx = stream};
    stream->queue = alloc_zero(STREAM_QUEUE_BYTES);
    return stream->queue != NULL ? 0 : -ENOMEM;
}

int stream_open(struct stream *stream, int in_fd, int out_fd)
{
    stream->in.fd = in_fd;
    stream->in_ended = stream->in_unpollable = false;
    stream->rx_bytes = 0;
    int result = in_fd >= 0 ? loop_add(stream->loop, &stream->in) : 0;
    stream->in_watched = result == 0 && in_fd >= 0;
    if (result == -EPERM) {
        stream->in_unpollable = true;
        loop_post(stream->loop, &stream->pump);
    } else if (result != 0) {
        stream->in.fd = -1;
        return result;
    }
    lock_acquire(&stream->lock);
    stream->out.fd = out_fd;
    stream->is_open = out_fd >= 0;
    stream->queue_bytes = 0;
    lock_release(&stream->lock);
    return 0;
}

void stream_close(struct stream *stream)
{
    in_watch(stream, false);
    lock_acquire(&stream->lock);
    stream->is_open = false;
    stream->queue_bytes = 0;
    lock_release(&stream->lock);
    if (stream->out_watched)
        loop_remove(stream->loop, &stream->out);
    stream->out_watched = false;
    stream->rx_bytes = 0;
    fd_close(&stream->in.fd);
    fd_close(&stream->out.fd);
    if (stream->is_short)
        loop_post(stream->loop, &stream->flush); /* the client waits: tell it to go on */
}

void stream_fini(struct stream *stream)
{
    if (stream->queue == NULL)
        return;
    stream_close(stream);
    loop_unpost(stream->loop, &stream->pump);
    loop_unpost(stream->loop, &stream->flush);
    alloc_free(stream->queue);
    stream->queue = NULL;
}
