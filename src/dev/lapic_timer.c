/*
 * dev/lapic_timer.c - the local APIC's timer: one-shot, periodic, and by the time stamp counter.
 *
 * Spec   Intel SDM vol. 3A 11.5.4. The bus clock is 1 GHz: a tick of the undivided timer is 1 ns.
 * Runs   on the vCPU's thread, but for timer_fire, which runs on the loop.
 * Trust  counts, divisors and deadlines come from the guest.
 *
 * Only the vCPU's thread decides that the timer has expired. The VM clock's timer does no more than
 * leave a note and kick, so it may come late, early or twice.
 */
#include "dev/lapic_priv.h"

/* A guest may ask for a period of 1 ns; interrupts at this distance still let it make progress. */
enum { PERIOD_MIN_NS = 50000, NS_PER_SECOND = 1000000000 };
enum { TSC_SECONDS_MAX = 1 << 30 };

static enum apic_timer_mode timer_mode(const struct lapic *lapic)
{
    unsigned mode = (lapic->lvt[LVT_TIMER] >> LVT_TIMER_MODE_SHIFT) & 3;
    return mode == 3 ? TIMER_ONE_SHOT : (enum apic_timer_mode)mode;
}

/* 1 to 128; bits 3, 1 and 0 of the register. */
static u64 timer_divisor(const struct lapic *lapic)
{
    unsigned code = (lapic->timer_divide & 3) | (lapic->timer_divide & 8) >> 1;
    return 1ull << ((code + 1) & 7);
}

static u64 timer_period_ns(const struct lapic *lapic)
{
    return lapic->timer_initial * timer_divisor(lapic);
}

static void timer_fire(void *ctx)
{
    struct lapic *lapic = ctx;

    __atomic_fetch_or(&lapic->notes, NOTE_TIMER, __ATOMIC_RELAXED);
    lapic_notify(lapic, NULL);
}

void lapic_timer_setup(struct lapic *lapic)
{
    timer_init(&lapic->timer, lapic->bus->clock, NULL, timer_fire, lapic);
}

static void timer_set(struct lapic *lapic, u64 deadline_ns)
{
    lapic->timer_deadline_ns = deadline_ns;
    if (deadline_ns == TIMER_NEVER)
        timer_cancel(&lapic->timer);
    else
        timer_arm(&lapic->timer, deadline_ns);
}

void lapic_timer_stop(struct lapic *lapic)
{
    lapic->timer_initial = 0;
    lapic->tsc_deadline = 0;
    timer_set(lapic, TIMER_NEVER);
}

void lapic_timer_initial_write(struct lapic *lapic, u32 value)
{
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    lapic->timer_initial = value;
    if (value == 0) {
        timer_set(lapic, TIMER_NEVER);
        return;
    }
    lapic->timer_start_ns = vm_clock_now(lapic->bus->clock);
    timer_set(lapic, lapic->timer_start_ns + timer_period_ns(lapic));
}

