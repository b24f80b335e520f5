/*
 * vcpu/dbt/translator.c - code memory in two views and guarded return stacks for one vCPU.
 */
#include "vcpu/dbt/translator.h"

#include <errno.h>
#include <sys/mman.h>

#include "dbt/cpu.h"
#include "dbt/jit.h"
#include "host/cpu.h"

enum { PAGE_BYTES = 4096, STACK_BYTES = 64 << 10, STACK_COUNT = 3 };
enum { SLICE_BYTES = PAGE_BYTES + STACK_BYTES, STACKS_BYTES = STACK_COUNT * SLICE_BYTES };

static bool host_has_bmi2(void)
{
    u32 regs[4];
    cpu_cpuid(7, 0, regs);
    return (regs[1] & (1u << 8)) != 0;
}

static int stacks_map(struct translator *translator)
{
    u8 *memory = mmap(NULL, STACKS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (memory == MAP_FAILED)
        return -errno;
    translator->stacks = memory;
    for (unsigned i = 0; i < STACK_COUNT; i++)
        if (mprotect(memory + (size_t)i * SLICE_BYTES, PAGE_BYTES, PROT_NONE) != 0)
            return -errno;
    return 0;
}

int translator_init(struct translator *translator, struct cpu *cpu, size_t code_bytes)
{
    *translator = (struct translator){0};
    if (!host_has_bmi2())
        return -ENOTSUP;
    int result = codemem_init(&translator->code, code_bytes);
    if (result == 0)
        result = stacks_map(translator);
    if (result == 0) {
        struct jit_memory memory = {.rw = translator->code.write,
                                    .rx = (u8 *)(uintptr_t)translator->code.execute,
                                    .bytes = translator->code.bytes,
                                    .stack_bytes = STACK_BYTES};
        for (unsigned i = 0; i < STACK_COUNT; i++)
            memory.stacks[i] = translator->stacks + (size_t)i * SLICE_BYTES + PAGE_BYTES;
        result = jit_init(cpu, &memory);
    }
    if (result < 0)
        translator_fini(translator, cpu);
    return result;
}

void translator_fini(struct translator *translator, struct cpu *cpu)
{
    jit_fini(cpu);
    codemem_fini(&translator->code);
    if (translator->stacks)
        munmap(translator->stacks, STACKS_BYTES);
    translator->stacks = NULL;
}
