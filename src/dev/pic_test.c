/*
 * dev/pic_test.c - the 8259 pair through its ports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/pic.h"

struct bench {
    struct bus bus;
    struct wire intr;
    struct pic *pic;
};

static struct bench bench;

static struct pic *pic_start(struct bus *bus, struct wire *intr)
{
    struct irq_line line = wire_line(intr, 0);
    struct pic *pic = pic_new(&line);

    bus_init(bus);
    assert_int_equal(device_map(&pic_device, pic, bus, 0, NULL, NULL), 0);
    return pic;
}

/* As Linux does it: vectors 0x30 and 0x38, all unmasked. */
static void initialise(struct bus *bus, u8 icw4)
{
    out8(bus, 0x20, 0x11);
    out8(bus, 0x21, 0x30);
    out8(bus, 0x21, 0x04);
    out8(bus, 0x21, icw4);
    out8(bus, 0xa0, 0x11);
    out8(bus, 0xa1, 0x38);
    out8(bus, 0xa1, 0x02);
    out8(bus, 0xa1, 0x01);
    out8(bus, 0x21, 0);
    out8(bus, 0xa1, 0);
}

static int setup(void **state)
{
    bench = (struct bench){0};
    bench.pic = pic_start(&bench.bus, &bench.intr);
    initialise(&bench.bus, 0x01);
    return 0;
}

static int teardown(void **state)
{
    pic_device.free(bench.pic);
    return 0;
}

static void test_priority_and_eoi(void **state)
{
    struct pic *pic = bench.pic;

    pic_set(pic, 4, true);
    assert_true(bench.intr.level);
    pic_set(pic, 1, true);
    assert_int_equal(pic_ack(pic), 0x31);
    assert_false(bench.intr.level); /* 4 is below 1 in service */
    out8(&bench.bus, 0x20, 0x0b);
    assert_int_equal(in8(&bench.bus, 0x20), 0x02);
    out8(&bench.bus, 0x20, 0x20);
    assert_true(bench.intr.level);
    assert_int_equal(pic_ack(pic), 0x34);
    out8(&bench.bus, 0x20, 0x64); /* specific EOI of 4 */
    assert_int_equal(in8(&bench.bus, 0x20), 0);
    assert_false(bench.intr.level); /* the lines are still high: edges only */
}

static void test_cascade(void **state)
{
    struct pic *pic = bench.pic;

    pic_set(pic, 12, true);
    pic_set(pic, 9, true);
    pic_set(pic, 3, true); /* below the cascade */
    assert_int_equal(pic_ack(pic), 0x39);
    assert_false(bench.intr.level);
    out8(&bench.bus, 0xa0, 0x20);
    assert_false(bench.intr.level); /* the master's pin 2 is still in service */
    out8(&bench.bus, 0x20, 0x20);
    assert_int_equal(pic_ack(pic), 0x3c);
    out8(&bench.bus, 0xa0, 0x20);
    out8(&bench.bus, 0x20, 0x20);
    assert_int_equal(pic_ack(pic), 0x33);
}

static void test_spurious(void **state)
{
    assert_int_equal(pic_ack(bench.pic), 0x37);
    out8(&bench.bus, 0x20, 0x0b);
    assert_int_equal(in8(&bench.bus, 0x20), 0);
}

static void test_mask_and_level(void **state)
{
    struct pic *pic = bench.pic;

    out8(&bench.bus, 0x21, 0x20);
    assert_int_equal(in8(&bench.bus, 0x21), 0x20);
    pic_set(pic, 5, true);
    assert_false(bench.intr.level);
    out8(&bench.bus, 0x21, 0x00);
    assert_true(bench.intr.level);
    assert_int_equal(pic_ack(pic), 0x35);
    out8(&bench.bus, 0x20, 0x20);
    assert_false(bench.intr.level);
    /* As a level input it asks again, and stops when it falls. */
    bus_write(&bench.bus, BUS_PORT, 0x4d0, 2, 0xffff);
    assert_int_equal(bus_read(&bench.bus, BUS_PORT, 0x4d0, 2), 0xdef8);
    assert_true(bench.intr.level);
    pic_set(pic, 5, false);
    assert_false(bench.intr.level);
}

static void test_auto_eoi_and_rotation(void **state)
{
    struct pic *pic = bench.pic;

    initialise(&bench.bus, 0x03);
    out8(&bench.bus, 0x20, 0x80); /* rotate in automatic EOI mode */
    pic_set(pic, 0, true);
    assert_int_equal(pic_ack(pic), 0x30);
    pic_set(pic, 0, false);
    pic_set(pic, 0, true);
    pic_set(pic, 6, true);
    assert_int_equal(pic_ack(pic), 0x36); /* 0 became the lowest */
    assert_int_equal(pic_ack(pic), 0x30);
    out8(&bench.bus, 0x20, 0xc2); /* 2 is the lowest: 3 the highest */
    pic_set(pic, 1, true);
    pic_set(pic, 3, true);
    assert_int_equal(pic_ack(pic), 0x33);
}

static void test_poll(void **state)
{
    pic_set(bench.pic, 6, true);
    out8(&bench.bus, 0x20, 0x0c);
    assert_int_equal(in8(&bench.bus, 0x20), 0x86);
    assert_false(bench.intr.level);
    out8(&bench.bus, 0x20, 0x0c);
    assert_int_equal(in8(&bench.bus, 0x20), 0);
}

static void test_special_mask(void **state)
{
    pic_set(bench.pic, 1, true);
    assert_int_equal(pic_ack(bench.pic), 0x31);
    pic_set(bench.pic, 6, true);
    assert_false(bench.intr.level);
    out8(&bench.bus, 0x20, 0x68);
    out8(&bench.bus, 0x21, 0x02);
    assert_true(bench.intr.level); /* 1, in service but masked, no longer holds back 6 */
}

static void test_state(void **state)
{
    struct bus bus;
    struct wire intr = {0};
    struct pic *other = pic_start(&bus, &intr);

    pic_set(bench.pic, 9, true);
    pic_set(bench.pic, 1, true);
    pic_ack(bench.pic);
    pic_set(bench.pic, 0, true);
    out8(&bench.bus, 0xa0, 0x0b);
    assert_true(round_trip(&pic_device, bench.pic, other));
    assert_true(intr.level);
    assert_int_equal(pic_ack(other), 0x30);
    pic_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_priority_and_eoi, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cascade, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spurious, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mask_and_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_auto_eoi_and_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
        cmocka_unit_test_setup_teardown(test_special_mask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("pic", tests, NULL, NULL);
}
