/*
 * dev/lapic_test.c - local APICs and their bus: priorities, destinations, events, timer, MSRs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bits.h"
#include "dev/dev_test.h"
#include "dev/lapic.h"

enum { COUNT = 4, TSC_HZ = 2000000000 };

enum {
    ID = 0x20,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR2 = 0x310,
    LVT_TIMER = 0x320,
    LINT0 = 0x350,
    LINT1 = 0x360,
    LVT_ERROR = 0x370,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0
};

struct bench {
    struct vm_clock clock;
    struct apic_bus *bus;
    struct lapic *lapics[COUNT];
    unsigned kicks[COUNT];
    unsigned eoi_count;
    u8 eoi_vector;
    int extint;
};

static struct bench bench;

static void kick(void *ctx, unsigned index)
{
    bench.kicks[index]++;
}

static void eoi(void *ctx, u8 vector)
{
    bench.eoi_count++;
    bench.eoi_vector = vector;
}

static int extint_ack(void *ctx)
{
    return bench.extint;
}

/* The guest's TSC: twice VM time. */
static u64 guest_tsc(void *ctx, unsigned index)
{
    return vm_clock_now(&bench.clock) * 2;
}

static u32 get(unsigned index, unsigned offset)
{
    return (u32)lapic_read(bench.lapics[index], offset, 4);
}

static void put(unsigned index, unsigned offset, u32 value)
{
    lapic_write(bench.lapics[index], offset, 4, value);
}

static void msi(u64 address, u32 data)
{
    apic_bus_msi(bench.bus, address, data);
}

static int setup(void **state)
{
    struct apic_host host = {kick, eoi, extint_ack, guest_tsc, TSC_HZ, NULL, NULL};

    bench = (struct bench){.extint = 0x77};
    vm_clock_init(&bench.clock);
    bench.bus = apic_bus_new(&bench.clock, &host, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        bench.lapics[i] = apic_bus_lapic(bench.bus, i);
        put(i, SVR, 0x1ff);
    }
    assert_null(apic_bus_lapic(bench.bus, COUNT));
    return 0;
}

static int teardown(void **state)
{
    apic_bus_free(bench.bus);
    return 0;
}

static void test_priorities(void **state)
{
    struct lapic *lapic = bench.lapics[0];

    assert_false(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), -1);
    msi(0xfee00000, 0x41);
    msi(0xfee00000, 0x52);
    msi(0xfee00000, 0x52);
    assert_int_equal(bench.kicks[0], 1); /* the first kick stands for all */
    assert_int_equal(bench.kicks[1], 0);
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x52);
    assert_int_equal(get(0, ISR + 0x20), 1 << 0x12);
    assert_int_equal(get(0, IRR + 0x20), 1 << 1);
    assert_int_equal(get(0, PPR), 0x50);
    assert_false(lapic_pending(lapic));
    msi(0xfee00000, 0x5f); /* same class: waits */
    assert_int_equal(bench.kicks[0], 2);
    assert_false(lapic_pending(lapic));
    msi(0xfee00000, 0x60);
    assert_int_equal(lapic_ack(lapic), 0x60);
    put(0, EOI, 0);
    assert_int_equal(get(0, PPR), 0x50);
    put(0, EOI, 0);
    assert_int_equal(lapic_ack(lapic), 0x5f);
    put(0, EOI, 0);
    put(0, TPR, 0x45);
    assert_int_equal(get(0, PPR), 0x45);
    assert_int_equal(*lapic_tpr(lapic) >> 4, 4);
    assert_false(lapic_pending(lapic));
    *lapic_tpr(lapic) = 0x30; /* as MOV CR8 does it */
    assert_int_equal(lapic_ack(lapic), 0x41);
    assert_int_equal(bench.eoi_count, 0); /* all were edges */
}

