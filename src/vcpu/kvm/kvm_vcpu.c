/*
 * vcpu/kvm/kvm_vcpu.c - one vCPU: its construction, its run loop, kicks, interrupts from outside.
 *
 * Spec   Linux Documentation/virt/kvm/api.rst: KVM_RUN, KVM_INTERRUPT, KVM_NMI.
 * Runs   on the vCPU's thread; kick and nmi on any.
 * Trust  what KVM says of the guest is taken as it is; no guest value is used as an index here.
 *
 * A kick first sets immediate_exit, then signals the thread if it is inside KVM_RUN: whichever of
 * the two comes in time ends the run.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "host/fd.h"
#include "vcpu/kvm/kvm_priv.h"
#include "x86/cpuid.h"

enum { LEAF_TSC = 0x15, LEAF_FREQUENCY = 0x16, LEAF_HYPERVISOR_TSC = 0x40000010 };

/* ---- events for the guest
 * ------------------------------------------------------------------------ */

/* Injects an interrupt that waits, or asks KVM to come back when the guest can take one. */
static void offer_interrupt(struct kvm_vcpu *kvm)
{
    struct vcpu_irq *irq = &kvm->vcpu.irq;
    struct kvm_run *run = kvm->run;

    run->request_interrupt_window = 0;
    if (!irq->pending || !irq->pending(irq->ctx))
        return;
    if (run->ready_for_interrupt_injection && run->if_flag && !kvm->window_stale) {
        int vector = irq->ack(irq->ctx);
        struct kvm_interrupt interrupt = {.irq = (u32)vector};
        if (vector >= 0)
            kvm_ioctl(kvm->fd, KVM_INTERRUPT, &interrupt);
        kvm->window_stale = true;
        if (!irq->pending(irq->ctx))
            return;
    }
    run->request_interrupt_window = 1;
}

static void prepare(struct kvm_vcpu *kvm)
{
    if (__atomic_load_n(&kvm->nmi_wanted, __ATOMIC_RELAXED) &&
        __atomic_exchange_n(&kvm->nmi_wanted, 0, __ATOMIC_ACQUIRE))
        kvm_ioctl(kvm->fd, KVM_NMI, NULL);
    if (kvm->vcpu.irq.tpr)
        kvm->run->cr8 = *kvm->vcpu.irq.tpr >> 4;
    offer_interrupt(kvm);
}

static void follow_tpr(struct kvm_vcpu *kvm)
{
    u8 *tpr = kvm->vcpu.irq.tpr;

    if (tpr && *tpr >> 4 != (kvm->run->cr8 & 0xf))
        *tpr = (u8)(kvm->run->cr8 << 4);
}

/* ---- running
 * ------------------------------------------------------------------------------------- */

/* One KVM_RUN; 0 or -errno. */
static int enter(struct kvm_vcpu *kvm)
{
    kvm->thread_id = (int)syscall(SYS_gettid);
    __atomic_store_n(&kvm->is_running, 1, __ATOMIC_SEQ_CST);
    int r = ioctl(kvm->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
    __atomic_store_n(&kvm->is_running, 0, __ATOMIC_SEQ_CST);
    kvm->is_open = false;
    return r;
}

static void kicked(struct kvm_vcpu *kvm)
{
    __atomic_store_n(&kvm->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&kvm->is_kicked, 0, __ATOMIC_SEQ_CST);
    kvm->vcpu.exit = (struct vm_exit){.kind = EXIT_KICKED};
}

/* True when the machine has something to do. */
static bool run_once(struct kvm_vcpu *kvm)
{
    if (!kvm->has_exit) {
        prepare(kvm);
        int r = enter(kvm);
        if (r == -EINTR) {
            follow_tpr(kvm);
            kicked(kvm);
            return true;
        }
        if (r == -EAGAIN) /* a vCPU that waited for its start has got it */
            return false;
        if (r < 0) {
            kvm_exit_fail(kvm, r == -EFAULT ? "KVM found guest memory that this process lost"
                                            : "KVM_RUN failed");
            return true;
        }
        kvm->window_stale = false;
        follow_tpr(kvm);
    }
    kvm->has_exit = false;
    return kvm_exit_read(kvm);
}

static void vcpu_run_kvm(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    kvm->is_halted = false;
    if (kvm->is_stepping) {
        if (kvm_step_continue(kvm))
            return;
    } else if (kvm_exit_answer(kvm, true)) {
        return;
    }
    while (!run_once(kvm))
        ;
}

void kvm_vcpu_close(struct kvm_vcpu *kvm)
{
    if (kvm_exit_answer(kvm, false) || !kvm->is_open)
        return;
    kvm->run->request_interrupt_window = 0;
    __atomic_store_n(&kvm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (enter(kvm) == 0)
        kvm->has_exit = true; /* the same instruction has another access to make */
    __atomic_store_n(&kvm->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&kvm->is_kicked, __ATOMIC_SEQ_CST))
        __atomic_store_n(&kvm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

static void vcpu_kick_kvm(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    __atomic_store_n(&kvm->is_kicked, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&kvm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&kvm->is_running, __ATOMIC_SEQ_CST))
        syscall(SYS_tgkill, getpid(), kvm->thread_id, SIGUSR1);
}

static void vcpu_nmi_kvm(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    __atomic_store_n(&kvm->nmi_wanted, 1, __ATOMIC_RELEASE);
    vcpu_kick_kvm(vcpu);
}

static void vcpu_get_kvm(struct vcpu *vcpu, struct x86_state *ret_state)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    kvm_vcpu_close(kvm);
    kvm_state_get(kvm, ret_state);
}

static int vcpu_set_kvm(struct vcpu *vcpu, const struct x86_state *state)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    kvm_vcpu_close(kvm);
    kvm->access.total_bytes = 0;
    kvm->has_exit = kvm->is_stepping = kvm->is_asked = false;
    kvm->window_stale = true;
    return kvm_state_set(kvm, state, true);
}

