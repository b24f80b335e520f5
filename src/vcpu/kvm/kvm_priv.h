/*
 * vcpu/kvm/kvm_priv.h - the engine's parts: the VM (kvm.c), a vCPU's run loop (kvm_vcpu.c), what
 * its exits mean (kvm_exit.c), its registers (kvm_state.c, kvm_msr.c), and single instructions done
 * by the interpreter (kvm_step.c).
 */
#ifndef VCPU_KVM_KVM_PRIV_H
#define VCPU_KVM_KVM_PRIV_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "core/mem.h"
#include "vcpu/kvm/kvm.h"
#include "vcpu/vcpu.h"
#include "x86/regs.h"

struct cpu;
struct cpu_group;

enum { KVM_ROUTES = 24, KVM_CPUS_MAX = 255 };

struct kvm_engine {
    struct engine engine;
    int kvm_fd, vm_fd;
    size_t run_bytes; /* of each vCPU's shared page */
    bool has_sregs2;
    bool has_tsc_attr; /* the TSC offset of a vCPU can be read and written */

    struct mem_slot slots[MEM_SLOTS_MAX]; /* as KVM knows them */
    unsigned slot_count;

    struct lock lock; /* guards what follows */
    bool logs_dirty;  /* pages are tracked; begins with the first dirty_sync */
    u64 tsc_offset;   /* of the vCPU that was set last; others are drawn to it */
    bool tsc_offset_known;
    struct { /* level-triggered messages that were seen: their vectors' EOIs come to us */
        u64 address;
        u32 data;
    } routes[KVM_ROUTES];
    unsigned route_count, route_next;
    struct cpu_group *group; /* owned; made when the interpreter first helps */
    u64 bad_msrs;            /* bit n: entry n of the MSR table is not there */
    bool bad_msrs_known;
};

/* What of an exit the machine still has to answer: one access after the other. */
struct kvm_access {
    enum vm_exit_kind kind;
    u8 *data; /* in the shared page */
    u64 address;
    bool is_advancing; /* MMIO: the address grows with the data; ports do not */
    unsigned unit;     /* bytes of each access; 0: the largest power of two that is left */
    unsigned total_bytes, done_bytes;
};

struct kvm_vcpu {
    struct vcpu vcpu;
    struct kvm_engine *engine; /* borrowed */
    int fd;
    struct kvm_run *run; /* owned: mapped */
    int thread_id;       /* of the thread inside KVM_RUN */

    u32 is_running; /* atomic */
    u32 is_kicked;  /* atomic */
    u32 nmi_wanted; /* atomic */

    bool is_open;      /* the last exit's instruction must be finished by entering KVM again */
    bool is_asked;     /* vcpu->exit is an access or MSR that the machine answers by the next run */
    bool has_exit;     /* the shared page holds an exit that nobody has looked at */
    bool window_stale; /* what the page says about taking interrupts is not true any more */
    bool is_halted;    /* KVM_LAPIC_USER: the last exit was HLT */
    struct kvm_access access; /* total_bytes 0: none */
    struct cpu *cpu;          /* owned: the interpreter, once it was needed */
    u64 stepped_count;        /* instructions that it did */
    bool is_stepping;         /* in it: its exit is the one the machine answers */
};

static inline struct kvm_vcpu *kvm_vcpu_of(struct vcpu *vcpu)
{
    return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* ioctl(2) that goes on after signals; -errno on failure. */
int kvm_ioctl(int fd, unsigned long request, void *argument);

struct vcpu *kvm_vcpu_new(struct engine *engine, unsigned index, struct err *err);

/* Translates the exit in the shared page to vcpu->exit; false: there is nothing for the machine. */
bool kvm_exit_read(struct kvm_vcpu *kvm);
/* Gives KVM the machine's answer to the last access; true: the same exit has another access, which
 * SHOW_NEXT puts into vcpu->exit. */
bool kvm_exit_answer(struct kvm_vcpu *kvm, bool show_next);
void kvm_exit_fail(struct kvm_vcpu *kvm, const char *reason);
/* Enters KVM only to finish the instruction of the last exit. Where that has more accesses to make
 * (a string instruction), it stays open, and a state that is read now is that of before it. */
void kvm_vcpu_close(struct kvm_vcpu *kvm);

void kvm_state_get(struct kvm_vcpu *kvm, struct x86_state *ret_state);
/* IS_WHOLE: also time, activity and (in the kernel) the local APIC, which is reset. */
int kvm_state_set(struct kvm_vcpu *kvm, const struct x86_state *state, bool is_whole);
/* vcpu_ops.lapic */
int kvm_state_lapic(struct vcpu *vcpu, u8 page[VCPU_LAPIC_BYTES], bool is_set);
/* MSRs that struct x86_state has and KVM too; EFER and IA32_APIC_BASE go with the control
 * registers. */
void kvm_msrs_get(struct kvm_vcpu *kvm, struct x86_msrs *msrs);
int kvm_msrs_set(struct kvm_vcpu *kvm, const struct x86_msrs *msrs);
u64 kvm_pvclock_get(struct kvm_vcpu *kvm);
void kvm_pvclock_set(struct kvm_vcpu *kvm, u64 ns);
void kvm_tsc_set(struct kvm_vcpu *kvm, u64 tsc);
/* Brings vcpu.tsc_offset up to date. */
void kvm_tsc_follow(struct kvm_vcpu *kvm);

/* Lets the interpreter do the next instruction; true: vcpu->exit holds what it asks the machine, or
 * why that failed; false: done, KVM may go on. */
bool kvm_step_begin(struct kvm_vcpu *kvm);
bool kvm_step_continue(struct kvm_vcpu *kvm);
void kvm_step_free(struct kvm_vcpu *kvm);

#endif
