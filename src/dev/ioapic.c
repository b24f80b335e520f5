/*
 * dev/ioapic.c - the I/O APIC: a table of 24 entries, each a pin's interrupt message.
 *
 * Spec   Intel 82093AA data sheet; ICH9 data sheet 13.5 for version 0x20 and its EOI register.
 * Runs   under the irq chip's lock, from vCPU threads and the loop.
 * Trust  all register values come from the guest.
 *
 * MMIO: 0x00 IOREGSEL, 0x10 IOWIN, 0x40 EOI. Registers behind IOREGSEL: 0 ID, 1 version, 2 ARB,
 * 0x10 + 2n low and 0x11 + 2n high half of entry n:
 *   7:0 vector  10:8 delivery mode  11 logical  12 status (ro)  13 active low  14 remote IRR (ro)
 *   15 level  16 masked  63:56 destination
 */
#include "dev/ioapic.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40, IOAPIC_MMIO_BYTES = 0x1000 };
enum { IOAPIC_ID, IOAPIC_VER, IOAPIC_ARB, IOAPIC_TABLE = 0x10 };
enum { IOAPIC_VERSION = 0x20 };

#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_MASKED BIT(16)
#define ENTRY_READ_ONLY (BIT(12) | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE (0xff0000000001ffffull & ~ENTRY_READ_ONLY)

struct ioapic {
    u64 entries[IOAPIC_PIN_COUNT];
    u32 lines; /* levels of the pins */
    u32 id;    /* register 0 */
    u8 select;
    struct msi_sink sink;
    u8 first_id;
};

static void ioapic_send(struct ioapic *ioapic, u64 entry)
{
    u64 address = 0xfee00000 | bits_get(entry, 56, 8) << 12 | bits_get(entry, 11, 1) << 2;
    u32 data = (u32)(entry & 0x7ff) | (u32)(entry & ENTRY_LEVEL) | 1u << 14;

    msi_send(&ioapic->sink, address, data);
}

/* Sends for a level-triggered pin that is asserted, unless its last message is still unanswered. */
static void ioapic_check_level(struct ioapic *ioapic, unsigned pin)
{
    u64 entry = ioapic->entries[pin];

    if (!(entry & ENTRY_LEVEL) || (entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) ||
        !(ioapic->lines & BIT(pin)))
        return;
    ioapic->entries[pin] |= ENTRY_REMOTE_IRR;
    ioapic_send(ioapic, entry);
}

void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level)
{
    if (pin >= IOAPIC_PIN_COUNT)
        return;
    u64 entry = ioapic->entries[pin];
    bool was_high = ioapic->lines & BIT(pin);

    if (!level) {
        ioapic->lines &= ~(u32)BIT(pin);
        return;
    }
    ioapic->lines |= (u32)BIT(pin);
    if (entry & ENTRY_LEVEL)
        ioapic_check_level(ioapic, pin);
    else if (!was_high && !(entry & ENTRY_MASKED)) /* an edge on a masked pin is lost */
        ioapic_send(ioapic, entry);
}

void ioapic_eoi(struct ioapic *ioapic, u8 vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
        u64 entry = ioapic->entries[pin];
        if (!(entry & ENTRY_LEVEL) || (u8)entry != vector)
            continue;
        ioapic->entries[pin] &= ~ENTRY_REMOTE_IRR;
        ioapic_check_level(ioapic, pin);
    }
}

void ioapic_level_vectors(const struct ioapic *ioapic, u64 ret_bitmap[4])
{
    for (unsigned i = 0; i < 4; i++)
        ret_bitmap[i] = 0;
    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
        u8 vector = (u8)ioapic->entries[pin];
        if (ioapic->entries[pin] & ENTRY_LEVEL)
            ret_bitmap[vector / 64] |= BIT(vector % 64);
    }
}

static u32 ioapic_register_read(const struct ioapic *ioapic)
{
    unsigned index = ioapic->select;

    switch (index) {
    case IOAPIC_ID:
    case IOAPIC_ARB:
        return ioapic->id;
    case IOAPIC_VER:
        return (IOAPIC_PIN_COUNT - 1) << 16 | IOAPIC_VERSION;
    default:
        if (index < IOAPIC_TABLE || index >= IOAPIC_TABLE + 2 * IOAPIC_PIN_COUNT)
            return UINT32_MAX;
        index -= IOAPIC_TABLE;
        return (u32)(ioapic->entries[index / 2] >> (32 * (index % 2)));
    }
}

