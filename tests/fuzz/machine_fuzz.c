/*
 * tests/fuzz/machine_fuzz.c - a guest that programs the whole machine with arbitrary values: ports,
 * MMIO, MSRs, halts, timers, PCI configuration, virtqueues and their memory. Nothing may crash,
 * hang, or touch a byte outside guest RAM, whose neighbours fault.
 *
 * Input: records of 16 bytes.
 *   offset 0 kind   1 size and vCPU   2 target   3 unused   4 u32 offset   8 u64 value
 */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "back/blk.h"
#include "back/chr.h"
#include "back/display.h"
#include "back/entropy.h"
#include "base/bits.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/state.h"
#include "fuzz.h"
#include "machine/boot_samples.h"
#include "machine/fake_engine.h"
#include "machine/machine.h"
#include "machine/memmap.h"
#include "x86/cpuid.h"

enum { RECORD_BYTES = 16, RECORDS_MAX = 512, CPU_COUNT = 2, RAM_BYTES = 16 << 20 };
enum { GUARD_BYTES = 1 << 16, DISK_BYTES = 1 << 20, SLOT_COUNT = 32, PENDING_MAX = 1024 };
enum kind {
    PORT_READ,
    PORT_WRITE,
    MMIO_READ,
    MMIO_WRITE,
    MSR_READ,
    MSR_WRITE,
    RAM_WRITE,
    TURN,
    HYPERCALL,
    KIND_COUNT
};
enum { QUEUE_RAM = 0x200000 };

static struct {
    struct machine *machine;
    struct cpuid_model cpuid;
    struct engine engine;
    struct vcpu *vcpus[CPU_COUNT];
    u8 *ram;
    u8 disk_data[DISK_BYTES];
    struct blk_req *pending[PENDING_MAX]; /* requests that the disk has not finished */
    unsigned pending_count;
    struct display display;
    bool has_display; /* its 16 MiB take time: one input in 32 */
    bool has_moved;
    u64 bars[SLOT_COUNT][2]; /* where BAR 0 and 1 of each slot are; 0: nowhere */
} bench;

/* ---- back ends ---------------------------------------------------------------------------------
 */

static void disk_submit(struct blk *blk, struct blk_req *req)
{
    assert(bench.pending_count < PENDING_MAX);
    bench.pending[bench.pending_count++] = req;
}

/* A disk that checks what it is asked, touches the guest's buffers, and finishes. */
static void disk_finish(struct blk *blk)
{
    while (bench.pending_count > 0) {
        struct blk_req *req = bench.pending[--bench.pending_count];
        bool inside = req->offset <= DISK_BYTES && req->bytes <= DISK_BYTES - req->offset;
        u64 at = req->offset;
        for (unsigned i = 0; inside && i < req->segment_count; i++) {
            struct blk_segment *segment = &req->segments[i];
            if (segment->bytes > DISK_BYTES - at)
                break;
            if (req->op == BLK_READ)
                memcpy(segment->data, bench.disk_data + at, segment->bytes);
            else if (req->op == BLK_WRITE)
                memcpy(bench.disk_data + at, segment->data, segment->bytes);
            at += segment->bytes;
        }
        lock_acquire(blk->lock);
        req->done(req, inside ? 0 : -22);
        lock_release(blk->lock);
    }
}

static size_t chr_write_all(struct chr *chr, const void *data, size_t bytes)
{
    volatile u8 sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (u8)(sum + ((const u8 *)data)[i]);
    return bytes;
}

static void chr_resume(struct chr *chr)
{
}

