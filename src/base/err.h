/*
 * base/err.h - an error with a message for a person, carried on the caller's stack.
 *
 * A function that can fail for a reason a person must read takes a `struct err *` last, returns 0
 * or -errno, and writes `return err_set(err, -ENOENT, "disk '%s': ...", path)`. The message says
 * what failed, why, and what mends it. Only entry points print it. ERR may be NULL: the text is
 * dropped.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/types.h"

enum { ERR_TEXT_BYTES = 512 };

struct err {
    int code; /* -errno, 0 when nothing failed */
    char text[ERR_TEXT_BYTES];
};

/* Records CODE (negative errno) and the formatted text (fmt.h's conversions); returns CODE. */
int err_set(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "PREFIX: " before the text that ERR already holds; returns the code it holds. */
int err_prefix(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
