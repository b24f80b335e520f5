/*
 * vcpu/kvm/kvm_test.c - tiny guests under KVM: modes, exits, interrupts, kicks, SMP, state.
 *
 * Skipped, with the reason, where /dev/kvm does not open.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/clock.h"
#include "dev/lapic.h"
#include "host/thread.h"
#include "vcpu/kvm/kvm_bench.h"
#include "vcpu/kvm/kvm_guest.h"
#include "vcpu/kvm/kvm_priv.h"

/* ---- tests
 * --------------------------------------------------------------------------------------- */

static void test_real_mode_ports(void **state)
{
    bench_need_kvm();
    bench_load(CODE, guest_ports, guest_ports_end);
    bench_start_real(bench.vcpus[0]);
    bench_run(bench.vcpus[0]);
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    assert_int_equal(bench.vcpus[0]->exit.value, 0x2a);
    assert_string_equal(bench.log, "real mode!wordAB");
    /* Three words were read by one REP INSW. */
    u16 words[4];
    assert_int_equal(mem_read(&bench.mem, 0x3000, words, sizeof(words)), 0);
    assert_int_equal(words[3], 0);
    assert_int_equal(words[1] - words[0], 0x101);
    assert_int_equal(words[2] - words[1], 0x101);
}

static void test_long_mode_mmio(void **state)
{
    bench_need_kvm();
    bench_load(CODE, guest_mmio, guest_mmio_end);
    memcpy(bench.hole, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    bench_start_long(bench.vcpus[0]);
    bench_run(bench.vcpus[0]);
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    struct x86_state after;
    bench.vcpus[0]->ops->get(bench.vcpus[0], &after);
    assert_true(after.gpr[X86_RBX] == 0x1122334455667788);
    assert_true(after.gpr[X86_RCX] == 0x77);
    assert_true(after.gpr[X86_RDX] == 0x44556677); /* crosses its word */
    assert_memory_equal(bench.hole + 16, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    assert_memory_equal(bench.hole + 33, "\x88\x77", 2);
    assert_int_equal(bench.hole[40], 0x89); /* INC of the byte there */
}

static void test_msrs(void **state)
{
    bench_need_kvm();
    bench_load(CODE, guest_msr, guest_msr_end);
    bench_start_long(bench.vcpus[0]);
    bench_set_gate(X86_GP, CODE + (u64)(guest_msr_fault - guest_msr));
    bench_run(bench.vcpus[0]);
    assert_true(bench.last_msr == 0x1122334455667789);
    assert_string_equal(bench.log, "F"); /* the other MSR gave #GP */
}

/* An interrupt that waits while IF is clear comes as soon as STI's shadow is over. */
static bool one_pending;

static bool one_is_pending(void *ctx)
{
    return one_pending;
}

static int one_ack(void *ctx)
{
    one_pending = false;
    return 0x21;
}

static void test_interrupt_in_real_mode(void **state)
{
    bench_need_kvm();
    u16 vector[2] = {(u16)(CODE + (guest_irq_handler - guest_irq)), 0};

    bench_load(CODE, guest_irq, guest_irq_end);
    assert_int_equal(mem_write(&bench.mem, 0x21 * 4, vector, sizeof(vector)), 0);
    bench_start_real(bench.vcpus[0]);
    bench.vcpus[0]->irq = (struct vcpu_irq){.pending = one_is_pending, .ack = one_ack, .tpr = NULL};
    one_pending = true;
    bench_run(bench.vcpus[0]);
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    assert_string_equal(bench.log, "aIb");
    assert_false(one_pending);
}

/* The boot processor starts the other by INIT and SIPI; that one writes to memory and ends; the
 * boot processor sees it and ends too. */
static void test_smp(void **state)
{
    bench_need_kvm();
    pthread_t threads[CPU_COUNT];
    struct x86_state waiting;

    bench_load(CODE, guest_smp, guest_smp_end);
    bench_load(0x9000, guest_ap, guest_ap_end);
    bench_start_long(bench.vcpus[0]);
    x86_state_reset(&waiting, false);
    assert_int_equal(bench.vcpus[1]->ops->set(bench.vcpus[1], &waiting), 0);
    bench.vcpus[1]->exit.kind = EXIT_HLT; /* nothing to run until its start */
    for (unsigned i = 0; i < CPU_COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, bench_thread, bench.vcpus[i]), 0);
    for (unsigned i = 0; i < CPU_COUNT; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(bench.ended, CPU_COUNT);
    u32 word;
    assert_int_equal(mem_read(&bench.mem, 0x3000, &word, 4), 0);
    assert_int_equal(word, 0x600d);
}

/* An interrupt by message while the guest halts, edge then level, with EOIs. */
static void test_messages(void **state)
{
    bench_need_kvm();
    pthread_t thread;

    bench_load(CODE, guest_message, guest_message_end);
    bench_start_long(bench.vcpus[0]);
    bench_set_gate(0x50, CODE + (u64)(guest_message_handler - guest_message));
    assert_int_equal(pthread_create(&thread, NULL, bench_thread, bench.vcpus[0]), 0);
    bench.ended = CPU_COUNT - 1;
    for (unsigned i = 0; i < 2; i++) {
        u64 deadline_ns = clock_monotonic_ns() + 20000000000ull;
        while (__atomic_load_n(&bench.hole[i], __ATOMIC_SEQ_CST) == 0 &&
               clock_monotonic_ns() < deadline_ns)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        assert_int_equal(bench.hole[i], 1); /* it is ready to be interrupted */
        u32 data = i == 0 ? 0x4050 : 0xc050;
        if (bench.engine->in_kernel_lapic)
            bench.engine->ops->msi(bench.engine, 0xfee00000, data);
        else
            apic_bus_msi(bench.apics, 0xfee00000, data);
    }
    pthread_join(thread, NULL);
    assert_string_equal(bench.log, "MM");
    assert_int_equal(bench.eoi_count, 1); /* the level-triggered one */
    assert_int_equal(bench.eoi_vector, 0x50);
}

static void *kick_thread(void *ctx)
{
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    vcpu_kick(bench.vcpus[0]);
    return NULL;
}

static void test_kick(void **state)
{
    bench_need_kvm();
    pthread_t thread;
    struct vcpu *vcpu = bench.vcpus[0];

    bench_load(CODE, guest_spin, guest_spin_end);
    bench_start_real(vcpu);
    vcpu_kick(vcpu); /* before the run: it returns at once */
    vcpu_run(vcpu);
    assert_int_equal(vcpu->exit.kind, EXIT_KICKED);
    assert_int_equal(pthread_create(&thread, NULL, kick_thread, NULL), 0);
    vcpu_run(vcpu);
    assert_int_equal(vcpu->exit.kind, EXIT_KICKED);
    pthread_join(thread, NULL);
}

static void test_nmi_and_shutdown(void **state)
{
    bench_need_kvm();
    struct vcpu *vcpu = bench.vcpus[0];
    u16 vector[2] = {(u16)(CODE + (guest_irq_handler - guest_irq)), 0};
    struct x86_state broken;

    bench_load(CODE, guest_spin, guest_spin_end);
    bench_load(CODE + (u64)(guest_irq_handler - guest_irq), guest_irq_handler, guest_irq_end);
    assert_int_equal(mem_write(&bench.mem, X86_NMI * 4, vector, sizeof(vector)), 0);
    bench_start_real(vcpu);
    vcpu->ops->nmi(vcpu);
    vcpu_run(vcpu);
    while (vcpu->exit.kind == EXIT_KICKED)
        vcpu_run(vcpu);
    assert_int_equal(vcpu->exit.kind, EXIT_PORT_WRITE);
    assert_int_equal(vcpu->exit.value, 'I');
    vcpu->ops->get(vcpu, &broken);
    assert_true(broken.nmi_blocked);
    /* No table of interrupts, and an instruction that faults: a triple fault. */
    bench_long_state(&broken);
    broken.idtr.limit = 0;
    broken.rip = HIGH_BASE;
    assert_int_equal(mem_write(&bench.mem, HIGH_BASE, "\x0f\x0b", 2), 0);
    assert_int_equal(vcpu->ops->set(vcpu, &broken), 0);
    vcpu_run(vcpu);
    assert_int_equal(vcpu->exit.kind, EXIT_SHUTDOWN);
}

/* What the test compares of two states: everything but time. */
static void same_state(struct x86_state *a, struct x86_state *b)
{
    a->tsc = b->tsc = 0;
    a->pvclock_ns = b->pvclock_ns = 0;
    a->msr.tsc_deadline = b->msr.tsc_deadline = 0;
    assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
    assert_true(a->rip == b->rip && a->rflags == b->rflags);
    assert_memory_equal(a->seg, b->seg, sizeof(a->seg));
    assert_memory_equal(&a->ldtr, &b->ldtr, sizeof(a->ldtr));
    assert_memory_equal(&a->tr, &b->tr, sizeof(a->tr));
    assert_true(a->gdtr.base == b->gdtr.base && a->idtr.limit == b->idtr.limit);
    assert_true(a->cr0 == b->cr0 && a->cr2 == b->cr2 && a->cr3 == b->cr3 && a->cr4 == b->cr4);
    assert_memory_equal(a->dr, b->dr, sizeof(a->dr));
    assert_true(a->xcr0 == b->xcr0);
    assert_memory_equal(&a->msr, &b->msr, sizeof(a->msr));
    assert_memory_equal(&a->event, &b->event, sizeof(a->event));
    assert_true(a->interrupt_shadow == b->interrupt_shadow);
    assert_int_equal(a->activity, b->activity);
    assert_memory_equal(a->xsave, b->xsave, sizeof(a->xsave));
}

static void test_state(void **unused)
{
    bench_need_kvm();
    struct x86_state state, first, second;

    bench_long_state(&state);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        state.gpr[i] = 0x0101010101010101ull * (i + 1);
    state.rflags = X86_FLAG_FIXED | X86_CF | X86_OF | X86_ID;
    state.cr2 = 0xdeadbeef000;
    state.dr[0] = 0x1234;
    state.dr[7] = 0x402;
    state.seg[X86_FS].base = 0x7fff12345678;
    state.msr.lstar = 0xffffffff81000000;
    state.msr.star = 0x0023001000000000;
    state.msr.kernel_gs_base = 0xffff888000000000;
    state.msr.sysenter_eip = 0x8000;
    state.msr.pat = 0x0407050600070106;
    state.ldtr = (struct x86_seg){.attr = 0x82};
    state.tr = (struct x86_seg){.base = 0x2000, .limit = 0x67, .selector = 0x18, .attr = 0x8b};
    for (unsigned i = 0; i < 16; i++)
        store_le64(state.xsave + 160 + 16 * i, 0x1111111111111111ull * (i + 1));
    store_le64(state.xsave + 512, 3);
    assert_int_equal(bench.vcpus[0]->ops->set(bench.vcpus[0], &state), 0);
    bench.vcpus[0]->ops->get(bench.vcpus[0], &first);
    assert_memory_equal(first.gpr, state.gpr, sizeof(state.gpr));
    assert_true(first.rip == state.rip && first.rflags == state.rflags);
    assert_true(first.cr2 == state.cr2 && first.dr[0] == 0x1234 && first.dr[7] == state.dr[7]);
    assert_true(first.seg[X86_FS].base == state.seg[X86_FS].base);
    assert_true(first.msr.lstar == state.msr.lstar && first.msr.star == state.msr.star);
    assert_true(first.msr.kernel_gs_base == state.msr.kernel_gs_base);
    assert_true(first.msr.pat == state.msr.pat && first.msr.efer == state.msr.efer);
    assert_memory_equal(first.xsave + 160, state.xsave + 160, 256);
    assert_memory_equal(&first.tr, &state.tr, sizeof(state.tr));
    assert_int_equal(bench.vcpus[1]->ops->set(bench.vcpus[1], &first), 0);
    bench.vcpus[1]->ops->get(bench.vcpus[1], &second);
    first.msr.apic_base = second.msr.apic_base = 0; /* says which of the two it is */
    same_state(&first, &second);
}

/* A guest interrupted between two accesses of one REP OUTSB goes on in another vCPU. */
static void test_state_moves_a_running_guest(void **unused)
{
    bench_need_kvm();
    struct x86_state state;

    bench_load(CODE, guest_ports, guest_ports_end);
    bench_start_real(bench.vcpus[0]);
    vcpu_run(bench.vcpus[0]);
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    while (bench.log_bytes < 12) {
        bench_dispatch(bench.vcpus[0]);
        vcpu_run(bench.vcpus[0]);
    }
    bench_dispatch(bench.vcpus[0]);
    bench.vcpus[0]->ops->get(bench.vcpus[0], &state);
    assert_int_equal(bench.vcpus[1]->ops->set(bench.vcpus[1], &state), 0);
    bench_run(bench.vcpus[1]);
    assert_string_equal(bench.log, "real mode!wordAB");
    assert_int_equal(bench.vcpus[1]->exit.value, 0x2a);
}

/* The TSC of both vCPUs, and of one that was stopped and set again, is one clock; where the host's
 * own is unstable, and KVM corrects it all the time, to within a millisecond. */
static void test_time(void **unused)
{
    bench_need_kvm();
    struct x86_state state;

    bench_start_real(bench.vcpus[0]);
    u64 offset = bench.vcpus[0]->tsc_offset, slack = clock_tsc_hz() / 1000;
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    bench_start_real(bench.vcpus[1]);
    assert_in_range(bench.vcpus[1]->tsc_offset - offset + slack, 0, 2 * slack);
    bench.vcpus[1]->ops->get(bench.vcpus[1], &state);
    assert_int_equal(bench.vcpus[1]->ops->set(bench.vcpus[1], &state), 0);
    assert_in_range(bench.vcpus[1]->tsc_offset - offset + slack, 0, 2 * slack);
    state.tsc = 1ull << 50; /* from a snapshot */
    assert_int_equal(bench.vcpus[0]->ops->set(bench.vcpus[0], &state), 0);
    bench.vcpus[0]->ops->get(bench.vcpus[0], &state);
    if (bench.vcpus[0]->tsc_offset == offset)
        print_message("this KVM cannot move a guest's TSC\n");
    else
        assert_in_range(state.tsc, 1ull << 50, (1ull << 50) + 10 * clock_tsc_hz());
    bench_load(CODE, guest_tsc_code, guest_tsc_code_end);
    bench_start_long(bench.vcpus[0]);
    bench_run(bench.vcpus[0]);
    bench.vcpus[0]->ops->get(bench.vcpus[0], &state);
    u64 seen = state.gpr[X86_RDX] << 32 | state.gpr[X86_RAX];
    assert_in_range(bench_guest_tsc(NULL, 0) - seen, 0, clock_tsc_hz());
}

/* XSETBV reaches KVM, and CPUID follows it. QEMU's TCG does not intercept it for nested guests. */
static void test_xcr0(void **unused)
{
    bench_need_kvm();
    struct x86_state state;
    struct cpuid_result leaf;

    cpuid_lookup(&bench.model, 1, 0, &(struct cpuid_context){0}, &leaf);
    if (!(leaf.ecx & 1 << 28)) {
        print_message("skipped: this host shows no AVX to guests\n");
        skip();
    }
    bench_load(CODE, guest_xcr0, guest_xcr0_end);
    bench_start_long(bench.vcpus[0]);
    bench_run(bench.vcpus[0]);
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    bench.vcpus[0]->ops->get(bench.vcpus[0], &state);
    if (state.xcr0 == 1) {
        print_message("skipped: this processor does not intercept XSETBV\n");
        skip();
    }
    assert_int_equal(state.xcr0, 7);
    assert_int_equal(state.gpr[X86_RBX], 832);
}

static void test_dirty_pages(void **unused)
{
    bench_need_kvm();
    bench_load(CODE, guest_ports, guest_ports_end);
    bench_start_real(bench.vcpus[0]);
    bench.engine->ops->dirty_sync(bench.engine); /* begins: everything counts as written */
    assert_true(mem_flag_clear(&bench.mem, 0x3000, MEM_DIRTY));
    assert_true(mem_flag_clear(&bench.mem, 0x5000, MEM_DIRTY));
    bench_run(bench.vcpus[0]);
    bench.engine->ops->dirty_sync(bench.engine);
    assert_true(mem_flag_clear(&bench.mem, 0x3000, MEM_DIRTY));
    assert_false(mem_flag_clear(&bench.mem, 0x5000, MEM_DIRTY));
}

static void vector_guest(void)
{
    bench_load(CODE, guest_vector_mmio, guest_vector_mmio_end);
    for (unsigned i = 0; i < 16; i++)
        bench.hole[i] = (u8)(i * 3);
    bench_start_long(bench.vcpus[0]);
}

static void vector_check(void)
{
    assert_int_equal(bench.vcpus[0]->exit.kind, EXIT_PORT_WRITE);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(bench.hole[16 + i], (u8)(i * 6));
}

/* MMIO by instructions that the emulator of Linux's KVM does not know. */
static void test_vector_mmio(void **unused)
{
    bench_need_kvm();
    vector_guest();
    bench_run(bench.vcpus[0]);
    vector_check();
}

/* The same, with its instructions given to the interpreter as if KVM had refused them. */
static void test_interpreter_helps(void **unused)
{
    bench_need_kvm();
    struct vcpu *vcpu = bench.vcpus[0];
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);

    vector_guest();
    for (unsigned i = 0; i < 5; i++) /* all but the end */
        for (bool is_open = kvm_step_begin(kvm); is_open; is_open = kvm_step_continue(kvm))
            assert_true(bench_dispatch(vcpu));
    assert_int_equal(kvm->stepped_count, 5);
    vcpu->exit.kind = EXIT_KICKED;
    bench_run(vcpu);
    vector_check();
    /* An exception is delivered to the guest by it as well; then KVM goes on in the handler. */
    bench.log_bytes = 0;
    bench_load(CODE, guest_msr, guest_msr_end);
    bench_start_long(vcpu);
    bench_set_gate(X86_UD, CODE + (u64)(guest_msr_fault - guest_msr));
    assert_int_equal(mem_write(&bench.mem, CODE, "\x0f\x0b", 2), 0);
    assert_false(kvm_step_begin(kvm));
    bench_run(vcpu);
    assert_string_equal(bench.log, "F");
}

/* The paravirtual clock moves with the state, and a reset takes its page away from KVM. */
static void test_pvclock(void **unused)
{
    bench_need_kvm();
    struct vcpu *vcpu = bench.vcpus[0];
    struct x86_state state;
    u32 version;

    bench_long_state(&state);
    state.msr.kvm_system_time = 0x3000 | 1;
    state.pvclock_ns = 1000000000000;
    bench_load(CODE, guest_tsc_code, guest_tsc_code_end);
    assert_int_equal(vcpu->ops->set(vcpu, &state), 0);
    bench_run(vcpu);
    assert_int_equal(mem_read(&bench.mem, 0x3000, &version, 4), 0);
    assert_int_not_equal(version, 0); /* KVM wrote it */
    vcpu->ops->get(vcpu, &state);
    assert_int_equal(state.msr.kvm_system_time, 0x3001);
    assert_in_range(state.pvclock_ns, 1000000000000, 1600000000000);
    version = 0;
    assert_int_equal(mem_write(&bench.mem, 0x3000, &version, 4), 0);
    bench_start_long(vcpu);
    bench_run(vcpu);
    assert_int_equal(mem_read(&bench.mem, 0x3000, &version, 4), 0);
    assert_int_equal(version, 0);
}

/* KVM's local APIC and ours speak of the same page. */
static void test_lapic_page(void **unused)
{
    bench_need_kvm();
    struct lapic *ours = apic_bus_lapic(bench.apics, 0);
    struct vcpu *vcpu = bench.vcpus[0];
    struct x86_state state;
    u8 page[VCPU_LAPIC_BYTES], after[VCPU_LAPIC_BYTES];

    bench_start_long(vcpu);
    lapic_write(ours, 0xf0, 4, 0x1ff);
    lapic_write(ours, 0x80, 4, 0x30);
    lapic_write(ours, 0x350, 4, 0x10000);
    lapic_write(ours, 0x370, 4, 0xfe);
    apic_bus_msi(bench.apics, 0xfee00000, 0xc0a1);
    lapic_page_get(ours, page);
    assert_int_equal(vcpu->ops->lapic(vcpu, page, true), 0);
    assert_int_equal(vcpu->ops->lapic(vcpu, after, false), 0);
    vcpu->ops->get(vcpu, &state);
    lapic_page_put(ours, after, state.msr.apic_base, state.msr.tsc_deadline);
    assert_int_equal(lapic_read(ours, 0xf0, 4), 0x1ff);
    assert_int_equal(lapic_read(ours, 0x80, 4), 0x30);
    assert_int_equal(lapic_read(ours, 0x370, 4), 0xfe);
    assert_int_equal(lapic_read(ours, 0x250, 4), 2); /* IRR and TMR of vector 0xa1 */
    assert_int_equal(lapic_read(ours, 0x1d0, 4), 2);
    assert_true(lapic_mmio_base(ours) == 0xfee00000);
}

#define BOTH(test)                                                                  \
    {#test " (our local APIC)", test, bench_setup_user, bench_teardown, NULL},      \
    {                                                                               \
#test " (KVM's local APIC)", test, bench_setup_kernel, bench_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_real_mode_ports),
        BOTH(test_long_mode_mmio),
        BOTH(test_msrs),
        cmocka_unit_test_setup_teardown(test_interrupt_in_real_mode, bench_setup_user,
                                        bench_teardown),
        BOTH(test_smp),
        BOTH(test_messages),
        BOTH(test_kick),
        BOTH(test_nmi_and_shutdown),
        BOTH(test_state),
        BOTH(test_state_moves_a_running_guest),
        BOTH(test_time),
        BOTH(test_xcr0),
        BOTH(test_pvclock),
        cmocka_unit_test_setup_teardown(test_lapic_page, bench_setup_kernel, bench_teardown),
        BOTH(test_dirty_pages),
        BOTH(test_vector_mmio),
        BOTH(test_interpreter_helps),
    };
    thread_kick_setup();
    return cmocka_run_group_tests_name("kvm", tests, NULL, NULL);
}
