/*
 * dev/ps2_test.c - keyboard and mouse through the keyboard controller, as a guest's driver sees
 * them; what full queues lose; the round trip of state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/i8042.h"
#include "dev/ps2_keyboard.h"
#include "dev/ps2_mouse.h"
#include "dev/scancodes.h"

enum { KEY_A = 30, KEY_F7 = 65, KEY_UP = 103, KEY_PAUSE = 119, KEY_SYSRQ = 99, MS = 1000000 };

struct bench {
    struct bus bus;
    struct vm_clock clock;
    struct lock lock;
    struct wire irq[2];
    struct i8042 *i8042;
    struct ps2_keyboard *keyboard;
    struct ps2_mouse *mouse;
};

static struct bench bench;

static int setup(void **state)
{
    bench = (struct bench){0};
    struct irq_line lines[2] = {wire_line(bench.irq, 0), wire_line(bench.irq, 1)};
    struct power_sink power = {0};
    bus_init(&bench.bus);
    vm_clock_init(&bench.clock);
    bench.i8042 = i8042_new(&lines[0], &lines[1], &power);
    assert_int_equal(device_map(&i8042_device, bench.i8042, &bench.bus, 0, &bench.lock, NULL), 0);
    bench.keyboard = ps2_keyboard_new(&bench.clock, &bench.lock, bench.i8042);
    bench.mouse = ps2_mouse_new(bench.i8042);
    out8(&bench.bus, 0x64, 0x60); /* both interrupts, translation */
    out8(&bench.bus, 0x60, 0x47);
    return 0;
}

static int teardown(void **state)
{
    ps2_keyboard_device.free(bench.keyboard);
    ps2_mouse_device.free(bench.mouse);
    i8042_device.free(bench.i8042);
    return 0;
}

/* The next byte must be VALUE, from the mouse or the keyboard, with an interrupt of its own. */
static void expect(u8 value, bool is_mouse)
{
    unsigned rises = bench.irq[is_mouse].rise_count;
    assert_int_equal(in8(&bench.bus, 0x64) & 0x21, is_mouse ? 0x21 : 0x01);
    assert_true(bench.irq[is_mouse].level);
    assert_int_equal(in8(&bench.bus, 0x60), value);
    bool has_more = in8(&bench.bus, 0x64) & 1;
    assert_true(!has_more || bench.irq[0].level || bench.irq[1].level);
    assert_true(!has_more || bench.irq[is_mouse].rise_count >= rises);
}

static void expect_keys(const u8 *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        expect(bytes[i], false);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
}

static void expect_mouse(const u8 *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        expect(bytes[i], true);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
}

static void to_mouse(u8 byte)
{
    out8(&bench.bus, 0x64, 0xd4);
    out8(&bench.bus, 0x60, byte);
}

#define KEYS(...) expect_keys((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
#define MOUSE(...) expect_mouse((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void press(u16 code)
{
    ps2_keyboard_key(bench.keyboard, code, true);
    ps2_keyboard_key(bench.keyboard, code, false);
}