/* ---- construction
 * -------------------------------------------------------------------------------- */

static void vcpu_free_kvm(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    kvm_step_free(kvm);
    if (kvm->run)
        munmap(kvm->run, kvm->engine->run_bytes);
    fd_close(&kvm->fd);
    alloc_free(kvm);
}

/* KVM knows the rate of the guest's TSC better than a short measurement does. */
static void set_tsc_rate(struct kvm_vcpu *kvm, struct kvm_cpuid_entry2 *entry)
{
    int khz = kvm_ioctl(kvm->fd, KVM_GET_TSC_KHZ, NULL);

    if (khz <= 0)
        return;
    if (entry->function == LEAF_TSC && entry->ecx != 0) { /* the crystal's rate, in Hz */
        entry->eax = entry->ecx / 1000;
        entry->ebx = (u32)khz;
    }
    if (entry->function == LEAF_FREQUENCY && entry->eax != 0)
        entry->eax = (u32)khz / 1000;
    if (entry->function == LEAF_HYPERVISOR_TSC && entry->eax != 0)
        entry->eax = (u32)khz;
}

static int set_cpuid(struct kvm_vcpu *kvm, struct err *err)
{
    const struct cpuid_model *model = kvm->engine->engine.cpuid;
    const struct cpuid_context context = {.apic_id = kvm->vcpu.index};
    union {
        u8 room[sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2)];
        struct kvm_cpuid2 head;
    } list = {.room = {0}};

    list.head.nent = model->count;

    for (unsigned i = 0; i < model->count; i++) {
        struct cpuid_entry entry = cpuid_entry_at(model, i, &context);
        list.head.entries[i] = (struct kvm_cpuid_entry2){
            .function = entry.leaf,
            .index = entry.subleaf,
            .flags = entry.indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = entry.eax,
            .ebx = entry.ebx,
            .ecx = entry.ecx,
            .edx = entry.edx};
        set_tsc_rate(kvm, &list.head.entries[i]);
    }
    int r = kvm_ioctl(kvm->fd, KVM_SET_CPUID2, &list);
    if (r < 0)
        return err_set(err, r, "KVM refuses the CPUID table of vCPU %u: %s", kvm->vcpu.index,
                       strerror(-r));
    return 0;
}

static const struct vcpu_ops kvm_vcpu_ops = {
    .run = vcpu_run_kvm,
    .kick = vcpu_kick_kvm,
    .nmi = vcpu_nmi_kvm,
    .get = vcpu_get_kvm,
    .set = vcpu_set_kvm,
    .free = vcpu_free_kvm,
    .lapic = kvm_state_lapic,
};

static int vcpu_open(struct kvm_vcpu *kvm, struct err *err)
{
    int r = kvm_ioctl(kvm->engine->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)kvm->vcpu.index);

    if (r < 0)
        return err_set(err, r, "KVM does not make vCPU %u: %s", kvm->vcpu.index, strerror(-r));
    kvm->fd = r;
    void *page = mmap(NULL, kvm->engine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kvm->fd, 0);
    if (page == MAP_FAILED)
        return err_set(err, -errno, "KVM's page of vCPU %u cannot be mapped: %s", kvm->vcpu.index,
                       strerror(errno));
    kvm->run = page;
    return set_cpuid(kvm, err);
}

struct vcpu *kvm_vcpu_new(struct engine *engine, unsigned index, struct err *err)
{
    struct kvm_vcpu *kvm = index < KVM_CPUS_MAX ? new0(struct kvm_vcpu) : NULL;

    if (kvm == NULL) {
        err_set(err, -ENOMEM, "vCPU %u: no memory, or more than %d", index, KVM_CPUS_MAX);
        return NULL;
    }
    kvm->engine = container_of(engine, struct kvm_engine, engine);
    kvm->vcpu = (struct vcpu){.ops = &kvm_vcpu_ops, .engine = engine, .index = index};
    kvm->fd = -1;
    kvm->window_stale = true;
    if (vcpu_open(kvm, err) < 0) {
        vcpu_free_kvm(&kvm->vcpu);
        return NULL;
    }
    kvm_tsc_follow(kvm);
    return &kvm->vcpu;
}
