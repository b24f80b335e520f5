/*
 * dev/pit.c - the 8254: three 16-bit counters; channel 0 is IRQ 0, channel 2 the speaker.
 *
 * Spec   Intel 8254 data sheet (231164); port 0x61: IBM PC/AT technical reference.
 * Runs   on vCPU threads and the loop, under the device's lock.
 * Trust  modes and counts come from the guest.
 *
 * Nothing counts here: a channel remembers when it was loaded, and every reading is worked out from
 * the time that went by. The timer exists only for channel 0's edges. A count takes effect at once,
 * in all modes.
 *
 * Port 0x43: 7:6 channel (3 read-back)  5:4 access (0 latch, 1 low, 2 high, 3 low then high)
 *            3:1 mode  0 BCD
 */
#include "dev/pit.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { CHANNEL_COUNT = 3, SPEAKER = 2, NS_PER_SECOND = 1000000000 };
enum { EDGE_MIN_NS = 20000 }; /* a guest that asks for more interrupts gets these */
enum { REFRESH_NS = 15085 };  /* how often bit 4 of port 0x61 turns */
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };
enum { CONTROL_PORT = 3, READ_BACK = 3, READ_BACK_NO_COUNT = 0x20, READ_BACK_NO_STATUS = 0x10 };
enum pit_mode { MODE_TERMINAL, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_STROBE, MODE_HW_STROBE };
enum { PORT61_GATE = 1, PORT61_SPEAKER = 2, PORT61_WRITABLE = 0x0f };

/* Saved as it stands: no padding. */
struct pit_channel {
    u64 start_ns;   /* when counting began */
    u64 held_ticks; /* ticks gone by when the gate fell; valid while held */
    u32 reload;     /* 1 to 65536 */
    u16 latched_count;
    u8 latched_bytes; /* of latched_count, still to be read */
    u8 latched_status;
    u8 status_is_latched;
    u8 mode; /* enum pit_mode */
    u8 bcd;
    u8 access;
    u8 low_byte;     /* written first in ACCESS_BOTH */
    u8 write_second; /* the next write is the high byte */
    u8 read_second;
    u8 gate;
    u8 is_loaded;  /* has a count since its mode was set */
    u8 is_started; /* counts, or has counted; modes 1 and 5 start with the gate */
    u8 is_held;    /* the gate stops it */
    u8 reserved[3];
};
_Static_assert(sizeof(struct pit_channel) == 40, "saved as it stands");

struct pit {
    struct vm_clock *clock; /* borrowed */
    struct irq_line irq;
    struct timer timer;
    struct pit_channel channels[CHANNEL_COUNT];
    u8 port61;
};

static u64 ns_to_ticks(u64 ns)
{
    return ns / NS_PER_SECOND * PIT_HZ + ns % NS_PER_SECOND * PIT_HZ / NS_PER_SECOND;
}

/* The first nanosecond at which ns_to_ticks gives TICKS. */
static u64 ticks_to_ns(u64 ticks)
{
    return ticks / PIT_HZ * NS_PER_SECOND + (ticks % PIT_HZ * NS_PER_SECOND + PIT_HZ - 1) / PIT_HZ;
}

static bool mode_is_periodic(const struct pit_channel *channel)
{
    return channel->mode == MODE_RATE || channel->mode == MODE_SQUARE;
}

static bool mode_needs_trigger(const struct pit_channel *channel)
{
    return channel->mode == MODE_ONE_SHOT || channel->mode == MODE_HW_STROBE;
}

static u64 ticks_gone(const struct pit_channel *channel, u64 now_ns)
{
    if (channel->is_held)
        return channel->held_ticks;
    return now_ns > channel->start_ns ? ns_to_ticks(now_ns - channel->start_ns) : 0;
}

static bool channel_out(const struct pit_channel *channel, u64 now_ns)
{
    if (!channel->is_loaded || !channel->is_started)
        return channel->mode != MODE_TERMINAL;
    u64 ticks = ticks_gone(channel, now_ns);

    switch (channel->mode) {
    case MODE_TERMINAL:
    case MODE_ONE_SHOT:
        return ticks >= channel->reload;
    case MODE_RATE:
        return channel->is_held || ticks % channel->reload != channel->reload - 1;
    case MODE_SQUARE:
        return channel->is_held || ticks % channel->reload < (channel->reload + 1) / 2;
    default:
        return ticks != channel->reload;
    }
}

static u16 to_bcd(u32 value)
{
    value %= 10000;
    return (u16)(value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10);
}

static u32 from_bcd(u16 value)
{
    return (u32)(value >> 12) * 1000 + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u +
           (value & 15);
}

static u16 channel_count(const struct pit_channel *channel, u64 now_ns)
{
    u32 count = channel->reload;

    if (channel->is_started) {
        u64 ticks = ticks_gone(channel, now_ns);
        if (channel->mode == MODE_RATE)
            count = (u32)(channel->reload - ticks % channel->reload);
        else if (channel->mode == MODE_SQUARE) /* counts by two, twice a period */
            count = (u32)(channel->reload - ticks * 2 % channel->reload) & ~1u;
        else
            count = (u32)(channel->reload - ticks); /* goes round after the end */
    }
    return channel->bcd ? to_bcd(count % 10000) : (u16)count;
}

