/*
 * dev/rtc_test.c - the clock's cells against libc's calendar, setting, alarms and rates.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dev/dev_test.h"
#include "dev/rtc.h"
#include "dev/rtc_time.h"

enum { MS = 1000000 };

struct bench {
    struct vm_clock clock;
    struct bus bus;
    struct wire irq;
    struct lock lock;
    struct rtc *rtc;
};

static struct bench bench;

static int setup(void **state)
{
    struct irq_line line = wire_line(&bench.irq, 0);

    bench = (struct bench){0};
    vm_clock_init(&bench.clock);
    bus_init(&bench.bus);
    bench.rtc = rtc_new(&bench.clock, &bench.lock, &line, 0x80000000, 0x40000000);
    assert_int_equal(device_map(&rtc_device, bench.rtc, &bench.bus, 0, &bench.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    rtc_device.free(bench.rtc);
    return 0;
}

static u8 get(u8 cell)
{
    out8(&bench.bus, 0x70, cell);
    return in8(&bench.bus, 0x71);
}

static void put(u8 cell, u8 value)
{
    out8(&bench.bus, 0x70, cell);
    out8(&bench.bus, 0x71, value);
}

static void test_calendar(void **state)
{
    /* libc is the oracle, over all days of 800 years. */
    for (s64 day = -150000; day < 150000; day++) {
        time_t seconds = day * 86400 + (day & 0xffff);
        struct tm tm;
        struct rtc_time ours;
        gmtime_r(&seconds, &tm);
        rtc_time_split(seconds, &ours);
        assert_int_equal(ours.year, tm.tm_year + 1900);
        assert_int_equal(ours.month, tm.tm_mon + 1);
        assert_int_equal(ours.day, tm.tm_mday);
        assert_int_equal(ours.hour, tm.tm_hour);
        assert_int_equal(ours.minute, tm.tm_min);
        assert_int_equal(ours.second, tm.tm_sec);
        assert_int_equal(ours.weekday, tm.tm_wday + 1);
        assert_true(rtc_time_join(&ours) == seconds);
    }
}

static unsigned bcd(u8 value)
{
    return (value >> 4) * 10u + (value & 15);
}

static void test_reads_the_host_clock(void **state)
{
    for (unsigned attempt = 0; attempt < 2; attempt++) { /* a second may turn while we read */
        time_t before = (time_t)(clock_realtime_ns() / 1000000000);
        struct tm tm = {.tm_sec = (int)bcd(get(0)),
                        .tm_min = (int)bcd(get(2)),
                        .tm_hour = (int)bcd(get(4)),
                        .tm_mday = (int)bcd(get(7)),
                        .tm_mon = (int)bcd(get(8)) - 1,
                        .tm_year = (int)(bcd(get(0x32)) * 100 + bcd(get(9))) - 1900};
        time_t seen = timegm(&tm);
        if (seen >= before && seen <= before + 1)
            return;
    }
    fail();
}

static void set_time(u8 b, const u8 cells[7])
{
    put(11, 0x80 | b);
    put(0x32, cells[0]);
    put(9, cells[1]);
    put(8, cells[2]);
    put(7, cells[3]);
    put(4, cells[4]);
    put(2, cells[5]);
    put(0, cells[6]);
    put(11, b);
}

static void test_set_in_all_forms(void **state)
{
    static const u8 in_bcd[] = {0x20, 0x24, 0x02, 0x29, 0x23, 0x45, 0x10};

    set_time(0x02, in_bcd);
    assert_int_equal(get(7), 0x29);
    assert_int_equal(get(4), 0x23);
    assert_int_equal(get(2), 0x45);
    assert_int_equal(get(6), 5); /* a Thursday */
    put(11, 0x06);               /* binary */
    assert_int_equal(get(4), 23);
    assert_int_equal(get(7), 29);
    put(11, 0x04); /* binary, 12 hours */
    assert_int_equal(get(4), 0x80 | 11);
    put(11, 0x00);
    assert_int_equal(get(4), 0x91);
    put(4, 0x12); /* 12 AM */
    put(11, 0x02);
    assert_int_equal(get(4), 0x00);
    static const u8 garbage[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    set_time(0x06, garbage);
    assert_in_range(get(8), 1, 12);
}

static void test_alarm_and_update(void **state)
{
    static const u8 noon[] = {0x20, 0x30, 0x06, 0x15, 0x12, 0x00, 0x00};

    put(5, 0x12);
    put(3, 0x00);
    put(1, 0xff); /* any second of 12:00 */
    set_time(0x02, noon);
    get(12);
    put(11, 0x22);
    assert_false(bench.irq.level);
    /* The host's clock, not VM time, makes seconds turn. */
    for (unsigned i = 0; i < 120 && !bench.irq.level; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 20 * MS}, NULL);
        step(&bench.clock, 20 * MS);
    }
    assert_true(bench.irq.level);
    assert_int_equal(get(12) & 0xb0, 0xb0); /* IRQF, AF, UF */
    assert_false(bench.irq.level);
    assert_int_equal(get(12) & 0xa0, 0);
}

static void test_periodic(void **state)
{
    put(10, 0x26); /* 1024 Hz */
    put(11, 0x42);
    unsigned count = 0;
    for (unsigned i = 0; i < 50; i++) {
        step(&bench.clock, 976563);
        count += (get(12) & 0xc0) == 0xc0;
    }
    assert_in_range(count, 49, 50);
    put(11, 0x02);
    step(&bench.clock, 10 * MS);
    assert_false(bench.irq.level);
    assert_int_equal(get(12) & 0xc0, 0x40); /* the flag goes on without its interrupt */
}

static void test_memory_cells(void **state)
{
    assert_int_equal(get(0x15) | get(0x16) << 8, 640);
    assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
    assert_int_equal(get(0x34) | get(0x35) << 8, (0x80000000u - 0x1000000) >> 16);
    assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 0x4000);
    put(0x0f, 0x05);
    assert_int_equal(get(0x0f), 0x05);
    assert_int_equal(get(13), 0x80);
    assert_false(rtc_nmi_masked(bench.rtc));
    out8(&bench.bus, 0x70, 0x8d);
    assert_true(rtc_nmi_masked(bench.rtc));
    assert_int_equal(in8(&bench.bus, 0x71), 0x80);
    assert_int_equal(in8(&bench.bus, 0x70), 0xff);
    rtc_device.reset(bench.rtc);
    assert_int_equal(get(0x0f), 0x05); /* memory is on the battery */
}

static void test_state(void **state)
{
    static const u8 noon[] = {0x20, 0x30, 0x06, 0x15, 0x12, 0x00, 0x00};
    struct wire irq = {0};
    struct irq_line line = wire_line(&irq, 0);
    struct rtc *other = rtc_new(&bench.clock, &bench.lock, &line, 0, 0);

    set_time(0x02, noon);
    put(11, 0x42);
    assert_true(round_trip(&rtc_device, bench.rtc, other));
    step(&bench.clock, 2 * MS);
    assert_true(irq.level);
    rtc_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calendar),
        cmocka_unit_test_setup_teardown(test_reads_the_host_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_in_all_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alarm_and_update, setup, teardown),
        cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_cells, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}
