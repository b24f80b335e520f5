/*
 * machine/machine_test.c - a whole machine under an engine that plays scripted exits: wiring, boot,
 * local APICs, ends, and the round trip of its state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "back/blk.h"
#include "back/chr.h"
#include "back/entropy.h"
#include "base/errno.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/state.h"
#include "dev/pm.h"
#include "machine/boot_samples.h"
#include "machine/fake_engine.h"
#include "machine/machine.h"
#include "machine/memmap.h"

enum { CPU_COUNT = 2, RAM_BYTES = 64 << 20, TEXT_BYTES = 64 };
enum { LAPIC_ID = 0x20, LAPIC_EOI = 0xb0, LAPIC_ICR_LOW = 0x300, LAPIC_ICR_HIGH = 0x310 };
enum { LAPIC_SVR = 0xf0, LAPIC_LVT_TIMER = 0x320, LAPIC_TIMER_INITIAL = 0x380 };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_KVM_SYSTEM_TIME = 0x4b564d01 };

/* ---- a machine on a bench ----------------------------------------------------------------------
 */

struct bench {
    u8 *ram;
    struct engine engine;
    struct machine *machine;
    struct vcpu *vcpus[CPU_COUNT];
    struct chr console;
    char text[TEXT_BYTES]; /* what the guest printed */
    size_t text_bytes;
    struct blk disk;
    struct entropy entropy;
    int end_count;
    enum machine_end end;
    unsigned end_status;
    unsigned wakes[CPU_COUNT];
    u8 kernel[SAMPLE_BYTES];
};

static size_t console_write(struct chr *chr, const void *data, size_t bytes)
{
    struct bench *bench = container_of(chr, struct bench, console);
    for (size_t i = 0; i < bytes && bench->text_bytes < TEXT_BYTES - 1; i++)
        bench->text[bench->text_bytes++] = ((const char *)data)[i];
    return bytes;
}

static void console_resume(struct chr *chr)
{
}

static void disk_submit(struct blk *blk, struct blk_req *req)
{
    fail_msg("no guest has asked for this disk");
}

static void disk_drain(struct blk *blk)
{
}

static void entropy_zeroes(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static const struct chr_ops console_ops = {.write = console_write, .rx_resume = console_resume};
static const struct blk_ops disk_ops = {.submit = disk_submit, .drain = disk_drain};
static const struct entropy_ops entropy_ops = {.fill = entropy_zeroes};

static void note_end(void *ctx, enum machine_end how, unsigned status)
{
    struct bench *bench = ctx;
    bench->end_count++;
    bench->end = how;
    bench->end_status = status;
}

static void note_wake(void *ctx, unsigned cpu)
{
    ((struct bench *)ctx)->wakes[cpu]++;
}

static void bench_boot(struct bench *bench)
{
    struct err err;
    const struct boot_request request = {
        .kernel = {.data = bench->kernel, .bytes = sample_pvh(bench->kernel)},
        .command_line = "hello"};
    if (machine_boot(bench->machine, &request, &err) < 0)
        fail_msg("%s", err.text);
}

static struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct err err;
    assert_non_null(bench);
    bench->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bench->ram != MAP_FAILED);
    bench->console.ops = &console_ops;
    bench->disk = (struct blk){.ops = &disk_ops, .size_bytes = 1 << 20, .sector_bytes = 512};
    bench->entropy.ops = &entropy_ops;
    struct machine_config config = {.ram_bytes = RAM_BYTES,
                                    .ram = bench->ram,
                                    .cpu_count = CPU_COUNT,
                                    .console = &bench->console,
                                    .entropy = &bench->entropy,
                                    .disks = {&bench->disk},
                                    .disk_count = 1,
                                    .has_testdev = true,
                                    .host = {.end = note_end, .wake = note_wake, .ctx = bench}};
    bench->machine = machine_build(&config, &err);
    if (!bench->machine)
        fail_msg("%s", err.text);
    bench->engine = (struct engine){.ops = &fake_engine_ops, .mem = machine_mem(bench->machine)};
    for (unsigned i = 0; i < CPU_COUNT; i++) {
        bench->vcpus[i] = fake_vcpu_new(&bench->engine, i);
        machine_attach(bench->machine, bench->vcpus[i]);
    }
    bench_boot(bench);
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

/* One exit of vCPU CPU, dispatched; returns the answer. */
static u64 do_exit(struct bench *bench, unsigned cpu, enum vm_exit_kind kind, u64 address,
                   unsigned bytes, u64 value)
{
    struct vcpu *vcpu = bench->vcpus[cpu];
    vcpu->exit = (struct vm_exit){
        .kind = kind, .bytes = (u8)bytes, .address = address, .value = value};
    assert_true(machine_dispatch(bench->machine, vcpu));
    return vcpu->exit.value;
}

