/*
 * dev/virtio/threads_test.c - a vCPU that submits, a loop that completes, and a vCPU that moves
 * BARs and masks interrupts, all at once. Under ThreadSanitizer this shows what no lock protects.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/blk.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { REQUEST_COUNT = 20000, RING_SIZE = 64, DEPTH = 16, WINDOW = 0xc0000000 };

struct slow_disk {
    struct blk blk;
    struct blk_req *first, **last; /* under the device's lock */
};

struct rig {
    struct driver driver;
    struct slow_disk disk;
    bool stop;
};

static void slow_submit(struct blk *blk, struct blk_req *req)
{
    struct slow_disk *disk = container_of(blk, struct slow_disk, blk);
    req->next = NULL;
    *disk->last = req;
    disk->last = &req->next;
}

static const struct blk_ops slow_ops = {.submit = slow_submit};

static bool stopped(struct rig *rig)
{
    return __atomic_load_n(&rig->stop, __ATOMIC_ACQUIRE);
}

/* The device loop: completions and timers. */
static void *loop_run(void *ctx)
{
    struct rig *rig = ctx;
    struct slow_disk *disk = &rig->disk;
    while (!stopped(rig)) {
        lock_acquire(disk->blk.lock);
        struct blk_req *req = disk->first;
        if (req) {
            disk->first = req->next;
            if (disk->first == NULL)
                disk->last = &disk->first;
            req->done(req, 0);
        }
        lock_release(disk->blk.lock);
        vm_clock_run(&rig->driver.clock);
        if (req == NULL)
            sched_yield();
    }
    return NULL;
}

/* Another vCPU: configuration space, interrupt masks, a BAR that moves. */
static void *meddle(void *ctx)
{
    struct rig *rig = ctx;
    struct driver *driver = &rig->driver;
    unsigned msix = driver->function->msix.capability;
    for (unsigned i = 0; !stopped(rig); i++) {
        u32 mask = i % 2 ? MSIX_CONTROL_MASK_ALL : 0;
        driver_pci_write(driver, msix + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE | mask);
        driver_pci_write(driver, PCI_BAR0 + 4, 4, WINDOW + 0x10000 + i % 8 * 0x1000);
        (void)driver_pci_read(driver, PCI_STATUS, 2);
        (void)driver_read(driver, driver->device, 8);
        sched_yield();
    }
    return NULL;
}

static void post(struct driver *driver, gpa_t header, gpa_t data, unsigned slot)
{
    struct driver_segment segments[] = {
        {header, 16, false}, {data + slot * 1024, 512, true}, {data + slot * 1024 + 512, 1, true}};
    driver_post(driver, 0, segments, 3);
}

static void test_threads(void **state)
{
    struct rig *rig = new0(struct rig);
    struct driver *driver = &rig->driver;
    rig->disk.last = &rig->disk.first;
    rig->disk.blk = (struct blk){.ops = &slow_ops, .size_bytes = 1 << 20, .sector_bytes = 512};
    assert_true(driver_init(driver, virtio_blk_new(&rig->disk.blk, 1)));
    assert_int_equal(
        driver_start(driver, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_EVENT_IDX), RING_SIZE), 15);
    gpa_t header = driver_alloc(driver, 16), data = driver_alloc(driver, DEPTH * 1024);
    pthread_t loop, other;
    assert_int_equal(pthread_create(&loop, NULL, loop_run, rig), 0);
    assert_int_equal(pthread_create(&other, NULL, meddle, rig), 0);
    unsigned posted = 0, done = 0;
    while (done < REQUEST_COUNT) {
        u32 head, bytes;
        unsigned before = posted;
        while (posted < REQUEST_COUNT && posted - done < DEPTH)
            post(driver, header, data, posted++ % DEPTH);
        if (posted != before)
            driver_kick(driver, 0);
        if (!driver_take_used(driver, 0, &head, &bytes)) {
            sched_yield();
            continue;
        }
        assert_int_equal(bytes, 513);
        done++;
    }
    __atomic_store_n(&rig->stop, true, __ATOMIC_RELEASE);
    pthread_join(loop, NULL);
    pthread_join(other, NULL);
    assert_int_equal(driver_status(driver), 15);
    assert_int_equal(driver->vdev->busy_count, 0);
    assert_true(driver->interrupts[1] > 0);
    driver_fini(driver);
    alloc_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
