/*
 * host/codemem_test.c - code memory: what is written in one view runs in the other, and no page of
 * it is both writable and executable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/codemem.h"
#include "base/errno.h"
#include "host/fault.h"

/* Whether the mapping that starts at ADDRESS has these permissions, as the kernel says. */
static bool view_is(const void *address, const char *permissions)
{
    char line[512], wanted[64];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");

    assert_non_null(maps);
    snprintf(wanted, sizeof(wanted), "%lx-", (unsigned long)(uintptr_t)address);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strncmp(line, wanted, strlen(wanted)) == 0)
            found = strstr(line, permissions) != NULL;
    }
    fclose(maps);
    return found;
}

static void test_views(void **state)
{
    static const u8 code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    struct codemem codemem = {0};

    assert_int_equal(codemem_init(&codemem, 5000), 0);
    assert_int_equal(codemem.bytes, 8192);
    assert_int_equal(codemem.execute[8191], 0);
    memcpy(codemem.write + 4096, code, sizeof(code));
    assert_int_equal(((int (*)(void))(uintptr_t)(codemem.execute + 4096))(), 42);
    assert_true(view_is(codemem.write, " rw-s "));
    assert_true(view_is(codemem.execute, " r-xs "));
    codemem_fini(&codemem);
    assert_null(codemem.write);
    codemem_fini(&codemem);
}

static void test_failures(void **state)
{
    struct codemem codemem = {0};

    assert_int_equal(codemem_init(&codemem, 0), -EINVAL);
    assert_int_equal(codemem_init(&codemem, SIZE_MAX - 100), -EINVAL);
    fault_arm(FAULT_MAP, 1, -ENOMEM);
    assert_int_equal(codemem_init(&codemem, 4096), -ENOMEM);
    assert_int_equal(fault_disarm(), 1);
    assert_null(codemem.write);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_views),
                                       cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
