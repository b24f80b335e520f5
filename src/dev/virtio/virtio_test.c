/*
 * dev/virtio/virtio_test.c - the transport, the status machine, reset and state of a device that
 * echoes.
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

enum { QUEUE_SIZE = ECHO_QUEUE_SIZE, F_TOY = ECHO_F_TOY };
enum { COMMON_CONFIG_GENERATION = 0x15, COMMON_QUEUE_SELECT = 0x16 };

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

static void test_identity(void **state)
{
    struct rig *rig = rig_new(0);
    assert_int_equal(driver_pci_read(&rig->driver, 0, 4), 0x10441af4);
    assert_int_equal(driver_pci_read(&rig->driver, PCI_REVISION_ID, 1), 1);
    assert_int_equal(driver_offered(&rig->driver),
                     RING_FEATURES | BIT(VIRTIO_F_EVENT_IDX) | BIT(F_TOY));
    assert_true(rig->driver.common && rig->driver.notify && rig->driver.isr && rig->driver.device);
    rig_free(rig);
}

static void test_negotiation(void **state)
{
    struct rig *rig = rig_new(0);
    /* Not offered; no VERSION_1; then right. */
    assert_int_equal(driver_start(&rig->driver, RING_FEATURES | BIT(9), 16), 3);
    assert_int_equal(driver_start(&rig->driver, BIT(F_TOY), 16), 3);
    /* DRIVER_OK without FEATURES_OK does not count. */
    driver_status_write(&rig->driver, 7);
    assert_int_equal(driver_status(&rig->driver), 3);
    assert_int_equal(rig->echo->started_count, 0);
    assert_int_equal(driver_start(&rig->driver, RING_FEATURES | BIT(F_TOY), 16), 15);
    assert_true(virtio_has(&rig->echo->vdev, F_TOY));
    assert_int_equal(rig->echo->started_count, 1);
    /* Features are final; bits of the status do not go away. */
    driver_write(&rig->driver, rig->driver.common + 0x0c, 4, 0);
    driver_status_write(&rig->driver, 1);
    assert_int_equal(driver_status(&rig->driver), 15);
    assert_true(virtio_has(&rig->echo->vdev, VIRTIO_F_VERSION_1));
    driver_status_write(&rig->driver, 0);
    assert_int_equal(driver_status(&rig->driver), 0);
    rig_free(rig);
}

static void test_echo(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment split[] = {{rig->from, 7, false},
                                     {rig->from + 7, 13, false},
                                     {rig->to, 3, true},
                                     {rig->to + 3, 1, true},
                                     {rig->to + 4, 60, true}};
    for (unsigned i = 0; i < 100; i++) {
        memset(driver_at(&rig->driver, rig->to), 0, 64);
        u16 head = i % 2 ? driver_post(&rig->driver, 0, split, 5)
                         : driver_post_indirect(&rig->driver, 0, split, 5);
        driver_kick(&rig->driver, 0);
        expect_used(rig, head, 20);
        assert_memory_equal(driver_at(&rig->driver, rig->to), driver_at(&rig->driver, rig->from),
                            20);
        assert_int_equal(rig->driver.interrupts[1], i + 1);
    }
    assert_true(mem_flag_set(&rig->driver.mem, rig->to, MEM_DIRTY));
    expect_no_used(rig);
    rig_free(rig);
}

static void test_suppression(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    u8 *avail = driver_at(&rig->driver, rig->driver.rings[0].avail);
    store_le16(avail, 1); /* no interrupt, please */
    driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    assert_int_equal(rig->driver.interrupts[1], 0);
    rig_free(rig);

    rig = rig_new(RING_FEATURES | BIT(VIRTIO_F_EVENT_IDX));
    good[0].gpa = rig->from;
    good[1].gpa = rig->to;
    avail = driver_at(&rig->driver, rig->driver.rings[0].avail);
    u8 *used = driver_at(&rig->driver, rig->driver.rings[0].used);
    store_le16(avail + 4 + 2 * QUEUE_SIZE, 2); /* interrupt when the third is used */
    for (unsigned i = 0; i < 5; i++) {
        driver_post(&rig->driver, 0, good, 2);
        driver_kick(&rig->driver, 0);
        assert_int_equal(rig->driver.interrupts[1], i >= 2);
        /* avail_event: notify me of the next one. */
        assert_int_equal(load_le16(used + 4 + 8 * QUEUE_SIZE), i + 1);
    }
    rig_free(rig);
}

