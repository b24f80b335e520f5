/*
 * vcpu/kvm/kvm_bench_test.c - the small machine around the guests of kvm_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dev/lapic.h"
#include "vcpu/kvm/kvm_bench.h"

struct bench bench;

/* ---- the machine around the guest
 * ---------------------------------------------------------------- */

static void kick(void *ctx, unsigned index)
{
    vcpu_kick(bench.vcpus[index]);
}

static void eoi(void *ctx, u8 vector)
{
    bench.eoi_count++;
    bench.eoi_vector = vector;
}

static int extint_ack(void *ctx)
{
    return -1;
}

u64 bench_guest_tsc(void *ctx, unsigned index)
{
    return clock_tsc() + bench.vcpus[index]->tsc_offset;
}

static void attach(unsigned index)
{
    struct lapic *lapic = apic_bus_lapic(bench.apics, index);

    bench.vcpus[index]->irq = (struct vcpu_irq){
        .pending = lapic_pending, .ack = lapic_ack, .ctx = lapic, .tpr = lapic_tpr(lapic)};
}

static int setup_lapic(enum kvm_lapic lapic)
{
    static struct cpuid_entry host[CPUID_HOST_MAX];
    struct apic_host apic_host = {kick,           eoi,  extint_ack, bench_guest_tsc,
                                  clock_tsc_hz(), NULL, NULL};
    struct err err = {0};

    memset(&bench, 0, sizeof(bench));
    bench.lapic = lapic;
    if (kvm_present(&err) < 0)
        return 0; /* each test skips itself */
    int count = kvm_host_cpuid(host, CPUID_HOST_MAX, &err);
    assert_true(count > 0);
    struct cpuid_config config = {
        .host = host, .host_count = (unsigned)count, .cpu_count = CPU_COUNT};
    cpuid_model_init(&bench.model, &config);
    assert_int_equal(map_init(&bench.ram, HIGH_BASE + HIGH_BYTES, 0, &err), 0);
    mem_init(&bench.mem);
    assert_int_equal(mem_add(&bench.mem, 0, RAM_BYTES, bench.ram.base, false), 0);
    assert_int_equal(mem_add(&bench.mem, HIGH_BASE, HIGH_BYTES, bench.ram.base + HIGH_BASE, false),
                     0);
    bench.engine = kvm_engine_new_lapic(&bench.mem, &bench.model, lapic, &err);
    if (!bench.engine)
        fail_msg("%s", err.text);
    vm_clock_init(&bench.clock);
    vm_clock_start(&bench.clock);
    bench.apics = apic_bus_new(&bench.clock, &apic_host, CPU_COUNT);
    for (unsigned i = 0; i < CPU_COUNT; i++) {
        bench.vcpus[i] = bench.engine->ops->vcpu_new(bench.engine, i, &err);
        if (!bench.vcpus[i])
            fail_msg("%s", err.text);
        if (!bench.engine->in_kernel_lapic)
            attach(i);
    }
    return 0;
}

int bench_setup_user(void **state)
{
    return setup_lapic(KVM_LAPIC_USER);
}

int bench_setup_kernel(void **state)
{
    return setup_lapic(KVM_LAPIC_KERNEL);
}

int bench_teardown(void **state)
{
    if (!bench.engine)
        return 0;
    for (unsigned i = 0; i < CPU_COUNT; i++)
        bench.vcpus[i]->ops->free(bench.vcpus[i]);
    bench.engine->ops->free(bench.engine);
    apic_bus_free(bench.apics);
    mem_fini(&bench.mem);
    map_fini(&bench.ram);
    return 0;
}

void bench_need_kvm(void)
{
    struct err err = {0};

    if (bench.engine)
        return;
    if (kvm_present(&err) < 0)
        print_message("skipped: %s\n", err.text);
    skip();
}

static bool on_lapic(struct vcpu *vcpu, u64 *ret_offset)
{
    u64 base = lapic_mmio_base(apic_bus_lapic(bench.apics, vcpu->index));

    *ret_offset = vcpu->exit.address - base;
    return !bench.engine->in_kernel_lapic && base != UINT64_MAX && *ret_offset < LAPIC_MMIO_BYTES;
}

static void mmio(struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;
    struct lapic *lapic = apic_bus_lapic(bench.apics, vcpu->index);
    bool is_write = exit->kind == EXIT_MMIO_WRITE;
    u64 offset;

    if (on_lapic(vcpu, &offset)) {
        if (is_write)
            lapic_write(lapic, offset, exit->bytes, exit->value);
        else
            exit->value = lapic_read(lapic, offset, exit->bytes);
        return;
    }
    offset = exit->address - HOLE;
    if (offset > sizeof(bench.hole) - exit->bytes)
        exit->value = UINT64_MAX;
    else if (is_write)
        memcpy(bench.hole + offset, &exit->value, exit->bytes);
    else
        memcpy(&exit->value, bench.hole + offset, exit->bytes);
}

static void log_byte(u8 byte)
{
    if (bench.log_bytes < sizeof(bench.log) - 1)
        bench.log[bench.log_bytes++] = (char)byte;
}