/* Arms the timer for channel 0's next rising edge. */
static void pit_arm(struct pit *pit)
{
    struct pit_channel *channel = &pit->channels[0];
    u64 now_ns = vm_clock_now(pit->clock);

    if (!channel->is_loaded || !channel->is_started) {
        timer_cancel(&pit->timer);
        return;
    }
    u64 ticks = ticks_gone(channel, now_ns);
    u64 edge = channel->reload;
    if (mode_is_periodic(channel))
        edge = (ticks / channel->reload + 1) * channel->reload;
    else if (channel->mode == MODE_STROBE)
        edge = channel->reload + 1u;
    if (edge <= ticks) { /* a single edge, and it is over */
        timer_cancel(&pit->timer);
        return;
    }
    u64 deadline_ns = channel->start_ns + ticks_to_ns(edge);
    if (mode_is_periodic(channel))
        deadline_ns = max_u64(deadline_ns, now_ns + EDGE_MIN_NS);
    timer_arm(&pit->timer, deadline_ns);
}

static void pit_fire(void *ctx)
{
    struct pit *pit = ctx;

    if (pit->channels[0].mode != MODE_TERMINAL)
        irq_set(&pit->irq, false); /* the low phase that ends now */
    irq_set(&pit->irq, true);
    pit_arm(pit);
}

static void channel_load(struct pit *pit, unsigned index, u16 value)
{
    struct pit_channel *channel = &pit->channels[index];
    u32 count = channel->bcd ? from_bcd(value) : value;

    if (count == 0)
        count = channel->bcd ? 10000 : 65536;
    channel->reload = count;
    channel->is_loaded = 1;
    if (!mode_needs_trigger(channel)) {
        channel->is_started = 1;
        channel->start_ns = vm_clock_now(pit->clock);
        channel->is_held = !channel->gate;
        channel->held_ticks = 0;
    }
    if (index == 0) {
        irq_set(&pit->irq, channel_out(channel, channel->start_ns));
        pit_arm(pit);
    }
}

static void channel_write(struct pit *pit, unsigned index, u8 value)
{
    struct pit_channel *channel = &pit->channels[index];

    switch (channel->access) {
    case ACCESS_LOW:
        channel_load(pit, index, value);
        break;
    case ACCESS_HIGH:
        channel_load(pit, index, (u16)(value << 8));
        break;
    default:
        if (channel->write_second) {
            channel->write_second = 0;
            channel_load(pit, index, (u16)(value << 8 | channel->low_byte));
            break;
        }
        channel->low_byte = value;
        channel->write_second = 1;
        if (channel->mode != MODE_TERMINAL)
            break;
        channel->is_loaded = 0; /* the first byte stops mode 0 */
        if (index == 0) {
            irq_set(&pit->irq, false);
            pit_arm(pit);
        }
        break;
    }
}

static void latch_count(struct pit_channel *channel, u64 now_ns)
{
    if (channel->latched_bytes)
        return; /* the first of several latch commands holds */
    channel->latched_count = channel_count(channel, now_ns);
    channel->latched_bytes = channel->access == ACCESS_BOTH ? 2 : 1;
    if (channel->access == ACCESS_HIGH)
        channel->latched_count >>= 8;
}

static void latch_status(struct pit_channel *channel, u64 now_ns)
{
    if (channel->status_is_latched)
        return;
    channel->status_is_latched = 1;
    channel->latched_status = (u8)(channel_out(channel, now_ns) << 7 | !channel->is_loaded << 6 |
                                   channel->access << 4 | channel->mode << 1 | channel->bcd);
}

static void control_write(struct pit *pit, u8 value)
{
    u64 now_ns = vm_clock_now(pit->clock);
    unsigned index = value >> 6;

    if (index == READ_BACK) {
        for (unsigned i = 0; i < CHANNEL_COUNT; i++) {
            if (!(value & BIT(i + 1)))
                continue;
            if (!(value & READ_BACK_NO_COUNT))
                latch_count(&pit->channels[i], now_ns);
            if (!(value & READ_BACK_NO_STATUS))
                latch_status(&pit->channels[i], now_ns);
        }
        return;
    }
    struct pit_channel *channel = &pit->channels[index];
    if ((value >> 4 & 3) == ACCESS_LATCH) {
        latch_count(channel, now_ns);
        return;
    }
    channel->access = value >> 4 & 3;
    channel->mode = value >> 1 & 7;
    if (channel->mode > MODE_HW_STROBE)
        channel->mode -= 4; /* 6 and 7 are 2 and 3 */
    channel->bcd = value & 1;
    channel->write_second = channel->read_second = 0;
    channel->latched_bytes = channel->status_is_latched = 0;
    channel->is_loaded = channel->is_started = channel->is_held = 0;
    if (index == 0) {
        irq_set(&pit->irq, channel->mode != MODE_TERMINAL);
        pit_arm(pit);
    }
}

