/*
 * dev/rtc_time.h - calendar dates of the proleptic Gregorian calendar to seconds and back.
 */
#ifndef DEV_RTC_TIME_H
#define DEV_RTC_TIME_H

#include "base/types.h"

struct rtc_time {
    s32 year;
    u32 month; /* 1 to 12 */
    u32 day;   /* 1 to 31 */
    u32 hour, minute, second;
    u32 weekday; /* 1 is Sunday */
};

/* SECONDS since 1970-01-01 00:00, which may be negative. */
void rtc_time_split(s64 seconds, struct rtc_time *ret_time);
/* Fields out of range carry over into the next larger one; weekday is not read. */
s64 rtc_time_join(const struct rtc_time *time);

#endif
