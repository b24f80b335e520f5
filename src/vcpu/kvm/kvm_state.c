/*
 * vcpu/kvm/kvm_state.c - a vCPU's registers between KVM's structures and struct x86_state.
 *
 * Spec   Linux Documentation/virt/kvm/api.rst; the structures in linux/kvm.h.
 * Runs   on the vCPU's thread, or while it is stopped.
 * Trust  a state to set may come from a snapshot: KVM refuses what no processor can be in.
 *
 * Time: the TSCs of all vCPUs keep one offset to the host's. A state says what a TSC was at some
 * moment, which is a little different for each vCPU; so an offset that is close to the last one
 * that was set becomes that one.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "vcpu/kvm/kvm_priv.h"
#include "x86/msr.h"

enum { CR8_OF_TPR_SHIFT = 4 };

/* ---- general, segment and control registers
 * ------------------------------------------------------- */

static struct x86_seg seg_from(const struct kvm_segment *from)
{
    u16 attr = (u16)(from->type | from->s << 4 | from->dpl << X86_SEG_DPL_SHIFT |
                     from->present << 7 | from->avl << 12 | from->l << 13 | from->db << 14 |
                     from->g << 15);

    if (from->unusable)
        attr |= X86_SEG_UNUSABLE;
    return (struct x86_seg){
        .base = from->base, .limit = from->limit, .selector = from->selector, .attr = attr};
}

static struct kvm_segment seg_to(const struct x86_seg *from)
{
    bool unusable = (from->attr & X86_SEG_UNUSABLE) || !(from->attr & X86_SEG_PRESENT);

    return (struct kvm_segment){.base = from->base,
                                .limit = from->limit,
                                .selector = from->selector,
                                .type = from->attr & X86_SEG_TYPE,
                                .s = !!(from->attr & X86_SEG_CODE_DATA),
                                .dpl = from->attr >> X86_SEG_DPL_SHIFT & 3,
                                .present = !!(from->attr & X86_SEG_PRESENT),
                                .avl = !!(from->attr & X86_SEG_AVL),
                                .l = !!(from->attr & X86_SEG_LONG),
                                .db = !!(from->attr & X86_SEG_BIG),
                                .g = !!(from->attr & X86_SEG_GRANULAR),
                                .unusable = unusable};
}

/* kvm_sregs and kvm_sregs2 begin with the same members; the difference is behind them. */
static void get_sregs(struct kvm_vcpu *kvm, struct x86_state *state)
{
    struct kvm_sregs2 sregs = {0};
    struct kvm_sregs old;

    if (kvm->engine->has_sregs2) {
        kvm_ioctl(kvm->fd, KVM_GET_SREGS2, &sregs);
    } else {
        kvm_ioctl(kvm->fd, KVM_GET_SREGS, &old);
        memcpy(&sregs, &old, offsetof(struct kvm_sregs2, flags));
    }
    const struct kvm_segment *segments[X86_SEGMENT_COUNT] = {&sregs.es, &sregs.cs, &sregs.ss,
                                                             &sregs.ds, &sregs.fs, &sregs.gs};
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->seg[i] = seg_from(segments[i]);
    state->ldtr = seg_from(&sregs.ldt);
    state->tr = seg_from(&sregs.tr);
    state->gdtr = (struct x86_table){.base = sregs.gdt.base, .limit = sregs.gdt.limit};
    state->idtr = (struct x86_table){.base = sregs.idt.base, .limit = sregs.idt.limit};
    state->cr0 = sregs.cr0;
    state->cr2 = sregs.cr2;
    state->cr3 = sregs.cr3;
    state->cr4 = sregs.cr4;
    state->cr8 = kvm->vcpu.irq.tpr ? *kvm->vcpu.irq.tpr >> CR8_OF_TPR_SHIFT : sregs.cr8;
    state->msr.efer = sregs.efer;
    state->msr.apic_base = sregs.apic_base;
}

