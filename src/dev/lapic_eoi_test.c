/*
 * dev/lapic_eoi_test.c - interrupts that guests end by a flag in memory, IPIs by bitmap, and kicks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/bits.h"
#include "core/mem.h"
#include "dev/dev_test.h"
#include "dev/lapic.h"

enum { COUNT = 4, TSC_HZ = 2000000000, RAM_BYTES = 1 << 20, FLAG = 0x5004 };
enum { EOI = 0xb0, SVR = 0xf0, ISR = 0x100, MSR_EOI_FLAG = 0x4b564d04 };

static struct {
    struct vm_clock clock;
    struct mem mem;
    struct apic_bus *bus;
    struct lapic *lapics[COUNT];
    unsigned kicks[COUNT];
    unsigned eoi_count, code_writes;
    u8 *ram;
} bench;

static void kick(void *ctx, unsigned index)
{
    bench.kicks[index]++;
}

static void eoi(void *ctx, u8 vector)
{
    bench.eoi_count++;
}

static int extint_ack(void *ctx)
{
    return -1;
}

static u64 guest_tsc(void *ctx, unsigned index)
{
    return vm_clock_now(&bench.clock) * 2;
}

static void code_written(void *ctx, gpa_t gpa, u64 bytes)
{
    bench.code_writes++;
}

static int setup(void **state)
{
    const struct apic_host host = {.kick = kick,
                                   .eoi = eoi,
                                   .extint_ack = extint_ack,
                                   .guest_tsc = guest_tsc,
                                   .tsc_hz = TSC_HZ,
                                   .mem = &bench.mem};

    memset(&bench, 0, sizeof(bench));
    bench.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bench.ram != MAP_FAILED);
    mem_init(&bench.mem);
    assert_int_equal(mem_add(&bench.mem, 0, RAM_BYTES, bench.ram, false), 0);
    vm_clock_init(&bench.clock);
    bench.bus = apic_bus_new(&bench.clock, &host, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        bench.lapics[i] = apic_bus_lapic(bench.bus, i);
        lapic_write(bench.lapics[i], SVR, 4, 0x1ff);
    }
    return 0;
}

static int teardown(void **state)
{
    apic_bus_free(bench.bus);
    mem_fini(&bench.mem);
    munmap(bench.ram, RAM_BYTES);
    return 0;
}

static void send(u8 vector, bool is_level)
{
    apic_bus_msi(bench.bus, 0xfee00000, (is_level ? 0xc000u : 0x4000u) | vector);
}

static u32 in_service(unsigned vector)
{
    return (u32)lapic_read(bench.lapics[0], ISR + vector / 32 * 16, 4) >> vector % 32 & 1;
}

static void enable(void)
{
    assert_true(lapic_msr_write(bench.lapics[0], MSR_EOI_FLAG, FLAG | 1));
}

static void test_ends_by_flag(void **state)
{
    struct lapic *lapic = bench.lapics[0];

    enable();
    bench.ram[FLAG + 1] = 0x55; /* the flag is bit 0; the rest of the word is not ours */
    send(0x41, false);
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x41);
    assert_int_equal(bench.ram[FLAG], 1);
    assert_false(lapic_pending(lapic)); /* asked in the handler: nothing changes */
    assert_int_equal(bench.ram[FLAG], 1);
    assert_int_equal(in_service(0x41), 1);
    bench.ram[FLAG] = 0; /* the guest's end */
    assert_int_equal(in_service(0x41), 0);
    assert_int_equal(bench.ram[FLAG + 1], 0x55);
    assert_int_equal(bench.eoi_count, 0);
    /* And the next is taken after an end that nobody has looked at. */
    send(0x41, false);
    assert_int_equal(lapic_ack(lapic), 0x41);
    bench.ram[FLAG] = 0;
    send(0x40, false); /* below it */
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x40);
}

