/*
 * dev/hpet.c - the high precision event timer.
 *
 * Spec   IA-PC HPET specification 1.0a. 100 MHz counter, 64 bits; timers route to I/O APIC pins 20
 * to 23, by MSI, or in legacy mode to IRQ 0 and 8. Runs   on vCPU threads and the loop, under the
 * device's lock. Trust  register values come from the guest.
 *
 *   0x000 capabilities  0x010 configuration  0x020 interrupt status  0x0f0 counter
 *   0x100 + 0x20 n: timer n's configuration, +8 comparator, +0x10 MSI route
 */
#include "dev/hpet.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum {
    HPET_BYTES = 0x400,
    REG_CAPS = 0x00,
    REG_CONFIG = 0x10,
    REG_STATUS = 0x20,
    REG_COUNTER = 0xf0,
    REG_TIMERS = 0x100,
    TIMER_STRIDE = 0x20,
    TIMER_CONFIG = 0,
    TIMER_COMPARATOR = 8,
    TIMER_ROUTE = 0x10
};
enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
enum { TICK_NS = HPET_PERIOD_FS / 1000000, EDGE_MIN_NS = 20000 };
#define NO_MATCH UINT64_MAX
#define TICKS_MAX (1ull << 60) /* further away than any clock goes */

enum hpet_timer_config {
    TN_LEVEL = 1 << 1,
    TN_ENABLE = 1 << 2,
    TN_PERIODIC = 1 << 3,
    TN_VALUE_SET = 1 << 6,
    TN_32BIT = 1 << 8,
    TN_ROUTE_SHIFT = 9,
    TN_MSI = 1 << 14
};
#define TN_WRITABLE 0x7f4eull
#define TN_CAPABILITIES (BIT(4) | BIT(5) | BIT(15) | 0x00f00000ull << 32)

struct hpet_timer {
    struct hpet *hpet; /* borrowed: where it belongs */
    unsigned index;
    u64 config; /* the writable bits */
    u64 comparator;
    u64 period;
    u64 route;
    u64 match; /* the counter's value, in 64 bits, at the comparator's next match; NO_MATCH: none */
    struct timer timer;
};

struct hpet {
    struct vm_clock *clock; /* borrowed */
    struct hpet_wires wires;
    u64 config;
    u64 status;
    u64 counter;  /* its value at start_ns, or while stopped */
    u64 start_ns; /* when it was enabled */
    struct hpet_timer timers[HPET_TIMER_COUNT];
};

static u64 counter_now(const struct hpet *hpet)
{
    if (!(hpet->config & CONFIG_ENABLE))
        return hpet->counter;
    return hpet->counter + (vm_clock_now(hpet->clock) - hpet->start_ns) / TICK_NS;
}

static u64 timer_mask(const struct hpet_timer *timer)
{
    return timer->config & TN_32BIT ? UINT32_MAX : UINT64_MAX;
}

/* The line TIMER drives, or NULL when it sends messages instead. */
static const struct irq_line *timer_line(const struct hpet_timer *timer)
{
    const struct hpet *hpet = timer->hpet;

    if (hpet->config & CONFIG_LEGACY) {
        if (timer->index == 0)
            return &hpet->wires.legacy_0;
        if (timer->index == 1)
            return &hpet->wires.legacy_8;
    }
    if (timer->config & TN_MSI)
        return NULL;
    unsigned pin = (unsigned)bits_get(timer->config, TN_ROUTE_SHIFT, 5);
    return pin < ARRAY_LEN(hpet->wires.pins) ? &hpet->wires.pins[pin] : NULL;
}

static void timer_lower(struct hpet_timer *timer)
{
    const struct irq_line *line = timer_line(timer);

    if (line)
        irq_set(line, false);
}

static void timer_raise(struct hpet_timer *timer)
{
    struct hpet *hpet = timer->hpet;
    const struct irq_line *line = timer_line(timer);

    if (timer->config & TN_LEVEL)
        hpet->status |= BIT(timer->index);
    if (!(timer->config & TN_ENABLE))
        return;
    if (line == NULL) {
        if (timer->config & TN_MSI)
            msi_send(&hpet->wires.msi, timer->route >> 32, (u32)timer->route);
    } else if (timer->config & TN_LEVEL) {
        irq_set(line, true);
    } else {
        irq_pulse(line);
    }
}

/* Whether anybody learns of a match: only then is it worth waking the host for. Linux leaves its
 * timer 0 running for ever, disabled. */
static bool timer_is_heard(const struct hpet_timer *timer)
{
    return timer->config & (TN_ENABLE | TN_LEVEL);
}

/* Finds the comparator's next match and arms for it; JUST_FIRED: the match of this very tick is
 * over. */
