/*
 * dev/hpet_test.c - the HPET through its registers, on a stepped clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/hpet.h"

enum { MS = 1000000, PINS = 24, LEGACY_0 = 24, LEGACY_8 = 25, LEGACY_ON = 26 };
enum { CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0 };

struct bench {
    struct vm_clock clock;
    struct bus bus;
    struct wire wires[LEGACY_ON + 1];
    struct lock lock;
    struct hpet *hpet;
    unsigned message_count;
    u64 address;
    u32 data;
};

static struct bench bench;

static void take_message(void *ctx, u64 address, u32 data)
{
    bench.message_count++;
    bench.address = address;
    bench.data = data;
}

static struct hpet *make(void)
{
    struct hpet_wires wires = {.legacy_0 = wire_line(bench.wires, LEGACY_0),
                               .legacy_8 = wire_line(bench.wires, LEGACY_8),
                               .legacy_on = wire_line(bench.wires, LEGACY_ON),
                               .msi = {.deliver = take_message}};

    for (unsigned i = 0; i < PINS; i++)
        wires.pins[i] = wire_line(bench.wires, i);
    return hpet_new(&bench.clock, &bench.lock, &wires);
}

static int setup(void **state)
{
    bench = (struct bench){0};
    vm_clock_init(&bench.clock);
    bus_init(&bench.bus);
    bench.hpet = make();
    assert_int_equal(device_map(&hpet_device, bench.hpet, &bench.bus, 0, &bench.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    hpet_device.free(bench.hpet);
    return 0;
}

static u64 get64(unsigned offset)
{
    return bus_read(&bench.bus, BUS_MMIO, HPET_BASE + offset, 8);
}

static u32 get(unsigned offset)
{
    return mmio32(&bench.bus, HPET_BASE + offset);
}

static void put(unsigned offset, u32 value)
{
    mmio32_set(&bench.bus, HPET_BASE + offset, value);
}

static void test_registers(void **state)
{
    assert_true(get64(0) == 0x009896808086a201);
    assert_int_equal(get(4), HPET_PERIOD_FS);
    assert_int_equal(get64(0x100) >> 32, 0x00f00000);
    assert_int_equal(get(0x100), 0x8030);
    put(0x100, UINT32_MAX);
    assert_int_equal(get(0x100), 0xff7e);
    assert_int_equal(get(0x3f0), 0);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, HPET_BASE + 4, 8), 0); /* not aligned */
}

static void test_counter(void **state)
{
    step(&bench.clock, MS);
    assert_int_equal(get64(COUNTER), 0);
    put(CONFIG, 1);
    step(&bench.clock, 10 * MS);
    u64 count = get64(COUNTER);
    assert_in_range(count, 1000000, 1100000);
    put(CONFIG, 0);
    step(&bench.clock, 10 * MS);
    assert_in_range(get64(COUNTER), count, count + 100);
    put(COUNTER, 0x12345678);
    put(COUNTER + 4, 0x9a);
    assert_true(get64(COUNTER) == 0x9a12345678);
}

static void test_one_shot_and_legacy(void **state)
{
    put(CONFIG, 3);
    assert_true(bench.wires[LEGACY_ON].level);
    put(0x100, 0x4);
    put(0x108, get(COUNTER) + 100000);
    put(0x10c, 0);
    step(&bench.clock, MS / 2);
    assert_int_equal(bench.wires[LEGACY_0].rise_count, 0);
    step(&bench.clock, MS);
    assert_int_equal(bench.wires[LEGACY_0].rise_count, 1);
    step(&bench.clock, 100 * MS);
    assert_int_equal(bench.wires[LEGACY_0].rise_count, 1);
    put(CONFIG, 1);
    assert_false(bench.wires[LEGACY_ON].level);
}

