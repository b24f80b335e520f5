/*
 * dev/pm.c - ACPI fixed hardware.
 *
 * Spec   ACPI 6.4 chapter 4.8: PM1 event and control registers, PM timer (32 bits), GPE block 0.
 * Runs   on vCPU threads and the loop, under the device's lock.
 * Trust  register values come from the guest.
 */
#include "dev/pm.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { PM_TIMER_HZ = 3579545, NS_PER_SECOND = 1000000000, CARRY_BIT = 31 };
/* SMI_EN, as firmware left it that has set up its system management mode: there is none here. */
enum { SMI_ENABLE_OFFSET = 0x30, SMI_APMC_EN = 1 << 5 };
enum { GPE_STATUS_OFFSET = PM_GPE0_OFFSET, GPE_ENABLE_OFFSET = PM_GPE0_OFFSET + 4 };

enum pm1_event {
    PM1_TMR = 1 << 0,
    PM1_GBL = 1 << 5,
    PM1_PWRBTN = 1 << 8,
    PM1_RTC = 1 << 10,
    PM1_WAK = 1 << 15
};
enum { PM1_STATUS_BITS = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_WAK };
/* The RTC never wakes this machine, but drivers check that they could arm it. */
enum { PM1_ENABLE_BITS = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC };
enum pm1_control { PM1_SCI_EN = 1 << 0, PM1_GBL_RLS = 1 << 2, PM1_SLP_EN = 1 << 13 };
enum { PM1_SLP_TYP_SHIFT = 10, PM1_CONTROL_BITS = 7 << PM1_SLP_TYP_SHIFT | 1 << 1 };

struct pm {
    struct vm_clock *clock; /* borrowed */
    struct irq_line sci;
    struct power_sink power;
    struct timer carry_timer; /* the next change of the PM timer's top bit, while it interrupts */
    u16 status, enable, control;
    u32 gpe_status, gpe_enable;
    u64 seen_carry; /* half rounds of the PM timer that are in `status` */
};

static u64 pm_ticks(const struct pm *pm)
{
    u64 ns = vm_clock_now(pm->clock);
    return ns / NS_PER_SECOND * PM_TIMER_HZ + ns % NS_PER_SECOND * PM_TIMER_HZ / NS_PER_SECOND;
}

/* Brings TMR_STS up to date, then the SCI, then the timer. */
static void pm_update(struct pm *pm)
{
    u64 carry = pm_ticks(pm) >> CARRY_BIT;

    if (carry != pm->seen_carry)
        pm->status |= PM1_TMR;
    pm->seen_carry = carry;
    bool wants = (pm->status & pm->enable & PM1_ENABLE_BITS) || (pm->gpe_status & pm->gpe_enable);
    irq_set(&pm->sci, wants && (pm->control & PM1_SCI_EN));
    if ((pm->enable & PM1_TMR) && !(pm->status & PM1_TMR)) {
        u64 ticks = (carry + 1) << CARRY_BIT;
        timer_arm(&pm->carry_timer, ticks / PM_TIMER_HZ * NS_PER_SECOND +
                                        ticks % PM_TIMER_HZ * NS_PER_SECOND / PM_TIMER_HZ + 1);
    } else {
        timer_cancel(&pm->carry_timer);
    }
}

static void pm_carry(void *ctx)
{
    pm_update(ctx);
}

void pm_press_power_button(struct pm *pm)
{
    pm->status |= PM1_PWRBTN;
    pm_update(pm);
}

void pm_raise_gpe(struct pm *pm, unsigned bit)
{
    if (bit < 32)
        pm->gpe_status |= (u32)BIT(bit);
    pm_update(pm);
}

static void control_write(struct pm *pm, u16 value)
{
    pm->control = (pm->control & PM1_SCI_EN) | (value & PM1_CONTROL_BITS);
    if (!(value & PM1_SLP_EN))
        return;
    /* S5 is the only sleep state that the tables name. Firmware does not look at them: it takes
     * type 0, which powers off the chipset that it knows. Others are ignored, as a chipset that
     * lacks them does. */
    u16 type = value >> PM1_SLP_TYP_SHIFT & 7;
    if (type == PM_S5_TYPE || type == PM_S5_TYPE_FIRMWARE)
        power_ask(&pm->power, POWER_OFF);
}

/* One byte of the block, as it is read. */
static u8 pm_read_byte(void *device, u64 offset)
{
    struct pm *pm = device;
    if (offset < PM_CONTROL_OFFSET)
        return (u8)((pm->status | (u32)pm->enable << 16) >> (8 * offset));
    if (offset < PM_CONTROL_OFFSET + 2)
        return (u8)(pm->control >> (8 * (offset - PM_CONTROL_OFFSET)));
    if (offset >= PM_GPE0_OFFSET && offset < PM_GPE0_OFFSET + PM_GPE0_BYTES)
        return (u8)((pm->gpe_status | (u64)pm->gpe_enable << 32) >>
                    (8 * (offset - PM_GPE0_OFFSET)));
    if (offset == SMI_ENABLE_OFFSET)
        return SMI_APMC_EN;
    return 0;
}

