/*
 * cli/size.h - sizes as people write them: 512M, 4G.
 */
#ifndef CLI_SIZE_H
#define CLI_SIZE_H

#include "base/types.h"

/* A number and K, M, G or T (powers of 1024); -EINVAL for anything else, and for what does not fit.
 */
MUST_CHECK int size_parse(const char *text, u64 *ret_bytes);
/* A number of decimal digits from FIRST to LAST; -EINVAL for anything else. */
MUST_CHECK int number_parse(const char *text, u64 first, u64 last, u64 *ret_number);
/* "4.0 GiB"; TEXT has room for 16 bytes. */
void size_print(u64 bytes, char text[16]);

#endif