static void test_another_waits(void **state)
{
    struct lapic *lapic = bench.lapics[0];

    enable();
    send(0x41, false);
    assert_int_equal(lapic_ack(lapic), 0x41);
    send(0x40, false);
    assert_false(lapic_pending(lapic));
    assert_int_equal(bench.ram[FLAG], 0); /* taken back: the guest must write the register */
    lapic_write(lapic, EOI, 4, 0);
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x40);
    assert_int_equal(bench.ram[FLAG], 1);
    /* One above it comes in the handler; each is ended once, in order. */
    send(0x51, false);
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x51);
    assert_int_equal(bench.ram[FLAG], 1);
    bench.ram[FLAG] = 0;
    lapic_write(lapic, EOI, 4, 0); /* that of 0x40 */
    assert_int_equal(in_service(0x51), 0);
    assert_int_equal(in_service(0x40), 0);
}

static void test_level_and_explicit(void **state)
{
    struct lapic *lapic = bench.lapics[0];

    enable();
    send(0x41, true); /* the I/O APIC must hear of its end at once */
    assert_int_equal(lapic_ack(lapic), 0x41);
    assert_int_equal(bench.ram[FLAG], 0);
    lapic_write(lapic, EOI, 4, 0);
    assert_int_equal(bench.eoi_count, 1);
    /* A guest that writes the register although the flag is set ends the interrupt, once. */
    send(0x31, false);
    assert_int_equal(lapic_ack(lapic), 0x31);
    send(0x41, false);
    assert_true(lapic_pending(lapic));
    assert_int_equal(lapic_ack(lapic), 0x41);
    lapic_write(lapic, EOI, 4, 0);
    assert_int_equal(bench.ram[FLAG], 0);
    assert_int_equal(in_service(0x41), 0);
    assert_int_equal(in_service(0x31), 1);
}

static void test_hostile_addresses(void **state)
{
    struct lapic *lapic = bench.lapics[0];
    u64 value;

    assert_false(lapic_msr_write(lapic, MSR_EOI_FLAG, FLAG | 3));
    assert_false(lapic_msr_write(lapic, MSR_EOI_FLAG, RAM_BYTES | 1));
    assert_false(lapic_msr_write(lapic, MSR_EOI_FLAG, UINT64_MAX & ~2ull));
    assert_true(lapic_msr_write(lapic, MSR_EOI_FLAG, (RAM_BYTES - 4) | 1));
    assert_true(lapic_msr_read(lapic, MSR_EOI_FLAG, &value));
    assert_int_equal(value, (RAM_BYTES - 4) | 1);
    assert_false(lapic_msr_write(lapic, MSR_EOI_FLAG, RAM_BYTES | 1));
    assert_true(lapic_msr_read(lapic, MSR_EOI_FLAG, &value));
    assert_int_equal(value, (RAM_BYTES - 4) | 1); /* what was refused changed nothing */
    /* Pages with code are written through the listener, and every write is marked. */
    bench.mem.code_written = code_written;
    enable();
    mem_flag_set(&bench.mem, FLAG, MEM_CODE);
    mem_flag_clear(&bench.mem, FLAG, MEM_DIRTY);
    send(0x41, false);
    assert_int_equal(lapic_ack(lapic), 0x41);
    assert_int_equal(bench.code_writes, 1);
    assert_true(mem_flag_clear(&bench.mem, FLAG, MEM_DIRTY));
    /* The RAM goes away while the flag is out: the register is left, and the MSR says so. */
    assert_int_equal(mem_remove(&bench.mem, 0), 0);
    assert_false(lapic_pending(lapic));
    assert_true(lapic_msr_read(lapic, MSR_EOI_FLAG, &value));
    assert_int_equal(value, 0);
    assert_int_equal(in_service(0x41), 1);
    lapic_write(lapic, EOI, 4, 0);
    assert_int_equal(in_service(0x41), 0);
    assert_false(lapic_msr_write(lapic, MSR_EOI_FLAG, FLAG | 1));
}