static u64 pm_read(void *device, u64 offset, unsigned bytes)
{
    struct pm *pm = device;

    /* The timer must be read in one piece: bytes of different moments would not fit together. */
    if (offset >= PM_TIMER_OFFSET && offset < PM_TIMER_OFFSET + 4)
        return (pm_ticks(pm) & UINT32_MAX) >> (8 * (offset - PM_TIMER_OFFSET));
    pm_update(pm);
    return device_read_bytes(device, offset, bytes, pm_read_byte);
}

static u16 with_byte(u16 old, u64 which, u8 value)
{
    return which == 0 ? (u16)((old & 0xff00) | value) : (u16)((old & 0x00ff) | value << 8);
}

static void pm_write_byte(void *device, u64 offset, u8 value)
{
    struct pm *pm = device;

    if (offset < 2) {
        pm->status &= (u16) ~(value << (8 * offset)); /* write one to clear */
    } else if (offset < 4) {
        pm->enable = with_byte(pm->enable, offset - 2, value) & PM1_ENABLE_BITS;
    } else if (offset >= GPE_STATUS_OFFSET && offset < GPE_STATUS_OFFSET + 4) {
        pm->gpe_status &= ~((u32)value << (8 * (offset - GPE_STATUS_OFFSET)));
    } else if (offset >= GPE_ENABLE_OFFSET && offset < GPE_ENABLE_OFFSET + 4) {
        unsigned shift = 8 * (unsigned)(offset - GPE_ENABLE_OFFSET);
        pm->gpe_enable = (pm->gpe_enable & ~(0xffu << shift)) | (u32)value << shift;
    }
}

static void pm_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pm *pm = device;

    pm_update(pm);
    if (offset == PM_CONTROL_OFFSET && bytes >= 2)
        control_write(pm, (u16)value);
    else if (offset == PM_CONTROL_OFFSET || offset == PM_CONTROL_OFFSET + 1)
        control_write(pm, with_byte(pm->control, offset - PM_CONTROL_OFFSET, (u8)value));
    else
        device_write_bytes(device, offset, bytes, value, pm_write_byte);
    pm_update(pm);
}

/* What firmware would do in system management mode: ACPI on and off. */
static void smi_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pm *pm = device;

    if ((u8)value == PM_ACPI_ENABLE)
        pm->control |= PM1_SCI_EN;
    else if ((u8)value == PM_ACPI_DISABLE)
        pm->control &= (u16)~PM1_SCI_EN;
    pm_update(pm);
}

static u64 smi_read(void *device, u64 offset, unsigned bytes)
{
    return 0;
}

static void pm_reset(void *device)
{
    struct pm *pm = device;

    pm->status = pm->enable = pm->control = 0;
    pm->gpe_status = pm->gpe_enable = 0;
    pm->seen_carry = pm_ticks(pm) >> CARRY_BIT;
    pm_update(pm);
}

static int pm_loaded(void *device, struct err *err)
{
    struct pm *pm = device;

    if ((pm->status & ~PM1_STATUS_BITS) || (pm->enable & ~PM1_ENABLE_BITS) ||
        (pm->control & ~(PM1_CONTROL_BITS | PM1_SCI_EN)))
        return err_set(err, -EINVAL, "reserved bits are set");
    return 0;
}

static void pm_free(void *device)
{
    struct pm *pm = device;

    if (pm)
        timer_cancel(&pm->carry_timer);
    alloc_free(pm);
}

struct pm *pm_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *sci,
                  const struct power_sink *power)
{
    struct pm *pm = new0(struct pm);

    if (pm == NULL)
        return NULL;
    pm->clock = clock;
    pm->sci = *sci;
    pm->power = *power;
    timer_init(&pm->carry_timer, clock, lock, pm_carry, pm);
    pm_reset(pm);
    return pm;
}

static const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write};
static const struct bus_ops smi_ops = {.read = smi_read, .write = smi_write};
static const struct device_region pm_regions[] = {
    {BUS_PORT, PM_BASE, PM_BYTES, &pm_ops},
    {BUS_PORT, PM_SMI_PORT, 2, &smi_ops},
};
static const struct field pm_fields[] = {
    FIELD(struct pm, status),
    FIELD(struct pm, enable),
    FIELD(struct pm, control),
    FIELD(struct pm, gpe_status),
    FIELD(struct pm, gpe_enable),
    FIELD(struct pm, seen_carry),
    FIELD_TIMER(struct pm, carry_timer),
    FIELD_END,
};

const struct device_ops pm_device = {
    .name = "pm",
    .regions = pm_regions,
    .region_count = ARRAY_LEN(pm_regions),
    .fields = pm_fields,
    .reset = pm_reset,
    .loaded = pm_loaded,
    .free = pm_free,
};
