/*
 * dev/rtc_time.c - calendar arithmetic.
 *
 * Runs   anywhere.
 * Trust  any field may hold any value: there is no loop and no table.
 *
 * Years are counted from March, so that the day that leap years add is the last one.
 */
#include "dev/rtc_time.h"

enum { DAYS_PER_ERA = 146097, YEARS_PER_ERA = 400, EPOCH_DAY = 719468, SECONDS_PER_DAY = 86400 };

static s64 floor_divide(s64 value, s64 by)
{
    return value / by - (value % by < 0);
}

void rtc_time_split(s64 seconds, struct rtc_time *ret_time)
{
    s64 days = floor_divide(seconds, SECONDS_PER_DAY);
    u32 second = (u32)(seconds - days * SECONDS_PER_DAY);
    s64 shifted = days + EPOCH_DAY;
    s64 era = floor_divide(shifted, DAYS_PER_ERA);
    u32 day_of_era = (u32)(shifted - era * DAYS_PER_ERA);
    u32 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
                       day_of_era / (DAYS_PER_ERA - 1)) /
                      365;
    u32 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    u32 month_from_march = (5 * day_of_year + 2) / 153;

    ret_time->day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    ret_time->month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    ret_time->year = (s32)(era * YEARS_PER_ERA + year_of_era) + (ret_time->month <= 2);
    ret_time->hour = second / 3600;
    ret_time->minute = second / 60 % 60;
    ret_time->second = second % 60;
    ret_time->weekday = (u32)(days + 4 - floor_divide(days + 4, 7) * 7) + 1; /* a Thursday */
}

s64 rtc_time_join(const struct rtc_time *time)
{
    s64 months = (s64)time->year * 12 + time->month - 3; /* from March */
    s64 year = floor_divide(months, 12);
    s64 month_from_march = months - year * 12;
    s64 era = floor_divide(year, YEARS_PER_ERA);
    s64 year_of_era = year - era * YEARS_PER_ERA;
    s64 day_of_year = (153 * month_from_march + 2) / 5 + time->day - 1;
    s64 day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    s64 days = era * DAYS_PER_ERA + day_of_era - EPOCH_DAY;

    return days * SECONDS_PER_DAY + time->hour * 3600ll + time->minute * 60ll + time->second;
}
