/*
 * dev/pm_test.c - ACPI events, the PM timer, sleep; and the small ports: debug console, test
 * device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/debugcon.h"
#include "dev/dev_test.h"
#include "dev/pm.h"
#include "dev/testdev.h"

enum {
    STATUS = PM_BASE,
    ENABLE = PM_BASE + 2,
    CONTROL = PM_BASE + 4,
    TIMER = PM_BASE + 8,
    GPE_STATUS = PM_BASE + 0x20,
    GPE_ENABLE = PM_BASE + 0x24
};

struct bench {
    struct vm_clock clock;
    struct bus bus;
    struct wire sci;
    struct lock lock;
    struct pm *pm;
    unsigned off_count;
};

static struct bench bench;

static void ask(void *ctx, enum power_request what)
{
    bench.off_count += what == POWER_OFF;
}

static struct pm *make(struct wire *sci)
{
    struct irq_line line = wire_line(sci, 0);
    struct power_sink power = {.request = ask};
    return pm_new(&bench.clock, &bench.lock, &line, &power);
}

static int setup(void **state)
{
    bench = (struct bench){0};
    vm_clock_init(&bench.clock);
    bus_init(&bench.bus);
    bench.pm = make(&bench.sci);
    assert_int_equal(device_map(&pm_device, bench.pm, &bench.bus, 0, &bench.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    pm_device.free(bench.pm);
    return 0;
}

static u32 get(u64 port, unsigned bytes)
{
    return (u32)bus_read(&bench.bus, BUS_PORT, port, bytes);
}

static void put(u64 port, unsigned bytes, u32 value)
{
    bus_write(&bench.bus, BUS_PORT, port, bytes, value);
}

static void test_power_button(void **state)
{
    assert_int_equal(get(CONTROL, 2), 0);
    out8(&bench.bus, PM_SMI_PORT, PM_ACPI_ENABLE);
    assert_int_equal(get(CONTROL, 2), 1);
    put(ENABLE, 2, 0xffff);
    assert_int_equal(get(ENABLE, 2), 0x521);
    pm_press_power_button(bench.pm);
    assert_true(bench.sci.level);
    assert_int_equal(get(STATUS, 2), 0x100);
    put(STATUS, 2, 0x100);
    assert_false(bench.sci.level);
    assert_int_equal(get(STATUS, 4), 0x5210000);
}

static void test_sleep(void **state)
{
    put(CONTROL, 2, 1 << 10 | 1 << 13); /* not a state we have */
    assert_int_equal(bench.off_count, 0);
    put(CONTROL, 2, PM_S5_TYPE << 10);
    assert_int_equal(bench.off_count, 0);
    put(CONTROL, 2, PM_S5_TYPE << 10 | 1 << 13);
    assert_int_equal(bench.off_count, 1);
    assert_int_equal(get(CONTROL, 2), PM_S5_TYPE << 10);
    put(CONTROL, 2, PM_S5_TYPE_FIRMWARE << 10 | 1 << 13);
    assert_int_equal(bench.off_count, 2);
}

static void test_timer(void **state)
{
    u32 before = get(TIMER, 4);
    vm_clock_set(&bench.clock, vm_clock_now(&bench.clock) + 1000000000);
    assert_int_equal(get(TIMER, 4) - before, 3579545);
    assert_int_equal(get(TIMER + 1, 1), get(TIMER, 4) >> 8 & 0xff);
    out8(&bench.bus, PM_SMI_PORT, PM_ACPI_ENABLE);
    put(ENABLE, 2, 1);
    assert_false(bench.sci.level);
    step(&bench.clock, 600ull * 1000000000); /* 2^31 ticks are 599.9 s */
    assert_true(bench.sci.level);
    assert_int_equal(get(STATUS, 2), 1);
    put(STATUS, 2, 1);
    assert_false(bench.sci.level);
}

