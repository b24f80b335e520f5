/*
 * dev/virtio/rng_test.c - the entropy device with a source that counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/entropy.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/rng.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { PERIOD_BYTES = 64 << 10, BURST_BYTES = 256 };

struct counter {
    struct entropy entropy;
    u8 next;
    u64 given_bytes;
};

static void counter_fill(struct entropy *entropy, void *to, size_t bytes)
{
    struct counter *counter = container_of(entropy, struct counter, entropy);
    for (size_t i = 0; i < bytes; i++)
        ((u8 *)to)[i] = counter->next++;
    counter->given_bytes += bytes;
}

static const struct entropy_ops counter_ops = {.fill = counter_fill};

struct rig {
    struct driver driver;
    struct counter counter;
    gpa_t buffer;
};

static struct rig *rig_new(void)
{
    struct rig *rig = new0(struct rig);
    rig->counter.entropy.ops = &counter_ops;
    assert_true(driver_init(&rig->driver, virtio_rng_new(&rig->counter.entropy)));
    assert_int_equal(driver_start(&rig->driver, BIT(VIRTIO_F_VERSION_1), 64), 15);
    rig->buffer = driver_alloc(&rig->driver, 4096);
    return rig;
}

static void rig_free(struct rig *rig)
{
    driver_fini(&rig->driver);
    alloc_free(rig);
}

/* Asks for BYTES; returns how many came at once. */
static u32 ask(struct rig *rig, u32 bytes)
{
    struct driver_segment segment = {rig->buffer, bytes, true};
    u32 head, used_bytes;
    driver_post(&rig->driver, 0, &segment, 1);
    driver_kick(&rig->driver, 0);
    return driver_take_used(&rig->driver, 0, &head, &used_bytes) ? used_bytes : 0;
}

static void test_fill(void **state)
{
    struct rig *rig = rig_new();
    assert_int_equal(driver_pci_read(&rig->driver, 0, 4), 0x10441af4);
    assert_int_equal(ask(rig, 10), 10);
    const u8 *bytes = driver_at(&rig->driver, rig->buffer);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(bytes[i], i);
    assert_int_equal(bytes[10], 0);
    assert_int_equal(ask(rig, 4096), BURST_BYTES);
    rig_free(rig);
}

static void test_rate(void **state)
{
    struct rig *rig = rig_new();
    vm_clock_stop(&rig->driver.clock); /* time stands: one period */
    unsigned answered = 0;
    for (unsigned i = 0; i < 2 * PERIOD_BYTES / BURST_BYTES; i++) {
        if (ask(rig, BURST_BYTES) == 0)
            break;
        answered++;
    }
    /* The first period ends at time 0: two full ones can be had. */
    assert_true(answered >= PERIOD_BYTES / BURST_BYTES);
    u64 given_bytes = rig->counter.given_bytes;
    assert_int_equal(ask(rig, BURST_BYTES), 0);
    assert_int_equal(rig->counter.given_bytes, given_bytes);
    /* The waiting requests are served when the period is over. */
    vm_clock_set(&rig->driver.clock, vm_clock_now(&rig->driver.clock) + 20000000);
    vm_clock_start(&rig->driver.clock);
    vm_clock_run(&rig->driver.clock);
    assert_true(rig->counter.given_bytes > given_bytes);
    rig_free(rig);
}

static void test_unwritable(void **state)
{
    struct rig *rig = rig_new();
    struct driver_segment segment = {rig->buffer, 16, false};
    driver_post(&rig->driver, 0, &segment, 1);
    driver_kick(&rig->driver, 0);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
}

static void test_state_round_trip(void **state)
{
    struct rig *from = rig_new(), *to = rig_new();
    assert_int_equal(ask(from, 100), 100);
    struct state_writer writer = {0}, again = {0};
    pci_bus_save(from->driver.pci, &writer);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    pci_bus_save(to->driver.pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    assert_memory_equal(again.data, writer.data, writer.bytes);
    memcpy(to->driver.ram, from->driver.ram, DRIVER_RAM_BYTES);
    memcpy(to->driver.rings, from->driver.rings, sizeof(from->driver.rings));
    assert_int_equal(ask(to, 50), 50);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_unwritable),
        cmocka_unit_test(test_state_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
