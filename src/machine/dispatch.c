/*
 * machine/dispatch.c - does what a vCPU's exit asks for, and decides whether it may run on.
 *
 * Spec   Intel SDM vol. 3A 8.4.2 (INIT and SIPI), 11.4.1 (the local APIC's page); vol. 2 HLT.
 * Runs   on the vCPU's thread.
 * Trust  addresses and values come from the guest; bus.c and lapic.c check them.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "dev/irqchip.h"
#include "dev/lapic.h"
#include "machine/machine_priv.h"
#include "vcpu/vcpu.h"
#include "x86/cpuid.h"
#include "x86/msr.h"
#include "x86/regs.h"

bool machine_has_kernel_lapic(const struct machine *machine)
{
    return machine->engine && machine->engine->in_kernel_lapic;
}

static struct lapic *lapic_of(struct machine *machine, const struct vcpu *vcpu)
{
    return apic_bus_lapic(machine->apic_bus, vcpu->index);
}

/* The local APIC's page is seen by its own vCPU only, so it is not on the bus. */
static bool on_lapic_page(struct machine *machine, const struct vcpu *vcpu, u64 *ret_offset)
{
    if (machine_has_kernel_lapic(machine))
        return false;
    u64 base = lapic_mmio_base(lapic_of(machine, vcpu));
    *ret_offset = vcpu->exit.address - base;
    return base != UINT64_MAX && vcpu->exit.address >= base &&
           *ret_offset <= MEMMAP_LAPIC_BYTES - vcpu->exit.bytes;
}

static void read_mmio(struct machine *machine, struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    u64 offset;

    if (on_lapic_page(machine, vcpu, &offset))
        exit->value = lapic_read(lapic_of(machine, vcpu), offset, exit->bytes);
    else
        exit->value = bus_read(&machine->bus, BUS_MMIO, exit->address, exit->bytes);
}

static void write_mmio(struct machine *machine, struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    u64 offset;

    if (on_lapic_page(machine, vcpu, &offset))
        lapic_write(lapic_of(machine, vcpu), offset, exit->bytes, exit->value);
    else
        bus_write(&machine->bus, BUS_MMIO, exit->address, exit->bytes, exit->value);
}

/* False for a paravirtual MSR that CPUID does not offer. */
static bool msr_offered(const struct machine *machine, u32 msr)
{
    if (msr == X86_MSR_KVM_EOI_EN)
        return machine->kvm_features & CPUID_KVM_PV_EOI;
    if (msr == X86_MSR_KVM_STEAL_TIME)
        return machine->kvm_features & CPUID_KVM_STEAL_TIME;
    return true;
}

static void read_msr(struct machine *machine, struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    u32 msr = (u32)exit->address;
    bool ok = false;

    if (!msr_offered(machine, msr))
        ok = false;
    else if (lapic_msr_is_mine(msr))
        ok = lapic_msr_read(lapic_of(machine, vcpu), msr, &exit->value);
    else if (kvmclock_msr_is_mine(msr))
        ok = kvmclock_msr_read(&machine->kvmclock, vcpu->index, msr, &exit->value);
    else if (paravirt_msr_is_mine(msr))
        ok = paravirt_msr_read(&machine->paravirt, vcpu->index, msr, &exit->value);
    exit->msr_fault = !ok;
}

static void write_msr(struct machine *machine, struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    u32 msr = (u32)exit->address;
    bool ok = false;

    if (!msr_offered(machine, msr))
        ok = false;
    else if (lapic_msr_is_mine(msr))
        ok = lapic_msr_write(lapic_of(machine, vcpu), msr, exit->value);
    else if (kvmclock_msr_is_mine(msr))
        ok = kvmclock_msr_write(&machine->kvmclock, vcpu->index, vcpu->tsc_offset, msr,
                                exit->value);
    else if (paravirt_msr_is_mine(msr))
        ok = paravirt_msr_write(&machine->paravirt, vcpu->index, msr, exit->value);
    exit->msr_fault = !ok;
}

/* An interrupt that is pending although the vCPU halts is one that it cannot take: then only an NMI
 * or INIT wakes it, and it must not be run again for nothing. */
static void halt(struct machine *machine, struct vcpu *vcpu)
{
    struct machine_cpu *cpu = &machine->cpus[vcpu->index];

    cpu->halted = true;
    cpu->nmi_only = false;
    if (machine_has_kernel_lapic(machine) || !lapic_pending(lapic_of(machine, vcpu)))
        return;
    struct x86_state state;
    vcpu->ops->get(vcpu, &state);
    cpu->nmi_only = !(state.rflags & X86_IF);
}

bool machine_dispatch(struct machine *machine, struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    const struct machine_host *host = &machine->config.host;

    switch (exit->kind) {
    case EXIT_KICKED:
        return true;
    case EXIT_PORT_READ:
        exit->value = bus_read(&machine->bus, BUS_PORT, exit->address, exit->bytes);
        return true;
    case EXIT_PORT_WRITE:
        bus_write(&machine->bus, BUS_PORT, exit->address, exit->bytes, exit->value);
        return true;
    case EXIT_MMIO_READ:
        read_mmio(machine, vcpu);
        return true;
    case EXIT_MMIO_WRITE:
        write_mmio(machine, vcpu);
        return true;
    case EXIT_MSR_READ:
        read_msr(machine, vcpu);
        return true;
    case EXIT_MSR_WRITE:
        write_msr(machine, vcpu);
        return true;
    case EXIT_HYPERCALL:
        exit->value = machine_hypercall(machine, vcpu);
        return true;
    case EXIT_SPIN:
        host->yield(host->ctx);
        return true;
    case EXIT_HLT:
        halt(machine, vcpu);
        return true;
    case EXIT_EOI:
        irqchip_eoi(&machine->irqchip, (u8)exit->address);
        return true;
    case EXIT_SHUTDOWN:
        host->end(host->ctx, MACHINE_CRASHED, 0);
        return true;
    case EXIT_FAILED:
    case EXIT_KIND_COUNT:
        break;
    }
    return false;
}

