/*
 * vm/disasm_zydis.c - instructions as text, by Zydis.
 */
#include "vm/disasm.h"

#include <Zydis/Zydis.h>

unsigned disasm(char *to, size_t to_bytes, const struct disasm_code *code)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    if (code->code_bytes == 8)
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else
        ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (ZYAN_FAILED(
            ZydisDecoderDecodeFull(&decoder, code->bytes, code->available, &insn, operands)) ||
        ZYAN_FAILED(ZydisFormatterFormatInstruction(&formatter, &insn, operands,
                                                    insn.operand_count_visible, to, to_bytes,
                                                    code->rip, NULL)))
        return 0;
    return insn.length;
}
