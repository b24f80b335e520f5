/*
 * machine/paravirt_test.c - stolen time, the preempted flag, and hypercalls: the structure by
 * itself, and a whole machine of which a guest asks for them.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "back/entropy.h"
#include "base/bits.h"
#include "base/clock.h"
#include "core/mem.h"
#include "core/state.h"
#include "host/cpu.h"
#include "machine/boot_samples.h"
#include "machine/fake_engine.h"
#include "machine/machine.h"
#include "machine/memmap.h"
#include "machine/paravirt.h"
#include "x86/cpuid.h"

enum { CPU_COUNT = 2, RAM_BYTES = 64 << 20, PAGE = 0x400000, AT = PAGE + 0x40 };
enum { PREEMPTED = 16, FLUSH = 2, STEAL_BYTES = 64 };
enum { MSR_STEAL_TIME = 0x4b564d03, MSR_EOI_FLAG = 0x4b564d04, MSR_APIC_ICR = 0x830 };
enum { KICK_CPU = 5, SEND_IPI = 10, SCHED_YIELD = 11 };
enum {
    ALL_FEATURES = CPUID_KVM_STEAL_TIME | CPUID_KVM_PV_EOI | CPUID_KVM_PV_UNHALT |
                   CPUID_KVM_PV_TLB_FLUSH | CPUID_KVM_PV_SEND_IPI | CPUID_KVM_PV_SCHED_YIELD
};

struct bench {
    u8 *ram;
    struct cpuid_model cpuid;
    struct engine engine;
    struct machine *machine;
    struct vcpu *vcpus[CPU_COUNT];
    struct entropy entropy;
    unsigned wakes[CPU_COUNT], yields;
};

static void entropy_zeroes(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static const struct entropy_ops entropy_ops = {.fill = entropy_zeroes};

static void ignore_end(void *ctx, enum machine_end how, unsigned status)
{
}

static void note_wake(void *ctx, unsigned cpu)
{
    ((struct bench *)ctx)->wakes[cpu]++;
}

static void note_yield(void *ctx)
{
    ((struct bench *)ctx)->yields++;
}

static struct bench *bench_new(u32 kvm_features)
{
    static u8 kernel[SAMPLE_BYTES];
    struct bench *bench = calloc(1, sizeof(*bench));
    struct cpuid_entry host[CPUID_HOST_MAX];
    struct cpuid_config cpuid = {.host = host,
                                 .system_emulated = true,
                                 .cpu_count = CPU_COUNT,
                                 .hide_kvm = kvm_features == 0,
                                 .kvm_features = kvm_features};
    const struct boot_request request = {.kernel = {.data = kernel, .bytes = sample_pvh(kernel)},
                                         .command_line = ""};
    struct err err;

    assert_non_null(bench);
    cpuid.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
    cpuid_model_init(&bench->cpuid, &cpuid);
    bench->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bench->ram != MAP_FAILED);
    bench->entropy.ops = &entropy_ops;
    const struct machine_config config = {
        .ram_bytes = RAM_BYTES,
        .ram = bench->ram,
        .cpu_count = CPU_COUNT,
        .entropy = &bench->entropy,
        .host = {.end = ignore_end, .wake = note_wake, .yield = note_yield, .ctx = bench}};
    bench->machine = machine_build(&config, &err);
    if (!bench->machine)
        fail_msg("%s", err.text);
    bench->engine = (struct engine){
        .ops = &fake_engine_ops, .mem = machine_mem(bench->machine), .cpuid = &bench->cpuid};
    for (unsigned i = 0; i < CPU_COUNT; i++) {
        bench->vcpus[i] = fake_vcpu_new(&bench->engine, i);
        machine_attach(bench->machine, bench->vcpus[i]);
    }
    if (machine_boot(bench->machine, &request, &err) < 0)
        fail_msg("%s", err.text);
    machine_clock_start(bench->machine);
    return bench;
}

static void bench_free(struct bench *bench)
{
    machine_free(bench->machine);
    for (unsigned i = 0; i < CPU_COUNT; i++)
        fake_free(bench->vcpus[i]);
    munmap(bench->ram, RAM_BYTES);
    free(bench);
}

static bool msr_put(struct bench *bench, unsigned cpu, u32 msr, u64 value)
{
    struct vcpu *vcpu = bench->vcpus[cpu];

    vcpu->exit = (struct vm_exit){
        .kind = EXIT_MSR_WRITE, .bytes = 8, .address = msr, .value = value};
    assert_true(machine_dispatch(bench->machine, vcpu));
    return !vcpu->exit.msr_fault;
}

static u64 msr_get(struct bench *bench, unsigned cpu, u32 msr, bool *ret_ok)
{
    struct vcpu *vcpu = bench->vcpus[cpu];

    vcpu->exit = (struct vm_exit){.kind = EXIT_MSR_READ, .bytes = 8, .address = msr};
    assert_true(machine_dispatch(bench->machine, vcpu));
    *ret_ok = !vcpu->exit.msr_fault;
    return vcpu->exit.value;
}

/* Hypercall NUMBER with two operands, then two more. */
static s64 hypercall(struct bench *bench, unsigned cpu, u64 number, const u64 args[4])
{
    struct vcpu *vcpu = bench->vcpus[cpu];

    vcpu->exit = (struct vm_exit){.kind = EXIT_HYPERCALL, .bytes = 8, .address = number};
    memcpy(vcpu->exit.args, args, sizeof(vcpu->exit.args));
    assert_true(machine_dispatch(bench->machine, vcpu));
    return (s64)vcpu->exit.value;
}

