/*
 * dev/fwcfg_test.c - items and files by the ports and by transfers, with descriptors that a hostile
 * guest would write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/errno.h"
#include "core/mem.h"
#include "dev/dev_test.h"
#include "dev/fwcfg.h"

enum { SELECTOR = 0x510, DATA = 0x511, DMA_HIGH = 0x514, DMA_LOW = 0x518 };
enum { RAM_BYTES = 64 << 10, DESCRIPTOR = 0x100, TARGET = 0x2000 };
enum { FAILED = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

struct bench {
    struct bus bus;
    struct mem mem;
    struct lock lock;
    struct fwcfg *fwcfg;
    unsigned refresh_count;
    _Alignas(4096) u8 ram[RAM_BYTES];
};

static struct bench bench;

static int setup(void **state)
{
    memset(&bench, 0, sizeof(bench));
    bus_init(&bench.bus);
    mem_init(&bench.mem);
    assert_int_equal(mem_add(&bench.mem, 0, RAM_BYTES, bench.ram, false), 0);
    bench.fwcfg = fwcfg_new(&bench.mem);
    assert_non_null(bench.fwcfg);
    assert_int_equal(device_map(&fwcfg_device, bench.fwcfg, &bench.bus, 0, &bench.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    fwcfg_device.free(bench.fwcfg);
    mem_fini(&bench.mem);
    return 0;
}

static void select_key(unsigned key)
{
    bus_write(&bench.bus, BUS_PORT, SELECTOR, 2, key);
}

static u8 next_byte(void)
{
    return (u8)bus_read(&bench.bus, BUS_PORT, DATA, 1);
}

static void next_bytes(void *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((u8 *)to)[i] = next_byte();
}

/* Starts a transfer; returns what the device left in the control field. */
static u32 transfer(u32 control, u32 bytes, u64 address)
{
    u8 *descriptor = bench.ram + DESCRIPTOR;

    store_le32(descriptor, __builtin_bswap32(control));
    store_le32(descriptor + 4, __builtin_bswap32(bytes));
    store_le64(descriptor + 8, __builtin_bswap64(address));
    bus_write(&bench.bus, BUS_PORT, DMA_HIGH, 4, 0);
    bus_write(&bench.bus, BUS_PORT, DMA_LOW, 4, __builtin_bswap32(DESCRIPTOR));
    return __builtin_bswap32(load_le32(descriptor));
}

static void test_the_device_is_found_by_its_signatures(void **state)
{
    char text[4];

    select_key(FWCFG_SIGNATURE);
    next_bytes(text, 4);
    assert_memory_equal(text, "QEMU", 4);
    assert_int_equal(next_byte(), 0); /* beyond the end */
    select_key(FWCFG_ID);
    assert_int_equal(next_byte(), 3);
    assert_int_equal(bus_read(&bench.bus, BUS_PORT, DMA_HIGH, 4), load_le32((const u8 *)"QEMU"));
    assert_int_equal(bus_read(&bench.bus, BUS_PORT, DMA_LOW, 4), load_le32((const u8 *)" CFG"));
}

static void test_files_are_listed_and_read(void **state)
{
    u8 entry[64], count[4];

    assert_int_equal(fwcfg_put_file(bench.fwcfg, "etc/one", "1", 1, false), 0);
    assert_int_equal(fwcfg_put_file(bench.fwcfg, "etc/two", "22", 2, false), 0);
    assert_int_equal(fwcfg_put_file(bench.fwcfg, "etc/one", "longer", 6, false), 0);
    select_key(FWCFG_DIRECTORY);
    next_bytes(count, 4);
    assert_int_equal(__builtin_bswap32(load_le32(count)), 2);
    next_bytes(entry, 64);
    assert_int_equal(__builtin_bswap32(load_le32(entry)), 6);
    assert_string_equal((char *)entry + 8, "etc/one");
    select_key(__builtin_bswap16(load_le16(entry + 4)));
    next_bytes(entry, 6);
    assert_memory_equal(entry, "longer", 6);
}

