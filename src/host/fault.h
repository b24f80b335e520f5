/*
 * host/fault.h - makes a chosen host call fail, so that a test can walk every error path.
 *
 * Every wrapper of a host call asks host_fault() first and, when the answer is not 0, returns that
 * error without making the call. Off, this costs one load and one predicted branch.
 * Threads: host_fault comes from any thread; arming and disarming from a test with no call under
 * way.
 */
#ifndef HOST_FAULT_H
#define HOST_FAULT_H

#include "base/types.h"

enum fault_point {
    FAULT_ANY, /* for fault_arm: every point counts */
    FAULT_MEMORY,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_ALLOCATE, /* fallocate, ftruncate */
    FAULT_STAT,
    FAULT_LOCK,
    FAULT_MAP,
    FAULT_SOCKET,
    FAULT_SPAWN,
    FAULT_THREAD,
    FAULT_RING, /* io_uring set-up and submission */
    FAULT_POINT_COUNT
};

extern bool fault_armed;

/* Counts the call and says whether it is the chosen one; behind host_fault(). */
int fault_check(enum fault_point point);

/* 0, or the negative errno with which this call must fail. */
static inline int host_fault(enum fault_point point)
{
    return unlikely(fault_armed) ? fault_check(point) : 0;
}

/* From now on call number NTH (from 1; 0: none, count only) at POINT fails with CODE (negative). */
void fault_arm(enum fault_point point, u64 nth, int code);
/* Stops; returns how many calls at the armed point were counted. */
u64 fault_disarm(void);

#endif
