/*
 * vcpu/dbt/translator.c - code memory in two views for a group of vCPUs, and guarded return stacks
 * for each.
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

int translator_cache_init(struct translator_cache *cache, struct cpu_group *group,
                          size_t code_bytes)
{
    *cache = (struct translator_cache){0};
    if (!host_has_bmi2())
        return -ENOTSUP;
    int result = codemem_init(&cache->code, code_bytes);
    if (result == 0)
        result = jit_new(group, &cache->code, &cache->jit);
    if (result < 0)
        translator_cache_fini(cache);
    return result;
}

void translator_cache_fini(struct translator_cache *cache)
{
    jit_free(cache->jit);
    cache->jit = NULL;
    codemem_fini(&cache->code);
}

int translator_share(struct translator *translator, struct cpu *cpu, struct translator_cache *cache)
{
    struct jit_stacks stacks = {.bytes = STACK_BYTES};
    int result = stacks_map(translator);
    for (unsigned i = 0; i < STACK_COUNT; i++)
        stacks.at[i] = translator->stacks + (size_t)i * SLICE_BYTES + PAGE_BYTES;
    if (result == 0)
        result = jit_join(cpu, cache->jit, &stacks);
    if (result < 0)
        translator_fini(translator, cpu);
    return result;
}

int translator_init(struct translator *translator, struct cpu *cpu, size_t code_bytes)
{
    *translator = (struct translator){0};
    int result = translator_cache_init(&translator->own, cpu->group, code_bytes);
    return result < 0 ? result : translator_share(translator, cpu, &translator->own);
}

void translator_fini(struct translator *translator, struct cpu *cpu)
{
    jit_leave(cpu);
    translator_cache_fini(&translator->own);
    if (translator->stacks)
        munmap(translator->stacks, STACKS_BYTES);
    translator->stacks = NULL;
}
