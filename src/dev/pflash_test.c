/*
 * dev/pflash_test.c - the flash chip's commands, and the sequence by which OVMF tells flash from
 * RAM and ROM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/errno.h"
#include "dev/dev_test.h"
#include "dev/pflash.h"

enum { BYTES = 4 * PFLASH_BLOCK_BYTES, BASE = 0xffc00000 };
enum { PROGRAM = 0x10, ERASE = 0x20, CLEAR = 0x50, STATUS = 0x70, CONFIRM = 0xd0, ARRAY = 0xff };
enum { READY = 0x80, ERRORS = 0x30 };

struct bench {
    struct bus bus;
    struct lock lock;
    struct pflash *pflash;
    u8 data[BYTES];
};

static struct bench bench;

static int setup(void **state)
{
    memset(&bench, 0, sizeof(bench));
    memset(bench.data, 0xff, BYTES);
    bus_init(&bench.bus);
    bench.pflash = pflash_new(bench.data, BYTES);
    assert_non_null(bench.pflash);
    const struct bus_range range = {BASE,         BYTES,       &pflash_bus_ops,
                                    bench.pflash, &bench.lock, "pflash"};
    assert_int_equal(bus_add(&bench.bus, BUS_MMIO, &range), 0);
    return 0;
}

static int teardown(void **state)
{
    pflash_device.free(bench.pflash);
    return 0;
}

static u64 get(u64 offset, unsigned bytes)
{
    return bus_read(&bench.bus, BUS_MMIO, BASE + offset, bytes);
}

static void put(u64 offset, u64 value)
{
    bus_write(&bench.bus, BUS_MMIO, BASE + offset, 1, value);
}

static void test_it_is_told_from_ram_and_rom(void **state)
{
    bench.data[5] = 0x3c;
    put(5, CLEAR);
    assert_int_equal(get(5, 1), 0x3c); /* not RAM */
    put(5, STATUS);
    assert_int_equal(get(5, 1), 0); /* neither ROM nor RAM: a status, and that is clear */
    put(5, ARRAY);
    assert_int_equal(get(5, 1), 0x3c);
    assert_int_equal(bench.data[5], 0x3c);
}

static void test_programs_clear_bits(void **state)
{
    put(8, PROGRAM);
    put(8, 0xf0);
    assert_int_equal(get(0, 1) & READY, READY);
    put(8, PROGRAM);
    put(8, 0x3f);
    put(8, ARRAY);
    assert_int_equal(get(8, 8), 0xffffffffffffff30);
    assert_int_equal(bench.data[8], 0x30);
}

static void test_erasing_sets_a_block(void **state)
{
    memset(bench.data, 0, BYTES);
    put(PFLASH_BLOCK_BYTES + 77, ERASE);
    put(PFLASH_BLOCK_BYTES + 77, CONFIRM);
    put(0, ARRAY);
    assert_int_equal(get(PFLASH_BLOCK_BYTES - 1, 1), 0);
    assert_int_equal(get(PFLASH_BLOCK_BYTES, 1), 0xff);
    assert_int_equal(get(2 * PFLASH_BLOCK_BYTES - 1, 1), 0xff);
    assert_int_equal(get(2 * PFLASH_BLOCK_BYTES, 1), 0);
}

static void test_an_erasure_needs_its_second_word(void **state)
{
    memset(bench.data, 0, BYTES);
    put(0, CLEAR);
    put(0, ERASE);
    put(0, ARRAY);
    assert_int_equal(get(0, 1), READY | ERRORS);
    put(0, CLEAR);
    assert_int_equal(get(0, 1), 0);
    assert_int_equal(bench.data[0], 0);
}

static void test_every_command_at_every_width_stays_inside(void **state)
{
    for (unsigned command = 0; command < 256; command++) {
        put(BYTES - 1, command);
        bus_write(&bench.bus, BUS_MMIO, BASE + BYTES - 4, 8, 0x0123456789abcdef);
        bus_write(&bench.bus, BUS_MMIO, BASE + BYTES - 8, 8, command);
        (void)get(BYTES - 4, 8);
    }
    pflash_device.reset(bench.pflash);
    assert_int_equal(get(0, 1), bench.data[0]);
}

static void test_a_saved_mode_is_checked(void **state)
{
    struct state_writer writer = {0};

    device_save(&pflash_device, bench.pflash, &writer);
    assert_false(writer.failed);
    u8 *mode = memmem(writer.data, writer.bytes, "mode", 4);
    assert_non_null(mode);
    struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
    assert_int_equal(device_load(&pflash_device, bench.pflash, &reader, NULL), 0);
    mode[4 + 4] = 200; /* after the name comes its size */
    reader = (struct state_reader){.data = writer.data, .bytes = writer.bytes};
    assert_int_equal(device_load(&pflash_device, bench.pflash, &reader, NULL), -EINVAL);
    state_writer_fini(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_is_told_from_ram_and_rom, setup, teardown),
        cmocka_unit_test_setup_teardown(test_programs_clear_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_erasing_sets_a_block, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_erasure_needs_its_second_word, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_command_at_every_width_stays_inside, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_saved_mode_is_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
