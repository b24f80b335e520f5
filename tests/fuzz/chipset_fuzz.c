/*
 * tests/fuzz/chipset_fuzz.c - the whole chipset under a guest that does anything: ports, MMIO,
 * MSRs, time, interrupts taken and ended, and saved state that was tampered with.
 *
 * Input: a sequence of operations, each a byte and what it needs; see run_one.
 */
#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "core/bus.h"
#include "core/clock.h"
#include "dev/debugcon.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/irqchip.h"
#include "dev/lapic.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "fuzz.h"

enum { CPU_COUNT = 3, DEVICE_MAX = 16, OPERATIONS_MAX = 2000 };

struct pc {
    struct vm_clock clock;
    struct bus bus;
    struct apic_bus *apics;
    struct irqchip chip;
    struct {
        const struct device_ops *ops;
        void *self;
        u64 base;
    } devices[DEVICE_MAX];
    unsigned device_count;
    struct chr chr;
    struct i8042 *i8042;
    struct pm *pm;
    unsigned kick_count;
};

struct input {
    const u8 *data;
    size_t bytes, position;
};

static const u16 ports[] = {0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,  0x41,  0x42,
                            0x43,  0x61,  0x60,  0x64,  0x92,  0x70,  0x71,  0x3f8, 0x3f9,
                            0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x600, 0x602, 0x604,
                            0x608, 0x620, 0x624, 0xb2,  0xe0,  0xe4,  0xe8,  0xe9,  0x2000};
static const u64 windows[] = {IOAPIC_BASE, HPET_BASE, TESTDEV_MMIO_BASE, HPET_BASE + 0x100};

static u64 take(struct input *input, unsigned bytes)
{
    u64 value = 0;

    for (unsigned i = 0; i < bytes && input->position < input->bytes; i++)
        value |= (u64)input->data[input->position++] << (8 * i);
    return value;
}

/* ---- the PC
 * -------------------------------------------------------------------------------------- */

static void kick(void *ctx, unsigned index)
{
    struct pc *pc = ctx;
    assert(index < CPU_COUNT);
    pc->kick_count++;
}

static void eoi(void *ctx, u8 vector)
{
    struct pc *pc = ctx;
    irqchip_eoi(&pc->chip, vector);
}

static int extint_ack(void *ctx)
{
    struct pc *pc = ctx;
    return irqchip_ack(&pc->chip);
}

static u64 guest_tsc(void *ctx, unsigned index)
{
    struct pc *pc = ctx;
    return vm_clock_now(&pc->clock) * 3;
}

static size_t chr_take(struct chr *chr, const void *data, size_t bytes)
{
    struct pc *pc = container_of(chr, struct pc, chr);
    return pc->kick_count % 3 ? bytes : 0; /* full now and then */
}

static void chr_resume(struct chr *chr)
{
}

static const struct chr_ops chr_ops = {.write = chr_take, .rx_resume = chr_resume};

static void add(struct pc *pc, const struct device_ops *ops, void *self, u64 base)
{
    assert(self && pc->device_count < DEVICE_MAX);
    pc->devices[pc->device_count].ops = ops;
    pc->devices[pc->device_count].self = self;
    pc->devices[pc->device_count++].base = base;
    assert(device_map(ops, self, &pc->bus, base, NULL, NULL) == 0);
}