static void test_level_eoi(void **state)
{
    msi(0xfee01000, 0xc031);
    assert_int_equal(lapic_ack(bench.lapics[1]), 0x31);
    assert_int_equal(get(1, TMR + 0x10), 1 << 0x11);
    put(1, EOI, 0);
    assert_int_equal(bench.eoi_count, 1);
    assert_int_equal(bench.eoi_vector, 0x31);
    put(1, SVR, 0x11ff); /* no EOI broadcast */
    msi(0xfee01000, 0xc031);
    assert_int_equal(lapic_ack(bench.lapics[1]), 0x31);
    put(1, EOI, 0);
    assert_int_equal(bench.eoi_count, 1);
    put(1, EOI, 0); /* with nothing in service: nothing */
    assert_int_equal(bench.eoi_count, 1);
}

static unsigned pending_mask(void)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < COUNT; i++)
        while (lapic_ack(bench.lapics[i]) >= 0) {
            mask |= 1u << i;
            put(i, EOI, 0);
        }
    return mask;
}

static void test_destinations(void **state)
{
    for (unsigned i = 0; i < COUNT; i++)
        put(i, LDR, 1u << (24 + i));
    msi(0xfee02000, 0x40);
    assert_int_equal(pending_mask(), 0x4);
    msi(0xfee0b004, 0x40); /* logical flat */
    assert_int_equal(pending_mask(), 0xb);
    msi(0xfeeff000, 0x40); /* broadcast */
    assert_int_equal(pending_mask(), 0xf);
    msi(0xfee07000, 0x40); /* nobody */
    assert_int_equal(pending_mask(), 0);
    msi(0xfed02000, 0x40); /* not an APIC's address */
    assert_int_equal(pending_mask(), 0);
    /* Lowest priority: exactly one of the set, and not always the same. */
    unsigned seen = 0;
    for (unsigned n = 0; n < 8; n++) {
        msi(0xfee06004, 0x140);
        unsigned mask = pending_mask();
        assert_true(mask == 2 || mask == 4);
        seen |= mask;
    }
    assert_int_equal(seen, 6);
    for (unsigned i = 0; i < COUNT; i++) {
        put(i, DFR, 0x0fffffff);
        put(i, LDR, (i / 2) << 28 | 1u << (24 + i % 2));
    }
    msi(0xfee13004, 0x40); /* cluster 1, both members */
    assert_int_equal(pending_mask(), 0xc);
    put(2, SVR, 0xff); /* software-disabled: takes no fixed interrupts */
    msi(0xfee02000, 0x40);
    assert_int_equal(pending_mask(), 0);
}

static void test_ipis(void **state)
{
    put(1, ICR2, 3u << 24);
    put(1, ICR, 0x4061);
    assert_int_equal(pending_mask(), 0x8);
    put(1, ICR, 0x44062);
    assert_int_equal(bench.kicks[1], 0); /* nobody kicks himself */
    assert_int_equal(pending_mask(), 0x2);
    put(1, ICR, 0x84063);
    assert_int_equal(pending_mask(), 0xf);
    put(1, ICR, 0xc4064);
    assert_int_equal(pending_mask(), 0xd);
    assert_int_equal(get(1, ICR), 0xc4064);
    assert_int_equal(get(1, ICR2), 3u << 24);
}

static void test_events(void **state)
{
    u8 vector = 0;

    put(0, ICR2, 1u << 24);
    put(0, ICR, 0x4500);
    put(0, ICR, 0x8500); /* INIT de-assert does nothing */
    assert_true(lapic_events_pending(bench.lapics[1]));
    put(0, ICR, 0x4699);
    assert_int_equal(lapic_events_take(bench.lapics[1], &vector),
                     LAPIC_EVENT_INIT | LAPIC_EVENT_SIPI);
    assert_int_equal(vector, 0x99);
    assert_int_equal(lapic_events_take(bench.lapics[1], &vector), 0);
    /* INIT after a start-up forgets it; a vector that nobody looks at does not stop kicks. */
    msi(0xfee01000, 0x40);
    unsigned kicks = bench.kicks[1];
    put(0, ICR, 0x4612);
    put(0, ICR, 0x4500);
    assert_int_equal(bench.kicks[1], kicks + 2);
    assert_int_equal(lapic_events_take(bench.lapics[1], &vector), LAPIC_EVENT_INIT);
    put(0, ICR, 0xc4400); /* NMI to all others */
    assert_int_equal(lapic_events_take(bench.lapics[0], &vector), 0);
    assert_int_equal(lapic_events_take(bench.lapics[3], &vector), LAPIC_EVENT_NMI);
    put(0, ICR, 0xc4400);
    put(0, ICR, 0xc4400);
    put(0, ICR, 0xc4400); /* the third is one with the second */
    assert_int_equal(lapic_events_take(bench.lapics[3], &vector),
                     LAPIC_EVENT_NMI | LAPIC_EVENT_NMI_AGAIN);
    assert_int_equal(lapic_events_take(bench.lapics[3], &vector), 0);
    assert_true(lapic_events_take(bench.lapics[2], &vector) & LAPIC_EVENT_NMI);
    put(2, LINT1, 0x400);
    apic_bus_nmi(bench.bus, 0, true);
    assert_int_equal(lapic_events_take(bench.lapics[3], &vector), 0);
    assert_int_equal(lapic_events_take(bench.lapics[2], &vector), LAPIC_EVENT_NMI);
}