static u64 lapic_get(struct bench *bench, unsigned cpu, u64 offset)
{
    return do_exit(bench, cpu, EXIT_MMIO_READ, MEMMAP_LAPIC_BASE + offset, 4, 0);
}

static void lapic_put(struct bench *bench, unsigned cpu, u64 offset, u32 value)
{
    do_exit(bench, cpu, EXIT_MMIO_WRITE, MEMMAP_LAPIC_BASE + offset, 4, value);
}

static u64 port_get(struct bench *bench, u64 port, unsigned bytes)
{
    return do_exit(bench, 0, EXIT_PORT_READ, port, bytes, 0);
}

static void port_put(struct bench *bench, u64 port, unsigned bytes, u64 value)
{
    do_exit(bench, 0, EXIT_PORT_WRITE, port, bytes, value);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void test_boot_state(void **unused)
{
    struct bench *bench = bench_new();
    const struct x86_state *state = &fake_of(bench->vcpus[0])->state;

    assert_int_equal(state->rip, SAMPLE_ENTRY);
    assert_memory_equal(bench->ram + MEMMAP_TABLES_BASE, "RSD PTR ", 8);
    assert_true(machine_enter(bench->machine, bench->vcpus[0]));
    assert_int_equal(fake_of(bench->vcpus[1])->state.activity, X86_WAIT_FOR_SIPI);
    assert_false(machine_enter(bench->machine, bench->vcpus[1]));
    assert_true(machine_deadline_ns(bench->machine, bench->vcpus[1]) == UINT64_MAX);
    bench_free(bench);
}

static void test_ports_and_holes(void **unused)
{
    struct bench *bench = bench_new();

    port_put(bench, 0x3f8, 1, 'h');
    port_put(bench, 0x3f8, 1, 'i');
    assert_string_equal(bench->text, "hi");
    assert_int_equal(port_get(bench, 0x1234, 2), 0xffff);
    assert_int_equal(do_exit(bench, 0, EXIT_MMIO_READ, 0xf8000000, 4, 0), UINT32_MAX);
    /* The disk is on the PCI bus, with the same registers both ways. */
    bool found = false;
    for (u32 slot = 0; slot < 32; slot++) {
        port_put(bench, 0xcf8, 4, 0x80000000u | slot << 11);
        u64 id = port_get(bench, 0xcfc, 4);
        assert_int_equal(id,
                         do_exit(bench, 0, EXIT_MMIO_READ, MEMMAP_ECAM_BASE + (slot << 15), 4, 0));
        found |= id == 0x10421af4;
    }
    assert_true(found);
    bench_free(bench);
}

static void test_ends(void **unused)
{
    struct bench *bench = bench_new();

    port_put(bench, PM_BASE + PM_CONTROL_OFFSET, 2, PM_S5_TYPE << 10 | 1 << 13);
    assert_int_equal(bench->end_count, 1);
    assert_int_equal(bench->end, MACHINE_POWER_OFF);
    port_put(bench, PM_RESET_PORT, 1, PM_RESET_VALUE);
    assert_int_equal(bench->end_count, 2);
    assert_int_equal(bench->end, MACHINE_RESET);
    port_put(bench, 0x64, 1, 0xfe); /* the keyboard controller's reset line */
    assert_int_equal(bench->end_count, 3);
    assert_int_equal(bench->end, MACHINE_RESET);
    port_put(bench, 0xf4, 4, 21);
    assert_int_equal(bench->end_count, 4);
    assert_int_equal(bench->end, MACHINE_TEST_EXIT);
    assert_int_equal(bench->end_status, 43);
    do_exit(bench, 0, EXIT_SHUTDOWN, 0, 0, 0);
    assert_int_equal(bench->end_count, 5);
    assert_int_equal(bench->end, MACHINE_CRASHED);
    bench->vcpus[0]->exit = (struct vm_exit){.kind = EXIT_FAILED};
    assert_false(machine_dispatch(bench->machine, bench->vcpus[0]));
    bench_free(bench);
}

static void test_start_up(void **unused)
{
    struct bench *bench = bench_new();
    struct fake_vcpu *second = fake_of(bench->vcpus[1]);

    assert_int_equal(lapic_get(bench, 0, LAPIC_ID) >> 24, 0);
    assert_int_equal(lapic_get(bench, 1, LAPIC_ID) >> 24, 1);
    second->state.gpr[X86_RAX] = 77;
    lapic_put(bench, 0, LAPIC_ICR_HIGH, 1 << 24);
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x4500); /* INIT, assert */
    assert_true(second->kicks > 0 && bench->wakes[1] > 0);
    assert_false(machine_enter(bench->machine, bench->vcpus[1]));
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x469f); /* SIPI, page 0x9f */
    assert_true(machine_enter(bench->machine, bench->vcpus[1]));
    assert_int_equal(second->state.seg[X86_CS].base, 0x9f000);
    assert_int_equal(second->state.seg[X86_CS].selector, 0x9f00);
    assert_int_equal(second->state.rip, 0);
    assert_int_equal(second->state.gpr[X86_RAX], 0);
    assert_int_equal(second->state.activity, X86_ACTIVE);
    second->state.rip = 5;
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x4608); /* a second SIPI has no effect */
    assert_true(machine_enter(bench->machine, bench->vcpus[1]));
    assert_int_equal(second->state.rip, 5);
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x4400); /* NMI */
    assert_true(machine_enter(bench->machine, bench->vcpus[1]));
    assert_int_equal(second->nmis, 1);
    bench_free(bench);
}

