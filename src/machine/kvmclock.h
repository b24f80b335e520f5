/*
 * machine/kvmclock.h - the paravirtual clock that Linux guests read from shared memory (kvm-clock).
 *
 * One time base for all vCPUs: a pair of host TSC and VM time, taken when the clock is bound. Each
 * vCPU's page gets it shifted by that vCPU's TSC offset, so all vCPUs read the same time, and the
 * stable bit is true. Threads: kvmclock_msr_* and kvmclock_follow on the vCPU's thread;
 * kvmclock_rebase and _reset while no vCPU runs. Trust: addresses come from the guest; pages that
 * are not RAM are refused.
 */
#ifndef MACHINE_KVMCLOCK_H
#define MACHINE_KVMCLOCK_H

#include "base/lock.h"
#include "base/types.h"
#include "core/state.h"

struct mem;
struct vm_clock;

enum { KVMCLOCK_CPUS_MAX = 256 };

struct kvmclock_cpu {
    u64 system_time_msr; /* as the guest wrote it; bit 0: enabled */
    u64 tsc_offset;      /* what the page was written with */
};

struct kvmclock {
    struct mem *mem;        /* borrowed */
    struct vm_clock *clock; /* borrowed */
    struct lock lock;       /* of the wall clock */
    u32 multiplier;         /* nanoseconds = (shifted ticks * multiplier) >> 32 */
    s8 shift;
    u64 base_tsc, base_ns; /* host TSC and VM time at the same moment */
    u64 wall_clock_msr;
    struct kvmclock_cpu cpus[KVMCLOCK_CPUS_MAX];
};

void kvmclock_init(struct kvmclock *kvmclock, struct mem *mem, struct vm_clock *clock, u64 tsc_hz);
/* Takes the time base again: after the VM clock was started, and after loading. Pages that the
 * guest has registered are written again by kvmclock_follow. */
void kvmclock_rebase(struct kvmclock *kvmclock);
/* Forgets what the guest registered. */
void kvmclock_reset(struct kvmclock *kvmclock);

bool kvmclock_msr_is_mine(u32 msr);
/* Return false for #GP(0). TSC_OFFSET is the vCPU's TSC minus the host's. */
MUST_CHECK bool kvmclock_msr_read(struct kvmclock *kvmclock, unsigned cpu, u32 msr, u64 *ret_value);
MUST_CHECK bool kvmclock_msr_write(struct kvmclock *kvmclock, unsigned cpu, u64 tsc_offset, u32 msr,
                                   u64 value);
/* Writes the vCPU's page again when its TSC offset is no longer what the page says. Cheap. */
void kvmclock_follow(struct kvmclock *kvmclock, unsigned cpu, u64 tsc_offset);

extern const struct field kvmclock_fields[];

#endif