static u8 channel_read(struct pit *pit, struct pit_channel *channel)
{
    if (channel->status_is_latched) {
        channel->status_is_latched = 0;
        return channel->latched_status;
    }
    if (channel->latched_bytes) {
        u8 byte = (u8)channel->latched_count;
        channel->latched_count >>= 8;
        channel->latched_bytes--;
        return byte;
    }
    u16 count = channel_count(channel, vm_clock_now(pit->clock));
    bool high = channel->access == ACCESS_HIGH;
    if (channel->access == ACCESS_BOTH) {
        high = channel->read_second;
        channel->read_second = !high;
    }
    return (u8)(high ? count >> 8 : count);
}

static u8 pit_read_byte(void *device, u64 offset)
{
    struct pit *pit = device;

    if (offset >= CONTROL_PORT)
        return 0xff; /* the control word cannot be read */
    return channel_read(pit, &pit->channels[offset]);
}

static void pit_write_byte(void *device, u64 offset, u8 value)
{
    if (offset >= CONTROL_PORT)
        control_write(device, value);
    else
        channel_write(device, (unsigned)offset, value);
}

static u64 pit_read(void *device, u64 offset, unsigned bytes)
{
    return device_read_bytes(device, offset, bytes, pit_read_byte);
}

static void pit_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    device_write_bytes(device, offset, bytes, value, pit_write_byte);
}

/* A falling gate stops the count, a rising one goes on (modes 0, 4) or begins anew. */
static void channel_gate(struct pit_channel *channel, bool gate, u64 now_ns)
{
    if (gate == channel->gate)
        return;
    channel->gate = gate;
    if (!channel->is_loaded)
        return;
    if (!gate) {
        if (!mode_needs_trigger(channel) && channel->is_started) {
            channel->held_ticks = ticks_gone(channel, now_ns);
            channel->is_held = 1;
        }
        return;
    }
    u64 gone_ns = 0;
    if (channel->is_held && !mode_is_periodic(channel))
        gone_ns = ticks_to_ns(channel->held_ticks);
    channel->start_ns = now_ns > gone_ns ? now_ns - gone_ns : 0;
    channel->is_held = 0;
    channel->is_started = 1;
}

static u64 port61_read(void *device, u64 offset, unsigned bytes)
{
    struct pit *pit = device;
    u64 now_ns = vm_clock_now(pit->clock);

    return pit->port61 | (now_ns / REFRESH_NS & 1) << 4 |
           (u64)channel_out(&pit->channels[SPEAKER], now_ns) << 5;
}

static void port61_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pit *pit = device;

    pit->port61 = value & PORT61_WRITABLE;
    channel_gate(&pit->channels[SPEAKER], value & PORT61_GATE, vm_clock_now(pit->clock));
}

static void pit_reset(void *device)
{
    struct pit *pit = device;

    for (unsigned i = 0; i < CHANNEL_COUNT; i++)
        pit->channels[i] = (struct pit_channel){
            .reload = 65536, .access = ACCESS_BOTH, .mode = MODE_SQUARE, .gate = i != SPEAKER};
    pit->port61 = 0;
    timer_cancel(&pit->timer);
    irq_set(&pit->irq, false);
}

static int pit_loaded(void *device, struct err *err)
{
    struct pit *pit = device;

    for (unsigned i = 0; i < CHANNEL_COUNT; i++) {
        const struct pit_channel *channel = &pit->channels[i];
        if (channel->reload == 0 || channel->reload > 65536 || channel->mode > MODE_HW_STROBE ||
            channel->access > ACCESS_BOTH || channel->latched_bytes > 2 || channel->bcd > 1)
            return err_set(err, -EINVAL, "channel %u has values that no 8254 can have", i);
    }
    pit->port61 &= PORT61_WRITABLE;
    return 0;
}

static void pit_free(void *device)
{
    struct pit *pit = device;

    if (pit)
        timer_cancel(&pit->timer);
    alloc_free(pit);
}

struct pit *pit_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq)
{
    struct pit *pit = new0(struct pit);

    if (pit == NULL)
        return NULL;
    pit->clock = clock;
    pit->irq = *irq;
    timer_init(&pit->timer, clock, lock, pit_fire, pit);
    pit_reset(pit);
    return pit;
}

static const struct bus_ops pit_ops = {.read = pit_read, .write = pit_write};
static const struct bus_ops port61_ops = {.read = port61_read, .write = port61_write};
static const struct device_region pit_regions[] = {
    {BUS_PORT, 0x40, 4, &pit_ops},
    {BUS_PORT, 0x61, 1, &port61_ops},
};
static const struct field pit_fields[] = {
    FIELD(struct pit, channels),
    FIELD(struct pit, port61),
    FIELD_TIMER(struct pit, timer),
    FIELD_END,
};

const struct device_ops pit_device = {
    .name = "pit",
    .regions = pit_regions,
    .region_count = ARRAY_LEN(pit_regions),
    .fields = pit_fields,
    .reset = pit_reset,
    .loaded = pit_loaded,
    .free = pit_free,
};
