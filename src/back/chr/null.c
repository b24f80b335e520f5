/*
 * back/chr/null.c - a stream that takes everything and never gives anything.
 *
 * Runs   on any thread.
 */
#include "back/chr/null.h"

#include "base/alloc.h"

static size_t null_write(struct chr *chr, const void *data, size_t bytes)
{
    return bytes;
}

static void null_rx_resume(struct chr *chr)
{
}

static void null_free(struct chr *chr)
{
    alloc_free(chr);
}

static const struct chr_ops null_ops = {null_write, null_rx_resume, null_free};

struct chr *chr_null_new(void)
{
    struct chr *chr = new0(struct chr);
    if (chr != NULL)
        chr->ops = &null_ops;
    return chr;
}
