/*
 * tests/guest/guest_test.c - runs a guest image of this folder from the reset vector, as a
 * processor of either vendor, interpreted and translated, and takes its word for how it went
 * (report.inc).
 *
 * Usage  guest_test IMAGE: a 64 KiB ROM. Exits 0 when the image reports 0.
 */
#include "base/codemem.h"
#include "core/mem.h"
#include "dbt/cpu.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"
#include "x86/cpuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROM_BYTES = 0x10000, LOW_BYTES = 0xf0000, RAM_BYTES = 0x200000, SECONDS_MAX = 60 };
enum { CODE_BYTES = 4 << 20, STACK_BYTES = 16384, GUARD_BYTES = 4096 };
enum { RESULT_PORT = 0xf4, TEXT_PORT = 0xe9, FAILED_RUN = -1 };

static u8 rom[ROM_BYTES] __attribute__((aligned(4096)));
static u8 ram[RAM_BYTES] __attribute__((aligned(4096)));

static bool load_rom(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    size_t bytes = fread(rom, 1, sizeof(rom), file);
    fclose(file);
    return bytes == sizeof(rom);
}

static bool add_memory(struct mem *mem)
{
    return mem_add(mem, 0, LOW_BYTES, ram, false) == 0 &&
           mem_add(mem, LOW_BYTES, ROM_BYTES, rom, true) == 0 &&
           mem_add(mem, 0x100000, RAM_BYTES - 0x100000, ram + 0x100000, false) == 0 &&
           mem_add(mem, 0xffff0000, ROM_BYTES, rom, true) == 0;
}

/* A plain 64-bit processor; the vendor's name is all that the images can tell. */
static void make_model(struct cpuid_model *ret_model, bool intel)
{
    struct cpuid_entry host[] = {
        {.leaf = 0, .eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
        {.leaf = 0x80000000, .eax = 0x80000008},
        {.leaf = 0x80000008, .eax = 0x3028},
    };
    if (!intel) {
        host[0].ebx = 0x68747541;
        host[0].ecx = 0x444d4163;
        host[0].edx = 0x69746e65;
    }
    struct cpuid_config config = {
        .host = host,
        .host_count = ARRAY_LEN(host),
        .system_emulated = true,
        .cpu_count = 1,
    };
    cpuid_model_init(ret_model, &config);
}

/* Answers exits until the image reports; its report, or FAILED_RUN. */
static int run_image(struct cpu *cpu)
{
    for (;;) {
        cpu_run(cpu);
        switch (cpu->exit.kind) {
        case EXIT_PORT_WRITE:
            if (cpu->exit.address == RESULT_PORT)
                return (int)(cpu->exit.value & 0x7fffffff);
            if (cpu->exit.address == TEXT_PORT)
                putchar((int)(cpu->exit.value & 0xff));
            break;
        case EXIT_PORT_READ:
        case EXIT_MMIO_READ:
            cpu->exit.value = ~0ull;
            break;
        case EXIT_MSR_READ:
        case EXIT_MSR_WRITE:
            cpu->exit.msr_fault = true;
            break;
        case EXIT_KICKED:
        case EXIT_MMIO_WRITE:
            break;
        default:
            fprintf(stderr, "exit %d at rip 0x%llx: %s\n", (int)cpu->exit.kind,
                    (unsigned long long)cpu->rip,
                    cpu->exit.kind == EXIT_FAILED ? cpu->exit.reason : "not expected");
            return FAILED_RUN;
        }
    }
}

static int run_as(bool intel, bool translated)
{
    static struct cpu_group group;
    static struct cpuid_model model;
    struct translator translator = {0};
    struct mem mem;
    struct cpu *cpu = aligned_alloc(64, (sizeof(*cpu) + 63) / 64 * 64);
    int result = FAILED_RUN;

    if (cpu == NULL)
        return FAILED_RUN;
    memset(cpu, 0, sizeof(*cpu));
    memset(ram, 0, sizeof(ram));
    mem_init(&mem);
    make_model(&model, intel);
    cpu_group_init(&group, &mem, &model);
    if (add_memory(&mem) && cpu_init(cpu, &group, 0) == 0) {
        if ((!translated || translator_init(&translator, cpu, CODE_BYTES) == 0) &&
            trap_thread_begin(cpu, NULL) == 0) {
            result = run_image(cpu);
            trap_thread_end();
        }
        if (translated)
            translator_fini(&translator, cpu);
        cpu_fini(cpu);
    }
    mem_fini(&mem);
    free(cpu);
    if (result != 0)
        fprintf(stderr, "as %s, %s: check %d (0x%x) failed\n", intel ? "Intel" : "AMD",
                translated ? "translated" : "interpreted", result, (unsigned)result);
    return result;
}

int main(int argc, char **argv)
{
    int failures = 0;

    if (argc != 2 || !load_rom(argv[1])) {
        fprintf(stderr, "usage: guest_test IMAGE (a ROM of 64 KiB)\n");
        return 2;
    }
    alarm(SECONDS_MAX);
    if (trap_install(NULL) != 0)
        return 2;
    for (unsigned i = 0; i < 4; i++)
        failures += run_as((i & 1) != 0, (i & 2) != 0) != 0;
    return failures == 0 ? 0 : 1;
}
