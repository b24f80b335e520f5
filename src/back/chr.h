/*
 * back/chr.h - a byte stream behind a serial port or a console: a terminal, a socket, a ring.
 *
 * Threads: chr_write comes from any thread under the device's lock and never blocks: it takes what
 * it can and returns how much; with nobody attached it takes everything. client.writable() (loop,
 * device lock held) says that there is room again. client.rx() runs on the loop with the device's
 * lock held and returns how many bytes the device took; the rest is offered again after
 * chr_rx_resume.
 */
#ifndef BACK_CHR_H
#define BACK_CHR_H

#include "base/lock.h"
#include "base/types.h"

struct chr_client {
    size_t (*rx)(void *ctx, const void *data, size_t bytes);
    void (*writable)(void *ctx);              /* may be NULL */
    void (*connected)(void *ctx, bool is_on); /* may be NULL: the peer came or went */
    void *ctx;                                /* borrowed */
    struct lock *lock;                        /* borrowed: the device's */
};

struct chr;

struct chr_ops {
    size_t (*write)(struct chr *chr, const void *data, size_t bytes);
    void (*rx_resume)(struct chr *chr);
    void (*free)(struct chr *chr);
};

struct chr {
    const struct chr_ops *ops;
    struct chr_client client; /* filled by chr_attach before the loop runs */
};

static inline void chr_attach(struct chr *chr, const struct chr_client *client)
{
    chr->client = *client;
}

#endif