static void ioapic_register_write(struct ioapic *ioapic, u32 value)
{
    unsigned index = ioapic->select;

    if (index == IOAPIC_ID) {
        ioapic->id = value & 0x0f000000;
        return;
    }
    if (index < IOAPIC_TABLE || index >= IOAPIC_TABLE + 2 * IOAPIC_PIN_COUNT)
        return;
    unsigned pin = (index - IOAPIC_TABLE) / 2;
    unsigned shift = 32 * ((index - IOAPIC_TABLE) % 2);
    u64 half = (u64)UINT32_MAX << shift;
    u64 written = ((u64)value << shift) & half & ENTRY_WRITABLE;
    u64 entry = (ioapic->entries[pin] & ~(half & ENTRY_WRITABLE)) | written;

    /* Systems without an EOI register clear a stuck remote IRR by a turn through edge mode. */
    if (!(entry & ENTRY_LEVEL))
        entry &= ~ENTRY_REMOTE_IRR;
    ioapic->entries[pin] = entry;
    ioapic_check_level(ioapic, pin);
}

static u64 ioapic_read(void *device, u64 offset, unsigned bytes)
{
    struct ioapic *ioapic = device;
    u32 value = 0;

    if ((offset & ~3ull) == IOREGSEL)
        value = ioapic->select;
    else if ((offset & ~3ull) == IOWIN)
        value = ioapic_register_read(ioapic);
    return (value >> (8 * (offset & 3))) & bytes_mask(bytes);
}

static void ioapic_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct ioapic *ioapic = device;

    switch (offset) {
    case IOREGSEL:
        ioapic->select = (u8)value;
        break;
    case IOWIN:
        if (bytes >= 4) /* the chip decodes whole words only */
            ioapic_register_write(ioapic, (u32)value);
        break;
    case IOEOI:
        ioapic_eoi(ioapic, (u8)value);
        break;
    default:
        break;
    }
}

static void ioapic_reset(void *device)
{
    struct ioapic *ioapic = device;

    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++)
        ioapic->entries[pin] = ENTRY_MASKED;
    ioapic->id = (u32)(ioapic->first_id & 0xf) << 24;
    ioapic->select = 0;
}

static int ioapic_loaded(void *device, struct err *err)
{
    struct ioapic *ioapic = device;

    for (unsigned pin = 0; pin < IOAPIC_PIN_COUNT; pin++)
        if (ioapic->entries[pin] & ~(ENTRY_WRITABLE | ENTRY_READ_ONLY))
            return err_set(err, -EINVAL, "entry %u has reserved bits set", pin);
    ioapic->lines &= (u32)BIT(IOAPIC_PIN_COUNT) - 1;
    return 0;
}

static void ioapic_free(void *device)
{
    alloc_free(device);
}

struct ioapic *ioapic_new(const struct msi_sink *sink, u8 id)
{
    struct ioapic *ioapic = new0(struct ioapic);

    if (ioapic == NULL)
        return NULL;
    ioapic->sink = *sink;
    ioapic->first_id = id;
    ioapic_reset(ioapic);
    return ioapic;
}

static const struct bus_ops ioapic_ops = {.read = ioapic_read, .write = ioapic_write};
static const struct device_region ioapic_regions[] = {
    {BUS_MMIO, IOAPIC_BASE, IOAPIC_MMIO_BYTES, &ioapic_ops},
};
static const struct field ioapic_fields[] = {
    FIELD(struct ioapic, entries),
    FIELD(struct ioapic, lines),
    FIELD(struct ioapic, id),
    FIELD(struct ioapic, select),
    FIELD_END,
};

const struct device_ops ioapic_device = {
    .name = "ioapic",
    .regions = ioapic_regions,
    .region_count = ARRAY_LEN(ioapic_regions),
    .fields = ioapic_fields,
    .reset = ioapic_reset,
    .loaded = ioapic_loaded,
    .free = ioapic_free,
};
