/*
 * vm/disasm.h - one instruction as text, for traces.
 *
 * Made with Zydis where the build found it, else of the decoder's mnemonics only.
 */
#ifndef VM_DISASM_H
#define VM_DISASM_H

#include "base/types.h"

/* Code that is executed at RIP. */
struct disasm_code {
    const u8 *bytes;
    size_t available;
    u64 rip;
    unsigned code_bytes; /* 4 or 8 */
};

/* Writes CODE's first instruction to TO; returns its length, 0 when it is none. */
unsigned disasm(char *to, size_t to_bytes, const struct disasm_code *code);

#endif