static int set_sregs(struct kvm_vcpu *kvm, const struct x86_state *state)
{
    const struct x86_seg *seg = state->seg;
    u64 apic_base = state->msr.apic_base;
    struct kvm_sregs2 sregs = {.cs = seg_to(&seg[X86_CS]),
                               .ds = seg_to(&seg[X86_DS]),
                               .es = seg_to(&seg[X86_ES]),
                               .fs = seg_to(&seg[X86_FS]),
                               .gs = seg_to(&seg[X86_GS]),
                               .ss = seg_to(&seg[X86_SS]),
                               .tr = seg_to(&state->tr),
                               .ldt = seg_to(&state->ldtr),
                               .gdt = {.base = state->gdtr.base, .limit = state->gdtr.limit},
                               .idt = {.base = state->idtr.base, .limit = state->idtr.limit},
                               .cr0 = state->cr0,
                               .cr2 = state->cr2,
                               .cr3 = state->cr3,
                               .cr4 = state->cr4,
                               .cr8 = state->cr8,
                               .efer = state->msr.efer};
    struct kvm_sregs old = {0};

    /* Where the local APIC is the machine's, KVM only needs to know that there is one. */
    if (!kvm->engine->engine.in_kernel_lapic)
        apic_base = (kvm->vcpu.index == 0 ? X86_APIC_BASE_BSP : 0) | X86_APIC_BASE_ENABLE |
                    0xfee00000;
    sregs.apic_base = apic_base;
    if (kvm->engine->has_sregs2)
        return kvm_ioctl(kvm->fd, KVM_SET_SREGS2, &sregs);
    memcpy(&old, &sregs, offsetof(struct kvm_sregs2, flags));
    return kvm_ioctl(kvm->fd, KVM_SET_SREGS, &old);
}

static void get_regs(struct kvm_vcpu *kvm, struct x86_state *state)
{
    struct kvm_regs regs = {0};

    kvm_ioctl(kvm->fd, KVM_GET_REGS, &regs);
    const u64 in_order[X86_GPR_COUNT] = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp,
                                         regs.rsi, regs.rdi, regs.r8,  regs.r9,  regs.r10, regs.r11,
                                         regs.r12, regs.r13, regs.r14, regs.r15};
    memcpy(state->gpr, in_order, sizeof(in_order));
    state->rip = regs.rip;
    state->rflags = regs.rflags;
}

static int set_regs(struct kvm_vcpu *kvm, const struct x86_state *state)
{
    const u64 *gpr = state->gpr;
    struct kvm_regs regs = {.rax = gpr[X86_RAX],
                            .rcx = gpr[X86_RCX],
                            .rdx = gpr[X86_RDX],
                            .rbx = gpr[X86_RBX],
                            .rsp = gpr[X86_RSP],
                            .rbp = gpr[X86_RBP],
                            .rsi = gpr[X86_RSI],
                            .rdi = gpr[X86_RDI],
                            .r8 = gpr[X86_R8],
                            .r9 = gpr[X86_R9],
                            .r10 = gpr[X86_R10],
                            .r11 = gpr[X86_R11],
                            .r12 = gpr[X86_R12],
                            .r13 = gpr[X86_R13],
                            .r14 = gpr[X86_R14],
                            .r15 = gpr[X86_R15],
                            .rip = state->rip,
                            .rflags = state->rflags | X86_FLAG_FIXED};
    return kvm_ioctl(kvm->fd, KVM_SET_REGS, &regs);
}

/* ---- vector state, debug registers, events
 * --------------------------------------------------------- */

enum { XSAVE_XSTATE_BV = 512, XSAVE_HEADER_END = 576, XSTATE_KEPT = 7 };

static void get_vectors(struct kvm_vcpu *kvm, struct x86_state *state)
{
    struct kvm_xsave xsave = {0};
    struct kvm_xcrs xcrs = {0};

    kvm_ioctl(kvm->fd, KVM_GET_XSAVE, &xsave);
    memcpy(state->xsave, xsave.region, X86_XSAVE_BYTES);
    store_le64(state->xsave + XSAVE_XSTATE_BV,
               load_le64(state->xsave + XSAVE_XSTATE_BV) & XSTATE_KEPT);
    state->xcr0 = 1;
    kvm_ioctl(kvm->fd, KVM_GET_XCRS, &xcrs);
    for (unsigned i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (xcrs.xcrs[i].xcr == 0)
            state->xcr0 = xcrs.xcrs[i].value;
}

static int set_vectors(struct kvm_vcpu *kvm, const struct x86_state *state)
{
    struct kvm_xsave xsave = {0};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = state->xcr0}};
    u8 *region = (u8 *)xsave.region;

    memcpy(region, state->xsave, X86_XSAVE_BYTES);
    store_le64(region + XSAVE_XSTATE_BV, load_le64(region + XSAVE_XSTATE_BV) & XSTATE_KEPT);
    memset(region + XSAVE_XSTATE_BV + 8, 0, XSAVE_HEADER_END - XSAVE_XSTATE_BV - 8);
    int r = kvm_ioctl(kvm->fd, KVM_SET_XCRS, &xcrs);
    if (r < 0 && state->xcr0 != 1)
        return r;
    return kvm_ioctl(kvm->fd, KVM_SET_XSAVE, &xsave);
}

