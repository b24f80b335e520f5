/*
 * back/surface_test.c - damage by tiles: what a row changes, rectangles taken out, limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "back/surface.h"

static struct surface surface;
static u32 row[SURFACE_SIDE_MAX];

static int setup(void **state)
{
    surface_init(&surface);
    memset(row, 0, sizeof(row));
    return 0;
}

static int teardown(void **state)
{
    surface_fini(&surface);
    return 0;
}

static void expect_rect(u32 x, u32 y, u32 width, u32 height)
{
    struct surface_rect rect;
    assert_true(surface_damage_take(&surface, &surface.damage, &rect));
    assert_int_equal(rect.x, x);
    assert_int_equal(rect.y, y);
    assert_int_equal(rect.width, width);
    assert_int_equal(rect.height, height);
}

static void expect_none(void)
{
    struct surface_rect rect;
    assert_false(surface_damage_take(&surface, &surface.damage, &rect));
}

static void test_sizes(void **state)
{
    assert_false(surface_resize(&surface, 0, 0));
    assert_false(surface_resize(&surface, 4097, 1));
    assert_false(surface_resize(&surface, 4096, 1025));
    assert_true(surface_resize(&surface, 100, 50));
    assert_int_equal(surface.size_count, 1);
    assert_false(surface_resize(&surface, 0, 50));
    assert_int_equal(surface.width, 100);
    expect_rect(0, 0, 100, 50);
    expect_none();
    assert_true(surface_resize(&surface, 100, 50));
    assert_int_equal(surface.size_count, 1);
    expect_none();
    assert_true(surface_resize(&surface, 4096, 1024));
    expect_rect(0, 0, 4096, 1024);
    expect_none();
}

static void test_rows(void **state)
{
    assert_true(surface_resize(&surface, 100, 50));
    expect_rect(0, 0, 100, 50);
    surface_row(&surface, 3, row);
    expect_none(); /* the same as before */
    row[40] = 1;
    surface_row(&surface, 3, row);
    assert_int_equal(surface.pixels[3 * 100 + 40], 1);
    expect_rect(32, 0, 32, 16);
    expect_none();
    row[99] = 2;
    surface_row(&surface, 49, row); /* in tiles of its own, cut at the edges */
    expect_rect(32, 48, 32, 2);
    expect_rect(96, 48, 4, 2);
    expect_none();
    surface_row(&surface, 50, row);
    expect_none();
}

static void test_merging(void **state)
{
    const struct surface_rect marks[] = {
        {0, 0, 1, 1}, {33, 0, 1, 20}, {10, 17, 5, 1}, {3000, 900, 5000, 5000}, {5000, 0, 1, 1}};

    assert_true(surface_resize(&surface, 4000, 1000));
    expect_rect(0, 0, 4000, 1000);
    for (unsigned i = 0; i < ARRAY_LEN(marks); i++)
        surface_damage_add(&surface, &surface.damage, &marks[i]);
    expect_rect(0, 0, 64, 32); /* four tiles, one rectangle */
    expect_rect(2976, 896, 1024, 104);
    expect_none();
    struct surface_damage more = {0};
    assert_false(surface_damage_merge(&surface.damage, &more));
    surface_damage_add(&surface, &more, &marks[0]);
    assert_true(surface_damage_merge(&surface.damage, &more));
    expect_rect(0, 0, 32, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_merging, setup, teardown),
    };
    return cmocka_run_group_tests_name("surface", tests, NULL, NULL);
}