static void test_gpe(void **state)
{
    out8(&bench.bus, PM_SMI_PORT, PM_ACPI_ENABLE);
    pm_raise_gpe(bench.pm, 10);
    pm_raise_gpe(bench.pm, 99);
    assert_false(bench.sci.level);
    put(GPE_ENABLE + 1, 1, 0x04);
    assert_true(bench.sci.level);
    assert_int_equal(get(GPE_STATUS, 4), 0x400);
    put(GPE_STATUS, 4, 0x400);
    assert_false(bench.sci.level);
    assert_int_equal(get(GPE_ENABLE, 4), 0x400);
    assert_int_equal(get(PM_BASE + 0x10, 4), 0);
}

static void test_state(void **state)
{
    struct wire sci = {0};
    struct pm *other = make(&sci);

    out8(&bench.bus, PM_SMI_PORT, PM_ACPI_ENABLE);
    put(ENABLE, 2, 0x101);
    pm_raise_gpe(bench.pm, 1);
    assert_true(round_trip(&pm_device, bench.pm, other));
    pm_press_power_button(other);
    assert_true(sci.level);
    pm_device.free(other);
}

/* ---- debug console and test device --------------------------------------------------------------
 */

static u8 printed;

static size_t print(struct chr *chr, const void *data, size_t bytes)
{
    printed = *(const u8 *)data;
    return bytes;
}

static unsigned exit_status;

static void on_exit_port(void *ctx, unsigned status)
{
    exit_status = status;
}

static void test_debugcon(void **state)
{
    static const struct chr_ops ops = {.write = print};
    struct chr chr = {.ops = &ops};
    struct debugcon *debugcon = debugcon_new(&chr);

    assert_int_equal(
        device_map(&debugcon_device, debugcon, &bench.bus, DEBUGCON_BOCHS_PORT, NULL, NULL), 0);
    assert_int_equal(in8(&bench.bus, 0xe9), 0xe9);
    out8(&bench.bus, 0xe9, 'A');
    assert_int_equal(printed, 'A');
    debugcon_device.free(debugcon);
}

static void test_testdev(void **state)
{
    struct wire lines[TESTDEV_IRQ_COUNT] = {0};
    struct testdev_wires wires = {.exit = on_exit_port};

    for (unsigned i = 0; i < TESTDEV_IRQ_COUNT; i++)
        wires.pins[i] = wire_line(lines, i);
    struct testdev *testdev = testdev_new(&wires);
    struct testdev *other = testdev_new(&wires);
    assert_int_equal(device_map(&testdev_device, testdev, &bench.bus, 0, NULL, NULL), 0);
    put(0xe0, 4, 0x12345678);
    assert_int_equal(get(0xe1, 2), 0x3456);
    assert_int_equal(get(0xe8, 1), 0x78);
    put(0xe8, 1, 0x9a);
    assert_int_equal(get(0xe0, 4), 0x1234569a);
    put(0x2000 + 11, 1, 1);
    assert_true(lines[11].level);
    put(0x2000 + 11, 1, 0);
    assert_false(lines[11].level);
    bus_write(&bench.bus, BUS_MMIO, TESTDEV_MMIO_BASE + 0xfff8, 8, 0x1122334455667788);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, TESTDEV_MMIO_BASE + 0xfffb, 4), 0x22334455);
    put(0xf4, 4, 0x10);
    assert_int_equal(exit_status, 0x21);
    assert_true(round_trip(&testdev_device, testdev, other));
    testdev_device.free(testdev);
    testdev_device.free(other);
}

static void test_map_refuses_overlap(void **state)
{
    struct wire sci = {0};
    struct pm *other = make(&sci);
    struct err err;

    assert_int_equal(device_map(&pm_device, other, &bench.bus, 0, NULL, &err), -16);
    assert_int_equal(device_map(&pm_device, other, &bench.bus, 0x1000, NULL, &err), 0);
    pm_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_power_button, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gpe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_debugcon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_testdev, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map_refuses_overlap, setup, teardown),
    };
    return cmocka_run_group_tests_name("pm", tests, NULL, NULL);
}
