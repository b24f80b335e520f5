/*
 * vm/disasm_plain.c - instructions as text where there is no disassembler: their names.
 */
#include "vm/disasm.h"

#include "base/fmt.h"
#include "x86/decode.h"

unsigned disasm(char *to, size_t to_bytes, const struct disasm_code *code)
{
    struct insn insn;
    unsigned room = code->available < INSN_MAX_BYTES ? (unsigned)code->available : INSN_MAX_BYTES;

    if (decode(code->bytes, room, code->code_bytes, &insn) != DECODE_OK)
        return 0;
    fmt_text(to, to_bytes, "%s", insn.desc->mnemonic);
    return insn.length;
}
