/*
 * machine/boot_test.c - what the boot loaders leave in guest memory and in the processor, and what
 * they refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/errno.h"
#include "core/mem.h"
#include "machine/boot.h"
#include "machine/boot_samples.h"
#include "machine/memmap.h"
#include "x86/regs.h"

#define RAM_BYTES (64ull << 20)

struct bench {
    struct mem mem;
    struct memmap map;
    u8 *ram;
    u64 ram_bytes;
    u8 kernel[SAMPLE_BYTES];
    u8 initrd[5000];
    struct boot_request request;
    struct x86_state state;
    struct err err;
};

static void bench_init(struct bench *bench, u64 ram_bytes)
{
    bench->ram_bytes = ram_bytes;
    bench->ram = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(bench->ram != MAP_FAILED);
    assert_int_equal(memmap_init(&bench->map, ram_bytes, false, NULL), 0);
    mem_init(&bench->mem);
    for (unsigned i = 0; i < MEMMAP_RAM_COUNT; i++) {
        const struct memmap_range *range = &bench->map.ram[i];
        if (range->bytes)
            assert_int_equal(mem_add(&bench->mem, range->base, range->bytes,
                                     bench->ram + range->ram_offset, false),
                             0);
    }
    memset(bench->initrd, 0x77, sizeof(bench->initrd));
    bench->request = (struct boot_request){.mem = &bench->mem,
                                           .map = &bench->map,
                                           .kernel = {.data = bench->kernel},
                                           .command_line = "quiet",
                                           .rsdp = MEMMAP_TABLES_BASE};
}

static void bench_fini(struct bench *bench)
{
    mem_fini(&bench->mem);
    munmap(bench->ram, bench->ram_bytes);
}

static int load(struct bench *bench)
{
    return boot_load(&bench->request, &bench->state, &bench->err);
}

/* Where GPA below 4 GiB lies in RAM. */
static const u8 *at(const struct bench *bench, u64 gpa)
{
    assert_true(gpa < bench->map.low_bytes);
    return bench->ram + gpa;
}

static void assert_flat(const struct x86_state *state)
{
    assert_int_equal(state->cr0 & X86_CR0_PE, X86_CR0_PE);
    assert_int_equal(state->rflags, X86_FLAG_FIXED);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        assert_int_equal(state->seg[i].base, 0);
        assert_int_equal(state->seg[i].limit, UINT32_MAX);
    }
    assert_int_equal(state->seg[X86_CS].selector, 0x10);
    assert_int_equal(state->seg[X86_DS].selector, 0x18);
}

static void test_linux(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    bench.request.kernel.bytes = sample_linux(bench.kernel);
    bench.request.initrd = (struct boot_blob){bench.initrd, sizeof(bench.initrd)};
    bench.request.seed = (struct boot_blob){bench.initrd, 32};
    assert_int_equal(load(&bench), 0);

    const u8 *params = at(&bench, bench.state.gpr[X86_RSI]);
    assert_int_equal(bench.state.rip, 0x1000200);
    assert_flat(&bench.state);
    assert_true(bench.state.msr.efer & X86_EFER_LMA && bench.state.cr0 & X86_CR0_PG);
    assert_int_equal(bench.state.seg[X86_CS].attr & X86_SEG_LONG, X86_SEG_LONG);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(at(&bench, 0x1000000)[i], 0x5a);
    assert_memory_equal(params + 0x202, "HdrS", 4);
    assert_int_equal(params[0x210], 0xff);
    assert_string_equal((const char *)at(&bench, load_le32(params + 0x228)), "quiet");
    assert_int_equal(load_le64(params + 0x70), MEMMAP_TABLES_BASE);
    /* The initrd: page aligned, at the top, complete. */
    u32 initrd = load_le32(params + 0x218);
    assert_int_equal(initrd, align_down(RAM_BYTES - sizeof(bench.initrd), 4096));
    assert_int_equal(load_le32(params + 0x21c), sizeof(bench.initrd));
    assert_memory_equal(at(&bench, initrd), bench.initrd, sizeof(bench.initrd));
    /* The seed's node. */
    const u8 *node = at(&bench, load_le64(params + 0x250));
    assert_int_equal(load_le32(node + 8), 9);
    assert_int_equal(load_le32(node + 12), 32);
    assert_memory_equal(node + 16, bench.initrd, 32);
    /* E820 is the memory map's. */
    assert_int_equal(params[0x1e8], bench.map.e820_count);
    assert_int_equal(load_le64(params + 0x2d0), bench.map.e820[0].base);
    /* The page tables map every address of the first 4 GiB to itself. */
    const u64 *pml4 = (const u64 *)(const void *)at(&bench, bench.state.cr3);
    const u64 *pdpt = (const u64 *)(const void *)at(&bench, pml4[0] & ~0xfffull);
    for (unsigned gib = 0; gib < 4; gib++) {
        const u64 *directory = (const u64 *)(const void *)at(&bench, pdpt[gib] & ~0xfffull);
        for (u64 i = 0; i < 512; i++)
            assert_int_equal(directory[i], (gib * 512 + i) << 21 | 0x83);
    }
    bench_fini(&bench);
}

