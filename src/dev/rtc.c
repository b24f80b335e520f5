/*
 * dev/rtc.c - the MC146818A clock and CMOS memory.
 *
 * Spec   Motorola MC146818A data sheet; the PC's use of the cells: IBM PC/AT technical reference
 * and what firmware has put there since. Runs   on vCPU threads and the loop, under the device's
 * lock. Trust  indexes, times and modes come from the guest.
 *
 * The time cells are worked out from the host's clock and an offset whenever they are read. While
 * B.SET holds them still, they are plain memory, and clearing it turns them into a new offset.
 */
#include "dev/rtc.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/errno.h"
#include "dev/rtc_time.h"

enum { CELL_COUNT = 128, NS_PER_SECOND = 1000000000, UPDATE_NS = 244000, CRYSTAL_HZ = 32768 };
enum { SECONDS_PER_DAY = 86400 };

enum rtc_cell {
    CELL_SECOND = 0,
    CELL_SECOND_ALARM = 1,
    CELL_MINUTE = 2,
    CELL_MINUTE_ALARM = 3,
    CELL_HOUR = 4,
    CELL_HOUR_ALARM = 5,
    CELL_WEEKDAY = 6,
    CELL_DAY = 7,
    CELL_MONTH = 8,
    CELL_YEAR = 9,
    CELL_A = 10,
    CELL_B = 11,
    CELL_C = 12,
    CELL_D = 13,
    CELL_BASE_KIB = 0x15,
    CELL_EXTENDED_KIB = 0x17,
    CELL_EXTENDED_KIB_2 = 0x30,
    CELL_CENTURY = 0x32,
    CELL_EXTENDED_64KIB = 0x34,
    CELL_HIGH_64KIB = 0x5b
};

enum rtc_a { A_RATE = 0x0f, A_DIVIDER_32K = 0x20, A_UIP = 0x80 };
enum rtc_b {
    B_24H = 0x02,
    B_BINARY = 0x04,
    B_UIE = 0x10,
    B_AIE = 0x20,
    B_PIE = 0x40,
    B_SET = 0x80
};
enum rtc_c { C_UF = 0x10, C_AF = 0x20, C_PF = 0x40, C_IRQF = 0x80 };
enum { D_VALID = 0x80, ALARM_ANY = 0xc0, HOUR_PM = 0x80, INDEX_NMI_OFF = 0x80 };

struct rtc {
    struct vm_clock *clock; /* borrowed */
    struct irq_line irq;
    struct timer second_timer; /* the next update, while its interrupts are enabled */
    struct timer periodic_timer;
    u8 cells[CELL_COUNT];
    u8 index;        /* as written to port 0x70 */
    s64 offset_ns;   /* guest time minus host time */
    s64 seen_second; /* updates up to this one are in the flags */
    u64 seen_period; /* periods of the periodic interrupt up to this one, likewise */
};

/* ---- time
 * ---------------------------------------------------------------------------------------- */

static s64 rtc_ns(const struct rtc *rtc)
{
    return (s64)clock_realtime_ns() + rtc->offset_ns;
}

static s64 rtc_second(const struct rtc *rtc)
{
    s64 ns = rtc_ns(rtc);
    return ns / NS_PER_SECOND - (ns % NS_PER_SECOND < 0);
}

static u8 encode(const struct rtc *rtc, u32 value)
{
    if (rtc->cells[CELL_B] & B_BINARY)
        return (u8)value;
    return (u8)(value / 10 % 10 << 4 | value % 10);
}

static u32 decode(const struct rtc *rtc, u8 cell)
{
    if (rtc->cells[CELL_B] & B_BINARY)
        return cell;
    return (cell >> 4) * 10u + (cell & 15);
}

