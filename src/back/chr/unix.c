/*
 * back/chr/unix.c - a console or port on a local socket.
 *
 * Runs   on the loop; writes from any thread under the device's lock, which also guards the
 * history. Trust  the socket's mode lets only the same user connect; what a peer sends goes to the
 * guest.
 */
#include "back/chr/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/chr/ring.h"
#include "back/chr/stream.h"
#include "base/alloc.h"
#include "host/fd.h"

struct chr_unix {
    struct chr chr;
    struct stream stream;
    struct loop_fd listener; /* descriptor owned; -1 when there is none */
    struct loop_task hangup; /* closes the connection after its callback has returned */
    struct loop_task greet;  /* tells the client of a peer that was there from the start */
    struct ring history;     /* with a listener only; guarded by the device's lock */
    char path[108];
};

static size_t unix_write(struct chr *chr, const void *data, size_t bytes)
{
    struct chr_unix *unix_chr = container_of(chr, struct chr_unix, chr);
    size_t taken = stream_write(&unix_chr->stream, data, bytes);
    if (unix_chr->history.data != NULL)
        ring_put(&unix_chr->history, data, taken);
    return taken;
}

static void unix_rx_resume(struct chr *chr)
{
    stream_rx_resume(&container_of(chr, struct chr_unix, chr)->stream);
}

static void unix_free(struct chr *chr)
{
    struct chr_unix *unix_chr = container_of(chr, struct chr_unix, chr);
    if (unix_chr->listener.fd >= 0) {
        loop_remove(unix_chr->stream.loop, &unix_chr->listener);
        fd_close(&unix_chr->listener.fd);
        unlink(unix_chr->path);
    }
    loop_unpost(unix_chr->stream.loop, &unix_chr->hangup);
    loop_unpost(unix_chr->stream.loop, &unix_chr->greet);
    stream_fini(&unix_chr->stream);
    ring_fini(&unix_chr->history);
    alloc_free(unix_chr);
}

static const struct chr_ops unix_ops = {unix_write, unix_rx_resume, unix_free};

static void on_ended(void *ctx)
{
    struct chr_unix *unix_chr = ctx;
    loop_post(unix_chr->stream.loop, &unix_chr->hangup);
}

static void on_hangup(void *ctx)
{
    struct chr_unix *unix_chr = ctx;
    if (unix_chr->stream.in.fd < 0 || !unix_chr->stream.in_ended)
        return; /* a new peer has come in between */
    stream_close(&unix_chr->stream);
    stream_tell_connected(&unix_chr->stream, false);
}

static void on_greet(void *ctx)
{
    struct chr_unix *unix_chr = ctx;
    stream_tell_connected(&unix_chr->stream, true);
}

/* Both directions of one socket: the loop wants a descriptor number for each. */
static int connection_open(struct chr_unix *unix_chr, int fd)
{
    int out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int result = out_fd < 0 ? -errno : fd_set_nonblock(fd);
    if (result == 0)
        result = stream_open(&unix_chr->stream, fd, out_fd);
    if (result != 0) {
        fd_close(&fd);
        fd_close(&out_fd);
    }
    return result;
}

/* The new peer gets the history before anything that the guest writes from now on. */
static void history_send(struct chr_unix *unix_chr)
{
    struct lock *lock = unix_chr->chr.client.lock;
    const u8 *runs[2];
    size_t bytes[2];

    if (lock != NULL)
        lock_acquire(lock);
    ring_view(&unix_chr->history, runs, bytes);
    /* A peer that reads nothing gets what fits into the socket and the queue. */
    for (unsigned i = 0; i < 2; i++)
        stream_write(&unix_chr->stream, runs[i], bytes[i]);
    if (lock != NULL)
        lock_release(lock);
}

static void on_accept(void *ctx, u32 events)
{
    struct chr_unix *unix_chr = ctx;
    int fd = accept4(unix_chr->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (unix_chr->stream.in.fd >= 0) {
        stream_close(&unix_chr->stream);
        stream_tell_connected(&unix_chr->stream, false);
    }
    if (connection_open(unix_chr, fd) != 0)
        return;
    history_send(unix_chr);
    stream_tell_connected(&unix_chr->stream, true);
}

static struct chr_unix *unix_new(struct loop *loop, struct err *err)
{
    struct chr_unix *unix_chr = new0(struct chr_unix);
    if (unix_chr == NULL) {
        err_set(err, -ENOMEM, "socket console: out of memory");
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN); /* a peer that has gone must not end the VM */
    unix_chr->chr.ops = &unix_ops;
    unix_chr->listener = (struct loop_fd){-1, LOOP_IN, on_accept, unix_chr};
    unix_chr->hangup = (struct loop_task){.run = on_hangup, .ctx = unix_chr};
    unix_chr->greet = (struct loop_task){.run = on_greet, .ctx = unix_chr};
    unix_chr->stream.loop = loop;
    unix_chr->stream.chr = &unix_chr->chr;
    unix_chr->stream.ended = on_ended;
    unix_chr->stream.ctx = unix_chr;
    if (stream_init(&unix_chr->stream) != 0) {
        err_set(err, -ENOMEM, "socket console: out of memory");
        unix_free(&unix_chr->chr);
        return NULL;
    }
    return unix_chr;
}

struct chr *chr_unix_listen(struct loop *loop, const char *path, struct err *err)
{
    struct chr_unix *unix_chr = unix_new(loop, err);
    if (unix_chr == NULL)
        return NULL;
    if (ring_init(&unix_chr->history, CHR_UNIX_HISTORY_BYTES) != 0) {
        err_set(err, -ENOMEM, "console socket '%s': out of memory", path);
        goto fail;
    }
    int fd = fd_listen(path, err);
    if (fd < 0)
        goto fail;
    unix_chr->listener.fd = fd;
    memcpy(unix_chr->path, path, strlen(path)); /* fd_listen has checked the length */
    int result = loop_add(loop, &unix_chr->listener);
    if (result != 0) {
        err_set(err, result, "console socket '%s': %s", path, strerror(-result));
        goto fail;
    }
    return &unix_chr->chr;
fail:
    unix_free(&unix_chr->chr);
    return NULL;
}

struct chr *chr_unix_take(struct loop *loop, int fd, struct err *err)
{
    struct chr_unix *unix_chr = unix_new(loop, err);
    if (unix_chr == NULL) {
        fd_close(&fd);
        return NULL;
    }
    int result = connection_open(unix_chr, fd);
    if (result != 0) {
        err_set(err, result, "port on descriptor %d: %s", fd, strerror(-result));
        unix_free(&unix_chr->chr);
        return NULL;
    }
    loop_post(loop, &unix_chr->greet);
    return &unix_chr->chr;
}