static void test_errors(void **state)
{
    put(0, LVT_ERROR, 0xfe);
    put(0, ICR, 0x4005);
    assert_int_equal(get(0, ESR), 0);
    put(0, ESR, 0);
    assert_int_equal(get(0, ESR), 0x20);
    assert_int_equal(lapic_ack(bench.lapics[0]), 0xfe);
    put(0, EOI, 0);
    msi(0xfee00000, 0x0f);
    assert_int_equal(lapic_ack(bench.lapics[0]), 0xfe);
    put(0, ESR, 0);
    assert_int_equal(get(0, ESR), 0x40);
    assert_int_equal(get(0, 0x3d0), 0);
    put(0, ESR, 0);
    assert_int_equal(get(0, ESR), 0x80);
}

static void test_extint(void **state)
{
    assert_int_equal(get(0, LINT0), 0x700); /* as firmware leaves the bootstrap processor */
    assert_int_equal(get(1, LINT0), 0x10000);
    apic_bus_intr(bench.bus, 0, true);
    assert_int_equal(bench.kicks[0], 1);
    assert_int_equal(bench.kicks[1], 0);
    assert_true(lapic_pending(bench.lapics[0]));
    assert_false(lapic_pending(bench.lapics[1]));
    assert_int_equal(lapic_ack(bench.lapics[0]), 0x77);
    put(0, LINT0, 0x10700);
    assert_false(lapic_pending(bench.lapics[0]));
    put(0, LINT0, 0x700);
    apic_bus_intr(bench.bus, 0, false);
    assert_false(lapic_pending(bench.lapics[0]));
    msi(0xfee01000, 0x700); /* an ExtINT message */
    assert_true(lapic_pending(bench.lapics[1]));
    assert_int_equal(lapic_ack(bench.lapics[1]), 0x77);
    assert_false(lapic_pending(bench.lapics[1]));
    put(1, LINT0, 0x4a);
    apic_bus_intr(bench.bus, 0, true);
    assert_int_equal(lapic_ack(bench.lapics[1]), 0x4a);
}

static void test_timer(void **state)
{
    struct lapic *lapic = bench.lapics[0];

    put(0, DIVIDE, 0x3); /* by 16 */
    put(0, LVT_TIMER, 0xec);
    put(0, INITIAL, 100000);
    step(&bench.clock, 800000);
    u32 current = get(0, CURRENT);
    assert_in_range(current, 40000, 50000);
    assert_false(lapic_pending(lapic));
    step(&bench.clock, 801000);
    assert_int_equal(bench.kicks[0], 1);
    assert_int_equal(lapic_ack(lapic), 0xec);
    put(0, EOI, 0);
    assert_int_equal(get(0, CURRENT), 0);
    assert_true(lapic_next_deadline_ns(lapic) == TIMER_NEVER);
    put(0, LVT_TIMER, 0x200ec);
    put(0, DIVIDE, 0xb);
    put(0, INITIAL, 1000000);
    for (unsigned i = 0; i < 5; i++) {
        step(&bench.clock, 1000000);
        assert_int_equal(lapic_ack(lapic), 0xec);
        put(0, EOI, 0);
    }
    step(&bench.clock, 1000000000); /* a thousand periods missed are one interrupt */
    assert_int_equal(lapic_ack(lapic), 0xec);
    put(0, EOI, 0);
    assert_false(lapic_pending(lapic));
    put(0, INITIAL, 1); /* a period of 1 ns does not drown the loop */
    step(&bench.clock, 10);
    assert_int_equal(lapic_ack(lapic), 0xec);
    assert_true(lapic_next_deadline_ns(lapic) > vm_clock_now(&bench.clock));
    put(0, INITIAL, 0);
    assert_true(lapic_next_deadline_ns(lapic) == TIMER_NEVER);
}