#define ARGS(...) ((const u64[4]){__VA_ARGS__})

static void halt(struct bench *bench, unsigned cpu)
{
    bench->vcpus[cpu]->exit = (struct vm_exit){.kind = EXIT_HLT};
    assert_true(machine_dispatch(bench->machine, bench->vcpus[cpu]));
}

/* INIT and SIPI for vCPU 1, as vCPU 0 sends them, and x2APIC mode for both. */
static void start_second(struct bench *bench)
{
    assert_true(msr_put(bench, 0, 0x1b, MEMMAP_LAPIC_BASE | 0xd00));
    assert_true(msr_put(bench, 0, MSR_APIC_ICR, 1ull << 32 | 0x4500));
    assert_true(msr_put(bench, 0, MSR_APIC_ICR, 1ull << 32 | 0x4610));
    assert_true(machine_enter(bench->machine, bench->vcpus[1]));
    assert_true(msr_put(bench, 1, 0x1b, MEMMAP_LAPIC_BASE | 0xc00));
    assert_true(msr_put(bench, 1, 0x80f, 0x1ff));
    assert_true(msr_put(bench, 0, 0x80f, 0x1ff));
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void test_registration(void **unused)
{
    struct bench *bench = bench_new(ALL_FEATURES);
    bool ok;

    memset(bench->ram + PAGE, 0xee, 4096);
    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, AT | 3)); /* reserved bits */
    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, AT | 0x21));
    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, RAM_BYTES | 1ull));
    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, 0xfee00001));
    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, ~0x3eull));
    assert_int_equal(msr_get(bench, 0, MSR_STEAL_TIME, &ok), 0);
    assert_int_equal(bench->ram[AT], 0xee);
    assert_true(msr_put(bench, 0, MSR_STEAL_TIME, AT | 1));
    assert_int_equal(msr_get(bench, 0, MSR_STEAL_TIME, &ok), AT | 1);
    assert_true(ok);
    assert_int_equal(load_le64(bench->ram + AT), 0);
    assert_int_equal(load_le32(bench->ram + AT + 8) % 2, 0);
    for (unsigned i = 0; i < PAGE % 4096 + 0x40; i++)
        assert_int_equal(bench->ram[PAGE + i], 0xee);
    assert_int_equal(bench->ram[AT + STEAL_BYTES], 0xee);
    assert_true(msr_put(bench, 0, MSR_STEAL_TIME, AT)); /* off */
    assert_int_equal(msr_get(bench, 1, MSR_STEAL_TIME, &ok), 0);
    bench_free(bench);
}

