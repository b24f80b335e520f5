/*
 * dev/virtio/virtq_test.c - rings that break the rules, through a device that echoes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/virtio_echo.h"

enum { QUEUE_SIZE = ECHO_QUEUE_SIZE, COMMON_QUEUE_SIZE = 0x18 };
enum { DESC_NEXT = 1, DESC_INDIRECT = 4 };

static void expect_used(struct rig *rig, u32 head, u32 bytes)
{
    u32 used_head, used_bytes;
    assert_true(driver_take_used(&rig->driver, 0, &used_head, &used_bytes));
    assert_int_equal(used_head, head);
    assert_int_equal(used_bytes, bytes);
}

static void expect_no_used(struct rig *rig)
{
    u32 head, bytes;
    assert_false(driver_take_used(&rig->driver, 0, &head, &bytes));
}

static void expect_broken(struct rig *rig)
{
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    assert_true(rig->driver.interrupts[0] > 0);
    expect_no_used(rig);
    /* It serves nobody before a reset, and everybody after it. */
    u64 features = rig->echo->vdev.driver_features;
    driver_kick(&rig->driver, 0);
    expect_no_used(rig);
    assert_int_equal(driver_start(&rig->driver, features, QUEUE_SIZE), 15);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    u16 head = driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    expect_used(rig, head, 10);
}

static void test_loop(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment segment = {rig->from, 8, false};
    driver_desc(&rig->driver, rig->driver.rings[0].desc, 0, &segment, DESC_NEXT, 1);
    driver_desc(&rig->driver, rig->driver.rings[0].desc, 1, &segment, DESC_NEXT, 0);
    driver_expose(&rig->driver, 0, 0);
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    rig_free(rig);
}

static void break_with(const struct driver_segment *segments, unsigned count, bool indirect)
{
    struct rig *rig = rig_new(RING_FEATURES);
    if (indirect)
        driver_post_indirect(&rig->driver, 0, segments, count);
    else
        driver_post(&rig->driver, 0, segments, count);
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    rig_free(rig);
}

static void test_bad_segments(void **state)
{
    static const struct driver_segment bad[] = {
        {0x1000, 0, false},              /* nothing */
        {DRIVER_RAM_BYTES, 1, false},    /* outside */
        {DRIVER_RAM_BYTES - 1, 2, true}, /* across the end */
        {UINT64_MAX, 1, true},           /* at the very top */
        {UINT64_MAX - 3, 16, false},     /* wraps */
        {0, UINT32_MAX, true},           /* everything */
        {0xc0000000, 4, true},           /* a device's registers */
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        break_with(&bad[i], 1, false);
        break_with(&bad[i], 1, true);
    }
    static const struct driver_segment order[] = {{0x8000, 4, true}, {0x9000, 4, false}};
    break_with(order, 2, false);
    break_with(order, 2, true);
    struct driver_segment many[CHAIN_SEGMENTS_MAX + 1];
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct driver_segment){0x8000, 4, false};
    break_with(many, ARRAY_LEN(many), true);
}

static void test_bad_indirect(void **state)
{
    static const struct {
        struct driver_segment table;
        u16 flags;
        u64 features;
    } bad[] = {
        {{0x8000, 16, false}, DESC_INDIRECT, BIT(VIRTIO_F_VERSION_1)}, /* not negotiated */
        {{0x8000, 16, false}, DESC_INDIRECT | DESC_NEXT, RING_FEATURES},
        {{0x8000, 0, false}, DESC_INDIRECT, RING_FEATURES},
        {{0x8000, 17, false}, DESC_INDIRECT, RING_FEATURES},
        {{DRIVER_RAM_BYTES - 16, 32, false}, DESC_INDIRECT, RING_FEATURES},
        {{0x8000, 0xfffffff0, false}, DESC_INDIRECT, RING_FEATURES},
        {{0x8000, 32, false}, DESC_INDIRECT, RING_FEATURES}, /* what is there is indirect too */
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct rig *rig = rig_new(bad[i].features);
        struct driver_segment nested = {0x8000, 16, false};
        driver_desc(&rig->driver, 0x8000, 0, &nested, DESC_INDIRECT, 0);
        driver_desc(&rig->driver, rig->driver.rings[0].desc, 3, &bad[i].table, bad[i].flags, 0);
        driver_expose(&rig->driver, 0, 3);
        driver_kick(&rig->driver, 0);
        expect_broken(rig);
        rig_free(rig);
    }
    /* A next index outside the indirect table. */
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment table = {0x8000, 32, false}, inside = {rig->from, 4, false};
    driver_desc(&rig->driver, 0x8000, 0, &inside, DESC_NEXT, 2);
    driver_desc(&rig->driver, rig->driver.rings[0].desc, 0, &table, DESC_INDIRECT, 0);
    driver_expose(&rig->driver, 0, 0);
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    rig_free(rig);
}