static u8 encode_hour(const struct rtc *rtc, u32 hour)
{
    if (rtc->cells[CELL_B] & B_24H)
        return encode(rtc, hour);
    return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static u32 decode_hour(const struct rtc *rtc, u8 cell)
{
    if (rtc->cells[CELL_B] & B_24H)
        return decode(rtc, cell);
    return decode(rtc, cell & (u8)~HOUR_PM) % 12 + (cell & HOUR_PM ? 12 : 0);
}

static void cells_from_time(struct rtc *rtc)
{
    struct rtc_time time;

    rtc_time_split(rtc_second(rtc), &time);
    rtc->cells[CELL_SECOND] = encode(rtc, time.second);
    rtc->cells[CELL_MINUTE] = encode(rtc, time.minute);
    rtc->cells[CELL_HOUR] = encode_hour(rtc, time.hour);
    rtc->cells[CELL_WEEKDAY] = encode(rtc, time.weekday);
    rtc->cells[CELL_DAY] = encode(rtc, time.day);
    rtc->cells[CELL_MONTH] = encode(rtc, time.month);
    rtc->cells[CELL_YEAR] = encode(rtc, (u32)time.year % 100);
    rtc->cells[CELL_CENTURY] = encode(rtc, (u32)time.year / 100 % 100);
}

static void time_from_cells(struct rtc *rtc)
{
    struct rtc_time time = {
        .second = decode(rtc, rtc->cells[CELL_SECOND]),
        .minute = decode(rtc, rtc->cells[CELL_MINUTE]),
        .hour = decode_hour(rtc, rtc->cells[CELL_HOUR]),
        .day = decode(rtc, rtc->cells[CELL_DAY]),
        .month = decode(rtc, rtc->cells[CELL_MONTH]),
        .year = (s32)(decode(rtc, rtc->cells[CELL_CENTURY]) * 100 +
                      decode(rtc, rtc->cells[CELL_YEAR])),
    };
    /* Cells can say years up to 25755: nanoseconds would not fit. */
    if (time.year > 2200)
        time.year = 2200;
    if (time.year < 1900)
        time.year = 1900;
    rtc->offset_ns = 0;
    rtc->offset_ns = rtc_time_join(&time) * NS_PER_SECOND - rtc_ns(rtc);
    rtc->seen_second = rtc_second(rtc);
}

static bool cell_is_time(unsigned cell)
{
    return cell == CELL_SECOND || cell == CELL_MINUTE || cell == CELL_CENTURY ||
           (cell >= CELL_HOUR && cell <= CELL_YEAR && cell != CELL_HOUR_ALARM);
}

/* ---- flags and interrupts
 * ------------------------------------------------------------------------ */

/* 0 when the periodic interrupt is off. */
static u64 period_ns(const struct rtc *rtc)
{
    unsigned rate = rtc->cells[CELL_A] & A_RATE;

    if (rate == 0)
        return 0;
    if (rate <= 2)
        rate += 7;
    return (NS_PER_SECOND * BIT(rate - 1)) / CRYSTAL_HZ;
}

static bool alarm_matches(const struct rtc *rtc, s64 second)
{
    u32 of_day = (u32)(((second % SECONDS_PER_DAY) + SECONDS_PER_DAY) % SECONDS_PER_DAY);
    const u8 *cells = rtc->cells;

    return (cells[CELL_SECOND_ALARM] >= ALARM_ANY ||
            decode(rtc, cells[CELL_SECOND_ALARM]) == of_day % 60) &&
           (cells[CELL_MINUTE_ALARM] >= ALARM_ANY ||
            decode(rtc, cells[CELL_MINUTE_ALARM]) == of_day / 60 % 60) &&
           (cells[CELL_HOUR_ALARM] >= ALARM_ANY ||
            decode_hour(rtc, cells[CELL_HOUR_ALARM]) == of_day / 3600);
}

/* Brings register C up to date with the clock, and the line with register C. */
static void flags_update(struct rtc *rtc)
{
    u8 *c = &rtc->cells[CELL_C];
    s64 second = rtc_second(rtc);
    u64 period = period_ns(rtc);

    if (!(rtc->cells[CELL_B] & B_SET) && second != rtc->seen_second) {
        s64 first = rtc->seen_second + 1;
        if (second < first || second - first >= SECONDS_PER_DAY)
            first = second < rtc->seen_second ? second : second - SECONDS_PER_DAY + 1;
        *c |= C_UF;
        for (s64 s = first; s <= second && !(*c & C_AF); s++) /* a day's seconds at most */
            if (alarm_matches(rtc, s))
                *c |= C_AF;
    }
    rtc->seen_second = second;
    if (period != 0) {
        u64 now_period = vm_clock_now(rtc->clock) / period;
        if (now_period != rtc->seen_period)
            *c |= C_PF;
        rtc->seen_period = now_period;
    }
    if (*c & rtc->cells[CELL_B] & (B_UIE | B_AIE | B_PIE))
        *c |= C_IRQF;
    irq_set(&rtc->irq, *c & C_IRQF);
}

static void timers_plan(struct rtc *rtc)
{
    u8 b = rtc->cells[CELL_B];
    u64 now_ns = vm_clock_now(rtc->clock);
    u64 period = period_ns(rtc);

    if ((b & (B_UIE | B_AIE)) && !(b & B_SET)) {
        s64 within = rtc_ns(rtc) % NS_PER_SECOND;
        if (within < 0)
            within += NS_PER_SECOND;
        timer_arm(&rtc->second_timer, now_ns + (u64)(NS_PER_SECOND - within));
    } else {
        timer_cancel(&rtc->second_timer);
    }
    if ((b & B_PIE) && period != 0)
        timer_arm(&rtc->periodic_timer, (now_ns / period + 1) * period);
    else
        timer_cancel(&rtc->periodic_timer);
}

static void rtc_fire(void *ctx)
{
    struct rtc *rtc = ctx;

    flags_update(rtc);
    timers_plan(rtc);
}

/* ---- ports
 * --------------------------------------------------------------------------------------- */

static u8 a_read(const struct rtc *rtc)
{
    u8 a = rtc->cells[CELL_A];
    s64 within = rtc_ns(rtc) % NS_PER_SECOND;

    if (within < 0)
        within += NS_PER_SECOND;
    if (!(rtc->cells[CELL_B] & B_SET) && within >= NS_PER_SECOND - UPDATE_NS)
        a |= A_UIP;
    return a;
}

static u8 cell_read(struct rtc *rtc, unsigned cell)
{
    u8 value;

    switch (cell) {
    case CELL_A:
        return a_read(rtc);
    case CELL_C:
        flags_update(rtc);
        value = rtc->cells[CELL_C];
        rtc->cells[CELL_C] = 0;
        irq_set(&rtc->irq, false);
        return value;
    case CELL_D:
        return D_VALID;
    default:
        if (cell_is_time(cell) && !(rtc->cells[CELL_B] & B_SET))
            cells_from_time(rtc);
        return rtc->cells[cell];
    }
}

static void b_write(struct rtc *rtc, u8 value)
{
    u8 old = rtc->cells[CELL_B];

    flags_update(rtc);
    if ((value & B_SET) && !(old & B_SET))
        cells_from_time(rtc);
    if (value & B_SET)
        value &= (u8)~B_UIE;
    rtc->cells[CELL_B] = value;
    if (!(value & B_SET) && (old & B_SET))
        time_from_cells(rtc);
    flags_update(rtc);
    timers_plan(rtc);
}

static void cell_write(struct rtc *rtc, unsigned cell, u8 value)
{
    switch (cell) {
    case CELL_A:
        rtc->cells[CELL_A] = value & (u8)~A_UIP;
        if (period_ns(rtc) != 0)
            rtc->seen_period = vm_clock_now(rtc->clock) / period_ns(rtc);
        timers_plan(rtc);
        break;
    case CELL_B:
        b_write(rtc, value);
        break;
    case CELL_C:
    case CELL_D:
        break;
    default:
        if (!cell_is_time(cell) || (rtc->cells[CELL_B] & B_SET)) {
            rtc->cells[cell] = value;
            break;
        }
        cells_from_time(rtc);
        rtc->cells[cell] = value;
        time_from_cells(rtc);
        timers_plan(rtc);
        break;
    }
}

static u8 rtc_read_byte(void *device, u64 offset)
{
    struct rtc *rtc = device;

    if (offset == 0)
        return 0xff; /* the index is write-only */
    return cell_read(rtc, rtc->index % CELL_COUNT);
}

static void rtc_write_byte(void *device, u64 offset, u8 value)
{
    struct rtc *rtc = device;

    if (offset == 0)
        rtc->index = value;
    else
        cell_write(rtc, rtc->index % CELL_COUNT, value);
}

static u64 rtc_read(void *device, u64 offset, unsigned bytes)
{
    return device_read_bytes(device, offset, bytes, rtc_read_byte);
}

static void rtc_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    device_write_bytes(device, offset, bytes, value, rtc_write_byte);
}

