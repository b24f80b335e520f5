/*
 * back/display/viewer.c - one connection: bytes in, bytes out, and its end.
 *
 * Runs   on the display's thread.
 * Trust  the viewer may send anything at any pace, and may read nothing: both directions are
 * bounded.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/display/vnc_priv.h"
#include "host/fd.h"

enum { READS_MAX = 8 }; /* of one callback, so that no viewer keeps the loop to itself */

static void watch_output(struct viewer *viewer, bool has_more)
{
    loop_change(viewer->vnc->loop, &viewer->watch, LOOP_IN | (has_more ? LOOP_OUT : 0));
}

void viewer_flush(struct viewer *viewer)
{
    struct buffer *out = &viewer->out;

    if (out->has_failed)
        viewer->is_closing = true;
    while (!out->has_failed && viewer->out_sent < out->bytes) {
        ssize_t sent = send(viewer->watch.fd, out->data + viewer->out_sent,
                            out->bytes - viewer->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            watch_output(viewer, true);
            return;
        }
        if (sent < 0 && errno != EINTR) {
            viewer->is_closing = true;
            return;
        }
        viewer->out_sent += sent > 0 ? (size_t)sent : 0;
    }
    out->bytes = 0;
    viewer->out_sent = 0;
    watch_output(viewer, false);
}

/* Takes whole messages off the front of what has come; false when the viewer must go. */
static bool messages_take(struct viewer *viewer)
{
    size_t at = 0;

    while (at < viewer->in_bytes) {
        size_t left = viewer->in_bytes - at;
        if (viewer->skip_bytes > 0) {
            size_t skipped = left < viewer->skip_bytes ? left : (size_t)viewer->skip_bytes;
            viewer->skip_bytes -= skipped;
            at += skipped;
            continue;
        }
        int taken = viewer->state == VIEWER_RUNNING ? message_take(viewer, viewer->in + at, left)
                                                    : handshake_take(viewer, viewer->in + at, left);
        if (taken < 0)
            return false;
        if (taken == 0)
            break;
        at += (size_t)taken;
    }
    memmove(viewer->in, viewer->in + at, viewer->in_bytes - at);
    viewer->in_bytes -= at;
    return true;
}

static void read_ready(struct viewer *viewer)
{
    for (unsigned i = 0; i < READS_MAX && !viewer->is_closing; i++) {
        ssize_t got = recv(viewer->watch.fd, viewer->in + viewer->in_bytes,
                           VIEWER_IN_BYTES - viewer->in_bytes, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            viewer->is_closing = true;
            return;
        }
        viewer->in_bytes += (size_t)got;
        if (!messages_take(viewer)) {
            viewer_flush(viewer); /* the reason, where there is one */
            viewer->is_closing = true;
        }
    }
}

static void ready(void *ctx, u32 events)
{
    struct viewer *viewer = ctx;

    if (events & LOOP_IN)
        read_ready(viewer);
    else if (events & (LOOP_ERROR | LOOP_HANGUP))
        viewer->is_closing = true;
    if (!viewer->is_closing && viewer->out.bytes > 0)
        viewer_flush(viewer);
    /* What waited for this update to leave is looked at anew: it may have changed since. */
    if ((events & LOOP_OUT) && viewer->out.bytes == 0 && update_is_wanted(viewer))
        vnc_tick_soon(viewer->vnc);
    if (viewer->is_closing)
        viewer_close(viewer);
}

void viewer_open(struct viewer *viewer, struct vnc *vnc, int fd, bool needs_password)
{
    memset(viewer, 0, sizeof(*viewer));
    viewer->watch = (struct loop_fd){fd, LOOP_IN, ready, viewer};
    viewer->needs_password = needs_password;
    viewer->encoding = ENCODING_RAW;
    buffer_init(&viewer->out, VIEWER_OUT_BYTES);
    encoder_init(&viewer->encoder);
    viewer->vnc = vnc;
    if (loop_add(vnc->loop, &viewer->watch) != 0) {
        encoder_fini(&viewer->encoder);
        viewer->vnc = NULL;
        fd_close(&fd);
        return;
    }
    viewer->is_closing = !handshake_begin(viewer);
    if (!viewer->is_closing)
        viewer_flush(viewer);
    if (viewer->is_closing)
        viewer_close(viewer);
}

void viewer_close(struct viewer *viewer)
{
    if (viewer->vnc == NULL)
        return;
    message_release_all(viewer);
    loop_remove(viewer->vnc->loop, &viewer->watch);
    fd_close(&viewer->watch.fd);
    buffer_fini(&viewer->out);
    encoder_fini(&viewer->encoder);
    viewer->vnc = NULL;
}
