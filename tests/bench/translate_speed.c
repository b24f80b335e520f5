/*
 * tests/bench/translate_speed.c - how fast the translator is by itself: nanoseconds for each guest
 * instruction over the code of a program, this one or the one that is named, translated from its
 * first byte to its last as a user's, and never run.
 */
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "dbt/interp/interp_test.h"
#include "dbt/jit/jit_priv.h"
#include "vcpu/dbt/translator.h"

enum { CODE_AT = 0x60000, CODE_BYTES = TEST_RAM_BYTES - CODE_AT - 4096, ROOM_BYTES = 128 << 20 };
enum { ATTR_USER = 3 << X86_SEG_DPL_SHIFT };

/* Copies the program's first executable segment to the guest; its length there. */
static size_t code_load(struct test_guest *guest, const char *path)
{
    FILE *file = fopen(path, "rb");
    Elf64_Ehdr head;
    Elf64_Phdr part;
    size_t bytes = 0;
    if (file == NULL || fread(&head, sizeof(head), 1, file) != 1)
        return 0;
    for (unsigned i = 0; i < head.e_phnum && bytes == 0; i++) {
        fseek(file, (long)(head.e_phoff + i * sizeof(part)), SEEK_SET);
        if (fread(&part, sizeof(part), 1, file) != 1)
            break;
        if (part.p_type == PT_LOAD && (part.p_flags & PF_X)) {
            size_t wanted = part.p_filesz < CODE_BYTES ? part.p_filesz : CODE_BYTES;
            fseek(file, (long)part.p_offset, SEEK_SET);
            bytes = fread(guest->ram + CODE_AT, 1, wanted, file);
        }
    }
    fclose(file);
    return bytes;
}

/* Translates the block at AT; where the next one begins. */
static u64 translate_at(struct cpu *cpu, u64 at)
{
    struct jit_counters *counters = &cpu->jit_own->counters;
    u64 before = counters->guest_bytes;
    struct jit_source source;
    cpu->rip = at;
    if (!jit_has_room(cpu->jit, cpu->jit->filling))
        jit_next_region(cpu, cpu->jit->filling);
    if (jit_source_find(cpu, &source)) {
        jit_source_number(cpu, &source);
        u64 start = __builtin_ia32_rdtsc();
        if (jit_find(cpu->jit, at, source.page, jit_mode(cpu)) == JIT_NONE)
            jit_translate(cpu, &source);
        counters->translate_tsc += __builtin_ia32_rdtsc() - start;
        jit_source_done(cpu->jit, &source);
    }
    u64 bytes = counters->guest_bytes - before;
    return at + (bytes > 0 ? bytes : 1);
}

int main(int argc, char **argv)
{
    struct test_guest *guest = test_guest_new();
    struct translator translator;
    size_t bytes = code_load(guest, argc > 1 ? argv[1] : "/proc/self/exe");
    struct cpu *cpu = &guest->cpu;
    test_long_mode(guest);
    guest->state.cr0 |= X86_CR0_NE;
    guest->state.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
    guest->state.xcr0 = 7;
    guest->state.seg[X86_CS].selector |= 3;
    guest->state.seg[X86_CS].attr |= ATTR_USER;
    guest->state.seg[X86_SS].selector |= 3;
    guest->state.seg[X86_SS].attr |= ATTR_USER;
    test_start(guest);
    if (bytes == 0 || translator_init(&translator, cpu, ROOM_BYTES) < 0) {
        fprintf(stderr, "translate_speed: no code, or no translator\n");
        return 1;
    }
    const struct jit_counters *counters = &cpu->jit_own->counters;
    u64 start_ns = clock_monotonic_ns();
    for (u64 at = CODE_AT; at < CODE_AT + bytes;)
        at = translate_at(cpu, at);
    double took_ns = (double)(clock_monotonic_ns() - start_ns), insns = (double)counters->insns;
    printf("%llu instructions in %llu blocks: %.1f ns each, %.0f cycles of the time stamp counter "
           "in the translator; %.1f bytes + %.1f cold\n",
           (unsigned long long)counters->insns, (unsigned long long)counters->blocks,
           took_ns / insns, (double)counters->translate_tsc / insns,
           (double)counters->hot_bytes / insns, (double)counters->cold_bytes / insns);
    translator_fini(&translator, cpu);
    test_guest_free(guest);
    return 0;
}
