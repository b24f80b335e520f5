/*
 * dev/virtio/memory_test.c - the host has no memory: every constructor fails cleanly (no crash;
 * what is lost is seen by LeakSanitizer), and a disk goes on when there is some again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/blk.h"
#include "back/chr.h"
#include "back/entropy.h"
#include "back/net.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/console.h"
#include "dev/virtio/net.h"
#include "dev/virtio/pci.h"
#include "dev/virtio/rng.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"
#include "host/fault.h"

enum { KIND_COUNT = 4, ALLOCATIONS_MAX = 100 };

static void refuse(struct blk *blk, struct blk_req *req)
{
    fail_msg("no request of these tests reaches the disk");
}

static const struct blk_ops disk_ops = {.submit = refuse};
static struct blk disk = {.ops = &disk_ops, .size_bytes = 1 << 20, .sector_bytes = 512};
static struct net net;
static const struct net_ops net_operations;
static struct chr chr;
static struct entropy entropy;

static struct virtio_dev *device_new(unsigned kind)
{
    struct virtio_console_port ports[] = {{NULL, &chr}, {"port", &chr}};
    net.ops = &net_operations;
    switch (kind) {
    case 0:
        return virtio_blk_new(&disk, 4);
    case 1:
        return virtio_net_new(&net);
    case 2:
        return virtio_console_new(ports, 2);
    default:
        return virtio_rng_new(&entropy);
    }
}

/* A bus with one device; true when all of it could be made. */
static bool build(unsigned kind)
{
    static struct bus bus;
    static struct mem mem;
    static struct vm_clock clock;
    struct err err = {0};
    bus_init(&bus);
    mem_init(&mem);
    vm_clock_init(&clock);
    struct pci_bus_config config = {.bus = &bus};
    struct pci_bus *pci = pci_bus_new(&config, &err);
    if (pci == NULL) {
        assert_int_equal(err.code, -ENOMEM);
        assert_true(strlen(err.text) > 0);
        return false;
    }
    struct pci_function *function = virtio_pci_new(device_new(kind), &mem, &clock);
    bool built = function && pci_bus_add(pci, function, 1, 0, &err) == 0;
    pci_bus_free(pci);
    return built;
}

static void test_constructors(void **state)
{
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        u64 nth = 1;
        for (; nth < ALLOCATIONS_MAX; nth++) {
            fault_arm(FAULT_MEMORY, nth, -ENOMEM);
            bool built = build(kind);
            u64 count = fault_disarm();
            assert_int_equal(built, count < nth);
            if (built)
                break;
        }
        assert_true(nth > 5 && nth < ALLOCATIONS_MAX);
    }
}

static void test_disk_without_memory(void **state)
{
    struct driver driver;
    assert_true(driver_init(&driver, virtio_blk_new(&disk, 1)));
    assert_int_equal(driver_start(&driver, BIT(VIRTIO_F_VERSION_1), 16), 15);
    gpa_t header = driver_alloc(&driver, 16), data = driver_alloc(&driver, 32);
    store_le32(driver_at(&driver, header), 8); /* GET_ID, answered on the spot */
    struct driver_segment segments[] = {{header, 16, false}, {data, 21, true}};
    driver_post(&driver, 0, segments, 2);
    fault_arm(FAULT_MEMORY, 1, -ENOMEM);
    driver_kick(&driver, 0);
    assert_int_equal(fault_disarm(), 1);
    u32 head, bytes;
    assert_false(driver_take_used(&driver, 0, &head, &bytes));
    vm_clock_stop(&driver.clock);
    vm_clock_set(&driver.clock, vm_clock_now(&driver.clock) + 1000000000);
    vm_clock_start(&driver.clock);
    vm_clock_run(&driver.clock);
    assert_true(driver_take_used(&driver, 0, &head, &bytes));
    assert_int_equal(bytes, 21);
    driver_fini(&driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constructors),
        cmocka_unit_test(test_disk_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
