/*
 * back/chr/stream.h - bytes between a chr's client and a pair of descriptors: what the terminal,
 * the pipe and the socket back ends have in common.
 *
 * Threads: stream_write and stream_rx_resume come from any thread under the device's lock; the rest
 * from the loop's. Output that the host does not take at once waits in a bounded queue.
 */
#ifndef BACK_CHR_STREAM_H
#define BACK_CHR_STREAM_H

#include "back/chr.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"
#include "host/loop.h"

enum { STREAM_QUEUE_BYTES = 65536, STREAM_CHUNK_BYTES = 4096 };

struct stream {
    struct loop *loop; /* borrowed */
    struct chr *chr;   /* borrowed: whose client this serves */
    /* Looks at input before the client does, and returns how many bytes of it are left; may be
     * NULL. */
    size_t (*filter)(void *ctx, u8 *data, size_t bytes);
    /* The input has ended or failed; may be NULL. Must not close the stream at once. */
    void (*ended)(void *ctx);
    void *ctx; /* borrowed: for both */

    /* The stream's own. */
    struct loop_fd in, out; /* descriptors owned; -1 when there is none */
    struct loop_task pump;  /* offers input to the client */
    struct loop_task flush; /* sends what is queued */
    bool in_watched, out_watched;
    bool in_unpollable; /* a regular file: always ready, and epoll does not take it */
    bool in_ended;
    u8 rx[STREAM_CHUNK_BYTES];
    size_t rx_position, rx_bytes;
    struct lock lock; /* guards what follows; taken after the device's lock */
    bool is_open;
    bool is_short; /* stream_write took less than it was given */
    u8 *queue;     /* owned: a ring of STREAM_QUEUE_BYTES */
    size_t queue_first, queue_bytes;
};

/* Prepares a closed stream: output vanishes, nothing comes in. STREAM's first part is set by the
 * caller. */
MUST_CHECK int stream_init(struct stream *stream);
/* Closes, and frees the queue. */
void stream_fini(struct stream *stream);

/* Takes over both descriptors, which must not be the same number and should not block, and starts
 * to read. On an error they still belong to the caller. */
MUST_CHECK int stream_open(struct stream *stream, int in_fd, int out_fd);
/* Closes the descriptors; what is queued is lost. */
void stream_close(struct stream *stream);
/* Waits at most TIMEOUT_MS for the queue to be sent. */
void stream_drain(struct stream *stream, int timeout_ms);

size_t stream_write(struct stream *stream, const void *data, size_t bytes);
void stream_rx_resume(struct stream *stream);

/* Tells the client that its peer came or went. */
void stream_tell_connected(struct stream *stream, bool is_on);

#endif