static void test_tsc_deadline(void **state)
{
    struct lapic *lapic = bench.lapics[2];
    u64 value;

    assert_true(lapic_msr_write(lapic, 0x6e0, 12345)); /* not in that mode: ignored */
    assert_true(lapic_msr_read(lapic, 0x6e0, &value) && value == 0);
    put(2, LVT_TIMER, 0x400ef);
    u64 now = guest_tsc(NULL, 2);
    assert_true(lapic_msr_write(lapic, 0x6e0, now + 2000000));
    assert_true(lapic_msr_read(lapic, 0x6e0, &value) && value == now + 2000000);
    assert_true(lapic_next_deadline_ns(lapic) >= vm_clock_now(&bench.clock) + 999000);
    vm_clock_set(&bench.clock, vm_clock_now(&bench.clock) + 999000);
    lapic_timer_poll(lapic);
    assert_false(lapic_pending(lapic));
    vm_clock_set(&bench.clock, vm_clock_now(&bench.clock) + 1001);
    lapic_timer_poll(lapic); /* without the loop's help */
    assert_int_equal(lapic_ack(lapic), 0xef);
    assert_true(lapic_msr_read(lapic, 0x6e0, &value) && value == 0);
    put(2, EOI, 0);
    assert_true(lapic_msr_write(lapic, 0x6e0, 1)); /* long gone */
    assert_int_equal(lapic_ack(lapic), 0xef);
    put(2, EOI, 0);
    assert_true(lapic_msr_write(lapic, 0x6e0, UINT64_MAX)); /* never, and no overflow */
    assert_true(lapic_next_deadline_ns(lapic) > vm_clock_now(&bench.clock) + 1000000000);
    put(2, LVT_TIMER, 0xef);
    assert_true(lapic_next_deadline_ns(lapic) == TIMER_NEVER);
}

static void test_x2apic(void **state)
{
    struct lapic *lapic = bench.lapics[3];
    u64 value;

    assert_true(lapic_mmio_base(lapic) == 0xfee00000);
    assert_false(lapic_msr_read(lapic, 0x802, &value));
    assert_false(lapic_msr_write(lapic, 0x1b, 0xfee00400)); /* x2APIC without enable */
    assert_true(lapic_msr_write(lapic, 0x1b, 0xfee00c00));
    assert_true(lapic_mmio_base(lapic) == UINT64_MAX);
    assert_true(lapic_msr_read(lapic, 0x802, &value) && value == 3);
    assert_true(lapic_msr_read(lapic, 0x80d, &value) && value == 8);
    assert_false(lapic_msr_write(lapic, 0x80d, 1));
    assert_false(lapic_msr_read(lapic, 0x80b, &value)); /* EOI is write-only */
    assert_false(lapic_msr_write(lapic, 0x80b, 1));
    assert_true(lapic_msr_write(lapic, 0x80b, 0));
    assert_false(lapic_msr_write(lapic, 0x808, 0x100));
    assert_true(lapic_msr_write(lapic, 0x83f, 0x48)); /* self IPI */
    assert_int_equal(lapic_ack(lapic), 0x48);
    assert_true(lapic_msr_write(lapic, 0x830, 0x0000000200000049));
    assert_int_equal(pending_mask(), 0x4);
    assert_true(lapic_msr_write(lapic, 0x830, 0xffffffff00000049));
    assert_true(lapic_msr_write(lapic, 0x80b, 0));
    assert_int_equal(pending_mask(), 0xf);
    assert_false(lapic_msr_write(lapic, 0x1b, 0xfee00800)); /* back to xAPIC only by way of off */
    assert_true(lapic_msr_write(lapic, 0x1b, 0xfee00000));
    assert_false(lapic_msr_write(lapic, 0x1b, 0xfee00c00));
    assert_true(lapic_msr_write(lapic, 0x1b, 0xfee00800));
    assert_int_equal(get(3, ID), 3u << 24);
    assert_int_equal(get(3, SVR), 0xff);
    assert_false(lapic_msr_write(lapic, 0x1b, 1ull << 60 | 0xfee00800));
}

