/*
 * dev/pit_test.c - the 8254 and port 0x61 through their ports, on a stepped clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/pit.h"

enum { MS = 1000000 };

struct bench {
    struct vm_clock clock;
    struct bus bus;
    struct wire irq;
    struct lock lock;
    struct pit *pit;
};

static struct bench bench;

static int setup(void **state)
{
    struct irq_line line = wire_line(&bench.irq, 0);

    bench = (struct bench){0};
    vm_clock_init(&bench.clock);
    bus_init(&bench.bus);
    bench.pit = pit_new(&bench.clock, &bench.lock, &line);
    assert_int_equal(device_map(&pit_device, bench.pit, &bench.bus, 0, &bench.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    pit_device.free(bench.pit);
    return 0;
}

static void load(unsigned channel, u8 control, u16 count)
{
    out8(&bench.bus, 0x43, (u8)(channel << 6 | control));
    out8(&bench.bus, 0x40 + channel, (u8)count);
    out8(&bench.bus, 0x40 + channel, (u8)(count >> 8));
}

static u16 latched(unsigned channel)
{
    out8(&bench.bus, 0x43, (u8)(channel << 6));
    u8 low = in8(&bench.bus, 0x40 + channel);
    return (u16)(low | in8(&bench.bus, 0x40 + channel) << 8);
}

static void test_periodic(void **state)
{
    load(0, 0x34, 11932); /* mode 2, 100 Hz */
    unsigned before = bench.irq.rise_count;
    for (unsigned i = 0; i < 50; i++)
        step(&bench.clock, 10 * MS + 1000);
    assert_int_equal(bench.irq.rise_count - before, 50);
    step(&bench.clock, 1000 * MS); /* periods missed are not made up for */
    assert_in_range(bench.irq.rise_count - before, 51, 52);
    u16 count = latched(0);
    assert_in_range(count, 1, 11932);
    step(&bench.clock, MS);
    u16 later = latched(0);
    unsigned ticks = (count + 11932u - later) % 11932;
    assert_in_range(ticks, 1193, 1193 + 600);
}

static void test_one_shot(void **state)
{
    load(0, 0x30, 1193); /* mode 0: about 1 ms */
    assert_false(bench.irq.level);
    unsigned before = bench.irq.rise_count;
    step(&bench.clock, MS / 2);
    assert_false(bench.irq.level);
    step(&bench.clock, MS);
    assert_true(bench.irq.level);
    step(&bench.clock, 20 * MS);
    assert_int_equal(bench.irq.rise_count - before, 1);
    assert_true(latched(0) > 0x8000); /* it has gone round */
    load(0, 0x38, 1193);              /* mode 4: a strobe at the end */
    assert_true(bench.irq.level);
    before = bench.irq.rise_count;
    step(&bench.clock, 2 * MS);
    step(&bench.clock, 20 * MS);
    assert_int_equal(bench.irq.rise_count - before, 1);
}

static void test_fastest_period_is_bounded(void **state)
{
    load(0, 0x34, 2);
    unsigned before = bench.irq.rise_count;
    for (unsigned i = 0; i < 100; i++)
        step(&bench.clock, MS / 100);
    assert_in_range(bench.irq.rise_count - before, 40, 100);
}

static void test_speaker_gate(void **state)
{
    out8(&bench.bus, 0x61, 0);
    load(2, 0x30, 11932); /* 10 ms, as calibration loops do it */
    out8(&bench.bus, 0x61, 1);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x21, 0x01);
    step(&bench.clock, 9 * MS);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0);
    out8(&bench.bus, 0x61, 0); /* the gate stops the count */
    step(&bench.clock, 50 * MS);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0);
    out8(&bench.bus, 0x61, 1);
    step(&bench.clock, 3 * MS / 2);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0x20);
    load(2, 0x32, 1193); /* mode 1: starts when the gate rises */
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0x20);
    out8(&bench.bus, 0x61, 0);
    out8(&bench.bus, 0x61, 1);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0);
    step(&bench.clock, 2 * MS);
    assert_int_equal(in8(&bench.bus, 0x61) & 0x20, 0x20);
}

static void test_refresh_toggles(void **state)
{
    unsigned changes = 0;
    u8 last = in8(&bench.bus, 0x61) & 0x10;

    for (unsigned i = 0; i < 20; i++) {
        vm_clock_set(&bench.clock, vm_clock_now(&bench.clock) + 15085);
        u8 now = in8(&bench.bus, 0x61) & 0x10;
        changes += now != last;
        last = now;
    }
    assert_int_equal(changes, 20);
}

static void test_read_back_and_access(void **state)
{
    load(1, 0x34, 1000);
    out8(&bench.bus, 0x43, 0xc4); /* status and count of channel 1 */
    assert_int_equal(in8(&bench.bus, 0x41), 0xb4);
    u8 low = in8(&bench.bus, 0x41);
    assert_int_equal(low | in8(&bench.bus, 0x41) << 8, 1000);
    out8(&bench.bus, 0x43, 0x74); /* a mode without a count: "null count" */
    out8(&bench.bus, 0x43, 0xe4);
    assert_int_equal(in8(&bench.bus, 0x41), 0xf4);
    out8(&bench.bus, 0x43, 0x54); /* low byte only */
    out8(&bench.bus, 0x41, 200);
    assert_int_equal(in8(&bench.bus, 0x41), 200);
    load(1, 0x35, 0x1234); /* BCD */
    assert_int_equal(latched(1), 0x1234);
    vm_clock_set(&bench.clock, vm_clock_now(&bench.clock) + 5000); /* five ticks */
    assert_int_equal(latched(1), 0x1229);
    assert_int_equal(in8(&bench.bus, 0x43), 0xff);
}

static void test_state(void **state)
{
    struct wire irq = {0};
    struct irq_line line = wire_line(&irq, 0);
    struct pit *other = pit_new(&bench.clock, &bench.lock, &line);

    load(0, 0x34, 11932);
    out8(&bench.bus, 0x43, 0);
    in8(&bench.bus, 0x40);
    out8(&bench.bus, 0x61, 3);
    step(&bench.clock, 3 * MS);
    assert_true(round_trip(&pit_device, bench.pit, other));
    step(&bench.clock, 8 * MS);
    assert_int_equal(irq.rise_count, 1); /* the timer goes on in the copy */
    pit_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_shot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fastest_period_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_speaker_gate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refresh_toggles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_back_and_access, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("pit", tests, NULL, NULL);
}
