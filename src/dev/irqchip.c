/*
 * dev/irqchip.c - brings every interrupt source of the PC to its pins on the PIC and the I/O APIC.
 *
 * Runs   on any thread, under the caller's device lock; takes the irq chip's lock.
 * Trust  levels only; pins are the machine's.
 *
 * IRQ 0 arrives at the I/O APIC's pin 2, as the MADT's override says; pin 0 there is not connected.
 */
#include "dev/irqchip.h"

#include "base/bits.h"
#include "base/errno.h"

enum { IRQ_PIT = 0, IRQ_CASCADE = 2, IRQ_RTC = 8 };

static bool source_high(const struct irqchip *chip, unsigned source)
{
    return chip->sources & BIT(source);
}

/* The level of ISA interrupt or I/O APIC pin PIN: any of its sources. */
static bool pin_level(const struct irqchip *chip, unsigned pin)
{
    bool legacy = source_high(chip, IRQCHIP_HPET_LEGACY);
    bool level = source_high(chip, pin);

    if (pin == IRQ_PIT)
        level |= source_high(chip, legacy ? IRQCHIP_HPET_0 : IRQCHIP_PIT);
    if (pin == IRQ_RTC)
        level |= source_high(chip, legacy ? IRQCHIP_HPET_8 : IRQCHIP_RTC);
    return level;
}

static void drive(struct irqchip *chip, unsigned pin)
{
    bool level = pin_level(chip, pin);

    pic_set(chip->pic, pin, level);
    if (pin == IRQ_PIT || pin == IRQ_CASCADE)
        ioapic_set(chip->ioapic, 2, pin_level(chip, IRQ_PIT) || pin_level(chip, IRQ_CASCADE));
    else
        ioapic_set(chip->ioapic, pin, level);
}

static void irqchip_set(void *ctx, unsigned source, bool level)
{
    struct irqchip *chip = ctx;

    lock_acquire(&chip->lock);
    if (level)
        chip->sources |= (u32)BIT(source);
    else
        chip->sources &= ~(u32)BIT(source);
    if (source < IRQCHIP_PIN_COUNT)
        drive(chip, source);
    if (source == IRQCHIP_PIT || source == IRQCHIP_HPET_0 || source == IRQCHIP_HPET_LEGACY)
        drive(chip, IRQ_PIT);
    if (source == IRQCHIP_RTC || source == IRQCHIP_HPET_8 || source == IRQCHIP_HPET_LEGACY)
        drive(chip, IRQ_RTC);
    lock_release(&chip->lock);
}

void irqchip_init(struct irqchip *chip, struct pic *pic, struct ioapic *ioapic)
{
    *chip = (struct irqchip){.pic = pic, .ioapic = ioapic};
}

struct irq_line irqchip_line(struct irqchip *chip, unsigned source)
{
    if (source >= IRQCHIP_SOURCE_COUNT)
        return (struct irq_line){0};
    return (struct irq_line){.set = irqchip_set, .ctx = chip, .pin = source};
}

int irqchip_ack(void *ctx)
{
    struct irqchip *chip = ctx;

    lock_acquire(&chip->lock);
    int vector = pic_ack(chip->pic);
    lock_release(&chip->lock);
    return vector;
}

void irqchip_eoi(void *ctx, u8 vector)
{
    struct irqchip *chip = ctx;

    lock_acquire(&chip->lock);
    ioapic_eoi(chip->ioapic, vector);
    lock_release(&chip->lock);
}

/* Sources are wires: what drives them resets them. */
static void irqchip_reset(void *device)
{
}

static int irqchip_loaded(void *device, struct err *err)
{
    struct irqchip *chip = device;

    if (chip->sources >> IRQCHIP_SOURCE_COUNT)
        return err_set(err, -EINVAL, "sources that do not exist are asserted");
    return 0;
}

static void irqchip_free(void *device)
{
}

static const struct field irqchip_fields[] = {FIELD(struct irqchip, sources), FIELD_END};

const struct device_ops irqchip_device = {
    .name = "irqchip",
    .fields = irqchip_fields,
    .reset = irqchip_reset,
    .loaded = irqchip_loaded,
    .free = irqchip_free,
};