static void test_translated(void **state)
{
    press(KEY_A);
    KEYS(0x1e, 0x9e);
    press(KEY_UP);
    KEYS(0xe0, 0x48, 0xe0, 0xc8);
    press(KEY_F7);
    KEYS(0x41, 0xc1);
    press(KEY_PAUSE);
    KEYS(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    press(KEY_SYSRQ);
    KEYS(0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa);
    press(0);
    press(200);
    press(0xffff);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
}

static void test_sets(void **state)
{
    out8(&bench.bus, 0x64, 0x60);
    out8(&bench.bus, 0x60, 0x03); /* no translation */
    press(KEY_A);
    KEYS(0x1c, 0xf0, 0x1c);
    press(KEY_F7);
    KEYS(0x83, 0xf0, 0x83);
    press(KEY_UP);
    KEYS(0xe0, 0x75, 0xe0, 0xf0, 0x75);
    out8(&bench.bus, 0x60, 0xf0);
    KEYS(0xfa);
    out8(&bench.bus, 0x60, 0x01);
    KEYS(0xfa);
    press(KEY_A);
    KEYS(0x1e, 0x9e);
    out8(&bench.bus, 0x60, 0xf0);
    KEYS(0xfa);
    out8(&bench.bus, 0x60, 0x00);
    KEYS(0xfa, 0x01);
    /* Every key of set 1 comes back from set 2 through the translation. */
    for (u16 code = 1; code < 128; code++)
        for (unsigned down = 0; down < 2; down++) {
            u8 one[SCANCODES_MAX], two[SCANCODES_MAX];
            unsigned count = scancodes_set1(code, down, one), at = 0, mark = 0;
            unsigned count_2 = scancodes_set2(code, down, two);
            for (unsigned i = 0; i < count_2; i++) {
                if (two[i] == 0xf0) {
                    mark = 0x80;
                    continue;
                }
                u8 byte = scancodes_translate(two[i]) | (two[i] >= 0xe0 ? 0 : (u8)mark);
                mark = two[i] >= 0xe0 ? mark : 0;
                assert_true(at < count);
                assert_int_equal(byte, one[at++]);
            }
            assert_int_equal(at, count);
        }
}

static void test_commands(void **state)
{
    out8(&bench.bus, 0x60, 0xff);
    KEYS(0xfa, 0xaa);
    out8(&bench.bus, 0x60, 0xf2);
    KEYS(0xfa, 0xab, 0x41);
    out8(&bench.bus, 0x60, 0xed);
    KEYS(0xfa);
    out8(&bench.bus, 0x60, 0x07);
    KEYS(0xfa);
    out8(&bench.bus, 0x60, 0xee);
    KEYS(0xee);
    out8(&bench.bus, 0x60, 0x01); /* no command */
    KEYS(0xfe);
    out8(&bench.bus, 0x60, 0xf5);
    KEYS(0xfa);
    press(KEY_A);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
    out8(&bench.bus, 0x60, 0xf4);
    KEYS(0xfa);
    press(KEY_A);
    KEYS(0x1e, 0x9e);
}

static void test_repetition(void **state)
{
    out8(&bench.bus, 0x60, 0xf3);
    KEYS(0xfa);
    out8(&bench.bus, 0x60, 0x00); /* 250 ms, then 30 a second */
    KEYS(0xfa);
    ps2_keyboard_key(bench.keyboard, KEY_A, true);
    KEYS(0x1e);
    step(&bench.clock, 200ull * MS);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
    step(&bench.clock, 60ull * MS);
    KEYS(0x1e);
    step(&bench.clock, 34ull * MS);
    KEYS(0x1e);
    ps2_keyboard_key(bench.keyboard, KEY_A, false);
    KEYS(0x9e);
    step(&bench.clock, 1000ull * MS);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
}

/* What the guest does not fetch waits, and what there is no room for is lost whole. */
static void test_full(void **state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < 1000; i++)
        press(KEY_UP);
    while (in8(&bench.bus, 0x64) & 1) {
        const u8 keys[4] = {0xe0, 0x48, 0xe0, 0xc8};
        expect(keys[count % 4], false);
        count++;
    }
    assert_true(count > 200 && count < 400);
    for (unsigned i = 0; i < 100000; i++)
        ps2_mouse_move(bench.mouse, 1000000, -1000000, 100, (u8)i);
}

static void test_mouse(void **state)
{
    to_mouse(0xff);
    MOUSE(0xfa, 0xaa, 0x00);
    ps2_mouse_move(bench.mouse, 5, 5, 0, 0);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0); /* not enabled */
    to_mouse(0xf4);
    MOUSE(0xfa);
    ps2_mouse_move(bench.mouse, 5, 3, 0, 1);
    MOUSE(0x29, 0x05, 0xfd);
    ps2_mouse_move(bench.mouse, -300, 0, 0, 4);
    MOUSE(0x1a, 0x81, 0, 0x1a, 0x81, 0, 0x1a, 0xd2, 0);
    for (unsigned i = 0; i < 3; i++) {
        const u8 rates[3] = {200, 100, 80};
        to_mouse(0xf3);
        MOUSE(0xfa);
        to_mouse(rates[i]);
        MOUSE(0xfa);
    }
    to_mouse(0xf2);
    MOUSE(0xfa, 0x03);
    ps2_mouse_move(bench.mouse, 0, 0, 1, 2);
    MOUSE(0x0c, 0, 0, 0xff);
    to_mouse(0xe9);
    MOUSE(0xfa, 0x22, 0x02, 80);
    to_mouse(0xf0); /* remote: only when asked */
    MOUSE(0xfa);
    ps2_mouse_move(bench.mouse, 1, 0, 0, 0);
    assert_int_equal(in8(&bench.bus, 0x64) & 1, 0);
    to_mouse(0xeb);
    MOUSE(0xfa, 0x08, 1, 0, 0);
    to_mouse(0xee); /* wrap: an echo */
    MOUSE(0xfa);
    to_mouse(0x55);
    MOUSE(0x55);
    to_mouse(0xec);
    MOUSE(0xfa);
    to_mouse(0x33);
    MOUSE(0xfe);
}

static void test_state(void **state)
{
    to_mouse(0xf4);
    MOUSE(0xfa);
    ps2_keyboard_key(bench.keyboard, KEY_A, true);
    for (unsigned i = 0; i < 20; i++) {
        press(KEY_UP);
        ps2_mouse_move(bench.mouse, 1000, -20, 3, 1);
    }
    struct i8042 *i8042 = i8042_new(&(struct irq_line){0}, &(struct irq_line){0},
                                    &(struct power_sink){0});
    struct ps2_keyboard *keyboard = ps2_keyboard_new(&bench.clock, &bench.lock, i8042);
    struct ps2_mouse *mouse = ps2_mouse_new(i8042);
    assert_true(round_trip(&ps2_keyboard_device, bench.keyboard, keyboard));
    assert_true(round_trip(&ps2_mouse_device, bench.mouse, mouse));
    ps2_keyboard_device.free(keyboard);
    ps2_mouse_device.free(mouse);
    i8042_device.free(i8042);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_translated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repetition, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mouse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("ps2", tests, NULL, NULL);
}
