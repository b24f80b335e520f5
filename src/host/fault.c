/*
 * host/fault.c - counts host calls and fails the one a test has chosen.
 *
 * Runs   on any thread.
 */
#include "host/fault.h"

bool fault_armed;

static enum fault_point armed_point;
static u64 armed_nth;
static int armed_code;
static u64 call_count;

int fault_check(enum fault_point point)
{
    if (armed_point != FAULT_ANY && armed_point != point)
        return 0;
    u64 nth = __atomic_add_fetch(&call_count, 1, __ATOMIC_RELAXED);
    return nth == armed_nth ? armed_code : 0;
}

void fault_arm(enum fault_point point, u64 nth, int code)
{
    armed_point = point;
    armed_nth = nth;
    armed_code = code;
    __atomic_store_n(&call_count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&fault_armed, true, __ATOMIC_RELEASE);
}

u64 fault_disarm(void)
{
    __atomic_store_n(&fault_armed, false, __ATOMIC_RELEASE);
    return __atomic_load_n(&call_count, __ATOMIC_RELAXED);
}