int machine_cpu_set(struct machine *machine, unsigned cpu, const struct x86_state *state,
                    struct err *err)
{
    struct machine_cpu *slot = &machine->cpus[cpu];

    int r = slot->vcpu->ops->set(slot->vcpu, state);
    if (r < 0)
        return err_set(err, r, "the engine refuses the state of vCPU %u", cpu);
    slot->waits_for_sipi = state->activity == X86_WAIT_FOR_SIPI;
    slot->halted = state->activity == X86_HALTED;
    slot->nmi_only = false;
    return 0;
}

/* A HLT is over: others may have left it to flush its TLB. */
static void wake_up(struct machine *machine, struct vcpu *vcpu)
{
    machine->cpus[vcpu->index].halted = false;
    if (paravirt_wake(&machine->paravirt, vcpu->index))
        vcpu->wanted |= VCPU_FLUSH_TLB;
}

/* True when a halted vCPU has something to wake up for, and is awake. */
static bool rouse(struct machine *machine, struct vcpu *vcpu)
{
    const struct machine_cpu *cpu = &machine->cpus[vcpu->index];
    struct lapic *lapic = lapic_of(machine, vcpu);

    lapic_timer_poll(lapic);
    if (cpu->nmi_only || !lapic_pending(lapic)) {
        if (paravirt_sleep(&machine->paravirt, vcpu->index))
            return false;
        vcpu->wanted |= VCPU_WAKE;
    }
    wake_up(machine, vcpu);
    return true;
}

/* INIT puts the processor to wait for its start. The boot processor would begin again at the reset
 * vector, where no firmware is: the machine starts over instead. */
static void take_init(struct machine *machine, struct vcpu *vcpu)
{
    const struct machine_host *host = &machine->config.host;
    struct x86_state state;

    if (vcpu->index == 0) {
        host->end(host->ctx, MACHINE_RESET, 0);
        return;
    }
    lapic_reset(lapic_of(machine, vcpu), true);
    wake_up(machine, vcpu);
    paravirt_cpu_reset(&machine->paravirt, vcpu->index);
    vcpu->ops->get(vcpu, &state);
    x86_state_init_sipi(&state, 0);
    state.activity = X86_WAIT_FOR_SIPI;
    state.tsc = clock_tsc() + vcpu->tsc_offset;
    if (machine_cpu_set(machine, vcpu->index, &state, NULL) < 0)
        host->end(host->ctx, MACHINE_CRASHED, 0);
}

static void take_sipi(struct machine *machine, struct vcpu *vcpu, u8 vector)
{
    const struct machine_host *host = &machine->config.host;
    struct x86_state state;

    if (!machine->cpus[vcpu->index].waits_for_sipi)
        return;
    vcpu->ops->get(vcpu, &state);
    x86_state_init_sipi(&state, vector);
    state.tsc = clock_tsc() + vcpu->tsc_offset;
    if (machine_cpu_set(machine, vcpu->index, &state, NULL) < 0)
        host->end(host->ctx, MACHINE_CRASHED, 0);
}

bool machine_enter(struct machine *machine, struct vcpu *vcpu)
{
    struct machine_cpu *cpu = &machine->cpus[vcpu->index];

    if (machine_has_kernel_lapic(machine))
        return true;
    struct lapic *lapic = lapic_of(machine, vcpu);
    if (unlikely(lapic_events_pending(lapic))) {
        u8 vector = 0;
        unsigned events = lapic_events_take(lapic, &vector);
        if (events & LAPIC_EVENT_INIT)
            take_init(machine, vcpu);
        if (events & LAPIC_EVENT_SIPI)
            take_sipi(machine, vcpu, vector);
        if ((events & LAPIC_EVENT_NMI) && !cpu->waits_for_sipi) {
            vcpu->ops->nmi(vcpu);
            if (events & LAPIC_EVENT_NMI_AGAIN)
                vcpu->ops->nmi(vcpu);
            wake_up(machine, vcpu);
        }
        if (events & LAPIC_EVENT_KICK)
            paravirt_kick(&machine->paravirt, vcpu->index);
    }
    if (cpu->waits_for_sipi)
        return false;
    kvmclock_follow(&machine->kvmclock, vcpu->index, vcpu->tsc_offset);
    if (cpu->halted && !rouse(machine, vcpu))
        return false;
    paravirt_follow(&machine->paravirt, vcpu->index);
    return true;
}

u64 machine_deadline_ns(struct machine *machine, const struct vcpu *vcpu)
{
    const struct machine_cpu *cpu = &machine->cpus[vcpu->index];

    if (machine_has_kernel_lapic(machine) || cpu->waits_for_sipi || cpu->nmi_only)
        return TIMER_NEVER;
    return lapic_next_deadline_ns(lapic_of(machine, vcpu));
}
