/*
 * dev/pic.c - two 8259A interrupt controllers, the second on the first one's pin 2.
 *
 * Spec   Intel 8259A data sheet (231468); EISA edge/level control registers at 0x4d0 and 0x4d1.
 * Runs   under the irq chip's lock, from vCPU threads and the loop.
 * Trust  all register values come from the guest.
 *
 * Ports, relative to 0x20 and 0xa0:
 *   0  write: ICW1 (bit 4), OCW3 (bit 3), else OCW2;  read: IRR or ISR, or the poll byte
 *   1  write: ICW2 to ICW4 after an ICW1, else OCW1;  read: IMR
 */
#include "dev/pic.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { PIC_CASCADE = 2, PIC_SPURIOUS = 7, PIC_PINS = 8 };

/* Which initialisation word the next write to port 1 is. */
enum pic_init { PIC_READY, PIC_ICW2, PIC_ICW3, PIC_ICW4 };

enum pic_icw1 { ICW1_IC4 = 0x01, ICW1_SNGL = 0x02, ICW1_INIT = 0x10 };
enum pic_icw4 { ICW4_AEOI = 0x02, ICW4_SFNM = 0x10 };
enum pic_ocw3 { OCW3_RIS = 0x01, OCW3_RR = 0x02, OCW3_P = 0x04, OCW3_SMM = 0x20, OCW3_ESMM = 0x40 };
enum { OCW3_SELECT = 0x08, OCW2_ROTATE = 0x80, OCW2_SPECIFIC = 0x40, OCW2_EOI = 0x20 };

/* Saved as it stands: only bytes. */
struct pic_chip {
    u8 lines; /* levels of the inputs */
    u8 latch; /* edges seen and not yet acknowledged */
    u8 isr;
    u8 imr;
    u8 elcr;   /* bit set: level-triggered */
    u8 lowest; /* the pin of lowest priority */
    u8 vector_base;
    u8 init; /* enum pic_init */
    u8 icw1;
    u8 icw4;
    u8 read_isr;
    u8 poll;
    u8 special_mask;
    u8 rotate_on_aeoi;
    u8 elcr_mask; /* which ELCR bits exist */
    u8 is_slave;
};

struct pic {
    struct pic_chip chips[2];
    u8 intr_level;
    struct irq_line intr;
};

static u8 chip_irr(const struct pic_chip *chip)
{
    return (chip->latch & ~chip->elcr) | (chip->lines & chip->elcr);
}

/* The pin of highest priority among PINS, or -1. */
static int chip_highest(const struct pic_chip *chip, u8 pins)
{
    for (unsigned i = 1; i <= PIC_PINS; i++) {
        unsigned pin = (chip->lowest + i) % PIC_PINS;
        if (pins & BIT(pin))
            return (int)pin;
    }
    return -1;
}

/* 0 is the highest priority. */
static unsigned chip_rank(const struct pic_chip *chip, unsigned pin)
{
    return (pin - chip->lowest - 1) % PIC_PINS;
}

/* The pin that asks for service, or -1. */
static int chip_request(const struct pic_chip *chip)
{
    int pin = chip_highest(chip, chip_irr(chip) & ~chip->imr);
    u8 in_service = chip->isr;

    if (pin < 0)
        return -1;
    if (chip->special_mask)
        in_service &= ~chip->imr;
    if ((chip->icw4 & ICW4_SFNM) && !chip->is_slave)
        in_service &= ~(u8)BIT(PIC_CASCADE);
    int serving = chip_highest(chip, in_service);
    if (serving >= 0 && chip_rank(chip, (unsigned)serving) <= chip_rank(chip, (unsigned)pin))
        return -1;
    return pin;
}

static void pic_update(struct pic *pic)
{
    struct pic_chip *master = &pic->chips[0];
    u8 cascade = BIT(PIC_CASCADE);

    /* The slave's output is a level that the master sees on its pin as long as it lasts. */
    if (chip_request(&pic->chips[1]) >= 0) {
        master->lines |= cascade;
        master->latch |= cascade;
    } else {
        master->lines &= ~cascade;
        master->latch &= ~cascade;
    }
    u8 level = chip_request(master) >= 0;
    if (level != pic->intr_level) {
        pic->intr_level = level;
        irq_set(&pic->intr, level);
    }
}

/* Moves PIN from request to service. */
static void chip_accept(struct pic_chip *chip, unsigned pin)
{
    chip->latch &= ~(u8)BIT(pin);
    if (!(chip->icw4 & ICW4_AEOI))
        chip->isr |= BIT(pin);
    else if (chip->rotate_on_aeoi)
        chip->lowest = (u8)pin;
}

