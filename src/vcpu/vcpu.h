/*
 * vcpu/vcpu.h - the contract between a machine and what executes its guest code: kvm, dbt, later
 * hv.
 *
 * An engine belongs to one VM and makes its vCPUs. One host thread runs each vCPU and is the only
 * one that calls vcpu_run, vcpu_get and vcpu_set on it (or anyone, while that thread is stopped).
 * vcpu_kick and vcpu_nmi come from any thread and do not block.
 *
 * Interrupts are pulled: where the guest can take one (IF set, no shadow), the engine asks
 * irq.pending(), and if true takes the vector with irq.ack(). Whoever makes an interrupt pending
 * kicks the vCPU afterwards. Where the engine holds the local APIC itself (in_kernel_lapic), the
 * pull serves only the PIC's INTR on vCPU 0, and messages go through engine_msi.
 */
#ifndef VCPU_VCPU_H
#define VCPU_VCPU_H

#include "base/err.h"
#include "base/types.h"
#include "core/exit.h"

struct mem;
struct counter_sink;
struct cpuid_model;
struct x86_state;
struct vcpu;
struct engine;

enum { VCPU_LAPIC_BYTES = 1024 };

/* The vCPU's source of external interrupts; called on the vCPU's thread. */
struct vcpu_irq {
    bool (*pending)(void *ctx);
    int (*ack)(void *ctx); /* the vector 0-255, or -1 when it has gone away */
    void *ctx;             /* borrowed */
    /* Borrowed: the local APIC's task priority, of which CR8 is bits 7:4. The engine takes CR8 from
     * it on entry and puts it back before pending() and on exit. Touched on the vCPU's thread only.
     * NULL where the engine holds the local APIC itself. */
    u8 *tpr;
};

struct vcpu_ops {
    /* Runs guest code until there is something to do; fills vcpu->exit. Finishes the instruction of
     * the last exit first. */
    void (*run)(struct vcpu *vcpu);
    /* Makes a run in progress, or the next one, return soon with EXIT_KICKED. Any thread. */
    void (*kick)(struct vcpu *vcpu);
    /* Makes an NMI pending and kicks. Any thread. */
    void (*nmi)(struct vcpu *vcpu);
    void (*get)(struct vcpu *vcpu, struct x86_state *ret_state);
    /* -EINVAL for a state that no processor can be in. */
    int (*set)(struct vcpu *vcpu, const struct x86_state *state);
    void (*free)(struct vcpu *vcpu);
    /* in_kernel_lapic only, else NULL: copies the local APIC's registers, laid out as in its page,
     * to PAGE, or (IS_SET) from it. IA32_APIC_BASE and IA32_TSC_DEADLINE are in x86_state, and must
     * be set first. 0 or -errno. The vCPU does not run. */
    int (*lapic)(struct vcpu *vcpu, u8 page[VCPU_LAPIC_BYTES], bool is_set);
};

/* What the machine asks of an engine before guest code runs on: bits of vcpu->wanted. Engines that
 * keep the local APIC themselves are not asked. */
enum vcpu_want {
    VCPU_FLUSH_TLB = 1, /* forget every cached translation of guest addresses, global ones too */
    VCPU_WAKE = 2       /* a HLT that it sleeps in is over, without an interrupt */
};

struct vcpu {
    const struct vcpu_ops *ops;
    struct engine *engine; /* borrowed */
    unsigned index;        /* also the APIC id */
    struct vm_exit exit;
    struct vcpu_irq irq;
    u32 wanted; /* enum vcpu_want; set on the vCPU's thread between runs, cleared by the engine */
    u64 tsc_offset; /* the guest's TSC minus the host's; the engine keeps it true between runs */
};

struct engine_ops {
    const char *name; /* "kvm", "dbt" */
    struct vcpu *(*vcpu_new)(struct engine *engine, unsigned index, struct err *err);
    /* Memory slots changed; no vCPU runs. */
    int (*memory_changed)(struct engine *engine, struct err *err);
    /* Brings MEM_DIRTY up to date with what the engine knows of written pages. Who collects them
     * clears the flags he finds, calls this, and then reads the pages: each write is in what he
     * reads or marks its page again. Any thread but a running vCPU's. */
    void (*dirty_sync)(struct engine *engine);
    /* Tells the counters of the vCPU INDEX. Any thread. May be NULL: the engine has none. */
    void (*counters)(struct engine *engine, unsigned index, const struct counter_sink *sink);
    /* in_kernel_lapic only: delivers a message. Any thread. */
    void (*msi)(struct engine *engine, u64 address, u32 data);
    void (*free)(struct engine *engine);
};

struct engine {
    const struct engine_ops *ops;
    struct mem *mem;                 /* borrowed */
    const struct cpuid_model *cpuid; /* borrowed */
    bool in_kernel_lapic;
    bool in_kernel_pvclock; /* the engine answers the kvm-clock MSRs itself */
};

static inline void vcpu_run(struct vcpu *vcpu)
{
    vcpu->ops->run(vcpu);
}

static inline void vcpu_kick(struct vcpu *vcpu)
{
    vcpu->ops->kick(vcpu);
}

#endif
