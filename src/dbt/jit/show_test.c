/*
 * dbt/jit/show_test.c - see show_test.h.
 */
#include "dbt/jit/show_test.h"

#include <stdio.h>

#include "x86/decode.h"

void show_states(const struct x86_state *from, const struct x86_state *a,
                      const struct x86_state *b)
{
    printf("code at %llx, interpreter | translator\n", (unsigned long long)from->rip);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        printf("  gpr %2u from %016llx: %016llx %016llx%s\n", i, (unsigned long long)from->gpr[i],
               (unsigned long long)a->gpr[i], (unsigned long long)b->gpr[i],
               a->gpr[i] == b->gpr[i] ? "" : " <--");
    printf("  from rflags %llx\n", (unsigned long long)from->rflags);
    printf("  rip %llx %llx  rflags %llx %llx cr2 %llx %llx activity %u %u\n",
           (unsigned long long)a->rip, (unsigned long long)b->rip, (unsigned long long)a->rflags,
           (unsigned long long)b->rflags, (unsigned long long)a->cr2, (unsigned long long)b->cr2,
           a->activity, b->activity);
    for (unsigned i = 0; i < X86_XSAVE_BYTES; i++)
        if (a->xsave[i] != b->xsave[i])
            printf("  xsave %u: %02x %02x\n", i, a->xsave[i], b->xsave[i]);
}

void show_code(const u8 *code, unsigned code_bytes)
{
    struct insn insn;
    for (unsigned at = 0; code[at] != 0xf4; at += insn.length) {
        if (decode(code + at, 15, code_bytes, &insn) != DECODE_OK)
            break;
        printf("  +%x:", at);
        for (unsigned i = 0; i < insn.length; i++)
            printf(" %02x", code[at + i]);
        printf("  %s\n", insn.desc->mnemonic);
    }
}
