/*
 * dev/i8042_test.c - the keyboard controller's commands, reset lines and ports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/i8042.h"

struct bench {
    struct bus bus;
    struct wire irq[2];
    unsigned reset_count;
    u8 sent;
    struct i8042 *i8042;
};

static struct bench bench;

static void ask(void *ctx, enum power_request what)
{
    bench.reset_count += what == POWER_RESET;
}

static void keyboard(void *ctx, u8 byte)
{
    bench.sent = byte;
    assert_true(i8042_input(bench.i8042, I8042_KEYBOARD, 0xfa));
}

static struct i8042 *make(void)
{
    struct irq_line lines[2] = {wire_line(bench.irq, 0), wire_line(bench.irq, 1)};
    struct power_sink power = {.request = ask};
    return i8042_new(&lines[0], &lines[1], &power);
}

static int setup(void **state)
{
    bench = (struct bench){0};
    bus_init(&bench.bus);
    bench.i8042 = make();
    assert_int_equal(device_map(&i8042_device, bench.i8042, &bench.bus, 0, NULL, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    i8042_device.free(bench.i8042);
    return 0;
}

static u8 status(void)
{
    return in8(&bench.bus, 0x64);
}

static u8 command(u8 value)
{
    out8(&bench.bus, 0x64, value);
    assert_int_equal(status() & 1, 1);
    return in8(&bench.bus, 0x60);
}

static void test_commands(void **state)
{
    assert_int_equal(status(), 0x14);
    assert_int_equal(command(0xaa), 0x55);
    assert_int_equal(status() & 1, 0);
    assert_int_equal(command(0xab), 0x00);
    assert_int_equal(command(0xa9), 0x00);
    assert_int_equal(command(0x20), 0x65);
    out8(&bench.bus, 0x64, 0x60);
    assert_int_equal(status() & 8, 8);
    out8(&bench.bus, 0x60, 0x47);
    assert_int_equal(command(0x20), 0x47);
    out8(&bench.bus, 0x64, 0xa7);
    out8(&bench.bus, 0x64, 0xad);
    assert_int_equal(command(0x20), 0x77);
    out8(&bench.bus, 0x64, 0x7f);
    out8(&bench.bus, 0x60, 0x99);
    assert_int_equal(command(0x3f), 0x99);
}

static void test_a20_and_reset(void **state)
{
    assert_int_equal(command(0xd0) & 3, 3);
    out8(&bench.bus, 0x92, 0);
    assert_int_equal(command(0xd0) & 3, 1);
    assert_int_equal(in8(&bench.bus, 0x92), 0);
    out8(&bench.bus, 0x64, 0xd1);
    out8(&bench.bus, 0x60, 0xdf);
    assert_int_equal(in8(&bench.bus, 0x92), 2);
    assert_int_equal(bench.reset_count, 0);
    out8(&bench.bus, 0x64, 0xff);
    assert_int_equal(bench.reset_count, 0);
    out8(&bench.bus, 0x64, 0xfe);
    assert_int_equal(bench.reset_count, 1);
    out8(&bench.bus, 0x64, 0xd1);
    out8(&bench.bus, 0x60, 0xfe);
    assert_int_equal(bench.reset_count, 2);
    out8(&bench.bus, 0x92, 1);
    assert_int_equal(bench.reset_count, 3);
}

static void test_nothing_attached(void **state)
{
    out8(&bench.bus, 0x60, 0xff);
    assert_int_equal(status() & 0x61, 0x41);
    assert_true(bench.irq[0].level);
    assert_int_equal(in8(&bench.bus, 0x60), 0xfe);
    assert_false(bench.irq[0].level);
    out8(&bench.bus, 0x64, 0xd4);
    out8(&bench.bus, 0x60, 0xff);
    assert_int_equal(status() & 0x61, 0x61);
    assert_false(bench.irq[1].level); /* its interrupt is off */
    assert_int_equal(in8(&bench.bus, 0x60), 0xfe);
    assert_int_equal(status() & 0x61, 0);
}

static void test_attached(void **state)
{
    struct i8042_attachment attachment = {.write = keyboard};

    i8042_attach(bench.i8042, I8042_KEYBOARD, &attachment);
    out8(&bench.bus, 0x60, 0xf4);
    assert_int_equal(bench.sent, 0xf4);
    assert_int_equal(in8(&bench.bus, 0x60), 0xfa);
    out8(&bench.bus, 0x64, 0x60); /* no translation */
    out8(&bench.bus, 0x60, 0x05);
    for (unsigned i = 0; i < 17; i++) /* one in the buffer, 16 behind it */
        assert_true(i8042_input(bench.i8042, I8042_KEYBOARD, (u8)i));
    assert_false(i8042_input(bench.i8042, I8042_KEYBOARD, 17));
    for (unsigned i = 0; i < 17; i++) {
        assert_true(bench.irq[0].level);
        assert_int_equal(in8(&bench.bus, 0x60), i);
    }
    assert_int_equal(status() & 1, 0);
}

static void test_state(void **state)
{
    struct i8042 *other = make();

    out8(&bench.bus, 0x64, 0xd3);
    i8042_input(bench.i8042, I8042_KEYBOARD, 0x1c);
    i8042_input(bench.i8042, I8042_KEYBOARD, 0x9c);
    assert_true(round_trip(&i8042_device, bench.i8042, other));
    i8042_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a20_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_attached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("i8042", tests, NULL, NULL);
}
