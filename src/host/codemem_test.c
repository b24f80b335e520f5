/*
 * host/codemem_test.c - code memory: what is written in one view runs in the other, and no page of
 * it is both writable and executable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* KiB of large pages in the mapping that starts at ADDRESS, as the kernel says. */
static unsigned long large_kib(const void *address)
{
    char line[512], wanted[64];
    unsigned long kib = 0;
    bool here = false;
    FILE *maps = fopen("/proc/self/smaps", "r");

    assert_non_null(maps);
    snprintf(wanted, sizeof(wanted), "%lx-", (unsigned long)(uintptr_t)address);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, " rw-s ") || strstr(line, " r-xs ") || strchr(line, '-') != NULL)
            here = strncmp(line, wanted, strlen(wanted)) == 0;
        if (here && strncmp(line, "ShmemPmdMapped:", 15) == 0)
            kib = strtoul(line + 15, NULL, 10);
    }
    fclose(maps);
    return kib;
}

/* Where the host gives large pages it does in both views; what was written stays, and both still
 * are one memory. */
static void test_large(void **state)
{
    static const u8 code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    struct codemem codemem = {0};
    size_t last = CODEMEM_LARGE_BYTES - sizeof(code);

    assert_int_equal(codemem_init(&codemem, 2 * CODEMEM_LARGE_BYTES + 4096), 0);
    assert_int_equal((uintptr_t)codemem.write % CODEMEM_LARGE_BYTES, 0);
    assert_int_equal((uintptr_t)codemem.execute % CODEMEM_LARGE_BYTES, 0);
    memcpy(codemem.write + last, code, sizeof(code));
    codemem_large(&codemem, 0);
    codemem_large(&codemem, 4096);                    /* no multiple */
    codemem_large(&codemem, 2 * CODEMEM_LARGE_BYTES); /* not a whole one */
    codemem_large(&codemem, 8 * CODEMEM_LARGE_BYTES); /* none at all */
    assert_int_equal(((int (*)(void))(uintptr_t)(codemem.execute + last))(), 42);
    codemem.write[last + 1] = 43;
    assert_int_equal(((int (*)(void))(uintptr_t)(codemem.execute + last))(), 43);
    unsigned long kib = large_kib(codemem.write);
    assert_int_equal(large_kib(codemem.execute), kib);
    assert_true(kib == 0 || kib == CODEMEM_LARGE_BYTES / 1024);
    fault_arm(FAULT_MAP, 1, -ENOMEM);
    codemem_large(&codemem, CODEMEM_LARGE_BYTES);
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(large_kib(codemem.write), kib);
    for (unsigned i = 0; i < 8; i++) {
        fault_arm(FAULT_MAP, 1, -ENOMEM);
        codemem_large(&codemem, CODEMEM_LARGE_BYTES);
        (void)fault_disarm();
    }
    fault_arm(FAULT_MAP, 1, -ENOMEM);
    codemem_large(&codemem, CODEMEM_LARGE_BYTES);
    assert_int_equal(fault_disarm(), 0); /* it is not asked any more */
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_views), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
