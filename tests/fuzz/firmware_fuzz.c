/*
 * tests/fuzz/firmware_fuzz.c - a guest that does anything to what a machine with firmware has: the
 * configuration device and its transfers, the flash chip, the host and LPC bridges. RAM, ROM and
 * flash lie between pages that fault.
 *
 * Input: records of 16 bytes.
 *   0 what, low 3 bits | 1 size, low 2 bits | 2 place | 4 offset, u32 | 8 value, u64
 */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "back/chr.h"
#include "back/entropy.h"
#include "base/bits.h"
#include "core/mem.h"
#include "core/state.h"
#include "fuzz.h"
#include "machine/fake_engine.h"
#include "machine/machine.h"
#include "machine/memmap.h"

enum { RAM_BYTES = 4 << 20, ROM_BYTES = 0x10000, FLASH_BYTES = 0x4000, GUARD_BYTES = 0x10000 };
enum { RECORD_BYTES = 16, RECORDS_MAX = 1000, DESCRIPTOR = 0x8000, ROM_BYTE = 0x5a };
enum { FLASH_BASE = 0u - ROM_BYTES - FLASH_BYTES };
enum what {
    PORT_READ,
    PORT_WRITE,
    MMIO_READ,
    MMIO_WRITE,
    CONFIG_WRITE,
    TRANSFER,
    STATE,
    WHAT_COUNT
};

struct bench {
    u8 *ram, *rom, *flash;
    struct machine *machine;
    struct engine engine;
    struct vcpu *vcpu;
};

static struct bench bench;

static size_t chr_write(struct chr *chr, const void *data, size_t bytes)
{
    return bytes;
}

static void chr_resume(struct chr *chr)
{
}

