/*
 * back/display/vnc.c - the server: its thread, its viewers, and when the picture is looked at.
 *
 * Runs   on the display's thread; vnc_new, start, stop and free on the main thread.
 *
 * Nobody tells this server that the guest has drawn something. While a viewer waits for an update
 * it looks every TICK_NS, compares, and sends what differs; while none waits it does nothing.
 */
#include "back/display/vnc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/display/listen.h"
#include "back/display/vnc_priv.h"
#include "base/clock.h"
#include "base/fmt.h"
#include "host/fd.h"
#include "host/thread.h"

enum { TICK_NS = 12000000, SEND_BUFFER_BYTES = 512 << 10, FIRST_WIDTH = 640, FIRST_HEIGHT = 400 };

static struct vnc *vnc_of(struct display *display)
{
    return container_of(display, struct vnc, display);
}

/* ---- the picture ---- */

static void refresh(struct vnc *vnc)
{
    const struct display_source *source = &vnc->display.source;

    if (source->refresh == NULL)
        return;
    if (source->lock)
        lock_acquire(source->lock);
    source->refresh(source->ctx, &vnc->surface);
    if (source->lock)
        lock_release(source->lock);
    struct surface_damage none = {0};
    if (!surface_damage_merge(&none, &vnc->surface.damage))
        return;
    for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++)
        if (vnc->viewers[i].vnc)
            surface_damage_merge(&vnc->viewers[i].damage, &vnc->surface.damage);
    memset(&vnc->surface.damage, 0, sizeof(vnc->surface.damage));
}

void vnc_tick_soon(struct vnc *vnc)
{
    if (vnc->is_ticking)
        return;
    vnc->is_ticking = true;
    u64 now_ns = clock_monotonic_ns();
    u64 next_ns = vnc->last_tick_ns + TICK_NS;
    loop_alarm_set(vnc->loop, next_ns > now_ns ? next_ns : now_ns);
}

void vnc_tick(void *ctx)
{
    struct vnc *vnc = ctx;
    bool is_wanted = false;

    vnc->is_ticking = false;
    vnc->last_tick_ns = clock_monotonic_ns();
    refresh(vnc);
    for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++) {
        struct viewer *viewer = &vnc->viewers[i];
        if (viewer->vnc == NULL)
            continue;
        update_send(viewer);
        if (viewer->is_closing)
            viewer_close(viewer);
        else
            is_wanted = is_wanted || update_is_wanted(viewer);
    }
    if (is_wanted)
        vnc_tick_soon(vnc);
}

/* ---- connections ---- */

static void connection_ready(void *ctx, u32 events)
{
    struct vnc_listener *listener = ctx;
    struct vnc *vnc = listener->vnc;
    const int on = 1, buffer_bytes = SEND_BUFFER_BYTES;
    unsigned place = 0;

    int fd = accept4(listener->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    while (place < VNC_VIEWERS_MAX && vnc->viewers[place].vnc)
        place++;
    if (place == VNC_VIEWERS_MAX) {
        close(fd);
        return;
    }
    /* These only make it faster; a local socket does not know the first. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    refresh(vnc); /* the size that the viewer will be told */
    viewer_open(&vnc->viewers[place], vnc, fd, listener->needs_password);
}

static void run(void *ctx)
{
    loop_run(((struct vnc *)ctx)->loop);
}

/* ---- life ---- */

static int start(struct display *display, struct err *err)
{
    struct vnc *vnc = vnc_of(display);

    vnc->thread = thread_new("vnc", run, vnc, err);
    return vnc->thread ? 0 : -EAGAIN;
}

static void stop(struct display *display)
{
    struct vnc *vnc = vnc_of(display);

    if (vnc->thread == NULL)
        return;
    loop_stop(vnc->loop);
    thread_join(vnc->thread);
    vnc->thread = NULL;
    for (unsigned i = 0; i < VNC_VIEWERS_MAX; i++)
        viewer_close(&vnc->viewers[i]);
}

static void vnc_free(struct display *display)
{
    struct vnc *vnc = vnc_of(display);

    stop(display);
    for (unsigned i = 0; i < vnc->listener_count; i++) {
        struct vnc_listener *listener = &vnc->listeners[i];
        loop_remove(vnc->loop, &listener->watch);
        fd_close(&listener->watch.fd);
        if (listener->path[0] != 0)
            unlink(listener->path);
    }
    if (vnc->loop)
        loop_free(vnc->loop);
    surface_fini(&vnc->surface);
    free(vnc);
}

static const struct display_ops ops = {.start = start, .stop = stop, .free = vnc_free};

static int listener_add(struct vnc *vnc, const char *address, bool has_password, struct err *err)
{
    struct vnc_listener *listener = &vnc->listeners[vnc->listener_count];

    int fd = listen_at(address, has_password, listener->path, err);
    if (fd < 0)
        return fd;
    listener->vnc = vnc;
    listener->needs_password = has_password && listener->path[0] == 0;
    listener->watch = (struct loop_fd){fd, LOOP_IN, connection_ready, listener};
    vnc->listener_count++;
    int r = loop_add(vnc->loop, &listener->watch);
    return r < 0 ? err_set(err, r, "VNC at '%s': %s", address, strerror(-r)) : 0;
}

struct display *vnc_new(const struct vnc_options *options, struct err *err)
{
    struct vnc *vnc = calloc(1, sizeof(*vnc));

    if (vnc == NULL) {
        err_set(err, -ENOMEM, "VNC: out of memory");
        return NULL;
    }
    vnc->display.ops = &ops;
    surface_init(&vnc->surface);
    fmt_text(vnc->name, sizeof(vnc->name), "%s", options->name);
    if (options->password)
        memcpy(vnc->password, options->password, strnlen(options->password, sizeof(vnc->password)));
    int r = options->address_count <= VNC_LISTENERS_MAX
                ? 0
                : err_set(err, -EINVAL, "VNC: %u addresses; at most %u", options->address_count,
                          VNC_LISTENERS_MAX);
    vnc->loop = r == 0 ? loop_new(err) : NULL;
    r = vnc->loop ? 0 : -EMFILE;
    if (r == 0 && !surface_resize(&vnc->surface, FIRST_WIDTH, FIRST_HEIGHT))
        r = err_set(err, -ENOMEM, "VNC: out of memory");
    for (unsigned i = 0; r == 0 && i < options->address_count; i++)
        r = listener_add(vnc, options->addresses[i], options->password != NULL, err);
    if (r < 0) {
        vnc_free(&vnc->display);
        return NULL;
    }
    loop_alarm_bind(vnc->loop, vnc_tick, vnc);
    return &vnc->display;
}