static void test_not_offered(void **unused)
{
    struct bench *bench = bench_new(0);
    bool ok;

    assert_false(msr_put(bench, 0, MSR_STEAL_TIME, AT | 1));
    assert_false(msr_put(bench, 0, MSR_EOI_FLAG, AT | 1));
    msr_get(bench, 0, MSR_EOI_FLAG, &ok);
    assert_false(ok);
    for (unsigned number = 0; number < 16; number++)
        assert_int_equal(hypercall(bench, 0, number, ARGS(3, 1, 0, 0x77)), -1000);
    assert_int_equal(bench->yields, 0);
    bench_free(bench);
}

static void test_sleep_and_flush(void **unused)
{
    struct bench *bench = bench_new(ALL_FEATURES);
    struct vcpu *vcpu = bench->vcpus[1];
    u8 *preempted = bench->ram + AT + PREEMPTED;

    start_second(bench);
    assert_true(msr_put(bench, 1, MSR_STEAL_TIME, AT | 1));
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 0);
    halt(bench, 1);
    assert_false(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 1);
    *preempted |= FLUSH; /* what another vCPU's guest code does in place of an interrupt */
    assert_false(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 1 | FLUSH);
    assert_int_equal(vcpu->wanted, 0);
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(2, 0, 0, 0x77)), 1);
    assert_true(bench->wakes[1] > 0);
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 0);
    assert_int_equal(vcpu->wanted, VCPU_FLUSH_TLB);
    vcpu->wanted = 0;
    assert_int_equal(vcpu->irq.ack(vcpu->irq.ctx), 0x77);
    /* Without a wish to flush there is none; an NMI wakes as well. */
    assert_true(msr_put(bench, 1, 0x80b, 0));
    halt(bench, 1);
    assert_false(machine_enter(bench->machine, vcpu));
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(2, 0, 0, 0x400)), 1);
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 0);
    assert_int_equal(vcpu->wanted, 0);
    /* INIT ends the sleep and forgets the registration. */
    halt(bench, 1);
    assert_false(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 1);
    assert_true(msr_put(bench, 0, MSR_APIC_ICR, 1ull << 32 | 0x4500));
    assert_false(machine_enter(bench->machine, vcpu));
    assert_int_equal(*preempted, 0);
    bool ok;
    assert_int_equal(msr_get(bench, 1, MSR_STEAL_TIME, &ok), 0);
    bench_free(bench);
}

static void test_kick(void **unused)
{
    struct bench *bench = bench_new(ALL_FEATURES);
    struct vcpu *vcpu = bench->vcpus[1];

    start_second(bench);
    /* A kick that comes first is not lost: the next HLT is over at once, the one after is not. */
    assert_int_equal(hypercall(bench, 0, KICK_CPU, ARGS(0, 1)), 0);
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(vcpu->wanted, 0);
    halt(bench, 1);
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(vcpu->wanted, VCPU_WAKE);
    vcpu->wanted = 0;
    halt(bench, 1);
    assert_false(machine_enter(bench->machine, vcpu));
    /* Halted with interrupts off, one pending: only the kick wakes it. */
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(2, 0, 0, 0x77)), 1);
    fake_of(vcpu)->state.rflags &= ~(u64)X86_IF;
    assert_true(machine_enter(bench->machine, vcpu));
    halt(bench, 1);
    assert_false(machine_enter(bench->machine, vcpu));
    unsigned wakes = bench->wakes[1];
    assert_int_equal(hypercall(bench, 0, KICK_CPU, ARGS(0, 1)), 0);
    assert_true(bench->wakes[1] > wakes);
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(vcpu->wanted, VCPU_WAKE);
    assert_int_equal(hypercall(bench, 0, KICK_CPU, ARGS(0, UINT64_MAX)), 0); /* nobody */
    bench_free(bench);
}