static void entropy_zeroes(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static void ignore_end(void *ctx, enum machine_end how, unsigned status)
{
}

static void ignore_cpu(void *ctx, unsigned cpu)
{
}

static void ignore(void *ctx)
{
}

/* BYTES of memory with pages around them that fault. */
static u8 *guarded(size_t bytes)
{
    u8 *whole = mmap(NULL, bytes + 2 * GUARD_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(whole != MAP_FAILED);
    assert(mprotect(whole + GUARD_BYTES, bytes, PROT_READ | PROT_WRITE) == 0);
    return whole + GUARD_BYTES;
}

static void bench_open(void)
{
    static const struct chr_ops chr_ops = {.write = chr_write, .rx_resume = chr_resume};
    static const struct entropy_ops entropy_ops = {.fill = entropy_zeroes};
    static struct chr chr = {.ops = &chr_ops};
    static struct entropy entropy = {.ops = &entropy_ops};
    struct err err = {0};

    if (!bench.ram) {
        bench.ram = guarded(RAM_BYTES);
        bench.rom = guarded(ROM_BYTES);
        bench.flash = guarded(FLASH_BYTES);
    }
    memset(bench.rom, ROM_BYTE, ROM_BYTES);
    memset(bench.flash, 0xff, FLASH_BYTES);
    const struct machine_config config = {
        .ram_bytes = RAM_BYTES,
        .ram = bench.ram,
        .cpu_count = 1,
        .console = &chr,
        .entropy = &entropy,
        .firmware = {.rom = bench.rom,
                     .rom_bytes = ROM_BYTES,
                     .variables = bench.flash,
                     .variables_bytes = FLASH_BYTES,
                     .log = &chr},
        .host = {.end = ignore_end, .wake = ignore_cpu, .yield = ignore, .remap = ignore}};
    bench.machine = machine_build(&config, &err);
    assert(bench.machine);
    bench.engine = (struct engine){.ops = &fake_engine_ops, .mem = machine_mem(bench.machine)};
    bench.vcpu = fake_vcpu_new(&bench.engine, 0);
    assert(bench.vcpu);
    machine_attach(bench.machine, bench.vcpu);
    const struct boot_request none = {.command_line = ""};
    assert(machine_boot(bench.machine, &none, &err) == 0);
    assert(bench.ram[0xfffff] == ROM_BYTE);
    machine_clock_start(bench.machine);
}

static void bench_close(void)
{
    machine_clock_stop(bench.machine);
    machine_free(bench.machine);
    fake_free(bench.vcpu);
    for (unsigned i = 0; i < ROM_BYTES; i++)
        assert(bench.rom[i] == ROM_BYTE);
}

static u64 do_exit(enum vm_exit_kind kind, u64 address, unsigned bytes, u64 value)
{
    bench.vcpu->exit = (struct vm_exit){
        .kind = kind, .bytes = (u8)bytes, .address = address, .value = value};
    assert(machine_dispatch(bench.machine, bench.vcpu));
    return bench.vcpu->exit.value;
}

static void config_write(u32 function, u32 at, unsigned bytes, u64 value)
{
    do_exit(EXIT_PORT_WRITE, 0xcf8, 4, 0x80000000u | function << 8 | (at & 0xfc));
    do_exit(EXIT_PORT_WRITE, 0xcfc + at % 4, bytes > 4 ? 4 : bytes, value);
}

/* A descriptor from the record, and a transfer by it. */
static void transfer(u32 offset, u64 value)
{
    u8 descriptor[16];

    store_le64(descriptor, value); /* control and length, as the guest would write them */
    store_le64(descriptor + 8, __builtin_bswap64((u64)offset));
    (void)!mem_write(machine_mem(bench.machine), DESCRIPTOR, descriptor, sizeof(descriptor));
    do_exit(EXIT_PORT_WRITE, 0x514, 4, value >> 63 ? value : 0);
    do_exit(EXIT_PORT_WRITE, 0x518, 4, __builtin_bswap32(DESCRIPTOR));
}

/* Saves, and loads what was saved with a byte changed; whatever comes of that, what was saved can
 * still be loaded. */
static void tamper(u32 offset, u64 value)
{
    struct state_writer writer = {0};
    struct err err;

    machine_clock_stop(bench.machine);
    assert(machine_save(bench.machine, &writer, &err) == 0);
    u8 *changed = &writer.data[offset % writer.bytes], before = *changed;
    struct state_reader reader = {.data = writer.data, .bytes = writer.bytes};
    *changed = (u8)value;
    (void)!machine_load(bench.machine, &reader, &err);
    *changed = before;
    reader = (struct state_reader){.data = writer.data, .bytes = writer.bytes};
    assert(machine_load(bench.machine, &reader, &err) == 0);
    state_writer_fini(&writer);
    machine_clock_start(bench.machine);
}

static void play(const u8 *record)
{
    static const u64 places[] = {FLASH_BASE, 0u - ROM_BYTES, 0xb0000000, 0xe0000000, 0xe0000};
    static const u32 functions[] = {0, 31 << 3, 1 << 3, 0}; /* host, LPC, a virtio device */
    unsigned bytes = 1u << (record[1] & 3);
    u8 place = record[2];
    u32 offset = load_le32(record + 4);
    u64 value = load_le64(record + 8);
    u64 port = place & 1 ? 0x510 + offset % 12 : offset & 0xffff;
    u64 address = place < ARRAY_LEN(places) ? places[place] + offset % 0x100000 : value ^ offset;

    switch ((enum what)(record[0] % WHAT_COUNT)) {
    case PORT_READ:
        do_exit(EXIT_PORT_READ, port, bytes > 4 ? 4 : bytes, 0);
        break;
    case PORT_WRITE:
        do_exit(EXIT_PORT_WRITE, port, bytes > 4 ? 4 : bytes, value);
        break;
    case MMIO_READ:
        do_exit(EXIT_MMIO_READ, address, bytes, 0);
        break;
    case MMIO_WRITE:
        do_exit(EXIT_MMIO_WRITE, address, bytes, value);
        break;
    case CONFIG_WRITE:
        config_write(functions[place % ARRAY_LEN(functions)], offset, bytes, value);
        break;
    case TRANSFER:
        transfer(offset, value);
        break;
    case STATE:
    case WHAT_COUNT:
        tamper(offset, value);
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    bench_open();
    for (size_t i = 0; i + RECORD_BYTES <= bytes && i < RECORDS_MAX * RECORD_BYTES;
         i += RECORD_BYTES)
        play(data + i);
    bench_close();
    return 0;
}

static size_t add(u8 *to, size_t at, enum what what, unsigned log2_bytes, u8 place, u32 offset,
                  u64 value)
{
    u8 *record = to + at;

    memset(record, 0, RECORD_BYTES);
    record[0] = (u8)what;
    record[1] = (u8)log2_bytes;
    record[2] = place;
    store_le32(record + 4, offset);
    store_le64(record + 8, value);
    return at + RECORD_BYTES;
}

/* What firmware does: selects and reads files, places ECAM, routes interrupts, writes flash. */
static size_t seed_firmware(u8 *to)
{
    size_t at = 0;

    for (u32 key = 0; key < 0x30; key++) {
        at = add(to, at, PORT_WRITE, 1, 1, 0, key);
        at = add(to, at, PORT_READ, 0, 1, 1, 0);
        at = add(to, at, TRANSFER, 0, 0, 0x10000,
                 __builtin_bswap32(key << 16 | 8 | 2) | (u64)__builtin_bswap32(0x1000) << 32);
    }
    at = add(to, at, CONFIG_WRITE, 2, 0, 0x60, 0xb0000001);
    at = add(to, at, MMIO_READ, 2, 2, 0xf8000, 0);
    at = add(to, at, CONFIG_WRITE, 2, 1, 0x60, 0x0b0b0a0a);
    at = add(to, at, CONFIG_WRITE, 2, 0, 0x90, 0x33333330);
    at = add(to, at, TRANSFER, 0, 0, 0x10000,
             __builtin_bswap32(0x20 << 16 | 8 | 2) | (u64)__builtin_bswap32(0x2000) << 32);
    return at;
}

static size_t seed_flash(u8 *to)
{
    static const u8 commands[] = {0x50, 0x70, 0xff, 0x10, 0x12, 0x20, 0xd0, 0x70, 0x40, 0, 0xff};
    size_t at = 0;

    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        at = add(to, at, MMIO_WRITE, 0, 0, FLASH_BYTES - 1, commands[i]);
        at = add(to, at, MMIO_READ, 3, 0, FLASH_BYTES - 8, 0);
        at = add(to, at, STATE, 0, 0, i * 97, i);
    }
    return at;
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    if (index > 1)
        return 0;
    return index == 0 ? seed_firmware(to) : seed_flash(to);
}