int pic_ack(struct pic *pic)
{
    struct pic_chip *master = &pic->chips[0], *slave = &pic->chips[1];
    int pin = chip_request(master);
    int vector;

    if (pin < 0)
        return master->vector_base + PIC_SPURIOUS; /* not marked in service (data sheet) */
    chip_accept(master, (unsigned)pin);
    if (pin == PIC_CASCADE) {
        int slave_pin = chip_request(slave);
        if (slave_pin >= 0)
            chip_accept(slave, (unsigned)slave_pin);
        else
            slave_pin = PIC_SPURIOUS;
        vector = slave->vector_base + slave_pin;
    } else {
        vector = master->vector_base + pin;
    }
    pic_update(pic);
    return vector;
}

bool pic_intr(const struct pic *pic)
{
    return pic->intr_level;
}

void pic_set(struct pic *pic, unsigned pin, bool level)
{
    if (pin >= PIC_PIN_COUNT || pin == PIC_CASCADE)
        return;
    struct pic_chip *chip = &pic->chips[pin / PIC_PINS];
    u8 bit = BIT(pin % PIC_PINS);

    if (level) {
        if (!(chip->lines & bit))
            chip->latch |= bit;
        chip->lines |= bit;
    } else {
        chip->lines &= ~bit;
        if (chip->elcr & bit)
            chip->latch &= ~bit;
    }
    pic_update(pic);
}

static void chip_icw1(struct pic_chip *chip, u8 value)
{
    chip->icw1 = value;
    chip->icw4 = 0;
    chip->latch = 0; /* an input must fall and rise again to be seen */
    chip->isr = 0;
    chip->imr = 0;
    chip->lowest = PIC_PINS - 1;
    chip->read_isr = 0;
    chip->poll = 0;
    chip->special_mask = 0;
    chip->rotate_on_aeoi = 0;
    chip->init = PIC_ICW2;
}

static void chip_ocw2(struct pic_chip *chip, u8 value)
{
    u8 pin = value % PIC_PINS;
    int serving;

    switch (value & (OCW2_ROTATE | OCW2_SPECIFIC | OCW2_EOI)) {
    case OCW2_ROTATE:
        chip->rotate_on_aeoi = 1;
        break;
    case 0:
        chip->rotate_on_aeoi = 0;
        break;
    case OCW2_EOI:
    case OCW2_ROTATE | OCW2_EOI:
        serving = chip_highest(chip, chip->special_mask ? chip->isr & ~chip->imr : chip->isr);
        if (serving < 0)
            break;
        chip->isr &= ~(u8)BIT(serving);
        if (value & OCW2_ROTATE)
            chip->lowest = (u8)serving;
        break;
    case OCW2_SPECIFIC | OCW2_EOI:
        chip->isr &= ~(u8)BIT(pin);
        break;
    case OCW2_ROTATE | OCW2_SPECIFIC | OCW2_EOI:
        chip->isr &= ~(u8)BIT(pin);
        chip->lowest = pin;
        break;
    case OCW2_ROTATE | OCW2_SPECIFIC:
        chip->lowest = pin;
        break;
    default: /* "no operation" */
        break;
    }
}

static void chip_ocw3(struct pic_chip *chip, u8 value)
{
    if (value & OCW3_P)
        chip->poll = 1;
    if (value & OCW3_RR)
        chip->read_isr = value & OCW3_RIS;
    if (value & OCW3_ESMM)
        chip->special_mask = !!(value & OCW3_SMM);
}

static void chip_write_data(struct pic_chip *chip, u8 value)
{
    switch (chip->init) {
    case PIC_ICW2:
        chip->vector_base = value & 0xf8;
        if (!(chip->icw1 & ICW1_SNGL))
            chip->init = PIC_ICW3;
        else
            chip->init = chip->icw1 & ICW1_IC4 ? PIC_ICW4 : PIC_READY;
        break;
    case PIC_ICW3: /* the wiring of the cascade is fixed */
        chip->init = chip->icw1 & ICW1_IC4 ? PIC_ICW4 : PIC_READY;
        break;
    case PIC_ICW4:
        chip->icw4 = value;
        chip->init = PIC_READY;
        break;
    default:
        chip->imr = value;
        break;
    }
}

static void chip_write(struct pic *pic, struct pic_chip *chip, unsigned bytes, u64 offset,
                       u64 value)
{
    for (unsigned i = 0; i < bytes; i++, offset++, value >>= 8) {
        u8 byte = (u8)value;
        if (offset == 1)
            chip_write_data(chip, byte);
        else if (byte & ICW1_INIT)
            chip_icw1(chip, byte);
        else if (byte & OCW3_SELECT)
            chip_ocw3(chip, byte);
        else
            chip_ocw2(chip, byte);
    }
    pic_update(pic);
}