static void timer_plan(struct hpet_timer *timer, bool just_fired)
{
    struct hpet *hpet = timer->hpet;
    u64 mask = timer_mask(timer);
    u64 counter = counter_now(hpet);
    u64 ticks = (timer->comparator - counter) & mask;

    if (ticks == 0 && just_fired)
        ticks = mask;
    timer->match = NO_MATCH;
    if ((hpet->config & CONFIG_ENABLE) && ticks <= TICKS_MAX)
        timer->match = counter + ticks;
    if (timer->match == NO_MATCH || !timer_is_heard(timer)) {
        timer_cancel(&timer->timer);
        return;
    }
    u64 delay_ns = ticks * TICK_NS;
    if (timer->config & TN_PERIODIC)
        delay_ns = max_u64(delay_ns, just_fired ? EDGE_MIN_NS : 0);
    timer_arm(&timer->timer, vm_clock_now(hpet->clock) + delay_ns);
}

/* Moves the comparator on, at or after a match: to the first that is still to come. */
static void comparator_advance(struct hpet_timer *timer)
{
    if (!(timer->config & TN_PERIODIC) || timer->period == 0)
        return;
    u64 late = counter_now(timer->hpet) - timer->match;
    timer->comparator += (late / timer->period + 1) * timer->period;
    timer->comparator &= timer_mask(timer);
}

/* What matches that nobody heard of have done by now; before registers are looked at. */
static void timers_follow(struct hpet *hpet)
{
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++) {
        struct hpet_timer *timer = &hpet->timers[i];
        if (timer_is_heard(timer) || timer->match == NO_MATCH ||
            (s64)(counter_now(hpet) - timer->match) < 0)
            continue;
        comparator_advance(timer);
        timer_plan(timer, true);
    }
}

static void timer_fired(void *ctx)
{
    struct hpet_timer *timer = ctx;

    comparator_advance(timer);
    timer_raise(timer);
    timer_plan(timer, true);
}

static void config_write(struct hpet *hpet, u64 value)
{
    u64 old = hpet->config;
    u64 changed = (old ^ value) & (CONFIG_ENABLE | CONFIG_LEGACY);

    if (changed & CONFIG_ENABLE) {
        hpet->counter = counter_now(hpet);
        hpet->start_ns = vm_clock_now(hpet->clock);
    }
    if (changed & CONFIG_LEGACY)
        for (unsigned i = 0; i < HPET_TIMER_COUNT; i++)
            timer_lower(&hpet->timers[i]);
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (changed & CONFIG_LEGACY)
        irq_set(&hpet->wires.legacy_on, value & CONFIG_LEGACY);
    if (!(changed & CONFIG_ENABLE))
        return;
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++) {
        timer_plan(&hpet->timers[i], false);
        if (!(value & CONFIG_ENABLE))
            timer_lower(&hpet->timers[i]);
    }
}

static void status_write(struct hpet *hpet, u64 value)
{
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++)
        if (value & hpet->status & BIT(i))
            timer_lower(&hpet->timers[i]);
    hpet->status &= ~value;
}

static void timer_config_write(struct hpet_timer *timer, u64 value)
{
    timer_lower(timer);
    timer->config = value & TN_WRITABLE;
    timer->hpet->status &= ~BIT(timer->index);
    timer->comparator &= timer_mask(timer);
    timer->period &= timer_mask(timer);
    timer_plan(timer, false);
}

/* In periodic mode a write sets the period, and the next match too after "value set" (2.3.9.2.2).
 */
static void comparator_write(struct hpet_timer *timer, u64 value, u64 written)
{
    u64 mask = timer_mask(timer);

    if (!(timer->config & TN_PERIODIC) || (timer->config & TN_VALUE_SET))
        timer->comparator = ((timer->comparator & ~written) | value) & mask;
    if (timer->config & TN_PERIODIC)
        timer->period = ((timer->period & ~written) | value) & mask;
    timer->config &= ~(u64)TN_VALUE_SET;
    timer_plan(timer, false);
}

static u64 register_read(const struct hpet *hpet, unsigned offset)
{
    switch (offset) {
    case REG_CAPS:
        return (u64)HPET_PERIOD_FS << 32 | 0x8086u << 16 | BIT(15) | BIT(13) |
               (HPET_TIMER_COUNT - 1) << 8 | 1;
    case REG_CONFIG:
        return hpet->config;
    case REG_STATUS:
        return hpet->status;
    case REG_COUNTER:
        return counter_now(hpet);
    default:
        break;
    }
    if (offset < REG_TIMERS || offset >= REG_TIMERS + TIMER_STRIDE * HPET_TIMER_COUNT)
        return 0;
    const struct hpet_timer *timer = &hpet->timers[(offset - REG_TIMERS) / TIMER_STRIDE];
    switch (offset % TIMER_STRIDE) {
    case TIMER_CONFIG:
        return timer->config | TN_CAPABILITIES;
    case TIMER_COMPARATOR:
        return timer->comparator;
    case TIMER_ROUTE:
        return timer->route;
    default:
        return 0;
    }
}