static void get_debug(struct kvm_vcpu *kvm, struct x86_state *state)
{
    struct kvm_debugregs debug = {0};

    kvm_ioctl(kvm->fd, KVM_GET_DEBUGREGS, &debug);
    for (unsigned i = 0; i < 4; i++)
        state->dr[i] = debug.db[i];
    state->dr[6] = debug.dr6;
    state->dr[7] = debug.dr7;
}

static int set_debug(struct kvm_vcpu *kvm, const struct x86_state *state)
{
    struct kvm_debugregs debug = {.dr6 = state->dr[6], .dr7 = state->dr[7]};

    for (unsigned i = 0; i < 4; i++)
        debug.db[i] = state->dr[i];
    return kvm_ioctl(kvm->fd, KVM_SET_DEBUGREGS, &debug);
}

static void get_events(struct kvm_vcpu *kvm, struct x86_state *state)
{
    struct kvm_vcpu_events events = {0};

    kvm_ioctl(kvm->fd, KVM_GET_VCPU_EVENTS, &events);
    if (events.exception.injected)
        state->event = (struct x86_event){.pending = true,
                                          .has_error = events.exception.has_error_code,
                                          .vector = events.exception.nr,
                                          .kind = X86_EVENT_EXCEPTION,
                                          .error = events.exception.error_code};
    else if (events.interrupt.injected)
        state->event = (struct x86_event){
            .pending = true, .vector = events.interrupt.nr, .kind = X86_EVENT_INTERRUPT};
    else if (events.nmi.injected)
        state->event = (struct x86_event){
            .pending = true, .vector = X86_NMI, .kind = X86_EVENT_NMI};
    state->interrupt_shadow = events.interrupt.shadow != 0;
    state->nmi_pending = events.nmi.pending || __atomic_load_n(&kvm->nmi_wanted, __ATOMIC_RELAXED);
    state->nmi_blocked = events.nmi.masked;
}

static int set_events(struct kvm_vcpu *kvm, const struct x86_state *state)
{
    const struct x86_event *event = &state->event;
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .nmi.pending = state->nmi_pending,
        .nmi.masked = state->nmi_blocked,
        .interrupt.shadow = state->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0};

    __atomic_store_n(&kvm->nmi_wanted, 0, __ATOMIC_RELAXED); /* it is in `nmi_pending` if it was */
    if (event->pending && event->kind == X86_EVENT_EXCEPTION) {
        events.exception.injected = 1;
        events.exception.nr = event->vector;
        events.exception.has_error_code = event->has_error;
        events.exception.error_code = event->error;
    } else if (event->pending && event->kind == X86_EVENT_INTERRUPT) {
        events.interrupt.injected = 1;
        events.interrupt.nr = event->vector;
    } else if (event->pending) {
        events.nmi.injected = 1;
    }
    return kvm_ioctl(kvm->fd, KVM_SET_VCPU_EVENTS, &events);
}

/* ---- activity and the local APIC
 * ------------------------------------------------------------------- */

static u32 get_activity(struct kvm_vcpu *kvm)
{
    struct kvm_mp_state state = {0};

    if (!kvm->engine->engine.in_kernel_lapic)
        return kvm->is_halted ? X86_HALTED : X86_ACTIVE;
    kvm_ioctl(kvm->fd, KVM_GET_MP_STATE, &state);
    switch (state.mp_state) {
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        return X86_WAIT_FOR_SIPI;
    case KVM_MP_STATE_HALTED:
        return X86_HALTED;
    default:
        return X86_ACTIVE;
    }
}

