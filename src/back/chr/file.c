/*
 * back/chr/file.c - a log file: lines with the time at which they began.
 *
 * Runs   writes under the device's lock, on any thread; each line is one write to the file.
 * Trust  bytes come from the guest and go to the file as they are. How much it may write is for
 *        the file system to say: what cannot be written is lost.
 */
#include "back/chr/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fmt.h"
#include "host/fd.h"

enum { LINE_BYTES = 256, STAMP_BYTES = 32 };
#define NS_PER_SECOND 1000000000ull

struct chr_file {
    struct chr chr;
    int fd;       /* owned */
    u64 start_ns; /* clock_monotonic_ns() */
    char line[LINE_BYTES];
    size_t bytes;
};

static void flush(struct chr_file *file)
{
    if (file->bytes > 0 && write(file->fd, file->line, file->bytes) < 0)
        file->bytes = 0; /* lost */
    file->bytes = 0;
}

static size_t file_write(struct chr *chr, const void *data, size_t bytes)
{
    struct chr_file *file = container_of(chr, struct chr_file, chr);
    const char *text = data;

    for (size_t i = 0; i < bytes; i++) {
        if (file->bytes == 0) {
            u64 ns = clock_monotonic_ns() - file->start_ns;
            file->bytes = fmt_text(file->line, STAMP_BYTES, "[%4llu.%06llu] ",
                                   (unsigned long long)(ns / NS_PER_SECOND),
                                   (unsigned long long)(ns % NS_PER_SECOND / 1000));
        }
        file->line[file->bytes++] = text[i];
        if (text[i] == '\n' || file->bytes == LINE_BYTES)
            flush(file);
    }
    return bytes;
}

static void file_rx_resume(struct chr *chr)
{
}

static void file_free(struct chr *chr)
{
    struct chr_file *file = container_of(chr, struct chr_file, chr);

    flush(file);
    fd_close(&file->fd);
    alloc_free(file);
}

static const struct chr_ops file_ops = {file_write, file_rx_resume, file_free};

struct chr *chr_file_new(const char *path, struct err *err)
{
    struct chr_file *file = new0(struct chr_file);

    if (!file) {
        err_set(err, -ENOMEM, "no memory for the log '%s'", path);
        return NULL;
    }
    file->chr.ops = &file_ops;
    file->start_ns = clock_monotonic_ns();
    file->fd = fd_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file->fd < 0) {
        err_set(err, file->fd, "log '%s': %s", path, strerror(-file->fd));
        alloc_free(file);
        return NULL;
    }
    return &file->chr;
}