/* VALUE holds the bits of WRITTEN; the others keep what they have. */
static void register_write(struct hpet *hpet, unsigned offset, u64 value, u64 written)
{
    u64 whole = (register_read(hpet, offset) & ~written) | value;

    switch (offset) {
    case REG_CONFIG:
        config_write(hpet, whole);
        return;
    case REG_STATUS:
        status_write(hpet, value);
        return;
    case REG_COUNTER:
        hpet->counter = whole;
        hpet->start_ns = vm_clock_now(hpet->clock);
        for (unsigned i = 0; i < HPET_TIMER_COUNT; i++)
            timer_plan(&hpet->timers[i], false);
        return;
    default:
        break;
    }
    if (offset < REG_TIMERS || offset >= REG_TIMERS + TIMER_STRIDE * HPET_TIMER_COUNT)
        return;
    struct hpet_timer *timer = &hpet->timers[(offset - REG_TIMERS) / TIMER_STRIDE];
    switch (offset % TIMER_STRIDE) {
    case TIMER_CONFIG:
        timer_config_write(timer, whole);
        break;
    case TIMER_COMPARATOR:
        comparator_write(timer, value, written);
        break;
    case TIMER_ROUTE:
        timer->route = whole;
        break;
    default:
        break;
    }
}

static u64 hpet_read(void *device, u64 offset, unsigned bytes)
{
    if (offset % 8 + bytes > 8)
        return 0;
    timers_follow(device);
    return register_read(device, (unsigned)offset & ~7u) >> (8 * (offset % 8));
}

static void hpet_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    unsigned shift = 8 * (offset % 8);

    if (bytes < 4 || offset % bytes != 0)
        return; /* the specification knows aligned words of 32 and 64 bits */
    timers_follow(device);
    register_write(device, (unsigned)offset & ~7u, value << shift, bytes_mask(bytes) << shift);
}

static void hpet_reset(void *device)
{
    struct hpet *hpet = device;

    config_write(hpet, 0);
    hpet->status = 0;
    hpet->counter = 0;
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++) {
        struct hpet_timer *timer = &hpet->timers[i];
        timer_lower(timer);
        timer->config = timer->period = timer->route = 0;
        timer->comparator = UINT64_MAX;
        timer->match = NO_MATCH;
        timer_cancel(&timer->timer);
    }
}

static int hpet_loaded(void *device, struct err *err)
{
    struct hpet *hpet = device;

    if ((hpet->config & ~3ull) || hpet->status >> HPET_TIMER_COUNT)
        return err_set(err, -EINVAL, "reserved bits are set");
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++)
        hpet->timers[i].config &= TN_WRITABLE;
    return 0;
}

static void hpet_free(void *device)
{
    struct hpet *hpet = device;

    if (hpet)
        for (unsigned i = 0; i < HPET_TIMER_COUNT; i++)
            timer_cancel(&hpet->timers[i].timer);
    alloc_free(hpet);
}

struct hpet *hpet_new(struct vm_clock *clock, struct lock *lock, const struct hpet_wires *wires)
{
    struct hpet *hpet = new0(struct hpet);

    if (hpet == NULL)
        return NULL;
    hpet->clock = clock;
    hpet->wires = *wires;
    for (unsigned i = 0; i < HPET_TIMER_COUNT; i++) {
        struct hpet_timer *timer = &hpet->timers[i];
        timer->hpet = hpet;
        timer->index = i;
        timer_init(&timer->timer, clock, lock, timer_fired, timer);
    }
    hpet_reset(hpet);
    return hpet;
}

static const struct bus_ops hpet_ops = {.read = hpet_read, .write = hpet_write};
static const struct device_region hpet_regions[] = {{BUS_MMIO, HPET_BASE, HPET_BYTES, &hpet_ops}};

#define TIMER_FIELDS(n)                                                             \
    FIELD(struct hpet, timers[n].config), FIELD(struct hpet, timers[n].comparator), \
        FIELD(struct hpet, timers[n].period), FIELD(struct hpet, timers[n].route),  \
        FIELD(struct hpet, timers[n].match), FIELD_TIMER(struct hpet, timers[n].timer)

static const struct field hpet_fields[] = {
    FIELD(struct hpet, config),
    FIELD(struct hpet, status),
    FIELD(struct hpet, counter),
    FIELD(struct hpet, start_ns),
    TIMER_FIELDS(0),
    TIMER_FIELDS(1),
    TIMER_FIELDS(2),
    FIELD_END,
};

const struct device_ops hpet_device = {
    .name = "hpet",
    .regions = hpet_regions,
    .region_count = ARRAY_LEN(hpet_regions),
    .fields = hpet_fields,
    .reset = hpet_reset,
    .loaded = hpet_loaded,
    .free = hpet_free,
};