static u8 chip_poll(struct pic *pic, struct pic_chip *chip)
{
    int pin = chip_request(chip);

    chip->poll = 0;
    if (pin < 0)
        return 0;
    chip_accept(chip, (unsigned)pin);
    pic_update(pic);
    return 0x80 | (u8)pin;
}

static u64 chip_read(struct pic *pic, struct pic_chip *chip, unsigned bytes, u64 offset)
{
    u64 value = 0;

    for (unsigned i = 0; i < bytes; i++, offset++) {
        u8 byte;
        if (chip->poll)
            byte = chip_poll(pic, chip);
        else if (offset == 1)
            byte = chip->imr;
        else
            byte = chip->read_isr ? chip->isr : chip_irr(chip);
        value |= (u64)byte << (8 * i);
    }
    return value;
}

static u64 master_read(void *device, u64 offset, unsigned bytes)
{
    struct pic *pic = device;
    return chip_read(pic, &pic->chips[0], bytes, offset);
}

static void master_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pic *pic = device;
    chip_write(pic, &pic->chips[0], bytes, offset, value);
}

static u64 slave_read(void *device, u64 offset, unsigned bytes)
{
    struct pic *pic = device;
    return chip_read(pic, &pic->chips[1], bytes, offset);
}

static void slave_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pic *pic = device;
    chip_write(pic, &pic->chips[1], bytes, offset, value);
}

static u64 elcr_read(void *device, u64 offset, unsigned bytes)
{
    struct pic *pic = device;
    u16 both = (u16)(pic->chips[0].elcr | pic->chips[1].elcr << 8);
    return (both >> (8 * offset)) & bytes_mask(bytes);
}

static void elcr_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pic *pic = device;

    for (unsigned i = 0; i < bytes; i++) {
        struct pic_chip *chip = &pic->chips[offset + i];
        chip->elcr = (u8)(value >> (8 * i)) & chip->elcr_mask;
    }
    pic_update(pic);
}

static void pic_reset(void *device)
{
    struct pic *pic = device;

    for (unsigned i = 0; i < 2; i++) {
        struct pic_chip *chip = &pic->chips[i];
        u8 lines = chip->lines;
        *chip = (struct pic_chip){0};
        chip->lines = lines;
        chip->lowest = PIC_PINS - 1;
        chip->imr = 0xff; /* undefined on the part; masked is what firmware leaves */
        chip->is_slave = (u8)i;
        /* IRQ 0, 1, 2, 8 and 13 are edge-triggered for ever (EISA). */
        chip->elcr_mask = i == 0 ? 0xf8 : 0xde;
    }
    pic_update(pic);
}

static int pic_loaded(void *device, struct err *err)
{
    struct pic *pic = device;

    for (unsigned i = 0; i < 2; i++) {
        struct pic_chip *chip = &pic->chips[i];
        if (chip->lowest >= PIC_PINS || chip->init > PIC_ICW4 || (chip->vector_base & 7) ||
            chip->is_slave != i)
            return err_set(err, -EINVAL, "chip %u has values that no 8259 can have", i);
    }
    pic->intr_level = chip_request(&pic->chips[0]) >= 0;
    irq_set(&pic->intr, pic->intr_level);
    return 0;
}

static void pic_free(void *device)
{
    alloc_free(device);
}

struct pic *pic_new(const struct irq_line *intr)
{
    struct pic *pic = new0(struct pic);

    if (pic == NULL)
        return NULL;
    pic->intr = *intr;
    pic_reset(pic);
    return pic;
}

static const struct bus_ops master_ops = {.read = master_read, .write = master_write};
static const struct bus_ops slave_ops = {.read = slave_read, .write = slave_write};
static const struct bus_ops elcr_ops = {.read = elcr_read, .write = elcr_write};

static const struct device_region pic_regions[] = {
    {BUS_PORT, 0x20, 2, &master_ops},
    {BUS_PORT, 0xa0, 2, &slave_ops},
    {BUS_PORT, 0x4d0, 2, &elcr_ops},
};

static const struct field pic_fields[] = {FIELD(struct pic, chips), FIELD_END};

const struct device_ops pic_device = {
    .name = "pic",
    .regions = pic_regions,
    .region_count = ARRAY_LEN(pic_regions),
    .fields = pic_fields,
    .reset = pic_reset,
    .loaded = pic_loaded,
    .free = pic_free,
};
