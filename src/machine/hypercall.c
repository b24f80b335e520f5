/*
 * machine/hypercall.c - answers KVM's hypercalls, which Linux guests use where CPUID offers them.
 *
 * Spec   Linux Documentation/virt/kvm/x86/hypercalls.rst; features in cpuid.rst.
 * Runs   on the calling vCPU's thread. The engine has checked CPL 0.
 * Trust  numbers and operands come from the guest.
 */
#include "base/bits.h"
#include "dev/lapic.h"
#include "machine/machine_priv.h"
#include "vcpu/vcpu.h"
#include "x86/cpuid.h"

enum hypercall {
    HYPERCALL_KICK_CPU = 5,    /* RCX: the APIC id of a vCPU in HLT */
    HYPERCALL_SEND_IPI = 10,   /* RBX, RCX: bitmap; RDX: the APIC id of its bit 0; RSI: ICR */
    HYPERCALL_SCHED_YIELD = 11 /* RBX: the APIC id of a vCPU that should run */
};

/* KVM's numbers of errors, which are not all Linux's. */
enum { HYPERCALL_EINVAL = 22, HYPERCALL_ENOSYS = 1000 };

/* Of the ICR: destination mode, trigger and shorthand have no meaning beside a bitmap. */
enum { ICR_DESTINATION_LOGICAL = 1 << 11, ICR_SHORTHAND = 3 << 18 };

static s64 send_ipi(struct machine *machine, const struct vcpu *vcpu)
{
    const struct vm_exit *exit = &vcpu->exit;
    struct lapic_ipi ipi = {.bitmaps = {exit->args[0], exit->args[1]},
                            .word_bits = exit->bytes * 8u,
                            .first = (u32)exit->args[2],
                            .icr = (u32)exit->args[3]};

    if (ipi.icr & (ICR_DESTINATION_LOGICAL | ICR_SHORTHAND))
        return -HYPERCALL_EINVAL;
    return lapic_send_ipi(apic_bus_lapic(machine->apic_bus, vcpu->index), &ipi);
}

static s64 answer(struct machine *machine, const struct vcpu *vcpu)
{
    const struct machine_host *host = &machine->config.host;
    const struct vm_exit *exit = &vcpu->exit;
    u32 features = machine->kvm_features;

    if (machine_has_kernel_lapic(machine))
        return -HYPERCALL_ENOSYS; /* the engine's own would have come here never */
    if (exit->address == HYPERCALL_KICK_CPU && (features & CPUID_KVM_PV_UNHALT)) {
        apic_bus_kick(machine->apic_bus, exit->args[1]);
        return 0;
    }
    if (exit->address == HYPERCALL_SEND_IPI && (features & CPUID_KVM_PV_SEND_IPI))
        return send_ipi(machine, vcpu);
    if (exit->address == HYPERCALL_SCHED_YIELD && (features & CPUID_KVM_PV_SCHED_YIELD)) {
        host->yield(host->ctx);
        return 0;
    }
    return -HYPERCALL_ENOSYS;
}

u64 machine_hypercall(struct machine *machine, const struct vcpu *vcpu)
{
    return (u64)answer(machine, vcpu);
}