static void test_a_transfer_selects_skips_and_reads(void **state)
{
    assert_int_equal(fwcfg_put(bench.fwcfg, FWCFG_UUID, "0123456789", 10), 0);
    memset(bench.ram + TARGET, 0xff, 16);
    assert_int_equal(transfer((u32)FWCFG_UUID << 16 | SELECT | SKIP, 4, 0), 0);
    assert_int_equal(transfer(READ, 3, TARGET), 0);
    assert_memory_equal(bench.ram + TARGET, "456\xff", 4);
    /* Goes on where it was; what is beyond the end is zero. */
    assert_int_equal(transfer(READ, 5, TARGET), 0);
    assert_memory_equal(bench.ram + TARGET, "789\0\0\xff", 6);
}

static void test_bad_transfers_fail_and_touch_nothing_else(void **state)
{
    assert_int_equal(fwcfg_put(bench.fwcfg, FWCFG_UUID, "0123456789", 10), 0);
    select_key(FWCFG_UUID);
    assert_int_equal(transfer(READ, 4, RAM_BYTES - 2), FAILED);
    assert_int_equal(transfer(READ, 4, UINT64_MAX - 1), FAILED);
    assert_int_equal(transfer(READ, UINT32_MAX, TARGET), FAILED);
    assert_int_equal(transfer(READ, FWCFG_DMA_MAX_BYTES, TARGET), FAILED); /* leaves RAM */
    assert_int_equal(transfer(WRITE, 4, TARGET), FAILED);
    assert_int_equal(transfer(SKIP, UINT32_MAX, 0), 0);
    assert_int_equal(next_byte(), 0);
    /* A descriptor that is not in RAM, or only partly, does nothing. */
    bus_write(&bench.bus, BUS_PORT, DMA_HIGH, 4, UINT32_MAX);
    bus_write(&bench.bus, BUS_PORT, DMA_LOW, 4, UINT32_MAX);
    bus_write(&bench.bus, BUS_PORT, DMA_LOW, 4, __builtin_bswap32(RAM_BYTES - 8));
}

static void test_the_target_may_hold_the_descriptor(void **state)
{
    assert_int_equal(fwcfg_put(bench.fwcfg, FWCFG_UUID, "0123456789abcdef", 16), 0);
    select_key(FWCFG_UUID);
    assert_int_equal(transfer(READ, 16, DESCRIPTOR), 0);
    assert_memory_equal(bench.ram + DESCRIPTOR + 4, "456789abcdef", 12);
}

static void test_items_and_names_are_bounded(void **state)
{
    char name[FWCFG_NAME_BYTES + 1];
    unsigned key = 0x8000, added = 0;

    memset(name, 'n', sizeof(name));
    name[FWCFG_NAME_BYTES] = 0;
    assert_int_equal(fwcfg_put_file(bench.fwcfg, name, "", 0, false), -EINVAL);
    name[FWCFG_NAME_BYTES - 1] = 0;
    assert_int_equal(fwcfg_put_file(bench.fwcfg, name, "", 0, false), 0);
    while (fwcfg_put_number(bench.fwcfg, (u16)key++, 1, 8) == 0)
        added++;
    assert_in_range(added, 1, FWCFG_ITEMS_MAX);
    assert_int_equal(fwcfg_put_file(bench.fwcfg, "more", "", 0, false), -ENOSPC);
}

static void refresh(void *ctx)
{
    bench.refresh_count++;
    assert_int_equal(fwcfg_put_file(bench.fwcfg, "live", "new", 3, true), 0);
}

static void test_a_live_file_is_made_when_it_is_selected(void **state)
{
    char text[3];

    assert_int_equal(fwcfg_put_file(bench.fwcfg, "live", "old", 3, true), 0);
    fwcfg_on_refresh(bench.fwcfg, refresh, NULL);
    select_key(FWCFG_UUID);
    assert_int_equal(bench.refresh_count, 0);
    select_key(FWCFG_FIRST_FILE);
    assert_int_equal(bench.refresh_count, 1);
    next_bytes(text, 3);
    assert_memory_equal(text, "new", 3);
    fwcfg_device.reset(bench.fwcfg);
    assert_int_equal(next_byte(), 'Q');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_device_is_found_by_its_signatures, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_files_are_listed_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_transfer_selects_skips_and_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_transfers_fail_and_touch_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_target_may_hold_the_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_items_and_names_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_live_file_is_made_when_it_is_selected, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
