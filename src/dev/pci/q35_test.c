/*
 * dev/pci/q35_test.c - the bridges that firmware programs: where ECAM is, and where PCI's lines go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/bus.h"
#include "core/state.h"
#include "dev/pci/lpc.h"
#include "dev/pci/mch.h"
#include "dev/pci/pci_bus.h"

enum { ECAM = 0xb0000000, OTHER = 0xe0000000, PCIEXBAR = 0x60, PIRQA = 0x60, PM = 0x600 };
#define LPC_PLACE (LPC_SLOT << 3)

struct bench {
    struct bus bus;
    struct pci_bus *pci;
    struct pci_function *lpc;
    unsigned drive_count; /* of line 0 */
};

static struct bench bench;

static void drive(void *ctx, unsigned pin, bool level)
{
    bench.drive_count += pin == 0;
}

static int setup(void **state)
{
    memset(&bench, 0, sizeof(bench));
    bus_init(&bench.bus);
    struct pci_bus_config config = {.bus = &bench.bus, .host = mch_new()};
    for (unsigned i = 0; i < PCI_INTX_COUNT; i++)
        config.intx[i] = (struct irq_line){drive, NULL, i};
    assert_non_null(config.host);
    bench.pci = pci_bus_new(&config, NULL);
    assert_non_null(bench.pci);
    bench.lpc = lpc_new(PM);
    assert_non_null(bench.lpc);
    assert_int_equal(pci_bus_add(bench.pci, bench.lpc, LPC_SLOT, 0, NULL), 0);
    pci_bus_reset(bench.pci);
    return 0;
}

static int teardown(void **state)
{
    pci_bus_free(bench.pci);
    return 0;
}

static void put(u32 place, u32 at, u64 value, unsigned bytes)
{
    bus_write(&bench.bus, BUS_PORT, 0xcf8, 4, 0x80000000u | place << 8 | (at & 0xfc));
    bus_write(&bench.bus, BUS_PORT, 0xcfc + at % 4, bytes, value);
}

static u64 get(u32 place, u32 at, unsigned bytes)
{
    bus_write(&bench.bus, BUS_PORT, 0xcf8, 4, 0x80000000u | place << 8 | (at & 0xfc));
    return bus_read(&bench.bus, BUS_PORT, 0xcfc + at % 4, bytes);
}

static void test_firmware_knows_the_bridges(void **state)
{
    assert_int_equal(get(0, 0, 4), 0x29c08086);
    assert_int_equal(get(LPC_PLACE, 0, 4), 0x29188086);
    assert_int_equal(get(LPC_PLACE, 8, 4) >> 16, 0x0601);
    /* The power management block stays where it is. */
    put(LPC_PLACE, 0x40, 0xb001, 4);
    assert_int_equal(get(LPC_PLACE, 0x40, 4), PM | 1);
}

static void test_ecam_is_where_firmware_puts_it(void **state)
{
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, ECAM, 4), UINT32_MAX);
    put(0, PCIEXBAR, ECAM | 1, 4);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, ECAM, 4), 0x29c08086);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, ECAM + (LPC_SLOT << 15), 4), 0x29188086);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, ECAM + (1 << 20), 4), UINT32_MAX);
    /* Through the window that it moves, too. */
    bus_write(&bench.bus, BUS_MMIO, ECAM + PCIEXBAR, 4, OTHER | 1);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, ECAM, 4), UINT32_MAX);
    assert_int_equal(bus_read(&bench.bus, BUS_MMIO, OTHER, 4), 0x29c08086);
    assert_int_equal(pci_bus_ecam(bench.pci), OTHER);
    /* Size 3 is none; reset takes the window away. */
    put(0, PCIEXBAR, OTHER | 7, 4);
    assert_int_equal(pci_bus_ecam(bench.pci), 0);
    put(0, PCIEXBAR, OTHER | 1, 4);
    pci_bus_reset(bench.pci);
    assert_int_equal(pci_bus_ecam(bench.pci), 0);
}

static void test_a_place_that_is_taken_is_refused(void **state)
{
    static const struct bus_ops nothing;
    const struct bus_range range = {ECAM + 0x1000, 0x1000, &nothing, &bench, NULL, "other"};

    assert_int_equal(bus_add(&bench.bus, BUS_MMIO, &range), 0);
    put(0, PCIEXBAR, ECAM | 1, 4);
    assert_int_equal(pci_bus_ecam(bench.pci), 0);
    put(0, PCIEXBAR, OTHER | 1, 4);
    assert_int_equal(pci_bus_ecam(bench.pci), OTHER);
}

static void test_lines_go_where_they_are_routed(void **state)
{
    assert_int_equal(lpc_route(bench.lpc, 0), LPC_NO_IRQ);
    unsigned before = bench.drive_count;
    put(LPC_PLACE, PIRQA, 0x0b, 1);
    assert_int_equal(lpc_route(bench.lpc, 0), 11);
    assert_true(bench.drive_count > before); /* an asserted line must change its interrupt */
    put(LPC_PLACE, PIRQA + 1, 0x00, 1);
    assert_int_equal(lpc_route(bench.lpc, 1), LPC_NO_IRQ); /* the timer's: not for PCI */
    put(LPC_PLACE, PIRQA, 0x8b, 1);
    assert_int_equal(lpc_route(bench.lpc, 0), LPC_NO_IRQ);
}

static void test_a_saved_window_comes_back(void **state)
{
    struct state_writer writer = {0};

    put(0, PCIEXBAR, ECAM | 1, 4);
    put(LPC_PLACE, PIRQA + 2, 0x0a, 1);
    pci_bus_save(bench.pci, &writer);
    pci_bus_reset(bench.pci);
    struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
    assert_int_equal(pci_bus_load(bench.pci, &reader, NULL), 0);
    assert_int_equal(pci_bus_ecam(bench.pci), ECAM);
    assert_int_equal(lpc_route(bench.lpc, 2), 10);
    state_writer_fini(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_firmware_knows_the_bridges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ecam_is_where_firmware_puts_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_place_that_is_taken_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines_go_where_they_are_routed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_saved_window_comes_back, setup, teardown),
    };
    return cmocka_run_group_tests_name("q35", tests, NULL, NULL);
}