static void test_direct_then_indirect(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    gpa_t desc = rig->driver.rings[0].desc;
    struct driver_segment first = {rig->from, 5, false}, table = {0x8000, 16, true};
    struct driver_segment last = {rig->to, 5, true};
    driver_desc(&rig->driver, desc, 0, &first, DESC_NEXT, 1);
    driver_desc(&rig->driver, desc, 1, &table, DESC_INDIRECT, 0); /* its WRITE flag means nothing */
    driver_desc(&rig->driver, 0x8000, 0, &last, 0, 0);
    driver_expose(&rig->driver, 0, 0);
    driver_kick(&rig->driver, 0);
    expect_used(rig, 0, 5);
    rig_free(rig);
}

static void test_bad_indexes(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    driver_expose(&rig->driver, 0, QUEUE_SIZE); /* a head outside the table */
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    /* The available index jumps. */
    u8 *avail = driver_at(&rig->driver, rig->driver.rings[0].avail);
    rig->driver.interrupts[0] = 0;
    store_le16(avail + 2, (u16)(rig->driver.rings[0].next_avail + QUEUE_SIZE + 1));
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    rig_free(rig);
}

static void test_same_head_again(void **state)
{
    /* As many requests as the queue has, all of one head: odd, but bounded. One more cannot be. */
    struct rig *rig = rig_new(RING_FEATURES);
    rig->echo->hold = 1;
    struct driver_segment good = {rig->from, 10, false};
    u16 head = driver_post(&rig->driver, 0, &good, 1);
    for (unsigned i = 1; i < QUEUE_SIZE; i++)
        driver_expose(&rig->driver, 0, head);
    driver_kick(&rig->driver, 0);
    assert_int_equal(rig->echo->held_count, QUEUE_SIZE);
    assert_int_equal(driver_status(&rig->driver), 15);
    driver_expose(&rig->driver, 0, head);
    driver_kick(&rig->driver, 0);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    driver_status_write(&rig->driver, 0);
    rig->echo->hold = 0;
    echo_release(rig->echo);
    assert_int_equal(driver_start(&rig->driver, RING_FEATURES, QUEUE_SIZE), 15);
    assert_int_equal(rig->echo->vdev.queues[0]->in_flight, 0);
    rig_free(rig);
}

static void test_rings_in_bad_places(void **state)
{
    static const struct {
        u64 desc, avail, used;
        u16 size;
    } bad[] = {
        {0x1008, 0x2000, 0x3000, 16},
        {0x1000, 0x2001, 0x3000, 16},
        {0x1000, 0x2000, 0x3002, 16},
        {0x1000, 0x2000, 0x3000, 0},
        {0x1000, 0x2000, 0x3000, 12},
        {0x1000, 0x2000, 0x3000, 32},
        {DRIVER_RAM_BYTES - 16, 0x2000, 0x3000, 16},
        {0x1000, DRIVER_RAM_BYTES - 2, 0x3000, 16},
        {0x1000, 0x2000, UINT64_MAX - 3, 16},
        {0x1000, 0x2000, 0xc0000000, 16},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct rig *rig = rig_new(0);
        struct driver *driver = &rig->driver;
        driver_status_write(driver, 3);
        driver_write(driver, driver->common + 0x08, 4, 1);
        driver_write(driver, driver->common + 0x0c, 4, 1);
        driver_status_write(driver, 11);
        driver_write(driver, driver->common + COMMON_QUEUE_SIZE, 2, bad[i].size);
        driver_write(driver, driver->common + 0x20, 8, bad[i].desc);
        driver_write(driver, driver->common + 0x28, 8, bad[i].avail);
        driver_write(driver, driver->common + 0x30, 8, bad[i].used);
        driver_write(driver, driver->common + 0x1c, 2, 1);
        driver_status_write(driver, 15);
        driver_write(driver, driver->notify, 2, 0);
        assert_int_equal(driver_status(driver) & VIRTIO_STATUS_NEEDS_RESET,
                         VIRTIO_STATUS_NEEDS_RESET);
        assert_int_equal(rig->echo->served_count, 0);
        rig_free(rig);
    }
}

