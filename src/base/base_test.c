/*
 * base/base_test.c - formatted text, errors and bit helpers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/fmt.h"

/* libc's formatter is the oracle. */
#define SAME_AS_LIBC(...)                                                 \
    do {                                                                  \
        char ours[64], theirs[64];                                        \
        size_t our_length = fmt_text(ours, sizeof(ours), __VA_ARGS__);    \
        int their_length = snprintf(theirs, sizeof(theirs), __VA_ARGS__); \
        assert_string_equal(ours, theirs);                                \
        assert_int_equal(our_length, their_length);                       \
    } while (0)

static void test_fmt(void **state)
{
    SAME_AS_LIBC("plain");
    SAME_AS_LIBC("%s|%5s|%-5s|%.2s", "abc", "de", "fg", "hijk");
    SAME_AS_LIBC("%d %d %i", 0, -1, -2147483647 - 1);
    SAME_AS_LIBC("%ld %lu %zu", (long)INT64_MIN, (unsigned long)UINT64_MAX, (size_t)7);
    SAME_AS_LIBC("%x %X %08x %-8x|", 0xbeefu, 0xBEEFu, 0x12u, 0x34u);
    SAME_AS_LIBC("%5d|%05d|%-5d|", -42, -42, -42);
    SAME_AS_LIBC("%hhu %hu %c %%", (unsigned char)200, (unsigned short)60000, 'z');
}

static void test_fmt_truncates(void **state)
{
    char small[4];
    assert_int_equal(fmt_text(small, sizeof(small), "abcdef"), 6);
    assert_string_equal(small, "abc");
    assert_int_equal(fmt_text(NULL, 0, "%s", "xyz"), 3);
}

static void test_err(void **state)
{
    struct err err;
    assert_int_equal(err_set(&err, -2, "disk '%s' is missing", "a"), -2);
    assert_int_equal(err_prefix(&err, "run"), -2);
    assert_string_equal(err.text, "run: disk 'a' is missing");
    assert_int_equal(err_set(NULL, -5, "nobody reads this"), -5);
}

static void test_bits(void **state)
{
    assert_int_equal(bits_get(0xabcd, 4, 8), 0xbc);
    assert_true(sign_extend(0x80, 1) == 0xffffffffffffff80ull);
    assert_true(sign_extend(0x7f, 1) == 0x7f);
    assert_true(bytes_mask(8) == UINT64_MAX && bytes_mask(4) == UINT32_MAX);
    assert_int_equal(align_up(4097, 4096), 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fmt),
        cmocka_unit_test(test_fmt_truncates),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
