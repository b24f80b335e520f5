/*
 * cli/size.c - sizes as people write them.
 *
 * Runs   on the main thread.
 */
#include "cli/size.h"

#include <errno.h>
#include <string.h>

#include "base/fmt.h"

static const char units[] = "KMGT";

/* Digits into RET_NUMBER; what follows them, or NULL when there are none or too many. */
static const char *digits(const char *text, u64 *ret_number)
{
    u64 number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > (UINT64_MAX - 9) / 10)
            return NULL;
        number = number * 10 + (u64)(*at - '0');
    }
    *ret_number = number;
    return at == text ? NULL : at;
}

int size_parse(const char *text, u64 *ret_bytes)
{
    u64 number;
    const char *at = digits(text, &number);
    if (at == NULL || *at == '\0')
        return -EINVAL;
    char unit = (char)(*at >= 'a' ? *at - 'a' + 'A' : *at);
    const char *found = strchr(units, unit);
    const char *rest = at + 1;
    if (strcmp(rest, "iB") == 0 || strcmp(rest, "B") == 0)
        rest = "";
    if (found == NULL || *rest != '\0')
        return -EINVAL;
    unsigned shift = 10 * (unsigned)(found - units + 1);
    if (number > UINT64_MAX >> shift)
        return -EINVAL;
    *ret_bytes = number << shift;
    return 0;
}

int number_parse(const char *text, u64 first, u64 last, u64 *ret_number)
{
    u64 number;
    const char *at = digits(text, &number);
    if (at == NULL || *at != '\0' || number < first || number > last)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

void size_print(u64 bytes, char text[16])
{
    unsigned unit = 0;
    u64 tenths = bytes * 10 / 1024;
    while (tenths >= 10240 && unit < sizeof(units) - 2) {
        tenths /= 1024;
        unit++;
    }
    fmt_text(text, 16, "%llu.%llu %ciB", (unsigned long long)(tenths / 10),
             (unsigned long long)(tenths % 10), units[unit]);
}
