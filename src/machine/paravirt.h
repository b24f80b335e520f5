/*
 * machine/paravirt.h - what a Linux guest and its host tell each other about processor time: stolen
 * time, and which vCPUs sleep.
 *
 * A guest registers a structure for each vCPU by MSR_KVM_STEAL_TIME. While the vCPU sleeps in HLT
 * its `preempted` flag is set; others that would have it flush its TLB then set a second flag in
 * place of an interrupt, and it flushes when it wakes. A vCPU that waits for a lock halts and is
 * woken by a hypercall (paravirt_kick).
 *
 * Threads: all of a vCPU's on its thread; paravirt_init and _reset while no vCPU runs. Trust: the
 * addresses come from the guest, and each access to them is checked anew; what the structure says
 * is only ever used as a flag.
 */
#ifndef MACHINE_PARAVIRT_H
#define MACHINE_PARAVIRT_H

#include "base/types.h"
#include "core/state.h"

struct mem;

enum { PARAVIRT_CPUS_MAX = 64 };

struct paravirt_cpu {
    u64 steal_msr; /* as the guest wrote it; bit 0: enabled */
    u64 stolen_ns; /* what the guest has been told since it began */
    u64 waited_ns; /* clock_thread_waited_ns when last looked at; not saved */
    u64 look_tsc;  /* the host's TSC from which it is to be looked at again; not saved */
    u32 is_asleep; /* the preempted flag has been set */
    u32 is_kicked; /* a kick came while it did not sleep: its next HLT is over at once */
};

struct paravirt {
    struct mem *mem; /* borrowed */
    u64 look_ticks;  /* TSC ticks between two looks at the time that was stolen */
    struct paravirt_cpu cpus[PARAVIRT_CPUS_MAX];
};

void paravirt_init(struct paravirt *paravirt, struct mem *mem, u64 tsc_hz);
/* Forgets what the guest registered: of one vCPU (its INIT), or of all. */
void paravirt_cpu_reset(struct paravirt *paravirt, unsigned cpu);
void paravirt_reset(struct paravirt *paravirt);
/* Threads are new: what they waited counts from here. */
void paravirt_rebase(struct paravirt *paravirt);

bool paravirt_msr_is_mine(u32 msr);
/* Return false for #GP(0). */
MUST_CHECK bool paravirt_msr_read(const struct paravirt *paravirt, unsigned cpu, u32 msr,
                                  u64 *ret_value);
MUST_CHECK bool paravirt_msr_write(struct paravirt *paravirt, unsigned cpu, u32 msr, u64 value);

/* Before guest code runs: tells the guest of stolen time every few milliseconds. Cheap. */
void paravirt_follow(struct paravirt *paravirt, unsigned cpu);
/* The vCPU is about to sleep in HLT; may be repeated. False: a kick has come already, it must not
 * sleep. */
MUST_CHECK bool paravirt_sleep(struct paravirt *paravirt, unsigned cpu);
/* It runs again. True: others have left it to flush its TLB now. */
MUST_CHECK bool paravirt_wake(struct paravirt *paravirt, unsigned cpu);
/* A kick by another vCPU has reached CPU's thread. */
void paravirt_kick(struct paravirt *paravirt, unsigned cpu);

extern const struct field paravirt_fields[];

#endif
