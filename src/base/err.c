/*
 * base/err.c - writes the message of a failure into the caller's struct err.
 */
#include "base/err.h"

#include "base/fmt.h"

int err_set(struct err *err, int code, const char *format, ...)
{
    if (err == NULL)
        return code;
    va_list args;
    va_start(args, format);
    fmt_text_v(err->text, sizeof(err->text), format, args);
    va_end(args);
    err->code = code;
    return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
    if (err == NULL)
        return 0;
    char whole[ERR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    size_t used = fmt_text_v(whole, sizeof(whole), format, args);
    va_end(args);
    if (used < sizeof(whole))
        fmt_text(whole + used, sizeof(whole) - used, ": %s", err->text);
    __builtin_memcpy(err->text, whole, sizeof(whole));
    return err->code;
}
