/*
 * dev/rtc.h - the MC146818 real-time clock with CMOS memory (ports 0x70 and 0x71).
 *
 * The clock shows the host's real time plus an offset that the guest sets by writing the time; it
 * survives reset. Threads: handlers and timers under the lock given to rtc_new.
 */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "core/clock.h"
#include "core/irq.h"
#include "dev/device.h"

struct rtc;

/* BELOW_4G_BYTES and ABOVE_4G_BYTES fill the memory size cells. NULL when out of memory. */
struct rtc *rtc_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq,
                    u64 below_4g_bytes, u64 above_4g_bytes);
/* Port 0x70's bit 7: NMIs are masked. */
bool rtc_nmi_masked(const struct rtc *rtc);

extern const struct device_ops rtc_device;

#endif
