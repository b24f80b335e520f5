/*
 * vcpu/kvm/kvm_msr.c - a vCPU's model-specific registers and its time stamp counter.
 *
 * Spec   Linux Documentation/virt/kvm/api.rst and devices/vcpu.rst.
 * Runs   on the vCPU's thread, or while it is stopped.
 * Trust  values to set may come from a snapshot: KVM refuses what no processor can have.
 *
 * Time: the TSCs of all vCPUs keep one offset to the host's. A state says what a TSC was at some
 * moment, which is a little different for each vCPU; so an offset that is close to the last one
 * that was set becomes that one.
 */
#include <errno.h>
#include <stddef.h>

#include "base/bits.h"
#include "base/clock.h"
#include "vcpu/kvm/kvm_priv.h"
#include "x86/msr.h"

enum { TSC_CLOSE_DIVISOR = 1 }; /* of a second, as in KVM's own rule for writes to the TSC */

static const struct {
    u32 index;
    u32 offset; /* in struct x86_msrs */
} msr_table[] = {
#define MSR(number, member)                       \
    {                                             \
        number, offsetof(struct x86_msrs, member) \
    }
    MSR(X86_MSR_STAR, star),
    MSR(X86_MSR_LSTAR, lstar),
    MSR(X86_MSR_CSTAR, cstar),
    MSR(X86_MSR_SFMASK, sfmask),
    MSR(X86_MSR_KERNEL_GS_BASE, kernel_gs_base),
    MSR(X86_MSR_SYSENTER_CS, sysenter_cs),
    MSR(X86_MSR_SYSENTER_ESP, sysenter_esp),
    MSR(X86_MSR_SYSENTER_EIP, sysenter_eip),
    MSR(X86_MSR_PAT, pat),
    MSR(X86_MSR_TSC_AUX, tsc_aux),
    MSR(X86_MSR_MISC_ENABLE, misc_enable),
    MSR(X86_MSR_TSC_ADJUST, tsc_adjust),
    MSR(X86_MSR_SPEC_CTRL, spec_ctrl),
    MSR(X86_MSR_DEBUGCTL, debugctl),
    MSR(X86_MSR_MCG_STATUS, mcg_status),
    MSR(X86_MSR_BIOS_SIGN_ID, bios_sign_id),
    MSR(X86_MSR_MTRR_DEF_TYPE, mtrr_def_type),
    MSR(X86_MSR_MTRR_FIX64K_00000, mtrr_fixed[0]),
    MSR(X86_MSR_MTRR_FIX16K_80000, mtrr_fixed[1]),
    MSR(X86_MSR_MTRR_FIX16K_A0000, mtrr_fixed[2]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 0, mtrr_fixed[3]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 1, mtrr_fixed[4]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 2, mtrr_fixed[5]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 3, mtrr_fixed[6]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 4, mtrr_fixed[7]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 5, mtrr_fixed[8]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 6, mtrr_fixed[9]),
    MSR(X86_MSR_MTRR_FIX4K_C0000 + 7, mtrr_fixed[10]),
#define MTRR(n)                                      \
    MSR(X86_MSR_MTRR_BASE0 + 2 * (n), mtrr_base[n]), \
        MSR(X86_MSR_MTRR_BASE0 + 2 * (n) + 1, mtrr_mask[n])
    MTRR(0),
    MTRR(1),
    MTRR(2),
    MTRR(3),
    MTRR(4),
    MTRR(5),
    MTRR(6),
    MTRR(7),
    MSR(X86_MSR_KVM_WALL_CLOCK, kvm_wall_clock),
    MSR(X86_MSR_KVM_SYSTEM_TIME, kvm_system_time), /* 0 stops KVM from writing the clock's page */
    MSR(X86_MSR_TSC_DEADLINE, tsc_deadline),       /* the last: not where the local APIC is ours */
};
enum { MSR_COUNT = ARRAY_LEN(msr_table) };
_Static_assert(MSR_COUNT <= 64, "bad_msrs is a word");

union msr_list {
    u8 room[sizeof(struct kvm_msrs) + MSR_COUNT * sizeof(struct kvm_msr_entry)];
    struct kvm_msrs head;
};

union one_msr {
    u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    struct kvm_msrs head;
};

/* ---- model-specific registers
 * --------------------------------------------------------------------- */

static u64 *msr_value(struct x86_msrs *msrs, unsigned i)
{
    return (u64 *)((char *)msrs + msr_table[i].offset);
}

/* Fills LIST with the table's entries that KVM has; INDEXES gets their places in the table. */
static unsigned list_msrs(struct kvm_vcpu *kvm, union msr_list *list, u8 indexes[MSR_COUNT])
{
    struct kvm_engine *engine = kvm->engine;
    unsigned last = engine->engine.in_kernel_lapic ? MSR_COUNT : MSR_COUNT - 1;
    unsigned count = 0;

    for (unsigned i = 0; i < last; i++) {
        if (engine->bad_msrs & BIT(i))
            continue;
        indexes[count] = (u8)i;
        list->head.entries[count++] = (struct kvm_msr_entry){.index = msr_table[i].index};
    }
    list->head.nmsrs = count;
    return count;
}