bool rtc_nmi_masked(const struct rtc *rtc)
{
    return rtc->index & INDEX_NMI_OFF;
}

/* ---- life
 * ---------------------------------------------------------------------------------------- */

/* RESET# clears the interrupt enables and flags; time and memory live on the battery. */
static void rtc_reset(void *device)
{
    struct rtc *rtc = device;

    rtc->cells[CELL_B] &= (u8) ~(B_PIE | B_AIE | B_UIE);
    rtc->cells[CELL_C] = 0;
    rtc->index = 0;
    irq_set(&rtc->irq, false);
    timers_plan(rtc);
}

static void fill_sizes(struct rtc *rtc, u64 below_4g_bytes, u64 above_4g_bytes)
{
    enum { MIB = 1 << 20, KIB = 1 << 10 };
    u64 above_1m = below_4g_bytes > MIB ? below_4g_bytes - MIB : 0;
    u64 above_16m = below_4g_bytes > 16 * MIB ? below_4g_bytes - 16 * MIB : 0;
    u64 high = min_u64(above_4g_bytes >> 16, 0xffffff);

    store_le16(&rtc->cells[CELL_BASE_KIB], (u16)min_u64(below_4g_bytes / KIB, 640));
    store_le16(&rtc->cells[CELL_EXTENDED_KIB], (u16)min_u64(above_1m / KIB, 0xffff));
    store_le16(&rtc->cells[CELL_EXTENDED_KIB_2], (u16)min_u64(above_1m / KIB, 0xffff));
    store_le16(&rtc->cells[CELL_EXTENDED_64KIB], (u16)min_u64(above_16m >> 16, 0xffff));
    store_le16(&rtc->cells[CELL_HIGH_64KIB], (u16)high);
    rtc->cells[CELL_HIGH_64KIB + 2] = (u8)(high >> 16);
}