static void test_halt_and_timer(void **unused)
{
    struct bench *bench = bench_new();
    struct vcpu *vcpu = bench->vcpus[0];
    struct fake_vcpu *fake = fake_of(vcpu);

    lapic_put(bench, 0, LAPIC_SVR, 0x1ff);
    fake->state.rflags |= X86_IF;
    do_exit(bench, 0, EXIT_HLT, 0, 0, 0);
    assert_false(machine_enter(bench->machine, vcpu));
    lapic_put(bench, 0, LAPIC_LVT_TIMER, 0x40); /* one-shot, vector 0x40 */
    lapic_put(bench, 0, LAPIC_TIMER_INITIAL, 1000000);
    u64 deadline_ns = machine_deadline_ns(bench->machine, vcpu);
    u64 now_ns = vm_clock_now(machine_clock(bench->machine));
    assert_in_range(deadline_ns, now_ns, now_ns + 1000000000ull);
    while (vm_clock_now(machine_clock(bench->machine)) < deadline_ns)
        ;
    assert_true(machine_enter(bench->machine, vcpu));
    assert_true(vcpu->irq.pending(vcpu->irq.ctx));
    /* With interrupts off the pending one does not wake it again. */
    fake->state.rflags &= ~(u64)X86_IF;
    do_exit(bench, 0, EXIT_HLT, 0, 0, 0);
    assert_false(machine_enter(bench->machine, vcpu));
    assert_true(machine_deadline_ns(bench->machine, vcpu) == UINT64_MAX);
    lapic_put(bench, 1, LAPIC_ICR_HIGH, 0);
    lapic_put(bench, 1, LAPIC_ICR_LOW, 0x4400); /* but an NMI does */
    assert_true(machine_enter(bench->machine, vcpu));
    assert_int_equal(vcpu->irq.ack(vcpu->irq.ctx), 0x40);
    bench_free(bench);
}

static bool msr_put(struct bench *bench, u32 msr, u64 value)
{
    do_exit(bench, 0, EXIT_MSR_WRITE, msr, 8, value);
    return !bench->vcpus[0]->exit.msr_fault;
}

static void test_msrs(void **unused)
{
    struct bench *bench = bench_new();
    u8 info[32];

    assert_int_equal(do_exit(bench, 0, EXIT_MSR_READ, MSR_APIC_BASE, 8, 0),
                     MEMMAP_LAPIC_BASE | 0x900);
    assert_false(msr_put(bench, 0x1234567, 0));
    assert_false(msr_put(bench, MSR_KVM_SYSTEM_TIME, 0xf0000001)); /* no RAM there */
    memset(bench->ram + 0x300000, 0xee, 64);
    assert_true(msr_put(bench, MSR_KVM_SYSTEM_TIME, 0x300001));
    assert_int_equal(do_exit(bench, 0, EXIT_MSR_READ, MSR_KVM_SYSTEM_TIME, 8, 0), 0x300001);
    memcpy(info, bench->ram + 0x300000, sizeof(info));
    assert_int_equal(load_le32(info) % 2, 0);
    assert_int_equal(info[29], 1);
    /* What a guest computes from the page is the VM's time. */
    u64 now_ns = vm_clock_now(machine_clock(bench->machine));
    u64 ticks = __builtin_ia32_rdtsc() - load_le64(info + 8);
    s8 shift = (s8)info[28];
    ticks = shift < 0 ? ticks >> -shift : ticks << shift;
    u64 guest_ns = load_le64(info + 16) +
                   (u64)((unsigned __int128)ticks * load_le32(info + 24) >> 32);
    assert_in_range(guest_ns + 1000000, now_ns, now_ns + 11000000);
    /* The page follows a guest that changes its TSC. */
    bench->vcpus[0]->tsc_offset += 1000000000000ull;
    assert_true(machine_enter(bench->machine, bench->vcpus[0]));
    assert_int_equal(load_le64(bench->ram + 0x300008), load_le64(info + 8) + 1000000000000ull);
    bench_free(bench);
}

