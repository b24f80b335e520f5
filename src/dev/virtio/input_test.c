/*
 * dev/virtio/input_test.c - keyboard and tablet as a driver sees them: configuration, events,
 * what waits for buffers, the round trip of state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "back/display.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "core/state.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/input.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

struct rig {
    struct driver driver;
    gpa_t buffers;
    unsigned posted;
};

static struct rig *rig_new(enum virtio_input_kind kind)
{
    struct rig *rig = new0(struct rig);
    assert_true(driver_init(&rig->driver, virtio_input_new(kind)));
    assert_int_equal(driver_start(&rig->driver, BIT(VIRTIO_F_VERSION_1), 64), 15);
    rig->buffers = driver_alloc(&rig->driver, 64 * 8);
    return rig;
}

static void rig_free(struct rig *rig)
{
    driver_fini(&rig->driver);
    alloc_free(rig);
}

static void post(struct rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct driver_segment segment = {rig->buffers + rig->posted++ % 64 * 8, 8, true};
        driver_post(&rig->driver, 0, &segment, 1);
    }
    driver_kick(&rig->driver, 0);
}

static void expect(struct rig *rig, u16 type, u16 code, u32 value)
{
    u32 head, bytes;
    assert_true(driver_take_used(&rig->driver, 0, &head, &bytes));
    assert_int_equal(bytes, 8);
    const u8 *event = driver_at(&rig->driver, rig->buffers + head % 64 * 8);
    assert_int_equal(load_le16(event), type);
    assert_int_equal(load_le16(event + 2), code);
    assert_int_equal(load_le32(event + 4), value);
}

static void expect_none(struct rig *rig)
{
    u32 head, bytes;
    assert_false(driver_take_used(&rig->driver, 0, &head, &bytes));
}

static u8 select_config(struct rig *rig, u8 what, u8 which)
{
    driver_write(&rig->driver, rig->driver.device, 1, what);
    driver_write(&rig->driver, rig->driver.device + 1, 1, which);
    return (u8)driver_read(&rig->driver, rig->driver.device + 2, 1);
}

static u32 data(struct rig *rig, unsigned offset, unsigned bytes)
{
    return (u32)driver_read(&rig->driver, rig->driver.device + 8 + offset, bytes);
}

static void test_config(void **state)
{
    struct rig *tablet = rig_new(VIRTIO_INPUT_TABLET), *keyboard = rig_new(VIRTIO_INPUT_KEYBOARD);

    assert_int_equal(driver_pci_read(&tablet->driver, 0, 4), 0x10521af4);
    assert_int_equal(select_config(tablet, 1, 0), 12);
    assert_int_equal(data(tablet, 0, 4), 0x6c6f7441); /* "Atol" */
    assert_int_equal(select_config(tablet, 3, 0), 8);
    assert_int_equal(select_config(tablet, 0x11, 3), 1);
    assert_int_equal(data(tablet, 0, 1), 3);
    assert_int_equal(select_config(tablet, 0x12, 1), 20);
    assert_int_equal(data(tablet, 4, 4), 0x7fff);
    assert_int_equal(select_config(tablet, 0x12, 2), 0);
    assert_int_equal(select_config(tablet, 0x11, 1), 0x112 / 8 + 1);
    assert_int_equal(select_config(keyboard, 0x11, 1), 247 / 8 + 1);
    assert_int_equal(data(keyboard, 0, 1), 0xfe);
    assert_int_equal(select_config(keyboard, 0x12, 0), 0);
    for (unsigned what = 0; what < 256; what++)
        for (unsigned which = 0; which < 256; which += 5)
            assert_true(select_config(keyboard, (u8)what, (u8)which) <= 128);
    rig_free(tablet);
    rig_free(keyboard);
}

static void test_keys(void **state)
{
    struct rig *rig = rig_new(VIRTIO_INPUT_KEYBOARD);

    virtio_input_key(rig->driver.vdev, 30, true); /* waits for buffers */
    expect_none(rig);
    post(rig, 3);
    expect(rig, 1, 30, 1);
    expect(rig, 0, 0, 0);
    virtio_input_key(rig->driver.vdev, 30, false);
    expect(rig, 1, 30, 0);
    expect_none(rig);
    assert_true(rig->driver.interrupts[1] > 0);
    post(rig, 1);
    expect(rig, 0, 0, 0);
    virtio_input_key(rig->driver.vdev, 0, true);
    virtio_input_key(rig->driver.vdev, 600, true);
    post(rig, 4);
    expect_none(rig);
    for (unsigned i = 0; i < 10000; i++)
        virtio_input_key(rig->driver.vdev, 31, i % 2 == 0);
    expect(rig, 1, 31, 1);
    rig_free(rig);
}

static void test_tablet(void **state)
{
    struct rig *rig = rig_new(VIRTIO_INPUT_TABLET);
    const struct display_pointer pointer = {
        .x = 100, .y = 0x7fff, .buttons = DISPLAY_LEFT | DISPLAY_RIGHT, .wheel = -1};

    post(rig, 32);
    virtio_input_point(rig->driver.vdev, &pointer);
    expect(rig, 3, 0, 100);
    expect(rig, 3, 1, 0x7fff);
    expect(rig, 1, 0x110, 1);
    expect(rig, 1, 0x111, 1);
    expect(rig, 2, 8, 0xffffffff);
    expect(rig, 0, 0, 0);
    virtio_input_point(rig->driver.vdev, &(struct display_pointer){.buttons = DISPLAY_RIGHT});
    expect(rig, 3, 0, 0);
    expect(rig, 3, 1, 0);
    expect(rig, 1, 0x110, 0);
    expect(rig, 0, 0, 0);
    expect_none(rig);
    rig_free(rig);
}

static void test_small_buffer(void **state)
{
    struct rig *rig = rig_new(VIRTIO_INPUT_KEYBOARD);
    struct driver_segment segment = {rig->buffers, 7, true};

    driver_post(&rig->driver, 0, &segment, 1);
    virtio_input_key(rig->driver.vdev, 30, true);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
}

static void test_state(void **state)
{
    struct rig *from = rig_new(VIRTIO_INPUT_TABLET), *to = rig_new(VIRTIO_INPUT_TABLET);
    struct state_writer writer = {0}, again = {0};
    struct err err = {0};

    virtio_input_point(from->driver.vdev, &(struct display_pointer){.x = 5, .buttons = 1});
    pci_bus_save(from->driver.pci, &writer);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    pci_bus_save(to->driver.pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    assert_memory_equal(again.data, writer.data, writer.bytes);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_tablet), cmocka_unit_test(test_small_buffer),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests_name("virtio_input", tests, NULL, NULL);
}