static void entropy_zeroes(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static const struct blk_ops disk_ops = {.submit = disk_submit, .drain = disk_finish};
static const struct chr_ops chr_ops = {.write = chr_write_all, .rx_resume = chr_resume};
static const struct entropy_ops entropy_ops = {.fill = entropy_zeroes};
static struct blk disk = {
    .ops = &disk_ops, .size_bytes = DISK_BYTES, .sector_bytes = 512, .can_discard = true};
static struct chr console = {.ops = &chr_ops}, port = {.ops = &chr_ops};
static struct entropy entropy = {.ops = &entropy_ops};

static void ignore_end(void *ctx, enum machine_end how, unsigned status)
{
}

static void ignore_wake(void *ctx, unsigned cpu)
{
}

static void ignore_yield(void *ctx)
{
}

static void note_remap(void *ctx)
{
    bench.has_moved = true;
}

static int ignore_change(struct engine *engine, struct err *err)
{
    return 0;
}

static const struct engine_ops engine_ops = {.name = "fuzz", .memory_changed = ignore_change};

/* ---- the machine -------------------------------------------------------------------------------
 */

static u64 do_exit(unsigned cpu, enum vm_exit_kind kind, u64 address, unsigned bytes, u64 value)
{
    struct vcpu *vcpu = bench.vcpus[cpu];
    vcpu->exit = (struct vm_exit){
        .kind = kind, .bytes = (u8)bytes, .address = address, .value = value};
    assert(machine_dispatch(bench.machine, vcpu));
    /* Between two exits every vCPU stands still. */
    assert(!bench.has_moved || machine_remap(bench.machine, NULL) == 0);
    bench.has_moved = false;
    return vcpu->exit.value;
}

static void find_bars(void)
{
    for (u64 slot = 0; slot < SLOT_COUNT; slot++) {
        u64 config = MEMMAP_ECAM_BASE + (slot << 15);
        u64 low = do_exit(0, EXIT_MMIO_READ, config + 0x10, 4, 0);
        u64 next = do_exit(0, EXIT_MMIO_READ, config + 0x14, 4, 0);
        bool present = (u16)do_exit(0, EXIT_MMIO_READ, config, 2, 0) != 0xffff;
        bool is_64_bit = low & 4;
        bench.bars[slot][0] = present ? (low & ~15ull) | (is_64_bit ? next << 32 : 0) : 0;
        bench.bars[slot][1] =
            present ? (is_64_bit ? do_exit(0, EXIT_MMIO_READ, config + 0x18, 4, 0) : next) & ~15ull
                    : 0;
    }
}

static void bench_open(void)
{
    static u8 kernel[SAMPLE_BYTES];
    struct err err = {0};

    if (!bench.ram) {
        u8 *whole = mmap(NULL, RAM_BYTES + 2 * GUARD_BYTES, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert(whole != MAP_FAILED);
        bench.ram = whole + GUARD_BYTES;
        assert(mprotect(bench.ram, RAM_BYTES, PROT_READ | PROT_WRITE) == 0);
    }
    struct machine_config config = {
        .ram_bytes = RAM_BYTES,
        .ram = bench.ram,
        .cpu_count = CPU_COUNT,
        .console = &console,
        .debug = &console,
        .entropy = &entropy,
        .disks = {&disk},
        .disk_count = 1,
        .ports = {{.name = "port", .chr = &port}},
        .port_count = 1,
        .display = bench.has_display ? &bench.display : NULL,
        .has_testdev = true,
        .host = {
            .end = ignore_end, .wake = ignore_wake, .yield = ignore_yield, .remap = note_remap}};
    bench.machine = machine_build(&config, &err);
    assert(bench.machine);
    const struct cpuid_config cpuid = {
        .system_emulated = true, .cpu_count = CPU_COUNT, .kvm_features = UINT32_MAX};
    cpuid_model_init(&bench.cpuid, &cpuid);
    bench.engine = (struct engine){
        .ops = &engine_ops, .mem = machine_mem(bench.machine), .cpuid = &bench.cpuid};
    for (unsigned i = 0; i < CPU_COUNT; i++) {
        bench.vcpus[i] = fake_vcpu_new(&bench.engine, i);
        assert(bench.vcpus[i]);
        machine_attach(bench.machine, bench.vcpus[i]);
    }
    const struct boot_request request = {.kernel = {.data = kernel, .bytes = sample_pvh(kernel)},
                                         .command_line = ""};
    assert(machine_boot(bench.machine, &request, &err) == 0);
    machine_clock_start(bench.machine);
    find_bars();
}

static void bench_close(void)
{
    machine_clock_stop(bench.machine);
    disk_finish(&disk);
    machine_free(bench.machine);
    for (unsigned i = 0; i < CPU_COUNT; i++)
        fake_free(bench.vcpus[i]);
}

/* ---- records -----------------------------------------------------------------------------------
 */

static const u64 places[] = {MEMMAP_LAPIC_BASE, MEMMAP_IOAPIC_BASE, MEMMAP_HPET_BASE,
                             MEMMAP_ECAM_BASE,  0xff000000,         MEMMAP_PCI32_BASE};
enum { TARGET_BAR = 0x40 }; /* bit: the low five bits are a slot, bit 5 the BAR */

static u64 mmio_address(const u8 *record)
{
    u8 target = record[2];
    u32 offset = load_le32(record + 4);

    if (target & TARGET_BAR)
        return bench.bars[target % SLOT_COUNT][target >> 5 & 1] + offset % 0x8000;
    if (target < ARRAY_LEN(places))
        return places[target] + (target == 3 ? offset % (1 << 21) : offset % 0x1000);
    return load_le64(record + 8) ^ offset;
}

static void turn(unsigned cpu, u32 what)
{
    struct vcpu *vcpu = bench.vcpus[cpu];

    switch (what % 6) {
    case 0:
        disk_finish(&disk);
        break;
    case 1:
        do_exit(cpu, EXIT_HLT, 0, 0, 0);
        break;
    case 2:
        (void)machine_enter(bench.machine, vcpu);
        break;
    case 3:
        if (vcpu->irq.pending(vcpu->irq.ctx))
            (void)vcpu->irq.ack(vcpu->irq.ctx);
        break;
    case 4:
        machine_press_power_button(bench.machine);
        break;
    default:
        vm_clock_run(machine_clock(bench.machine));
    }
}

/* VALUE's low word makes the bitmaps or the target, its high word the first id and the ICR. */
static void hypercall(unsigned cpu, u32 number, unsigned bytes, u64 value)
{
    struct vcpu *vcpu = bench.vcpus[cpu];

    vcpu->exit = (struct vm_exit){.kind = EXIT_HYPERCALL,
                                  .bytes = bytes >= 8 ? 8 : 4,
                                  .address = number % 16,
                                  .args = {value, (u32)value, value >> 60, value >> 32}};
    assert(machine_dispatch(bench.machine, vcpu));
}

static void play(const u8 *record)
{
    unsigned cpu = record[1] >> 7;
    unsigned bytes = 1u << (record[1] & 3);
    unsigned port_bytes = bytes > 4 ? 4 : bytes;
    u32 offset = load_le32(record + 4);
    u64 value = load_le64(record + 8);

    switch ((enum kind)(record[0] % KIND_COUNT)) {
    case PORT_READ:
        do_exit(cpu, EXIT_PORT_READ, offset & 0xffff, port_bytes, 0);
        break;
    case PORT_WRITE:
        do_exit(cpu, EXIT_PORT_WRITE, offset & 0xffff, port_bytes, value);
        break;
    case MMIO_READ:
        do_exit(cpu, EXIT_MMIO_READ, mmio_address(record), bytes, 0);
        break;
    case MMIO_WRITE:
        do_exit(cpu, EXIT_MMIO_WRITE, mmio_address(record), bytes, value);
        break;
    case MSR_READ:
        do_exit(cpu, EXIT_MSR_READ, offset, 8, 0);
        break;
    case MSR_WRITE:
        do_exit(cpu, EXIT_MSR_WRITE, offset, 8, value);
        break;
    case RAM_WRITE:
        (void)!mem_write(machine_mem(bench.machine), QUEUE_RAM + offset % 0x4000, &value, bytes);
        break;
    case HYPERCALL:
        hypercall(cpu, offset, bytes, value);
        break;
    case TURN:
    case KIND_COUNT:
        turn(cpu, offset);
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    struct state_writer writer = {0};
    struct err err;
    u8 sum = 0;

    for (size_t i = 0; i < bytes; i++)
        sum = (u8)(sum + data[i]);
    bench.has_display = sum % 32 == 0;
    bench_open();
    for (size_t i = 0; i + RECORD_BYTES <= bytes && i < RECORDS_MAX * RECORD_BYTES;
         i += RECORD_BYTES)
        play(data + i);
    /* Whatever state the guest reached can be saved, and what was saved can be loaded. */
    machine_clock_stop(bench.machine);
    disk_finish(&disk);
    assert(machine_save(bench.machine, &writer, &err) == 0);
    struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
    assert(machine_load(bench.machine, &reader, &err) == 0);
    state_writer_fini(&writer);
    bench_close();
    memset(bench.ram + QUEUE_RAM, 0, 0x4000);
    return 0;
}

/* ---- seeds -------------------------------------------------------------------------------------
 */

static size_t add(u8 *to, size_t at, enum kind kind, unsigned log2_bytes, u8 target, u32 offset,
                  u64 value)
{
    u8 *record = to + at;
    memset(record, 0, RECORD_BYTES);
    record[0] = (u8)kind;
    record[1] = (u8)log2_bytes;
    record[2] = target;
    store_le32(record + 4, offset);
    store_le64(record + 8, value);
    return at + RECORD_BYTES;
}

/* A driver that brings up queue QUEUE of the virtio device in SLOT and offers one chain of three.
 */
static size_t seed_virtio(u8 *to, u8 slot, u16 queue, u32 request_type)
{
    u8 bar = (u8)(TARGET_BAR | slot);
    size_t at = 0;

    at = add(to, at, MMIO_WRITE, 0, bar, 0x14, 0);
    at = add(to, at, MMIO_WRITE, 0, bar, 0x14, 3);
    at = add(to, at, MMIO_WRITE, 2, bar, 0x08, 1);
    at = add(to, at, MMIO_WRITE, 2, bar, 0x0c, 1);
    at = add(to, at, MMIO_WRITE, 0, bar, 0x14, 11);
    at = add(to, at, MMIO_WRITE, 1, bar, 0x16, queue);
    at = add(to, at, MMIO_WRITE, 1, bar, 0x18, 8);
    at = add(to, at, MMIO_WRITE, 3, bar, 0x20, QUEUE_RAM);
    at = add(to, at, MMIO_WRITE, 3, bar, 0x28, QUEUE_RAM + 0x1000);
    at = add(to, at, MMIO_WRITE, 3, bar, 0x30, QUEUE_RAM + 0x2000);
    at = add(to, at, MMIO_WRITE, 1, bar, 0x1c, 1);
    at = add(to, at, MMIO_WRITE, 0, bar, 0x14, 15);
    /* Descriptors: header, data, status. */
    static const u32 lengths[] = {16, 512, 1}, flags[] = {1, 3, 2};
    for (u32 i = 0; i < 3; i++) {
        at = add(to, at, RAM_WRITE, 3, 0, 16 * i, QUEUE_RAM + 0x3000 + 0x400 * i);
        at = add(to, at, RAM_WRITE, 2, 0, 16 * i + 8, lengths[i]);
        at = add(to, at, RAM_WRITE, 2, 0, 16 * i + 12, flags[i] | (i + 1) << 16);
    }
    at = add(to, at, RAM_WRITE, 2, 0, 0x3000, request_type);
    at = add(to, at, RAM_WRITE, 2, 0, 0x1000, 1 << 16);
    at = add(to, at, MMIO_WRITE, 1, bar, 0x3000 + 4u * queue, queue);
    at = add(to, at, TURN, 0, 0, 0, 0);
    at = add(to, at, MMIO_READ, 0, bar, 0x1000, 0);
    return add(to, at, MMIO_WRITE, 0, bar, 0x14, 0);
}

/* Chipset accesses of every kind. */
static size_t seed_chipset(u8 *to)
{
    static const u16 ports[] = {0x20,  0x21,  0x40,  0x43,  0x61,  0x64,  0x60,  0x70,  0x71,
                                0x80,  0xa0,  0xa1,  0xb2,  0xcf8, 0xcf9, 0xcfc, 0x3f8, 0x3f9,
                                0x3fa, 0x3fb, 0x3fc, 0x3ff, 0x4d0, 0x4d1, 0x600, 0x602, 0x604,
                                0x608, 0x620, 0x624, 0xe9,  0xf4,  0xe0,  0xe4,  0xe8,  0x2000};
    static const u32 msrs[] = {0x1b,  0x6e0, 0x802, 0x808, 0x80b, 0x80d,      0x80f,     0x830,
                               0x832, 0x838, 0x83e, 0x11,  0x12,  0x4b564d00, 0x4b564d01};
    static const u16 lapic[] = {0x80,  0xb0,  0xd0,  0xe0,  0xf0,  0x280, 0x300, 0x310,
                                0x320, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0};
    size_t at = 0;

    for (unsigned i = 0; i < ARRAY_LEN(ports); i++) {
        at = add(to, at, PORT_WRITE, i % 2, 0, ports[i], 0x34 + i);
        at = add(to, at, PORT_READ, 0, 0, ports[i], 0);
    }
    for (unsigned i = 0; i < ARRAY_LEN(lapic); i++) {
        at = add(to, at, MMIO_WRITE, 2, 0, lapic[i], 0x1ff + i);
        at = add(to, at, MMIO_READ, 2, 0, lapic[i], 0);
    }
    for (u32 i = 0; i < 64; i++) {
        at = add(to, at, MMIO_WRITE, 2, 1, 0, i);
        at = add(to, at, MMIO_WRITE, 2, 1, 0x10, 0x8000 + i);
        at = add(to, at, MMIO_WRITE, 3, 2, 8 * i, 0x1234567 + i);
    }
    for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
        at = add(to, at, MSR_WRITE, 3, 0, msrs[i], 0xfee00d00);
        at = add(to, at, MSR_READ, 3, 0, msrs[i], 0);
    }
    for (u32 i = 0; i < 12; i++)
        at = add(to, at, TURN, 0, 0, i, 0);
    return at;
}

/* A guest that registers its flags, takes an interrupt, sleeps, is kicked and interrupted. */
static size_t seed_paravirt(u8 *to)
{
    enum { HALT = 1, ENTER = 2, ACK = 3, CPU_1 = 0x80 };
    size_t at = 0;

    at = add(to, at, MSR_WRITE, 3, 0, 0x1b, 0xfee00d00);
    at = add(to, at, MSR_WRITE, 3, 0, 0x80f, 0x1ff);
    at = add(to, at, MSR_WRITE, 3, 0, 0x4b564d03, QUEUE_RAM | 1);
    at = add(to, at, MSR_WRITE, 3, 0, 0x4b564d04, (QUEUE_RAM + 0x44) | 1);
    at = add(to, at, HYPERCALL, 3, 0, 10, 1 | 0x77ull << 32);
    at = add(to, at, TURN, 0, 0, ACK, 0);
    at = add(to, at, RAM_WRITE, 0, 0, 0x44, 0);
    at = add(to, at, TURN, 0, 0, HALT, 0);
    at = add(to, at, TURN, 0, 0, ENTER, 0);
    at = add(to, at, RAM_WRITE, 0, 0, 16, 3);
    at = add(to, at, HYPERCALL, 3 | CPU_1, 0, 5, 0);
    at = add(to, at, TURN, 0, 0, ENTER, 0);
    at = add(to, at, HYPERCALL, 2, 0, 10, 0xf000000380000077);
    return add(to, at, HYPERCALL, 2, 0, 11, 1);
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    switch (index) {
    case 0:
        return seed_chipset(to);
    case 1: /* the disk: read, write, flush, discard, write zeroes */
    case 2:
    case 3:
    case 4:
    case 5:
        return seed_virtio(to, 11, 0, (const u32[]){0, 1, 4, 11, 13}[index - 1]);
    case 6:
    case 7:
    case 8:
    case 9: /* the console's queues: input, output, control */
        return seed_virtio(to, 2, (u16)(index - 6), 0);
    case 10:
        return seed_paravirt(to);
    default:
        return 0;
    }
}