static void test_reset_and_state(void **state)
{
    struct state_writer writer = {0};
    struct err err;
    u64 value;

    enable();
    send(0x41, false);
    assert_int_equal(lapic_ack(bench.lapics[0]), 0x41);
    lapic_save(bench.lapics[0], &writer);
    struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
    assert_int_equal(lapic_load(bench.lapics[1], &reader, &err), 0);
    bench.ram[FLAG] = 0; /* ended after the load */
    assert_int_equal(lapic_read(bench.lapics[1], ISR + 0x20, 4), 0);
    lapic_reset(bench.lapics[0], true);
    assert_true(lapic_msr_read(bench.lapics[0], MSR_EOI_FLAG, &value));
    assert_int_equal(value, 0);
    lapic_write(bench.lapics[0], SVR, 4, 0x1ff);
    send(0x42, false);
    assert_int_equal(lapic_ack(bench.lapics[0]), 0x42);
    assert_int_equal(bench.ram[FLAG], 0);
    state_writer_fini(&writer);
}

static void test_ipi_by_bitmap(void **state)
{
    struct lapic_ipi ipi = {.bitmaps = {0xe, 0}, .word_bits = 64, .first = 0, .icr = 0x77};
    u8 vector;

    assert_int_equal(lapic_send_ipi(bench.lapics[0], &ipi), 3);
    assert_int_equal(lapic_ack(bench.lapics[0]), -1);
    for (unsigned i = 1; i < COUNT; i++) {
        assert_int_equal(bench.kicks[i], 1);
        assert_int_equal(lapic_ack(bench.lapics[i]), 0x77);
        lapic_write(bench.lapics[i], EOI, 4, 0);
    }
    /* One's own bit interrupts without a kick. */
    ipi = (struct lapic_ipi){.bitmaps = {1ull << 63, 1}, .word_bits = 64, .icr = 0x78};
    assert_int_equal(lapic_send_ipi(bench.lapics[2], &ipi), 0); /* 63 and 64 are nobody */
    ipi = (struct lapic_ipi){.bitmaps = {1}, .word_bits = 64, .first = 2, .icr = 0x78};
    assert_int_equal(lapic_send_ipi(bench.lapics[2], &ipi), 1);
    assert_int_equal(bench.kicks[2], 1);
    assert_int_equal(lapic_ack(bench.lapics[2]), 0x78);
    /* From 32-bit code the words hold 32 bits, and what is above does not count. */
    ipi = (struct lapic_ipi){
        .bitmaps = {1ull << 33, 1ull << 63 | 1}, .word_bits = 32, .first = UINT32_MAX - 30};
    assert_int_equal(lapic_send_ipi(bench.lapics[0], &ipi), 0);
    ipi = (struct lapic_ipi){
        .bitmaps = {UINT64_MAX, UINT64_MAX}, .word_bits = 32, .first = 3, .icr = 0x400 /* NMI */};
    assert_int_equal(lapic_send_ipi(bench.lapics[0], &ipi), 1);
    assert_int_equal(lapic_events_take(bench.lapics[3], &vector), LAPIC_EVENT_NMI);
}

static void test_kick(void **state)
{
    u8 vector;

    apic_bus_kick(bench.bus, 1);
    assert_int_equal(bench.kicks[1], 1);
    assert_int_equal(lapic_events_take(bench.lapics[1], &vector), LAPIC_EVENT_KICK);
    assert_false(lapic_events_pending(bench.lapics[1]));
    apic_bus_kick(bench.bus, COUNT);
    apic_bus_kick(bench.bus, UINT64_MAX);
    for (unsigned i = 0; i < COUNT; i++)
        assert_false(lapic_events_pending(bench.lapics[i]));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ends_by_flag),
        TEST(test_another_waits),
        TEST(test_level_and_explicit),
        TEST(test_hostile_addresses),
        TEST(test_reset_and_state),
        TEST(test_ipi_by_bitmap),
        TEST(test_kick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