static int set_activity(struct kvm_vcpu *kvm, u32 activity)
{
    struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};

    kvm->is_halted = activity == X86_HALTED;
    if (!kvm->engine->engine.in_kernel_lapic)
        return 0; /* the machine does not run a vCPU that waits */
    if (activity == X86_WAIT_FOR_SIPI)
        state.mp_state = KVM_MP_STATE_UNINITIALIZED;
    else if (activity == X86_HALTED)
        state.mp_state = KVM_MP_STATE_HALTED;
    return kvm_ioctl(kvm->fd, KVM_SET_MP_STATE, &state);
}

/* The APIC's registers as after power-up, with the bootstrap processor in virtual wire mode. */
static int reset_lapic(struct kvm_vcpu *kvm)
{
    enum {
        ID = 0x20,
        VERSION = 0x30,
        DFR = 0xe0,
        SVR = 0xf0,
        LVT = 0x320,
        LINT0 = 0x350,
        LVT_COUNT = 6,
        LVT_MASKED = 1 << 16,
        LVT_EXTINT = 7 << 8
    };
    struct kvm_lapic_state lapic, old;

    if (!kvm->engine->engine.in_kernel_lapic)
        return 0;
    memset(&lapic, 0, sizeof(lapic));
    int r = kvm_ioctl(kvm->fd, KVM_GET_LAPIC, &old);
    if (r < 0)
        return r;
    store_le32(lapic.regs + ID, kvm->vcpu.index << 24);
    store_le32(lapic.regs + VERSION, load_le32(old.regs + VERSION));
    store_le32(lapic.regs + DFR, UINT32_MAX);
    store_le32(lapic.regs + SVR, 0xff);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        store_le32(lapic.regs + LVT + 16 * i, LVT_MASKED);
    if (kvm->vcpu.index == 0)
        store_le32(lapic.regs + LINT0, LVT_EXTINT);
    return kvm_ioctl(kvm->fd, KVM_SET_LAPIC, &lapic);
}

int kvm_state_lapic(struct vcpu *vcpu, u8 page[VCPU_LAPIC_BYTES], bool is_set)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    _Static_assert(sizeof(struct kvm_lapic_state) == VCPU_LAPIC_BYTES, "the same page");

    if (!kvm->engine->engine.in_kernel_lapic)
        return -ENODEV;
    return kvm_ioctl(kvm->fd, is_set ? KVM_SET_LAPIC : KVM_GET_LAPIC, page);
}

/* ---- the whole
 * ------------------------------------------------------------------------------------- */

void kvm_state_get(struct kvm_vcpu *kvm, struct x86_state *ret_state)
{
    memset(ret_state, 0, sizeof(*ret_state));
    get_regs(kvm, ret_state);
    get_sregs(kvm, ret_state);
    get_vectors(kvm, ret_state);
    get_debug(kvm, ret_state);
    get_events(kvm, ret_state);
    u64 efer = ret_state->msr.efer, apic_base = ret_state->msr.apic_base;
    kvm_msrs_get(kvm, &ret_state->msr);
    ret_state->msr.efer = efer;
    ret_state->msr.apic_base = apic_base;
    ret_state->activity = get_activity(kvm);
    kvm_tsc_follow(kvm);
    ret_state->tsc = clock_tsc() + kvm->vcpu.tsc_offset;
    ret_state->pvclock_ns = kvm_pvclock_get(kvm);
}

int kvm_state_set(struct kvm_vcpu *kvm, const struct x86_state *state, bool is_whole)
{
    int r = set_sregs(kvm, state);

    if (r >= 0 && is_whole)
        r = reset_lapic(kvm); /* after IA32_APIC_BASE, which says how its registers look */
    if (r >= 0)
        r = set_regs(kvm, state);
    if (r >= 0)
        r = set_vectors(kvm, state);
    if (r >= 0)
        r = set_debug(kvm, state);
    if (r >= 0 && is_whole) {
        kvm_tsc_set(kvm, state->tsc);
        kvm_pvclock_set(kvm, state->pvclock_ns);
    }
    if (r >= 0)
        r = kvm_msrs_set(kvm, &state->msr);
    if (r >= 0)
        r = set_events(kvm, state);
    if (r >= 0 && is_whole)
        r = set_activity(kvm, state->activity);
    return r < 0 ? -EINVAL : 0;
}