/* One without a 64-bit entry: its first byte, in protected mode without paging. */
static void test_linux_32(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    bench.request.kernel.bytes = sample_linux(bench.kernel);
    bench.request.initrd = (struct boot_blob){bench.initrd, sizeof(bench.initrd)};
    store_le16(bench.kernel + 0x236, 0);
    store_le32(bench.kernel + 0x22c, 0x2ffffff);
    assert_int_equal(load(&bench), 0);

    const u8 *params = at(&bench, bench.state.gpr[X86_RSI]);
    assert_int_equal(bench.state.rip, 0x1000000);
    assert_flat(&bench.state);
    assert_int_equal(bench.state.cr0 & X86_CR0_PG, 0);
    assert_int_equal(bench.state.msr.efer, 0);
    assert_int_equal(bench.state.seg[X86_CS].attr & (X86_SEG_LONG | X86_SEG_BIG), X86_SEG_BIG);
    static const u8 zero[] = {X86_RBX, X86_RBP, X86_RDI};
    for (unsigned i = 0; i < sizeof(zero); i++)
        assert_int_equal(bench.state.gpr[zero[i]], 0);
    assert_memory_equal(params + 0x202, "HdrS", 4);
    assert_int_equal(load_le32(params + 0x218), align_down(0x3000000 - sizeof(bench.initrd), 4096));
    bench_fini(&bench);
}

/* A kernel unpacks itself at its preferred address or above, so RAM must reach that far. */
static void test_linux_needs_its_place(void **unused)
{
    static struct bench bench;
    bench_init(&bench, 20 << 20);
    bench.request.kernel.bytes = sample_linux(bench.kernel);
    assert_int_equal(load(&bench), 0);
    store_le64(bench.kernel + 0x258, 0x1200000);
    assert_int_equal(load(&bench), -ENOSPC);
    assert_non_null(strstr(bench.err.text, "--memory"));
    store_le64(bench.kernel + 0x258, 0x1000);
    assert_int_equal(load(&bench), -ENOEXEC);
    store_le64(bench.kernel + 0x258, UINT64_MAX);
    assert_int_equal(load(&bench), -ENOEXEC);
    bench_fini(&bench);
}

static void test_linux_initrd_above_4g(void **unused)
{
    static struct bench bench;
    bench_init(&bench, 4ull << 30);
    bench.request.kernel.bytes = sample_linux(bench.kernel);
    bench.request.initrd = (struct boot_blob){bench.initrd, sizeof(bench.initrd)};
    store_le32(bench.kernel + 0x22c, 0x1000000); /* initrd_addr_max: nothing fits below */
    assert_int_equal(load(&bench), 0);
    const u8 *params = at(&bench, bench.state.gpr[X86_RSI]);
    u64 gpa = load_le32(params + 0x218) | (u64)load_le32(params + 0xc0) << 32;
    assert_int_equal(gpa, align_down((5ull << 30) - sizeof(bench.initrd), 4096));
    u8 copy[sizeof(bench.initrd)];
    assert_int_equal(mem_read(&bench.mem, gpa, copy, sizeof(copy)), 0);
    assert_memory_equal(copy, bench.initrd, sizeof(copy));
    store_le16(bench.kernel + 0x236, 1); /* cannot take it above 4 GiB */
    assert_int_equal(load(&bench), -ENOSPC);
    bench_fini(&bench);
}

