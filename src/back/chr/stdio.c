/*
 * back/chr/stdio.c - the process's standard input and output as a console.
 *
 * The descriptors are opened anew through /proc, so that making them non-blocking does not reach
 * the shell and the other processes that share them; where that is refused, their flags are put
 * back. Runs   on the loop.
 */
#include "back/chr/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "back/chr/stream.h"
#include "base/alloc.h"
#include "base/fmt.h"
#include "host/fd.h"
#include "host/term.h"

enum { ESCAPE_BYTE = 0x1d /* ^] */, DRAIN_MS = 2000 };

struct chr_stdio {
    struct chr chr;
    struct stream stream;
    void (*escape)(void *ctx);
    void *escape_ctx;      /* borrowed */
    int restored_flags[2]; /* of descriptors 0 and 1; -1 when they were not changed */
    bool is_terminal;
};

static size_t stdio_write(struct chr *chr, const void *data, size_t bytes)
{
    return stream_write(&container_of(chr, struct chr_stdio, chr)->stream, data, bytes);
}

static void stdio_rx_resume(struct chr *chr)
{
    stream_rx_resume(&container_of(chr, struct chr_stdio, chr)->stream);
}

static void stdio_free(struct chr *chr)
{
    struct chr_stdio *stdio = container_of(chr, struct chr_stdio, chr);
    stream_drain(&stdio->stream, DRAIN_MS);
    stream_fini(&stdio->stream);
    for (int fd = 0; fd < 2; fd++) {
        if (stdio->restored_flags[fd] >= 0)
            fcntl(fd, F_SETFL, stdio->restored_flags[fd]);
    }
    if (stdio->is_terminal)
        term_restore();
    alloc_free(stdio);
}

static const struct chr_ops stdio_ops = {stdio_write, stdio_rx_resume, stdio_free};

static size_t stdio_filter(void *ctx, u8 *data, size_t bytes)
{
    struct chr_stdio *stdio = ctx;
    const u8 *found = stdio->is_terminal ? memchr(data, ESCAPE_BYTE, bytes) : NULL;
    if (found == NULL)
        return bytes;
    stdio->escape(stdio->escape_ctx);
    return (size_t)(found - data);
}

/* A descriptor of our own for the file behind FD, not blocking; -1 when FD is closed. */
static int fd_reopen(struct chr_stdio *stdio, int fd, int mode)
{
    char path[32];
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -1;
    fmt_text(path, sizeof(path), "/proc/self/fd/%d", fd);
    /* A regular file keeps its offset only in the description that we were given. */
    int own = -1;
    if (lseek(fd, 0, SEEK_CUR) < 0)
        own = fd_open(path, mode | O_NONBLOCK | O_NOCTTY, 0);
    if (own >= 0)
        return own;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own >= 0 && (flags & O_NONBLOCK) == 0 && fd_set_nonblock(own) == 0)
        stdio->restored_flags[fd] = flags;
    return own;
}

struct chr *chr_stdio_new(struct loop *loop, void (*escape)(void *ctx), void *ctx, struct err *err)
{
    struct chr_stdio *stdio = new0(struct chr_stdio);
    int in_fd = -1, out_fd = -1;

    if (stdio == NULL) {
        err_set(err, -ENOMEM, "console: out of memory");
        return NULL;
    }
    stdio->chr.ops = &stdio_ops;
    stdio->escape = escape;
    stdio->escape_ctx = ctx;
    stdio->restored_flags[0] = stdio->restored_flags[1] = -1;
    stdio->stream.loop = loop;
    stdio->stream.chr = &stdio->chr;
    stdio->stream.filter = stdio_filter;
    stdio->stream.ctx = stdio;
    int result = stream_init(&stdio->stream);
    if (result == 0) {
        in_fd = fd_reopen(stdio, STDIN_FILENO, O_RDONLY);
        out_fd = fd_reopen(stdio, STDOUT_FILENO, O_WRONLY);
        result = stream_open(&stdio->stream, in_fd, out_fd);
    }
    if (result != 0) {
        fd_close(&in_fd);
        fd_close(&out_fd);
        err_set(err, result, "console: standard input and output: %s", strerror(-result));
        goto fail;
    }
    signal(SIGPIPE, SIG_IGN); /* a reader that has gone must not end the VM */
    if (isatty(STDIN_FILENO) == 1) {
        if (term_raw(STDIN_FILENO, err) != 0)
            goto fail;
        stdio->is_terminal = true;
    }
    return &stdio->chr;
fail:
    stdio_free(&stdio->chr);
    return NULL;
}
