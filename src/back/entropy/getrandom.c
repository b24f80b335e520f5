/*
 * back/entropy/getrandom.c - random bytes from the host kernel.
 *
 * Runs   on any thread.
 */
#include "back/entropy/getrandom.h"

#include <sys/random.h>

#include "base/bits.h"

enum { REQUEST_BYTES = 256 }; /* up to this much the kernel gives whole, whatever signal arrives */

static void getrandom_fill(struct entropy *entropy, void *to, size_t bytes)
{
    u8 *at = to;
    while (bytes > 0) {
        /* Fails only when a signal arrives before the pool is ready at boot: ask again. */
        ssize_t got = getrandom(at, min_u64(bytes, REQUEST_BYTES), 0);
        if (got <= 0)
            continue;
        at += got;
        bytes -= (size_t)got;
    }
}

static void getrandom_free(struct entropy *entropy)
{
}

static const struct entropy_ops getrandom_ops = {getrandom_fill, getrandom_free};

struct entropy *entropy_getrandom(void)
{
    static struct entropy source = {&getrandom_ops};
    return &source;
}
