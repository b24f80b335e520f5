/*
 * vcpu/kvm/kvm_exit.c - what KVM's exits mean in the machine's terms, and the answers on their way
 * back.
 *
 * Spec   Linux Documentation/virt/kvm/api.rst, "The kvm_run structure".
 * Runs   on the vCPU's thread.
 * Trust  addresses and data come from the guest; sizes and counts from KVM, and are bounded by its
 *        page.
 */
#include "base/bits.h"
#include "vcpu/kvm/kvm_priv.h"

void kvm_exit_fail(struct kvm_vcpu *kvm, const char *reason)
{
    kvm->vcpu.exit = (struct vm_exit){.kind = EXIT_FAILED, .reason = reason};
}

/* The size of the next access of what is left. */
static unsigned access_bytes(const struct kvm_access *access)
{
    unsigned left = access->total_bytes - access->done_bytes;
    unsigned bytes = access->unit ? access->unit : 8;

    while (bytes > left)
        bytes /= 2;
    return bytes;
}

static bool access_is_read(const struct kvm_access *access)
{
    return access->kind == EXIT_PORT_READ || access->kind == EXIT_MMIO_READ;
}

static void access_show(struct kvm_vcpu *kvm)
{
    const struct kvm_access *access = &kvm->access;
    struct vm_exit *exit = &kvm->vcpu.exit;

    *exit = (struct vm_exit){.kind = access->kind,
                             .bytes = (u8)access_bytes(access),
                             .address = access->address +
                                        (access->is_advancing ? access->done_bytes : 0)};
    if (!access_is_read(access))
        __builtin_memcpy(&exit->value, access->data + access->done_bytes, exit->bytes);
    kvm->is_open = kvm->is_asked = true;
}

/* Puts the machine's answer, if one was asked for, where KVM looks for it. */
static void take_answer(struct kvm_vcpu *kvm)
{
    struct kvm_access *access = &kvm->access;
    const struct vm_exit *exit = &kvm->vcpu.exit;

    if (!kvm->is_asked)
        return;
    kvm->is_asked = false;
    if (access->total_bytes != 0) {
        unsigned bytes = access_bytes(access);
        if (access_is_read(access))
            __builtin_memcpy(access->data + access->done_bytes, &exit->value, bytes);
        access->done_bytes += bytes;
        if (access->done_bytes == access->total_bytes)
            access->total_bytes = 0;
        return;
    }
    kvm->run->msr.error = exit->msr_fault;
    if (exit->kind == EXIT_MSR_READ)
        kvm->run->msr.data = exit->value;
}

bool kvm_exit_answer(struct kvm_vcpu *kvm, bool show_next)
{
    take_answer(kvm);
    if (kvm->access.total_bytes == 0)
        return false;
    if (show_next)
        access_show(kvm);
    return true;
}

static void port_exit(struct kvm_vcpu *kvm)
{
    struct kvm_run *run = kvm->run;
    u64 total = (u64)run->io.size * run->io.count;

    if (run->io.data_offset > kvm->engine->run_bytes ||
        total > kvm->engine->run_bytes - run->io.data_offset || total == 0) {
        kvm_exit_fail(kvm, "KVM's port data lies outside its page");
        return;
    }
    kvm->access = (struct kvm_access){.kind = run->io.direction == KVM_EXIT_IO_IN ? EXIT_PORT_READ
                                                                                  : EXIT_PORT_WRITE,
                                      .data = (u8 *)run + run->io.data_offset,
                                      .address = run->io.port,
                                      .unit = run->io.size,
                                      .total_bytes = (unsigned)total};
    access_show(kvm);
}

static void mmio_exit(struct kvm_vcpu *kvm)
{
    struct kvm_run *run = kvm->run;

    kvm->access = (struct kvm_access){.kind = run->mmio.is_write ? EXIT_MMIO_WRITE : EXIT_MMIO_READ,
                                      .data = run->mmio.data,
                                      .address = run->mmio.phys_addr,
                                      .is_advancing = true,
                                      .total_bytes = (unsigned)min_u64(run->mmio.len, 8)};
    access_show(kvm);
}

static void msr_exit(struct kvm_vcpu *kvm)
{
    const struct kvm_run *run = kvm->run;
    bool is_read = run->exit_reason == KVM_EXIT_X86_RDMSR;

    kvm->vcpu.exit = (struct vm_exit){.kind = is_read ? EXIT_MSR_READ : EXIT_MSR_WRITE,
                                      .bytes = 8,
                                      .address = run->msr.index,
                                      .value = is_read ? 0 : run->msr.data};
    kvm->is_open = kvm->is_asked = true;
    kvm_tsc_follow(kvm); /* a deadline is to be compared with the guest's counter */
}

static bool internal_error(struct kvm_vcpu *kvm)
{
    if (kvm->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        return kvm_step_begin(kvm);
    kvm_exit_fail(kvm, kvm->run->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV
                           ? "KVM met an exit it does not know while it delivered an event"
                           : "KVM met an internal error");
    return true;
}

bool kvm_exit_read(struct kvm_vcpu *kvm)
{
    struct vm_exit *exit = &kvm->vcpu.exit;

    *exit = (struct vm_exit){.kind = EXIT_KICKED};
    switch (kvm->run->exit_reason) {
    case KVM_EXIT_IO:
        port_exit(kvm);
        return true;
    case KVM_EXIT_MMIO:
        mmio_exit(kvm);
        return true;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        msr_exit(kvm);
        return true;
    case KVM_EXIT_HLT:
        exit->kind = EXIT_HLT;
        kvm->is_halted = true;
        return true;
    case KVM_EXIT_IOAPIC_EOI:
        exit->kind = EXIT_EOI;
        exit->address = kvm->run->eoi.vector;
        return true;
    case KVM_EXIT_SHUTDOWN:
        exit->kind = EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_INTR:
        return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return false;
    case KVM_EXIT_INTERNAL_ERROR:
        return internal_error(kvm);
    case KVM_EXIT_FAIL_ENTRY:
        kvm_exit_fail(kvm, "the processor refused to enter the guest: its state is not valid");
        return true;
    default:
        kvm_exit_fail(kvm, "KVM gave an exit that this engine does not know");
        return true;
    }
}
