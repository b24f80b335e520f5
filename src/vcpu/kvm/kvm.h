/*
 * vcpu/kvm/kvm.h - the engine that runs guest code by Linux's KVM.
 *
 * Where KVM offers the split irq chip, local APICs, their timers and the paravirtual clock live in
 * the kernel (engine.in_kernel_lapic); else the machine's own serve, by exits.
 * An instruction that KVM reports it cannot emulate is done by our interpreter, and the guest goes
 * on.
 *
 * Threads: as vcpu/vcpu.h says. A thread that runs vCPUs must let SIGUSR1 through (host/thread.h).
 */
#ifndef VCPU_KVM_KVM_H
#define VCPU_KVM_KVM_H

#include "base/err.h"
#include "base/types.h"

struct cpuid_entry;
struct cpuid_model;
struct engine;
struct mem;

enum kvm_lapic { KVM_LAPIC_BEST, KVM_LAPIC_KERNEL, KVM_LAPIC_USER };

/* 0 when /dev/kvm opens, speaks our version, and the processor has VMX or SVM, so that KVM is what
 * a user wants; else -errno, and ERR says what is missing and what mends it. */
MUST_CHECK int kvm_usable(struct err *err);
/* The same without asking for VMX or SVM: KVM can be used, if only slowly. */
MUST_CHECK int kvm_present(struct err *err);

/* The leaves that KVM can show to guests on this host (for cpuid_config.host): at most MAX; how
 * many, or -errno. */
MUST_CHECK int kvm_host_cpuid(struct cpuid_entry *ret_entries, unsigned max, struct err *err);

/* A VM over MEM whose processors are MODEL (both borrowed, alive until the engine is freed). */
struct engine *kvm_engine_new(struct mem *mem, const struct cpuid_model *model, struct err *err);
/* The same with a choice of who keeps the local APICs; KVM_LAPIC_KERNEL fails where KVM cannot. */
struct engine *kvm_engine_new_lapic(struct mem *mem, const struct cpuid_model *model,
                                    enum kvm_lapic lapic, struct err *err);

#endif
