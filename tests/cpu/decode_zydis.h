/*
 * tests/cpu/decode_zydis.h - what the parts of the comparison with Zydis share.
 */
#ifndef CPU_DECODE_ZYDIS_H
#define CPU_DECODE_ZYDIS_H

#include "x86/decode.h"

#include <Zydis/Zydis.h>

/* One instruction as both decoders see it. */
struct comparison {
    const u8 *bytes;
    unsigned code_bytes;
    char name[40];
    struct insn insn;
    ZydisDecodedInstruction theirs;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* Notes a difference under WHAT when the numbers are not equal. */
void compare_number(const struct comparison *c, const char *what, u64 ours, u64 theirs);

/* Compares everything of an instruction that both call valid. */
void compare_decoded(const struct comparison *c);

/* True for what guests do not have (AVX-512...): Zydis's "valid" counts as invalid. */
bool expect_hidden(const struct comparison *c);
/* True when the field WHAT (as compare_number() is told) of this instruction is meant to differ. */
bool expect_field(const struct comparison *c, const char *what);

#endif