static void test_state(void **state)
{
    struct apic_host host = {kick, eoi, extint_ack, guest_tsc, TSC_HZ, NULL, NULL};
    struct apic_bus *bus = apic_bus_new(&bench.clock, &host, COUNT);
    struct lapic *other = apic_bus_lapic(bus, 0);
    struct state_writer first = {0}, second = {0};
    struct err err;

    msi(0xfee00000, 0xc099);
    lapic_ack(bench.lapics[0]);
    put(0, LVT_TIMER, 0xec);
    put(0, INITIAL, 5000000);
    msi(0xfee00000, 0xa1); /* posted, not yet seen */
    lapic_save(bench.lapics[0], &first);
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    assert_int_equal(lapic_load(other, &reader, &err), 0);
    lapic_save(other, &second);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    assert_int_equal(lapic_ack(other), 0xa1);
    lapic_write(other, EOI, 4, 0);
    step(&bench.clock, 11000000); /* the divisor after reset is 2 */
    assert_int_equal(lapic_ack(other), 0xec);
    state_writer_fini(&first);
    state_writer_fini(&second);
    apic_bus_free(bus);
}

/* All registers through the page that engines with an APIC of their own speak. */
static void test_page(void **state)
{
    struct apic_host host = {kick, eoi, extint_ack, guest_tsc, TSC_HZ, NULL, NULL};
    struct apic_bus *bus = apic_bus_new(&bench.clock, &host, COUNT);
    struct lapic *other = apic_bus_lapic(bus, 0);
    u8 page[LAPIC_PAGE_BYTES], again[LAPIC_PAGE_BYTES];

    msi(0xfee00000, 0xc0a1);
    lapic_ack(bench.lapics[0]);
    msi(0xfee00000, 0x41);
    put(0, TPR, 0x20);
    put(0, LDR, 0x01000000);
    put(0, DIVIDE, 0xb);
    put(0, LVT_TIMER, 0x200ec);
    put(0, INITIAL, 5000000);
    step(&bench.clock, 2000000);
    lapic_page_get(bench.lapics[0], page);
    assert_int_equal(load_le32(page + CURRENT) / 1000, 2999);
    lapic_page_put(other, page, 0xfee00900, 0);
    lapic_page_get(other, again);
    store_le32(again + CURRENT, load_le32(page + CURRENT));
    assert_memory_equal(page, again, sizeof(page));
    step(&bench.clock, 3000000); /* the period goes on where it was */
    lapic_write(other, EOI, 4, 0);
    assert_int_equal(lapic_ack(other), 0xec);
    lapic_write(other, EOI, 4, 0);
    assert_int_equal(lapic_ack(other), 0x41);
    put(1, LVT_TIMER, 0x400ef);
    lapic_page_get(bench.lapics[1], page);
    lapic_page_put(apic_bus_lapic(bus, 1), page, 0xfee00800, guest_tsc(NULL, 1) + 2000000);
    assert_true(lapic_next_deadline_ns(apic_bus_lapic(bus, 1)) >
                vm_clock_now(&bench.clock) + 900000);
    apic_bus_free(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_eoi, setup, teardown),
        cmocka_unit_test_setup_teardown(test_destinations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipis, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_extint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tsc_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_x2apic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page, setup, teardown),
    };
    return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