static void test_linux_refused(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    struct boot_blob *kernel = &bench.request.kernel;

    for (size_t bytes = 0; bytes < SAMPLE_LINUX_BYTES; bytes += 61) {
        sample_linux(bench.kernel);
        kernel->bytes = bytes;
        assert_int_equal(load(&bench), -ENOEXEC);
    }
    kernel->bytes = sample_linux(bench.kernel);
    store_le16(bench.kernel + 0x206, 0x020b);
    assert_int_equal(load(&bench), -ENOEXEC);
    assert_non_null(strstr(bench.err.text, "too old"));
    sample_linux(bench.kernel);
    store_le32(bench.kernel + 0x260, UINT32_MAX);
    assert_int_equal(load(&bench), -ENOSPC);
    sample_linux(bench.kernel);
    char line[300];
    memset(line, 'a', sizeof(line));
    line[255] = 0;
    bench.request.command_line = line;
    assert_int_equal(load(&bench), 0);
    line[255] = 'a';
    line[256] = 0;
    assert_int_equal(load(&bench), -E2BIG);
    bench_fini(&bench);
}

static void test_pvh(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    bench.request.kernel.bytes = sample_pvh(bench.kernel);
    bench.request.initrd = (struct boot_blob){bench.initrd, sizeof(bench.initrd)};
    memset(bench.ram + SAMPLE_LOAD, 0xee, 16384); /* left by a run before a reset */
    assert_int_equal(load(&bench), 0);
    assert_flat(&bench.state);
    assert_int_equal(bench.state.rip, SAMPLE_ENTRY);
    assert_int_equal(bench.state.cr0 & X86_CR0_PG, 0);
    assert_int_equal(at(&bench, SAMPLE_LOAD)[4095], 0xa5);
    assert_int_equal(at(&bench, SAMPLE_LOAD)[4096], 0); /* BSS is cleared */
    assert_int_equal(at(&bench, SAMPLE_LOAD)[8191], 0);
    assert_int_equal(at(&bench, SAMPLE_LOAD)[8192], 0xee);
    const u8 *info = at(&bench, bench.state.gpr[X86_RBX]);
    assert_int_equal(load_le32(info), 0x336ec578);
    assert_int_equal(load_le32(info + 4), 1);
    assert_int_equal(load_le32(info + 12), 1);
    const u8 *module = at(&bench, load_le64(info + 16));
    assert_int_equal(load_le64(module + 8), sizeof(bench.initrd));
    assert_memory_equal(at(&bench, load_le64(module)), bench.initrd, sizeof(bench.initrd));
    assert_string_equal((const char *)at(&bench, load_le64(info + 24)), "quiet");
    assert_int_equal(load_le64(info + 32), MEMMAP_TABLES_BASE);
    assert_int_equal(load_le32(info + 48), bench.map.e820_count);
    const u8 *memory = at(&bench, load_le64(info + 40));
    for (unsigned i = 0; i < bench.map.e820_count; i++) {
        assert_int_equal(load_le64(memory + 24 * i), bench.map.e820[i].base);
        assert_int_equal(load_le64(memory + 24 * i + 8), bench.map.e820[i].bytes);
    }
    bench_fini(&bench);
}

static void check_multiboot(struct bench *bench)
{
    bench->request.initrd = (struct boot_blob){bench->initrd, sizeof(bench->initrd)};
    assert_int_equal(load(bench), 0);
    assert_flat(&bench->state);
    assert_int_equal(bench->state.rip, SAMPLE_ENTRY);
    assert_int_equal(bench->state.gpr[X86_RAX], 0x2badb002);
    const u8 *info = at(bench, bench->state.gpr[X86_RBX]);
    assert_int_equal(load_le32(info) & 0x4d, 0x4d);
    assert_string_equal((const char *)at(bench, load_le32(info + 16)), "kernel quiet");
    assert_int_equal(load_le32(info + 20), 1);
    const u8 *module = at(bench, load_le32(info + 24));
    assert_int_equal(load_le32(module) % 4096, 0);
    assert_true(load_le32(module) >= SAMPLE_LOAD + 8192);
    assert_int_equal(load_le32(module + 4) - load_le32(module), sizeof(bench->initrd));
    assert_memory_equal(at(bench, load_le32(module)), bench->initrd, sizeof(bench->initrd));
    assert_int_equal(load_le32(info + 44), 24 * bench->map.e820_count);
    const u8 *entry = at(bench, load_le32(info + 48));
    assert_int_equal(load_le32(entry), 20);
    assert_int_equal(load_le64(entry + 12), bench->map.e820[0].bytes);
}

/* Real-mode programs live below 1 MiB; what the loader itself writes there stays theirs to keep
 * off. */