static void add_lines(struct pc *pc)
{
    struct hpet_wires hpet = {.legacy_0 = irqchip_line(&pc->chip, IRQCHIP_HPET_0),
                              .legacy_8 = irqchip_line(&pc->chip, IRQCHIP_HPET_8),
                              .legacy_on = irqchip_line(&pc->chip, IRQCHIP_HPET_LEGACY),
                              .msi = {.deliver = apic_bus_msi, .ctx = pc->apics}};
    struct testdev_wires test = {0};
    struct irq_line pit = irqchip_line(&pc->chip, IRQCHIP_PIT);
    struct irq_line rtc = irqchip_line(&pc->chip, IRQCHIP_RTC);
    struct irq_line com = irqchip_line(&pc->chip, 4), sci = irqchip_line(&pc->chip, 9);
    struct irq_line keyboard = irqchip_line(&pc->chip, 1), mouse = irqchip_line(&pc->chip, 12);
    struct power_sink power = {0};

    for (unsigned i = 0; i < IRQCHIP_PIN_COUNT; i++)
        hpet.pins[i] = test.pins[i] = irqchip_line(&pc->chip, i);
    pc->pm = pm_new(&pc->clock, NULL, &sci, &power);
    pc->i8042 = i8042_new(&keyboard, &mouse, &power);
    add(pc, &pit_device, pit_new(&pc->clock, NULL, &pit), 0);
    add(pc, &rtc_device, rtc_new(&pc->clock, NULL, &rtc, 1ull << 31, 1ull << 33), 0);
    add(pc, &uart_device, uart_new(&pc->clock, NULL, &com, &pc->chr), UART_COM1);
    add(pc, &pm_device, pc->pm, 0);
    add(pc, &i8042_device, pc->i8042, 0);
    add(pc, &hpet_device, hpet_new(&pc->clock, NULL, &hpet), 0);
    add(pc, &testdev_device, testdev_new(&test), 0);
    add(pc, &debugcon_device, debugcon_new(&pc->chr), DEBUGCON_BOCHS_PORT);
}

static void pc_start(struct pc *pc)
{
    struct apic_host host = {kick, eoi, extint_ack, guest_tsc, 3000000000, NULL, pc};

    memset(pc, 0, sizeof(*pc));
    pc->chr.ops = &chr_ops;
    vm_clock_init(&pc->clock);
    bus_init(&pc->bus);
    pc->apics = apic_bus_new(&pc->clock, &host, CPU_COUNT);
    struct irq_line intr = {.set = apic_bus_intr, .ctx = pc->apics};
    struct msi_sink sink = {.deliver = apic_bus_msi, .ctx = pc->apics};
    struct pic *pic = pic_new(&intr);
    struct ioapic *ioapic = ioapic_new(&sink, 1);
    irqchip_init(&pc->chip, pic, ioapic);
    add(pc, &pic_device, pic, 0);
    add(pc, &ioapic_device, ioapic, 0);
    add_lines(pc);
}

static void pc_end(struct pc *pc)
{
    for (unsigned i = 0; i < pc->device_count; i++) {
        device_unmap(pc->devices[i].ops, pc->devices[i].self, &pc->bus, pc->devices[i].base);
        pc->devices[i].ops->free(pc->devices[i].self);
    }
    apic_bus_free(pc->apics);
    assert(pc->clock.heap_count == 0); /* nobody left a timer behind */
}

/* ---- operations
 * ---------------------------------------------------------------------------------- */

static void access_bus(struct pc *pc, struct input *input, enum bus_space space, u64 address)
{
    u8 how = (u8)take(input, 1);
    unsigned bytes = 1u << (how & 3);

    if (space == BUS_PORT && bytes == 8)
        bytes = 4;
    if (how & 4)
        bus_write(&pc->bus, space, address, bytes, take(input, bytes));
    else
        assert((bus_read(&pc->bus, space, address, bytes) & ~bytes_mask(bytes)) == 0);
}

static void step(struct pc *pc, u64 ns)
{
    vm_clock_set(&pc->clock, vm_clock_now(&pc->clock) + ns);
    vm_clock_start(&pc->clock);
    vm_clock_run(&pc->clock);
    vm_clock_stop(&pc->clock);
}