static int rtc_loaded(void *device, struct err *err)
{
    struct rtc *rtc = device;
    s64 limit_ns = 6000000000ll * NS_PER_SECOND; /* 190 years each way */

    if (rtc->offset_ns > limit_ns || rtc->offset_ns < -limit_ns)
        return err_set(err, -EINVAL, "the clock is centuries away");
    rtc->cells[CELL_A] &= (u8)~A_UIP;
    irq_set(&rtc->irq, rtc->cells[CELL_C] & C_IRQF);
    return 0;
}

static void rtc_free(void *device)
{
    struct rtc *rtc = device;

    if (rtc) {
        timer_cancel(&rtc->second_timer);
        timer_cancel(&rtc->periodic_timer);
    }
    alloc_free(rtc);
}

struct rtc *rtc_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq,
                    u64 below_4g_bytes, u64 above_4g_bytes)
{
    struct rtc *rtc = new0(struct rtc);

    if (rtc == NULL)
        return NULL;
    rtc->clock = clock;
    rtc->irq = *irq;
    timer_init(&rtc->second_timer, clock, lock, rtc_fire, rtc);
    timer_init(&rtc->periodic_timer, clock, lock, rtc_fire, rtc);
    rtc->cells[CELL_A] = A_DIVIDER_32K | 6; /* 1024 Hz, as firmware sets it */
    rtc->cells[CELL_B] = B_24H;
    rtc->seen_second = rtc_second(rtc);
    fill_sizes(rtc, below_4g_bytes, above_4g_bytes);
    rtc_reset(rtc);
    return rtc;
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};
static const struct device_region rtc_regions[] = {{BUS_PORT, 0x70, 2, &rtc_ops}};
static const struct field rtc_fields[] = {
    FIELD(struct rtc, cells),
    FIELD(struct rtc, index),
    FIELD(struct rtc, offset_ns),
    FIELD(struct rtc, seen_second),
    FIELD(struct rtc, seen_period),
    FIELD_TIMER(struct rtc, second_timer),
    FIELD_TIMER(struct rtc, periodic_timer),
    FIELD_END,
};

const struct device_ops rtc_device = {
    .name = "rtc",
    .regions = rtc_regions,
    .region_count = ARRAY_LEN(rtc_regions),
    .fields = rtc_fields,
    .reset = rtc_reset,
    .loaded = rtc_loaded,
    .free = rtc_free,
};