static void test_hypercalls(void **unused)
{
    struct bench *bench = bench_new(ALL_FEATURES);

    start_second(bench);
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(3, UINT64_MAX, 0, 0x77)), 2);
    assert_int_equal(bench->vcpus[0]->irq.ack(bench->vcpus[0]->irq.ctx), 0x77);
    assert_int_equal(bench->vcpus[1]->irq.ack(bench->vcpus[1]->irq.ctx), 0x77);
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(3, 0, 0, 0x877)), -22);
    assert_int_equal(hypercall(bench, 0, SEND_IPI, ARGS(3, 0, 0, 0x80077)), -22);
    assert_int_equal(hypercall(bench, 0, SCHED_YIELD, ARGS(1)), 0);
    assert_int_equal(bench->yields, 1);
    bench->vcpus[0]->exit = (struct vm_exit){.kind = EXIT_SPIN};
    assert_true(machine_dispatch(bench->machine, bench->vcpus[0]));
    assert_int_equal(bench->yields, 2);
    assert_int_equal(hypercall(bench, 0, 99, ARGS(0)), -1000);
    assert_int_equal(hypercall(bench, 0, UINT64_MAX, ARGS(0)), -1000);
    bench_free(bench);
}

static void test_state_and_reset(void **unused)
{
    struct bench *from = bench_new(ALL_FEATURES), *to = bench_new(ALL_FEATURES);
    struct state_writer first = {0}, second = {0};
    struct err err;
    bool ok;

    start_second(from);
    assert_true(msr_put(from, 1, MSR_STEAL_TIME, AT | 1));
    assert_true(msr_put(from, 1, MSR_EOI_FLAG, (AT + 0x80) | 1));
    halt(from, 1);
    assert_false(machine_enter(from->machine, from->vcpus[1]));
    fake_of(from->vcpus[1])->state.activity = X86_HALTED;
    machine_clock_stop(from->machine);
    machine_clock_stop(to->machine);
    assert_int_equal(machine_save(from->machine, &first, &err), 0);
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    if (machine_load(to->machine, &reader, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(machine_save(to->machine, &second, &err), 0);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    /* The guest's RAM came along, with the wish to flush: it is granted where it runs now. */
    to->ram[AT + PREEMPTED] = 1 | FLUSH;
    machine_clock_start(to->machine);
    assert_false(machine_enter(to->machine, to->vcpus[1]));
    assert_int_equal(hypercall(to, 0, KICK_CPU, ARGS(0, 1)), 0);
    assert_true(machine_enter(to->machine, to->vcpus[1]));
    assert_int_equal(to->vcpus[1]->wanted, VCPU_WAKE | VCPU_FLUSH_TLB);
    assert_int_equal(msr_get(to, 1, MSR_EOI_FLAG, &ok), (AT + 0x80) | 1);
    /* A reset forgets all of it. */
    static u8 kernel[SAMPLE_BYTES];
    const struct boot_request request = {.kernel = {.data = kernel, .bytes = sample_pvh(kernel)},
                                         .command_line = ""};
    machine_clock_stop(to->machine);
    assert_int_equal(machine_boot(to->machine, &request, &err), 0);
    assert_int_equal(msr_get(to, 1, MSR_EOI_FLAG, &ok), 0);
    assert_int_equal(msr_get(to, 1, MSR_STEAL_TIME, &ok), 0);
    state_writer_fini(&first);
    state_writer_fini(&second);
    bench_free(from);
    bench_free(to);
}

static void code_written(void *ctx, gpa_t gpa, u64 bytes)
{
    (*(unsigned *)ctx)++;
}

/* The structure by itself: marks, and RAM that goes away. */
static void test_marks_and_lost_ram(void **unused)
{
    static u8 ram[1 << 16] __attribute__((aligned(4096)));
    struct paravirt *paravirt = calloc(1, sizeof(*paravirt));
    unsigned code_writes = 0;
    struct mem mem;
    u64 value;

    mem_init(&mem);
    assert_int_equal(mem_add(&mem, 0, sizeof(ram), ram, false), 0);
    mem.code_written = code_written;
    mem.code_written_ctx = &code_writes;
    paravirt_init(paravirt, &mem, 1000000000);
    assert_true(paravirt_msr_write(paravirt, 3, MSR_STEAL_TIME, 0x2001));
    mem_flag_set(&mem, 0x2000, MEM_CODE);
    mem_flag_clear(&mem, 0x2000, MEM_DIRTY);
    assert_true(paravirt_sleep(paravirt, 3));
    assert_int_equal(code_writes, 1);
    assert_true(mem_flag_clear(&mem, 0x2000, MEM_DIRTY));
    assert_false(paravirt_wake(paravirt, 3));
    assert_true(mem_flag_clear(&mem, 0x2000, MEM_DIRTY));
    assert_true(paravirt_sleep(paravirt, 3));
    ram[0x2000 + PREEMPTED] = 3;
    assert_int_equal(mem_remove(&mem, 0), 0);
    assert_false(paravirt_wake(paravirt, 3));
    assert_true(paravirt_msr_read(paravirt, 3, MSR_STEAL_TIME, &value));
    assert_int_equal(value, 0);
    assert_false(paravirt_msr_write(paravirt, PARAVIRT_CPUS_MAX, MSR_STEAL_TIME, 0));
    assert_false(paravirt_msr_read(paravirt, PARAVIRT_CPUS_MAX, MSR_STEAL_TIME, &value));
    mem_fini(&mem);
    free(paravirt);
}

/* What the host says that the thread has waited is told, no more, and the version is even after. */
static void test_stolen_time(void **unused)
{
    static u8 ram[1 << 12] __attribute__((aligned(4096)));
    struct paravirt *paravirt = calloc(1, sizeof(*paravirt));
    struct mem mem;
    u64 told = 0;

    mem_init(&mem);
    assert_int_equal(mem_add(&mem, 0, sizeof(ram), ram, false), 0);
    paravirt_init(paravirt, &mem, 100); /* a look at every tick */
    u64 before_ns = clock_thread_waited_ns();
    assert_true(paravirt_msr_write(paravirt, 0, MSR_STEAL_TIME, 0x40 | 1));
    assert_int_equal(load_le64(ram + 0x40), 0);
    for (unsigned i = 0; i < 100; i++) {
        u32 version = load_le32(ram + 0x48);
        sched_yield();
        paravirt_follow(paravirt, 0);
        assert_true(load_le64(ram + 0x40) >= told);
        assert_int_equal(load_le32(ram + 0x48), version + (load_le64(ram + 0x40) > told ? 2 : 0));
        told = load_le64(ram + 0x40);
    }
    assert_true(told <= clock_thread_waited_ns() - before_ns);
    /* A vCPU whose thread is another one goes on from what was told. */
    paravirt->cpus[0].stolen_ns = 1ull << 40;
    paravirt_rebase(paravirt);
    paravirt_follow(paravirt, 0);
    assert_true(load_le64(ram + 0x40) == told || load_le64(ram + 0x40) >= 1ull << 40);
    mem_fini(&mem);
    free(paravirt);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registration),       TEST(test_not_offered),
        TEST(test_sleep_and_flush),    TEST(test_kick),
        TEST(test_hypercalls),         TEST(test_state_and_reset),
        TEST(test_marks_and_lost_ram), TEST(test_stolen_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