static void run_cpu(struct pc *pc, struct input *input)
{
    u8 what = (u8)take(input, 1);
    struct lapic *lapic = apic_bus_lapic(pc->apics, what % CPU_COUNT);
    u8 start;
    u64 value;

    switch (what >> 4) {
    case 0:
        lapic_events_take(lapic, &start);
        lapic_timer_poll(lapic);
        break;
    case 1:
        *lapic_tpr(lapic) = (u8)take(input, 1);
        break;
    case 2:
        lapic_write(lapic, take(input, 2) & 0xfff, 1u << (what & 3), take(input, 8));
        break;
    case 3:
        lapic_read(lapic, take(input, 2) & 0xfff, 1u << (what & 3));
        break;
    case 4:
    case 5:
        lapic_write(lapic, take(input, 1) << 4, 4, take(input, 4));
        break;
    case 6:
    case 7:
        value = take(input, 1) + 0x800;
        if (!lapic_msr_write(lapic, (u32)value, take(input, 8)))
            break;
        if (!lapic_msr_read(lapic, (u32)value, &value))
            break; /* write-only ones refuse */
        break;
    case 8:
        if (lapic_msr_write(lapic, 0x1b, 0xfee00800 | (take(input, 1) & 0xf) << 8))
            assert(lapic_msr_read(lapic, 0x1b, &value));
        break;
    case 9:
        assert(lapic_msr_write(lapic, 0x6e0, take(input, 8)));
        break;
    case 10:
        apic_bus_msi(pc->apics, 0xfee00000 | take(input, 3), (u32)take(input, 4));
        break;
    default:
        if (lapic_pending(lapic) && lapic_ack(lapic) >= 0)
            lapic_write(lapic, 0xb0, 4, 0);
        break;
    }
}

/* Loads a device's own state with one byte changed; what is refused is taken back. */
static void tamper(struct pc *pc, struct input *input)
{
    u8 which = (u8)take(input, 1);
    struct state_writer writer = {0};
    struct err err;

    if (which % 16 < CPU_COUNT)
        lapic_save(apic_bus_lapic(pc->apics, which % 16), &writer);
    else
        device_save(pc->devices[which % pc->device_count].ops,
                    pc->devices[which % pc->device_count].self, &writer);
    size_t at = take(input, 2) % writer.bytes;
    u8 old = writer.data[at];
    writer.data[at] = (u8)take(input, 1);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
        int r = which % 16 < CPU_COUNT
                    ? lapic_load(apic_bus_lapic(pc->apics, which % 16), &reader, &err)
                    : device_load(pc->devices[which % pc->device_count].ops,
                                  pc->devices[which % pc->device_count].self, &reader, &err);
        if (r == 0)
            break;
        assert(attempt == 0 && err.text[0] != '\0');
        writer.data[at] = old;
    }
    state_writer_fini(&writer);
}

static void run_one(struct pc *pc, struct input *input)
{
    u8 operation = (u8)take(input, 1);
    u8 text[20] = "the quick brown fox";

    switch (operation % 10) {
    case 0:
    case 1:
    case 2:
        access_bus(pc, input, BUS_PORT, ports[take(input, 1) % ARRAY_LEN(ports)]);
        break;
    case 3:
        access_bus(pc, input, BUS_PORT, take(input, 2));
        break;
    case 4:
    case 5:
        access_bus(pc, input, BUS_MMIO,
                   windows[operation / 10 % ARRAY_LEN(windows)] + (take(input, 2) & 0x3ff));
        break;
    case 6:
        step(pc, take(input, 1) << (take(input, 1) % 48));
        break;
    case 7:
    case 8:
        run_cpu(pc, input);
        break;
    default:
        if (operation & 0x40)
            tamper(pc, input);
        else if (operation & 0x20)
            pc->chr.client.rx(pc->chr.client.ctx, text, operation % sizeof(text));
        else if (operation & 0x10)
            i8042_input(pc->i8042, operation & 1, operation);
        else
            pm_raise_gpe(pc->pm, operation);
        break;
    }
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    u64 generator = index * 0x9e3779b97f4a7c15ull + 1;

    if (index >= 16)
        return 0;
    for (size_t i = 0; i < 4096; i++) {
        generator = generator * 6364136223846793005ull + 1442695040888963407ull;
        to[i] = (u8)(generator >> 56);
    }
    return 4096;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct pc pc;
    struct input input = {.data = data, .bytes = bytes};

    pc_start(&pc);
    for (unsigned i = 0; i < OPERATIONS_MAX && input.position < input.bytes; i++)
        run_one(&pc, &input);
    pc_end(&pc);
    return 0;
}