static void test_intx(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver *driver = &rig->driver;
    unsigned msix = rig->driver.function->msix.capability;
    driver_pci_write(driver, msix + MSIX_CONTROL, 2, 0);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    driver_post(driver, 0, good, 2);
    driver_kick(driver, 0);
    assert_true(driver->intx);
    lock_acquire(&rig->echo->vdev.lock);
    virtio_config_changed(&rig->echo->vdev);
    lock_release(&rig->echo->vdev.lock);
    assert_int_equal(driver_read(driver, driver->isr, 1), 3);
    assert_false(driver->intx);
    assert_int_equal(driver_read(driver, driver->isr, 1), 0);
    rig_free(rig);
}

static void test_config(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver *driver = &rig->driver;
    u64 generation = driver_read(driver, driver->common + COMMON_CONFIG_GENERATION, 1);
    driver_write(driver, driver->device + 2, 2, 0xbeef);
    assert_int_equal(driver_read(driver, driver->device, 8), 0xbeef0000);
    assert_int_equal(driver_read(driver, driver->device + 6, 4), 0); /* beyond the end: zeros */
    driver_write(driver, driver->device + 6, 4, 0xffffffff);         /* and no effect */
    assert_int_equal(driver_read(driver, driver->device + 4, 4), 0);
    lock_acquire(&rig->echo->vdev.lock);
    virtio_config_changed(&rig->echo->vdev);
    lock_release(&rig->echo->vdev.lock);
    assert_int_equal(driver->interrupts[0], 1);
    assert_int_equal(driver_read(driver, driver->common + COMMON_CONFIG_GENERATION, 1),
                     generation + 1);
    rig_free(rig);
}

static void test_access_window(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver *driver = &rig->driver;
    unsigned at = driver_pci_read(driver, PCI_CAPABILITIES_POINTER, 1);
    while (driver_pci_read(driver, at, 1) != PCI_CAPABILITY_VENDOR ||
           driver_pci_read(driver, at + 3, 1) != 5)
        at = driver_pci_read(driver, at + 1, 1);
    driver_pci_write(driver, at + 4, 1, 0);
    driver_pci_write(driver, at + 8, 4, 0x14); /* device_status */
    driver_pci_write(driver, at + 12, 4, 1);
    assert_int_equal(driver_pci_read(driver, at + 16, 1), 15);
    driver_pci_write(driver, at + 8, 4, COMMON_QUEUE_SELECT);
    driver_pci_write(driver, at + 12, 4, 2);
    driver_pci_write(driver, at + 16, 4, 1);
    assert_int_equal(driver_read(driver, driver->common + COMMON_QUEUE_SELECT, 2), 1);
    /* Impossible windows do nothing. */
    driver_pci_write(driver, at + 12, 4, 3);
    (void)driver_pci_read(driver, at + 16, 4);
    driver_pci_write(driver, at + 12, 4, 4);
    driver_pci_write(driver, at + 8, 4, 0xfffffffc);
    (void)driver_pci_read(driver, at + 16, 4);
    driver_pci_write(driver, at + 4, 1, 5);
    driver_pci_write(driver, at + 16, 4, 1);
    rig_free(rig);
}

/* ---- budget, reset, state ---- */

static void post_another(struct driver *driver)
{
    driver_expose(driver, 0, 0);
}

static void test_budget(void **state)
{
    /* A driver on another vCPU that refills as fast as the device serves does not hold it. */
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    rig->echo->after_pop = post_another;
    driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    assert_int_equal(rig->echo->served_count, QUEUE_SIZE);
    /* The loop goes on with what is left. */
    rig->echo->after_pop = NULL;
    vm_clock_run(&rig->driver.clock);
    assert_int_equal(rig->echo->served_count, QUEUE_SIZE + 1);
    rig_free(rig);
}

static void test_posted_before_driver_ok(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    driver_status_write(&rig->driver, 0);
    rig->echo->served_count = 0;
    assert_int_equal(driver_start(&rig->driver, RING_FEATURES, QUEUE_SIZE), 15);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    driver_post(&rig->driver, 0, good, 2);
    assert_int_equal(rig->echo->served_count, 0);
    vm_clock_run(&rig->driver.clock);
    assert_int_equal(rig->echo->served_count, 1);
    rig_free(rig);
}

