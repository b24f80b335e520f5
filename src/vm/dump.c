/*
 * vm/dump.c - registers as text, in the order in which kernels print them.
 *
 * Runs   on the vCPU's thread.
 */
#include "vm/dump.h"

#include <inttypes.h>
#include <stdio.h>

#define EOL "\r\n"

static void dump_segment(const char *name, const struct x86_seg *seg)
{
    fprintf(stderr, "%-4s %04x base %016" PRIx64 " limit %08x attributes %04x" EOL, name,
            seg->selector, seg->base, seg->limit, seg->attr);
}

void dump_registers(unsigned cpu, const struct x86_state *state)
{
    static const char *const gpr_names[X86_GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                         "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                         "r12", "r13", "r14", "r15"};
    static const char *const segment_names[X86_SEGMENT_COUNT] = {"es", "cs", "ss",
                                                                 "ds", "fs", "gs"};

    fprintf(stderr, "vCPU %u: rip %016" PRIx64 " rflags %08" PRIx64 EOL, cpu, state->rip,
            state->rflags);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        fprintf(stderr, "%-4s %016" PRIx64 "%s", gpr_names[i], state->gpr[i],
                i % 4 == 3 ? EOL : "  ");
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        dump_segment(segment_names[i], &state->seg[i]);
    dump_segment("ldtr", &state->ldtr);
    dump_segment("tr", &state->tr);
    fprintf(stderr,
            "gdt  %016" PRIx64 " limit %04x  idt %016" PRIx64 " limit %04x" EOL "cr0  %08" PRIx64
            "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64 "  efer %04" PRIx64 EOL,
            state->gdtr.base, state->gdtr.limit, state->idtr.base, state->idtr.limit, state->cr0,
            state->cr2, state->cr3, state->cr4, state->msr.efer);
}
