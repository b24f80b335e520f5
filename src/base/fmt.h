/*
 * base/fmt.h - formatted text without libc, for pure code.
 *
 * Conversions: %s %c %d %i %u %x %X %p %%, with the length modifiers hh h l ll z j, a width, the
 * flags '-' and '0', and '.precision' for %s. Anything else is printed as it stands.
 */
#ifndef BASE_FMT_H
#define BASE_FMT_H

#include <stdarg.h>

#include "base/types.h"

/* Writes at most BYTES bytes with the closing NUL; returns the length the whole text has. */
size_t fmt_text(char *to, size_t bytes, const char *format, ...) PRINTF_LIKE(3, 4);
size_t fmt_text_v(char *to, size_t bytes, const char *format, va_list args);

#endif