bool bench_dispatch(struct vcpu *vcpu)
{
    struct vm_exit *exit = &vcpu->exit;

    switch (exit->kind) {
    case EXIT_PORT_WRITE:
        if (exit->address == PORT_END)
            return false;
        for (unsigned i = 0; i < exit->bytes; i++)
            log_byte((u8)(exit->value >> (8 * i)));
        return true;
    case EXIT_PORT_READ:
        exit->value = 0x3231302f2e2d2c2b + bench.log_bytes++ * 0x01010101;
        return true;
    case EXIT_MMIO_READ:
    case EXIT_MMIO_WRITE:
        mmio(vcpu);
        return true;
    case EXIT_MSR_READ:
        exit->value = 0x1122334455667788;
        exit->msr_fault = exit->address != MSR_UNKNOWN;
        return true;
    case EXIT_MSR_WRITE:
        bench.last_msr = exit->value;
        exit->msr_fault = exit->address != MSR_UNKNOWN;
        return true;
    case EXIT_EOI:
        eoi(NULL, (u8)exit->address);
        return true;
    case EXIT_KICKED:
        return true;
    case EXIT_FAILED:
        print_message("engine: %s\n", exit->reason);
        return false;
    default:
        return false;
    }
}

void bench_run(struct vcpu *vcpu)
{
    for (unsigned i = 0; i < RUNS_MAX; i++) {
        vcpu_run(vcpu);
        if (!bench_dispatch(vcpu))
            return;
    }
    fail_msg("the guest does not come to its end");
}

void *bench_thread(void *ctx)
{
    struct vcpu *vcpu = ctx;

    for (;;) {
        if (bench.lapic == KVM_LAPIC_USER) {
            struct lapic *lapic = apic_bus_lapic(bench.apics, vcpu->index);
            u8 vector = 0;
            unsigned events = lapic_events_take(lapic, &vector);
            struct x86_state state;
            if (events & LAPIC_EVENT_SIPI) {
                vcpu->ops->get(vcpu, &state);
                x86_state_init_sipi(&state, vector);
                if (vcpu->ops->set(vcpu, &state) < 0)
                    return NULL;
            } else if (vcpu->exit.kind == EXIT_HLT || vcpu->exit.kind == EXIT_KICKED) {
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
                if (__atomic_load_n(&bench.ended, __ATOMIC_SEQ_CST) == CPU_COUNT)
                    return NULL;
                if (vcpu->exit.kind == EXIT_HLT && !lapic_pending(lapic))
                    continue;
            }
        }
        vcpu_run(vcpu);
        if (!bench_dispatch(vcpu)) {
            if (vcpu->exit.kind == EXIT_HLT && bench.lapic == KVM_LAPIC_USER)
                continue;
            break;
        }
    }
    __atomic_fetch_add(&bench.ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

void bench_load(gpa_t at, const u8 *from, const u8 *end)
{
    assert_int_equal(mem_write(&bench.mem, at, from, (u64)(end - from)), 0);
}

/* ---- states to start in
 * -------------------------------------------------------------------------- */

void bench_start_real(struct vcpu *vcpu)
{
    struct x86_state state;

    x86_state_reset(&state, true);
    state.seg[X86_CS].selector = 0;
    state.seg[X86_CS].base = 0;
    state.rip = CODE;
    state.gpr[X86_RSP] = 0x8000;
    assert_int_equal(vcpu->ops->set(vcpu, &state), 0);
}

/* Maps the first 4 GiB one to one in pages of 2 MiB. */
static void make_tables(void)
{
    u64 entry = (TABLES + 0x1000) | 7;

    assert_int_equal(mem_write(&bench.mem, TABLES, &entry, 8), 0);
    for (u64 i = 0; i < 4; i++) {
        entry = (TABLES + 0x2000 + i * 0x1000) | 7;
        assert_int_equal(mem_write(&bench.mem, TABLES + 0x1000 + i * 8, &entry, 8), 0);
        for (u64 j = 0; j < 512; j++) {
            entry = i << 30 | j << 21 | 0x87;
            assert_int_equal(mem_write(&bench.mem, TABLES + 0x2000 + i * 0x1000 + j * 8, &entry, 8),
                             0);
        }
    }
}

void bench_long_state(struct x86_state *state)
{
    const struct x86_seg data = {.limit = UINT32_MAX, .selector = 16, .attr = 0xc093};

    make_tables();
    x86_state_reset(state, true);
    state->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP;
    state->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    state->cr3 = TABLES;
    state->msr.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->seg[i] = data;
    state->seg[X86_CS] = (struct x86_seg){.limit = UINT32_MAX, .selector = 8, .attr = 0xa09b};
    state->gdtr = (struct x86_table){.base = 0x500, .limit = 0xff};
    state->idtr = (struct x86_table){.base = 0x600, .limit = 0x9ff};
    state->rip = CODE;
    state->gpr[X86_RSP] = 0x8000;
}

void bench_start_long(struct vcpu *vcpu)
{
    static const u64 gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
    struct x86_state state;

    bench_long_state(&state);
    assert_int_equal(mem_write(&bench.mem, 0x500, gdt, sizeof(gdt)), 0);
    assert_int_equal(vcpu->ops->set(vcpu, &state), 0);
}

void bench_set_gate(unsigned vector, u64 handler)
{
    u64 gate[2] = {(handler & 0xffff) | 8 << 16 | 0x8eull << 40 | (handler >> 16 & 0xffff) << 48,
                   handler >> 32};
    assert_int_equal(mem_write(&bench.mem, 0x600 + vector * 16, gate, sizeof(gate)), 0);
}