/* Finds out which MSRs are missing: KVM stops at the first one. */
static void probe_msrs(struct kvm_vcpu *kvm)
{
    struct kvm_engine *engine = kvm->engine;
    u8 indexes[MSR_COUNT];

    while (!engine->bad_msrs_known) {
        union msr_list list = {.room = {0}};
        unsigned count = list_msrs(kvm, &list, indexes);
        int r = kvm_ioctl(kvm->fd, KVM_GET_MSRS, &list);
        if (r >= 0 && (unsigned)r < count)
            engine->bad_msrs |= BIT(indexes[r]);
        else
            engine->bad_msrs_known = true;
    }
}

void kvm_msrs_get(struct kvm_vcpu *kvm, struct x86_msrs *msrs)
{
    union msr_list list = {.room = {0}};
    u8 indexes[MSR_COUNT];

    lock_acquire(&kvm->engine->lock);
    probe_msrs(kvm);
    unsigned count = list_msrs(kvm, &list, indexes);
    lock_release(&kvm->engine->lock);
    int r = kvm_ioctl(kvm->fd, KVM_GET_MSRS, &list);
    for (unsigned i = 0; i < count && (int)i < r; i++)
        *msr_value(msrs, indexes[i]) = list.head.entries[i].data;
}

static int set_one_msr(struct kvm_vcpu *kvm, u32 index, u64 value)
{
    union one_msr one = {.room = {0}};

    one.head.nmsrs = 1;
    one.head.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
    int r = kvm_ioctl(kvm->fd, KVM_SET_MSRS, &one);

    return r == 1 ? 0 : r < 0 ? r : -EINVAL;
}

/* A value that KVM refuses is left out when it is 0 or one of those that are only read back (MTRRs,
 * microcode): it changes nothing for the guest. */
int kvm_msrs_set(struct kvm_vcpu *kvm, const struct x86_msrs *msrs)
{
    union msr_list list = {.room = {0}};
    u8 indexes[MSR_COUNT];

    lock_acquire(&kvm->engine->lock);
    probe_msrs(kvm);
    unsigned count = list_msrs(kvm, &list, indexes);
    lock_release(&kvm->engine->lock);
    for (unsigned i = 0; i < count; i++)
        list.head.entries[i].data = *msr_value((struct x86_msrs *)msrs, indexes[i]);
    int r = kvm_ioctl(kvm->fd, KVM_SET_MSRS, &list);
    if (r == (int)count)
        return 0;
    for (unsigned i = r < 0 ? 0 : (unsigned)r; i < count; i++) {
        u32 index = list.head.entries[i].index;
        bool is_decor = index == X86_MSR_BIOS_SIGN_ID || index == X86_MSR_MISC_ENABLE ||
                        (index >= X86_MSR_MTRR_BASE0 && index <= X86_MSR_MTRR_DEF_TYPE &&
                         index != X86_MSR_PAT);
        if (set_one_msr(kvm, index, list.head.entries[i].data) < 0 &&
            list.head.entries[i].data != 0 && !is_decor)
            return -EINVAL;
    }
    return 0;
}

/* ---- time
 * ---------------------------------------------------------------------------------------- */

static int tsc_attr(struct kvm_vcpu *kvm, unsigned long request, u64 *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
    return kvm_ioctl(kvm->fd, request, &attr);
}

void kvm_tsc_follow(struct kvm_vcpu *kvm)
{
    union one_msr one = {.room = {0}};

    one.head.nmsrs = 1;
    one.head.entries[0].index = X86_MSR_TSC;
    if (kvm->engine->has_tsc_attr && tsc_attr(kvm, KVM_GET_DEVICE_ATTR, &kvm->vcpu.tsc_offset) >= 0)
        return;
    u64 before = clock_tsc();
    if (kvm_ioctl(kvm->fd, KVM_GET_MSRS, &one) == 1)
        kvm->vcpu.tsc_offset = one.head.entries[0].data - (before + (clock_tsc() - before) / 2);
}

void kvm_tsc_set(struct kvm_vcpu *kvm, u64 tsc)
{
    struct kvm_engine *engine = kvm->engine;
    u64 offset = tsc - clock_tsc();
    u64 close = clock_tsc_hz() / TSC_CLOSE_DIVISOR;

    lock_acquire(&engine->lock);
    if (engine->tsc_offset_known && offset - engine->tsc_offset + close <= 2 * close)
        offset = engine->tsc_offset;
    engine->tsc_offset = offset;
    engine->tsc_offset_known = true;
    lock_release(&engine->lock);
    kvm_tsc_follow(kvm);
    if (kvm->vcpu.tsc_offset == offset)
        return;
    if (!engine->has_tsc_attr || tsc_attr(kvm, KVM_SET_DEVICE_ATTR, &offset) < 0)
        set_one_msr(kvm, X86_MSR_TSC, clock_tsc() + offset);
    kvm_tsc_follow(kvm);
}

/* ---- the paravirtual clock ---- */

u64 kvm_pvclock_get(struct kvm_vcpu *kvm)
{
    struct kvm_clock_data data = {0};

    return kvm_ioctl(kvm->engine->vm_fd, KVM_GET_CLOCK, &data) < 0 ? 0 : data.clock;
}

/* The first processor's state carries it; 0 lets it run on. */
void kvm_pvclock_set(struct kvm_vcpu *kvm, u64 ns)
{
    struct kvm_clock_data data = {.clock = ns};

    if (kvm->vcpu.index == 0 && ns != 0)
        kvm_ioctl(kvm->engine->vm_fd, KVM_SET_CLOCK, &data);
}