static void test_reset_boots_again(void **unused)
{
    struct bench *bench = bench_new();

    lapic_put(bench, 0, LAPIC_ICR_HIGH, 1 << 24);
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x4500);
    lapic_put(bench, 0, LAPIC_ICR_LOW, 0x469f);
    assert_true(machine_enter(bench->machine, bench->vcpus[1]));
    memset(bench->ram + SAMPLE_LOAD, 0, 4096);
    fake_of(bench->vcpus[0])->state.rip = 1;
    machine_clock_stop(bench->machine);
    bench_boot(bench);
    machine_clock_start(bench->machine);
    assert_int_equal(fake_of(bench->vcpus[0])->state.rip, SAMPLE_ENTRY);
    assert_int_equal(bench->ram[SAMPLE_LOAD], 0xa5);
    assert_false(machine_enter(bench->machine, bench->vcpus[1]));
    bench_free(bench);
}

static void save(struct bench *bench, struct state_writer *writer)
{
    struct err err;
    *writer = (struct state_writer){0};
    if (machine_save(bench->machine, writer, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_round_trip(void **unused)
{
    struct bench *from = bench_new(), *to = bench_new();
    struct state_writer first, second;
    struct err err;

    /* Something in every part. */
    port_put(from, 0x3f8 + 7, 1, 0x5a);
    port_put(from, 0x70, 1, 0x8f);
    port_put(from, 0x21, 1, 0x3c);
    port_put(from, 0xcf8, 4, 0x80000010);
    lapic_put(from, 0, LAPIC_SVR, 0x1fe);
    assert_true(msr_put(from, MSR_KVM_SYSTEM_TIME, 0x300001));
    do_exit(from, 0, EXIT_HLT, 0, 0, 0);
    fake_of(from->vcpus[0])->state.activity = X86_HALTED;
    machine_clock_stop(from->machine);
    machine_clock_stop(to->machine);
    save(from, &first);
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    if (machine_load(to->machine, &reader, &err) < 0)
        fail_msg("%s", err.text);
    save(to, &second);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    assert_int_equal(port_get(to, 0x3f8 + 7, 1), 0x5a);
    assert_int_equal(port_get(to, 0x21, 1), 0x3c);
    assert_int_equal(lapic_get(to, 0, LAPIC_SVR), 0x1fe);
    machine_clock_start(to->machine);
    assert_false(machine_enter(to->machine, to->vcpus[0])); /* still halted */

    /* A stream that ends early or has another section's name is refused. */
    machine_clock_stop(to->machine);
    for (size_t bytes = 0; bytes < first.bytes; bytes += 1 + first.bytes / 97) {
        reader = (struct state_reader){.data = first.data, .bytes = bytes};
        assert_true(machine_load(to->machine, &reader, &err) < 0);
    }
    first.data[2] ^= 1;
    reader = (struct state_reader){.data = first.data, .bytes = first.bytes};
    assert_int_equal(machine_load(to->machine, &reader, &err), -EPROTO);
    state_writer_fini(&first);
    state_writer_fini(&second);
    bench_free(from);
    bench_free(to);
}

static void test_refused_configs(void **unused)
{
    struct machine_config config = {.ram_bytes = RAM_BYTES, .cpu_count = 0};
    struct err err;
    assert_null(machine_build(&config, &err));
    config.cpu_count = MACHINE_CPUS_MAX + 1;
    assert_null(machine_build(&config, &err));
    config.cpu_count = 1;
    config.ram_bytes = 12345;
    assert_null(machine_build(&config, &err));
    assert_non_null(strstr(err.text, "memory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot_state),
        cmocka_unit_test(test_ports_and_holes),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_start_up),
        cmocka_unit_test(test_halt_and_timer),
        cmocka_unit_test(test_msrs),
        cmocka_unit_test(test_reset_boots_again),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused_configs),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