static void test_multiboot_low(void **unused)
{
    static struct bench bench;
    u8 *paddr = bench.kernel + 52 + 12;

    bench_init(&bench, RAM_BYTES);
    bench.request.kernel.bytes = sample_multiboot32(bench.kernel);
    bench.request.initrd = (struct boot_blob){bench.initrd, sizeof(bench.initrd)};
    store_le32(paddr, 0x8000);
    assert_int_equal(load(&bench), 0);
    assert_memory_equal(at(&bench, 0x8000 + 32), bench.kernel + 4096 + 32, 4096 - 32);
    const u8 *info = at(&bench, bench.state.gpr[X86_RBX]);
    assert_int_equal(load_le32(at(&bench, load_le32(info + 24))), 0x100000);
    const u32 refused[] = {0, 0x3fff, 0x1e001, 0x1ffff, 0x20000, 0xfffff};
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        store_le32(paddr, refused[i]);
        assert_int_equal(load(&bench), -ENOEXEC);
    }
    store_le32(paddr, 0x1e000);
    assert_int_equal(load(&bench), 0);
    bench_fini(&bench);
}

static void test_multiboot(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    bench.request.kernel.bytes = sample_multiboot32(bench.kernel);
    check_multiboot(&bench);
    bench.request.kernel.bytes = sample_multiboot64(bench.kernel);
    check_multiboot(&bench);
    store_le32(bench.kernel + 1024 + 4, 3 | 1 << 5); /* a feature that must be understood */
    store_le32(bench.kernel + 1024 + 8, -(u32)(0x1badb002 + (3 | 1 << 5)));
    assert_int_equal(load(&bench), -ENOEXEC);
    bench_fini(&bench);
}

static void test_elf_refused(void **unused)
{
    static struct bench bench;
    bench_init(&bench, RAM_BYTES);
    u8 *load_header = bench.kernel + 64;

    bench.request.kernel.bytes = sample_elf64(bench.kernel);
    assert_int_equal(load(&bench), -ENOEXEC);
    assert_non_null(strstr(bench.err.text, "PVH"));
    sample_pvh(bench.kernel);
    store_le16(bench.kernel + 18, 183); /* another processor */
    assert_int_equal(load(&bench), -ENOEXEC);
    sample_pvh(bench.kernel);
    store_le64(load_header + 24, 0x1000); /* below 1 MiB */
    assert_int_equal(load(&bench), -ENOEXEC);
    sample_pvh(bench.kernel);
    store_le64(load_header + 24, RAM_BYTES - 4096);
    assert_int_equal(load(&bench), -ENOSPC);
    sample_pvh(bench.kernel);
    store_le64(load_header + 24, UINT64_MAX - 4096);
    assert_int_equal(load(&bench), -ENOSPC);
    sample_pvh(bench.kernel);
    store_le64(load_header + 32, UINT64_MAX - 100); /* bytes in the file */
    assert_int_equal(load(&bench), -ENOEXEC);
    for (size_t bytes = 0; bytes < 8192; bytes += 127) {
        sample_pvh(bench.kernel);
        bench.request.kernel.bytes = bytes;
        assert_int_equal(load(&bench), -ENOEXEC);
    }
    bench_fini(&bench);
}

static void test_not_a_kernel(void **unused)
{
    static struct bench bench;
    static const struct {
        const char *start;
        size_t bytes;
        const char *says;
    } cases[] = {
        {"", 0, "empty"},       {"\x1f\x8b\x08", 3, "gzip"},    {"070701", 6, "initrd"},
        {"QFI\xfb", 4, "disk"}, {"#!/bin/sh\n", 10, "bzImage"}, {"MZ\x90", 3, "EFI"},
    };
    bench_init(&bench, RAM_BYTES);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        memset(bench.kernel, 0, sizeof(bench.kernel));
        memcpy(bench.kernel, cases[i].start, cases[i].bytes);
        bench.request.kernel.bytes = cases[i].bytes;
        assert_int_equal(load(&bench), -ENOEXEC);
        assert_non_null(strstr(bench.err.text, cases[i].says));
    }
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linux),
        cmocka_unit_test(test_linux_32),
        cmocka_unit_test(test_linux_needs_its_place),
        cmocka_unit_test(test_linux_initrd_above_4g),
        cmocka_unit_test(test_linux_refused),
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_multiboot),
        cmocka_unit_test(test_multiboot_low),
        cmocka_unit_test(test_elf_refused),
        cmocka_unit_test(test_not_a_kernel),
    };
    return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