static void test_periodic(void **state)
{
    put(CONFIG, 3);
    put(0x120, 0x4c | 1 << 8); /* 32 bits, periodic, the value is to be set */
    put(0x128, get(COUNTER) + 100000);
    put(0x128, 100000);
    for (unsigned i = 0; i < 10; i++)
        step(&bench.clock, MS);
    assert_in_range(bench.wires[LEGACY_8].rise_count, 9, 10);
    unsigned before = bench.wires[LEGACY_8].rise_count;
    step(&bench.clock, 1000 * MS); /* missed periods are dropped */
    assert_in_range(bench.wires[LEGACY_8].rise_count - before, 1, 2);
    put(0x120, 0x4c | 1 << 8);
    put(0x128, get(COUNTER) + 1);
    put(0x128, 1); /* 10 ns */
    before = bench.wires[LEGACY_8].rise_count;
    for (unsigned i = 0; i < 10; i++)
        step(&bench.clock, MS / 10);
    assert_in_range(bench.wires[LEGACY_8].rise_count - before, 1, 60);
}

/* A timer whose interrupt is off wakes nobody, and yet its comparator goes on, in phase: also when
 * a 32-bit counter has gone round twice, with a period that does not divide it. */
static void test_unheard(void **state)
{
    enum { PERIOD = 700000 };

    put(CONFIG, 1);
    put(0x100, 0x4c | 1 << 8 | 20 << 9);
    u32 first = get(COUNTER) + PERIOD;
    put(0x108, first);
    put(0x108, PERIOD);
    step(&bench.clock, 8 * MS);
    assert_int_equal(bench.wires[20].rise_count, 1);
    assert_int_equal(bench.clock.heap_count, 1);
    put(0x100, 0x8 | 1 << 8 | 20 << 9);
    assert_int_equal(bench.clock.heap_count, 0);
    for (unsigned i = 0; i < 10; i++) {
        step(&bench.clock, i * 10000ull * MS);
        u64 left = (u32)(get(0x108) - get(COUNTER));
        assert_in_range(left, 1, PERIOD);
        u64 periods = (get64(COUNTER) + left - first) / PERIOD;
        assert_int_equal(get(0x108), (u32)(first + periods * PERIOD));
    }
    assert_int_equal(bench.wires[20].rise_count, 1);
    put(0x100, 0xc | 1 << 8 | 20 << 9); /* on again: at the next match, not before */
    assert_int_equal(bench.wires[20].rise_count, 1);
    step(&bench.clock, 8 * MS);
    assert_int_equal(bench.wires[20].rise_count, 2);
}

static void test_level_and_msi(void **state)
{
    put(CONFIG, 1);
    put(0x140, 0x6 | 21 << 9); /* level, pin 21 */
    put(0x148, get(COUNTER) + 1000);
    put(0x14c, 0);
    step(&bench.clock, MS);
    assert_true(bench.wires[21].level);
    assert_int_equal(get(STATUS), 4);
    put(STATUS, 4);
    assert_false(bench.wires[21].level);
    assert_int_equal(get(STATUS), 0);
    put(0x140, 0x4 | 1 << 14);
    put(0x150, 0x4055);
    put(0x154, 0xfee01000);
    put(0x148, get(COUNTER) + 1000);
    step(&bench.clock, MS);
    assert_int_equal(bench.message_count, 1);
    assert_true(bench.address == 0xfee01000);
    assert_int_equal(bench.data, 0x4055);
}

static void test_state(void **state)
{
    struct hpet *other = make();

    put(CONFIG, 1);
    put(0x100, 0x4 | 20 << 9);
    put(0x108, get(COUNTER) + 100000);
    put(0x10c, 0);
    step(&bench.clock, MS / 4);
    assert_true(round_trip(&hpet_device, bench.hpet, other));
    put(CONFIG, 0);
    bench.wires[20].rise_count = 0;
    step(&bench.clock, MS);
    assert_int_equal(bench.wires[20].rise_count, 1);
    hpet_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_shot_and_legacy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unheard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_and_msi, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("hpet", tests, NULL, NULL);
}