static void test_bus_master(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    driver_pci_write(&rig->driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    u16 head = driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    vm_clock_run(&rig->driver.clock);
    assert_int_equal(rig->echo->served_count, 0);
    driver_pci_write(&rig->driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    vm_clock_run(&rig->driver.clock);
    expect_used(rig, head, 10);
    rig_free(rig);
}

static void test_reset_waits_for_requests(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    rig->echo->hold = 1;
    driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    assert_int_equal(rig->echo->vdev.busy_count, 1);
    driver_status_write(&rig->driver, 0);
    assert_int_not_equal(driver_status(&rig->driver), 0);
    /* A driver that does not wait gets nowhere. */
    driver_status_write(&rig->driver, 1);
    assert_int_not_equal(driver_status(&rig->driver), 1);
    memset(driver_at(&rig->driver, rig->to), 0, 10);
    echo_release(rig->echo);
    assert_int_equal(driver_status(&rig->driver), 0);
    assert_int_equal(*(u8 *)driver_at(&rig->driver, rig->to), 0);
    rig->echo->hold = 0;
    assert_int_equal(driver_start(&rig->driver, RING_FEATURES, QUEUE_SIZE), 15);
    u16 head = driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    expect_used(rig, head, 10);
    rig_free(rig);
}

static void test_bus_reset(void **state)
{
    struct rig *rig = rig_new(RING_FEATURES);
    struct driver_segment good[] = {{rig->from, 10, false}, {rig->to, 10, true}};
    unsigned msix = rig->driver.function->msix.capability;
    driver_pci_write(&rig->driver, msix + MSIX_CONTROL, 2, 0);
    driver_post(&rig->driver, 0, good, 2);
    driver_kick(&rig->driver, 0);
    assert_true(rig->driver.intx);
    unsigned reset_count = rig->echo->reset_count;
    pci_bus_reset(rig->driver.pci);
    assert_false(rig->driver.intx);
    assert_int_equal(rig->echo->reset_count, reset_count + 1);
    assert_int_equal(rig->echo->vdev.status, 0);
    assert_int_equal(rig->echo->vdev.queues[0]->enabled, 0);
    rig_free(rig);
}

static void test_state_round_trip(void **state)
{
    struct rig *from = rig_new(RING_FEATURES | BIT(VIRTIO_F_EVENT_IDX)), *to = rig_new(0);
    struct driver_segment good[] = {{from->from, 10, false}, {from->to, 10, true}};
    u32 head, bytes;
    for (unsigned i = 0; i < 5; i++) {
        driver_post(&from->driver, 0, good, 2);
        driver_kick(&from->driver, 0);
        assert_true(driver_take_used(&from->driver, 0, &head, &bytes));
    }
    /* A request that the device has not been told of travels too. */
    driver_post(&from->driver, 0, good, 2);
    struct state_writer writer = {0}, again = {0};
    pci_bus_save(from->driver.pci, &writer);
    memcpy(to->driver.ram, from->driver.ram, DRIVER_RAM_BYTES);
    memcpy(to->driver.rings, from->driver.rings, sizeof(from->driver.rings));
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    assert_int_equal(reader.position, writer.bytes);
    pci_bus_save(to->driver.pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    assert_memory_equal(again.data, writer.data, writer.bytes);
    assert_int_equal(to->echo->served_count, 5);
    assert_int_equal(driver_status(&to->driver), 15);
    vm_clock_run(&to->driver.clock);
    assert_true(driver_take_used(&to->driver, 0, &head, &bytes));
    assert_int_equal(bytes, 10);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    rig_free(from);
    rig_free(to);
}

static void test_hostile_state(void **state)
{
    struct rig *from = rig_new(RING_FEATURES), *to = rig_new(0);
    struct virtq *vq = from->echo->vdev.queues[1];
    struct virtio_dev *vdev = &from->echo->vdev;
    struct err err;
    for (unsigned i = 0; i < 5; i++) {
        struct virtq good_queue = *vq;
        u64 good_features = vdev->driver_features;
        u8 good_status = vdev->status;
        if (i == 0)
            vq->size = 15;
        else if (i == 1)
            vq->size = 32768;
        else if (i == 2)
            vq->used_gpa = 1;
        else if (i == 3)
            vdev->driver_features |= BIT(50);
        else
            vdev->status = VIRTIO_STATUS_DRIVER_OK;
        struct state_writer writer = {0};
        pci_bus_save(from->driver.pci, &writer);
        struct state_reader reader = {writer.data, writer.bytes, 0};
        assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), -EPROTO);
        assert_int_equal(to->echo->vdev.status, 0);
        state_writer_fini(&writer);
        *vq = good_queue;
        vdev->driver_features = good_features;
        vdev->status = good_status;
    }
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_negotiation),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_suppression),
        cmocka_unit_test(test_intx),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_access_window),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_posted_before_driver_ok),
        cmocka_unit_test(test_bus_master),
        cmocka_unit_test(test_reset_waits_for_requests),
        cmocka_unit_test(test_bus_reset),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hostile_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