u32 lapic_timer_current(const struct lapic *lapic)
{
    if (lapic->timer_initial == 0 || lapic->timer_deadline_ns == TIMER_NEVER ||
        timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return 0;
    u64 now_ns = vm_clock_now(lapic->bus->clock);
    u64 period_ns = timer_period_ns(lapic);
    u64 gone_ns = now_ns > lapic->timer_start_ns ? now_ns - lapic->timer_start_ns : 0;

    if (timer_mode(lapic) == TIMER_PERIODIC)
        gone_ns %= period_ns;
    else if (gone_ns >= period_ns)
        return 0;
    return (u32)((period_ns - gone_ns) / timer_divisor(lapic));
}

void lapic_timer_divide_write(struct lapic *lapic, u32 value)
{
    u32 current = lapic_timer_current(lapic);

    lapic->timer_divide = value & 0xb;
    if (lapic->timer_deadline_ns == TIMER_NEVER || timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    /* The count goes on from where it is, at the new rate. */
    u64 left_ns = current * timer_divisor(lapic);
    u64 now_ns = vm_clock_now(lapic->bus->clock);
    u64 gone_ns = timer_period_ns(lapic) - left_ns;
    lapic->timer_start_ns = now_ns > gone_ns ? now_ns - gone_ns : 0;
    timer_set(lapic, now_ns + left_ns);
}

void lapic_timer_mode_changed(struct lapic *lapic, u32 old_lvt)
{
    u32 old_mode = (old_lvt >> LVT_TIMER_MODE_SHIFT) & 3;

    if ((old_mode == TIMER_TSC_DEADLINE) != (timer_mode(lapic) == TIMER_TSC_DEADLINE))
        lapic_timer_stop(lapic);
}

/* The VM time at which the guest's TSC, NOW_TSC at NOW_NS, reaches DEADLINE. Rounded up. */
static u64 tsc_to_ns(const struct lapic *lapic, u64 deadline, u64 now_tsc, u64 now_ns)
{
    u64 hz = lapic->bus->host.tsc_hz;
    u64 ticks = deadline - now_tsc;
    u64 seconds = min_u64(ticks / hz, TSC_SECONDS_MAX);

    /* A frequency below 18 GHz keeps the product within 64 bits. */
    return now_ns + seconds * NS_PER_SECOND + ticks % hz * NS_PER_SECOND / hz + 1;
}

static void tsc_deadline_check(struct lapic *lapic)
{
    u64 now_tsc = lapic->bus->host.guest_tsc(lapic->bus->host.ctx, lapic->index);

    if (lapic->tsc_deadline > now_tsc) {
        u64 now_ns = vm_clock_now(lapic->bus->clock);
        timer_set(lapic, tsc_to_ns(lapic, lapic->tsc_deadline, now_tsc, now_ns));
        return;
    }
    lapic->tsc_deadline = 0;
    timer_set(lapic, TIMER_NEVER);
    lapic_lvt_raise(lapic, LVT_TIMER);
}

void lapic_tsc_deadline_write(struct lapic *lapic, u64 value)
{
    if (timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->tsc_deadline = value;
    if (value == 0)
        timer_set(lapic, TIMER_NEVER);
    else
        tsc_deadline_check(lapic);
}

u64 lapic_tsc_deadline_read(const struct lapic *lapic)
{
    return timer_mode(lapic) == TIMER_TSC_DEADLINE ? lapic->tsc_deadline : 0;
}

void lapic_timer_resume(struct lapic *lapic, u32 current, u64 tsc_deadline)
{
    u64 now_ns = vm_clock_now(lapic->bus->clock);

    lapic->tsc_deadline = 0;
    timer_set(lapic, TIMER_NEVER);
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE) {
        lapic_tsc_deadline_write(lapic, tsc_deadline);
    } else if (current != 0 && lapic->timer_initial != 0) {
        u64 left_ns = current * timer_divisor(lapic);
        u64 period_ns = max_u64(timer_period_ns(lapic), left_ns);
        lapic->timer_start_ns = now_ns + left_ns - period_ns;
        timer_set(lapic, now_ns + left_ns);
    }
}

u64 lapic_next_deadline_ns(const struct lapic *lapic)
{
    return lapic->timer_deadline_ns;
}

void lapic_timer_poll(struct lapic *lapic)
{
    if (lapic->timer_deadline_ns == TIMER_NEVER)
        return;
    u64 now_ns = vm_clock_now(lapic->bus->clock);
    if (now_ns < lapic->timer_deadline_ns)
        return;
    if (timer_mode(lapic) == TIMER_TSC_DEADLINE) {
        tsc_deadline_check(lapic);
        return;
    }
    if (timer_mode(lapic) == TIMER_PERIODIC) {
        /* Periods that went by unseen are dropped, not made up for. */
        u64 period_ns = max_u64(timer_period_ns(lapic), 1);
        u64 gone_ns = now_ns - lapic->timer_start_ns;
        lapic->timer_start_ns += gone_ns / period_ns * period_ns;
        timer_set(lapic, period_ns < PERIOD_MIN_NS ? now_ns + PERIOD_MIN_NS
                                                   : lapic->timer_start_ns + period_ns);
    } else {
        timer_set(lapic, TIMER_NEVER);
    }
    lapic_lvt_raise(lapic, LVT_TIMER);
}