/* The driver changes its descriptors as soon as the device has looked at them. */
static void swap_descriptors(struct driver *driver)
{
    struct driver_segment evil = {UINT64_MAX - 4096, UINT32_MAX, true};
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        driver_desc(driver, driver->rings[0].desc, i, &evil, DESC_NEXT, 0xffff);
}

static void test_buffer_in_two_slots(void **state)
{
    /* More RAM is plugged in right behind the first: the ring is found again, and a buffer may lie
     * across the border. A gap behind that one may not be crossed. */
    struct rig *rig = rig_new(RING_FEATURES);
    u8 *more = alloc_zero(MEM_PAGE_BYTES);
    assert_int_equal(mem_add(&rig->driver.mem, DRIVER_RAM_BYTES, MEM_PAGE_BYTES, more, false), 0);
    struct driver_segment across[] = {{rig->from, 30, false}, {DRIVER_RAM_BYTES - 10, 30, true}};
    u16 head = driver_post(&rig->driver, 0, across, 2);
    driver_kick(&rig->driver, 0);
    expect_used(rig, head, 30);
    const u8 *from = driver_at(&rig->driver, rig->from);
    assert_memory_equal(driver_at(&rig->driver, DRIVER_RAM_BYTES - 10), from, 10);
    assert_memory_equal(more, from + 10, 20);
    assert_true(mem_flag_set(&rig->driver.mem, DRIVER_RAM_BYTES, MEM_DIRTY));
    struct driver_segment beyond = {DRIVER_RAM_BYTES + MEM_PAGE_BYTES - 1, 2, true};
    driver_post(&rig->driver, 0, &beyond, 1);
    driver_kick(&rig->driver, 0);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
    alloc_free(more);
}

static void test_rom(void **state)
{
    /* ROM can be sent from, not written to, and no ring can be in it. */
    struct rig *rig = rig_new(RING_FEATURES);
    u8 *rom = alloc_zero(MEM_PAGE_BYTES);
    assert_int_equal(mem_add(&rig->driver.mem, DRIVER_RAM_BYTES, MEM_PAGE_BYTES, rom, true), 0);
    struct driver_segment good[] = {{DRIVER_RAM_BYTES, 8, false}, {rig->to, 8, true}};
    u16 head = driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    expect_used(rig, head, 8);
    struct driver_segment bad[] = {{rig->from, 8, false}, {DRIVER_RAM_BYTES, 8, true}};
    driver_post(&rig->driver, 0, bad, 2);
    driver_kick(&rig->driver, 0);
    expect_broken(rig);
    assert_int_equal(rom[0], 0);
    rig_free(rig);
    alloc_free(rom);
}

static void test_double_fetch(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    rig->echo->after_pop = swap_descriptors;
    u16 head = driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    expect_used(rig, head, 10);
    assert_memory_equal(driver_at(&rig->driver, rig->to), driver_at(&rig->driver, rig->from), 10);
    assert_int_equal(driver_status(&rig->driver), 15);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_bad_segments),
        cmocka_unit_test(test_bad_indirect),
        cmocka_unit_test(test_direct_then_indirect),
        cmocka_unit_test(test_bad_indexes),
        cmocka_unit_test(test_same_head_again),
        cmocka_unit_test(test_rings_in_bad_places),
        cmocka_unit_test(test_buffer_in_two_slots),
        cmocka_unit_test(test_rom),
        cmocka_unit_test(test_double_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
