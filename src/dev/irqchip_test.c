/*
 * dev/irqchip_test.c - the I/O APIC's table and the wiring of pins and sources.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/irqchip.h"

struct bench {
    struct bus bus;
    struct wire intr;
    struct pic *pic;
    struct ioapic *ioapic;
    struct irqchip chip;
    unsigned message_count;
    u64 address;
    u32 data;
};

static struct bench bench;

static void take_message(void *ctx, u64 address, u32 data)
{
    struct bench *b = ctx;
    b->message_count++;
    b->address = address;
    b->data = data;
}

static void entry_write(unsigned pin, u64 entry)
{
    mmio32_set(&bench.bus, IOAPIC_BASE, 0x11 + 2 * pin);
    mmio32_set(&bench.bus, IOAPIC_BASE + 0x10, (u32)(entry >> 32));
    mmio32_set(&bench.bus, IOAPIC_BASE, 0x10 + 2 * pin);
    mmio32_set(&bench.bus, IOAPIC_BASE + 0x10, (u32)entry);
}

static u32 entry_low(unsigned pin)
{
    mmio32_set(&bench.bus, IOAPIC_BASE, 0x10 + 2 * pin);
    return mmio32(&bench.bus, IOAPIC_BASE + 0x10);
}

static void set(unsigned source, bool level)
{
    struct irq_line line = irqchip_line(&bench.chip, source);
    irq_set(&line, level);
}

static int setup(void **state)
{
    struct irq_line intr = wire_line(&bench.intr, 0);
    struct msi_sink sink = {.deliver = take_message, .ctx = &bench};

    bench = (struct bench){0};
    bus_init(&bench.bus);
    bench.pic = pic_new(&intr);
    bench.ioapic = ioapic_new(&sink, 3);
    irqchip_init(&bench.chip, bench.pic, bench.ioapic);
    assert_int_equal(
        device_map(&ioapic_device, bench.ioapic, &bench.bus, 0, &bench.chip.lock, NULL), 0);
    assert_int_equal(device_map(&pic_device, bench.pic, &bench.bus, 0, &bench.chip.lock, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    ioapic_device.free(bench.ioapic);
    pic_device.free(bench.pic);
    return 0;
}

static void test_registers(void **state)
{
    mmio32_set(&bench.bus, IOAPIC_BASE, 1);
    assert_int_equal(mmio32(&bench.bus, IOAPIC_BASE + 0x10), 0x00170020);
    mmio32_set(&bench.bus, IOAPIC_BASE, 0);
    assert_int_equal(mmio32(&bench.bus, IOAPIC_BASE + 0x10), 0x03000000);
    mmio32_set(&bench.bus, IOAPIC_BASE + 0x10, UINT32_MAX);
    assert_int_equal(mmio32(&bench.bus, IOAPIC_BASE + 0x10), 0x0f000000);
    assert_int_equal(entry_low(23), 0x10000);
    entry_write(5, UINT64_MAX);
    assert_int_equal(entry_low(5), 0x1afff);
    mmio32_set(&bench.bus, IOAPIC_BASE, 0x40); /* beyond the table */
    mmio32_set(&bench.bus, IOAPIC_BASE + 0x10, 0);
    assert_int_equal(mmio32(&bench.bus, IOAPIC_BASE + 0x10), UINT32_MAX);
}

static void test_edge(void **state)
{
    set(4, true);
    assert_int_equal(bench.message_count, 0);
    entry_write(4, 0x02000000000009ull << 8 | 0x41); /* lowest bits: vector 0x41, logical, lowest */
    assert_int_equal(bench.message_count, 0);        /* the edge on the masked pin is lost */
    set(4, false);
    set(4, true);
    set(4, true);
    assert_int_equal(bench.message_count, 1);
    assert_true(bench.address == 0xfee02004);
    assert_int_equal(bench.data, 0x4141);
    ioapic_eoi(bench.ioapic, 0x41);
    assert_int_equal(bench.message_count, 1);
}

static void test_level(void **state)
{
    entry_write(20, 0x8055);
    set(20, true);
    assert_int_equal(bench.message_count, 1);
    assert_int_equal(bench.data, 0xc055);
    assert_int_equal(entry_low(20), 0xc055); /* remote IRR */
    set(20, false);
    set(20, true);
    assert_int_equal(bench.message_count, 1);
    irqchip_eoi(&bench.chip, 0x55);
    assert_int_equal(bench.message_count, 2); /* still asserted */
    set(20, false);
    mmio32_set(&bench.bus, IOAPIC_BASE + 0x40, 0x55);
    assert_int_equal(bench.message_count, 2);
    assert_int_equal(entry_low(20), 0x8055);
    u64 vectors[4];
    ioapic_level_vectors(bench.ioapic, vectors);
    assert_true(vectors[1] == 1ull << (0x55 - 64) && vectors[0] == 0 && vectors[3] == 0);
    /* Unmasking finds a line that rose before. */
    entry_write(21, 0x18056);
    set(21, true);
    assert_int_equal(bench.message_count, 2);
    entry_write(21, 0x8056);
    assert_int_equal(bench.message_count, 3);
    /* Edge mode clears a remote IRR that nobody answers. */
    entry_write(21, 0x10056);
    assert_int_equal(entry_low(21), 0x10056);
}

static void test_legacy_sources(void **state)
{
    entry_write(2, 0x30);
    entry_write(8, 0x38);
    set(IRQCHIP_PIT, true);
    assert_int_equal(bench.data, 0x4030);
    set(IRQCHIP_PIT, false);
    set(IRQCHIP_RTC, true);
    assert_int_equal(bench.data, 0x4038);
    assert_int_equal(bench.message_count, 2);
    set(IRQCHIP_HPET_0, true);
    assert_int_equal(bench.message_count, 2);
    set(IRQCHIP_HPET_0, false);
    set(IRQCHIP_HPET_LEGACY, true);
    set(IRQCHIP_PIT, true);
    assert_int_equal(bench.message_count, 2);
    set(IRQCHIP_HPET_0, true);
    assert_int_equal(bench.message_count, 3);
    set(IRQCHIP_HPET_LEGACY, false);
    set(IRQCHIP_RTC, false);
    assert_int_equal(bench.message_count, 4); /* the RTC's line, high all the time, came back */
}

static void test_pic_side(void **state)
{
    out8(&bench.bus, 0x20, 0x11);
    out8(&bench.bus, 0x21, 0x20);
    out8(&bench.bus, 0x21, 0x04);
    out8(&bench.bus, 0x21, 0x01);
    set(IRQCHIP_PIT, true);
    assert_true(bench.intr.level);
    assert_int_equal(irqchip_ack(&bench.chip), 0x20);
}

static void test_state(void **state)
{
    struct msi_sink sink = {.deliver = take_message, .ctx = &bench};
    struct ioapic *other = ioapic_new(&sink, 0);
    struct irqchip other_chip;

    entry_write(20, 0x8055);
    set(20, true);
    set(IRQCHIP_RTC, true);
    assert_true(round_trip(&ioapic_device, bench.ioapic, other));
    irqchip_init(&other_chip, bench.pic, other);
    assert_true(round_trip(&irqchip_device, &bench.chip, &other_chip));
    unsigned before = bench.message_count;
    ioapic_eoi(other, 0x55);
    assert_int_equal(bench.message_count, before + 1);
    ioapic_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_legacy_sources, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pic_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("irqchip", tests, NULL, NULL);
}
