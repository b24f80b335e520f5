/*
 * x86/decode_info.c - questions about a decoded instruction that are not asked on the hottest path:
 * operand widths, register sets, names.
 *
 * Spec   Intel SDM vol. 2 section 3.1.1.3 and appendix A.2.
 * Runs   anywhere; no state.
 */
#include "x86/decode.h"

unsigned insn_operand_bytes_other(const struct insn *insn, unsigned i)
{
    unsigned operand_bytes = insn->operand_bytes, vector_bytes = insn_vector_bytes(insn);

    switch ((enum operand_size)insn->desc->operand[i].size) {
    case SIZE_NONE:
    case SIZE_XSAVE:
        return 0;
    case SIZE_B:
        return 1;
    case SIZE_W:
        return 2;
    case SIZE_D:
        return 4;
    case SIZE_Q:
        return 8;
    case SIZE_V:
        return operand_bytes;
    case SIZE_Z:
        return operand_bytes == 2 ? 2 : 4;
    case SIZE_Y:
        return (insn->rex & REX_W) && insn->code_bytes == 8 ? 8 : 4;
    case SIZE_N:
        return insn->code_bytes == 8 ? 8 : 4;
    case SIZE_P:
        return operand_bytes + 2;
    case SIZE_S:
        return insn->code_bytes == 8 ? 10 : 6;
    case SIZE_A:
        return operand_bytes * 2;
    case SIZE_DQ:
        return 16;
    case SIZE_QQ:
        return 32;
    case SIZE_X:
        return vector_bytes;
    case SIZE_XH:
        return vector_bytes / 2;
    case SIZE_XQ:
        return vector_bytes / 4;
    case SIZE_XE:
        return vector_bytes / 8;
    case SIZE_C8:
        return operand_bytes == 8 ? 16 : 8;
    case SIZE_T:
        return 10;
    case SIZE_ENV:
        return operand_bytes == 2 ? 14 : 28;
    case SIZE_FSAVE:
        return operand_bytes == 2 ? 94 : 108;
    case SIZE_FX:
        return 512;
    }
    return 0;
}

/* The GPR that operand I names directly, or INSN_NO_REG. */
static unsigned operand_gpr(const struct insn *insn, const struct operand_desc *operand)
{
    unsigned reg = INSN_NO_REG;

    switch ((enum operand_kind)operand->kind) {
    case OPERAND_E:
        if (!insn->has_memory)
            reg = insn->rm;
        break;
    case OPERAND_R:
        reg = insn->rm;
        break;
    case OPERAND_G:
    case OPERAND_Z:
        reg = insn->reg;
        break;
    case OPERAND_B:
        return insn_vvvv(insn);
    case OPERAND_GPR:
        return operand->reg;
    default:
        return INSN_NO_REG;
    }
    if (operand->size == SIZE_B && insn_high_byte(insn, reg))
        reg -= 4;
    return reg;
}

/* Whether implicit registers are written by operand size, and this is 16 bits. */
static bool writes_halves(const struct insn *insn)
{
    return insn->operand_bytes == 2 && (insn->op == OP_MUL || insn->op == OP_IMUL1 ||
                                        insn->op == OP_CWD || insn->op == OP_POPA);
}

void insn_gprs(const struct insn *insn, u32 *ret_read, u32 *ret_written)
{
    const struct insn_desc *desc = insn->desc;
    u32 read = desc->gpr_read, written = desc->gpr_written;

    for (unsigned i = 0; i < desc->operand_count; i++) {
        const struct operand_desc *operand = &desc->operand[i];
        unsigned reg = operand_gpr(insn, operand);
        if (reg >= X86_GPR_COUNT)
            continue;
        bool partial = insn_operand_bytes(insn, i) < 4 || operand->access == ACCESS_MAYBE_W;
        if ((operand->access & ACCESS_R) || ((operand->access & ACCESS_W) && partial))
            read |= 1u << reg;
        if (operand->access & ACCESS_W)
            written |= 1u << reg;
    }
    if (insn->has_memory && insn->base < X86_GPR_COUNT)
        read |= 1u << insn->base;
    if (insn->has_memory && insn->index < X86_GPR_COUNT && !(desc->attr & ATTR_VSIB))
        read |= 1u << insn->index;
    if (desc->attr & (ATTR_PUSH | ATTR_POP)) {
        read |= 1u << X86_RSP;
        written |= 1u << X86_RSP;
    }
    if (insn_repeats(insn) || insn->op == OP_LOOP || insn->op == OP_LOOPE ||
        insn->op == OP_LOOPNE || insn->op == OP_JCXZ) {
        read |= 1u << X86_RCX;
        if (insn->op != OP_JCXZ)
            written |= 1u << X86_RCX;
    }
    /* What may stay as it was: a repeat count of zero, the upper half of DX, of POPA's registers.
     */
    if (insn_repeats(insn) || (desc->gpr_written != 0 && writes_halves(insn)))
        read |= written;
    *ret_read = read;
    *ret_written = written;
}

const char *insn_feature_name(enum insn_feature feature)
{
    static const char *const names[FEATURE_COUNT] = {
        [FEATURE_NONE] = "base",         [FEATURE_SSE3] = "sse3",
        [FEATURE_SSSE3] = "ssse3",       [FEATURE_SSE41] = "sse4.1",
        [FEATURE_SSE42] = "sse4.2",      [FEATURE_AES] = "aes",
        [FEATURE_PCLMUL] = "pclmulqdq",  [FEATURE_SHA] = "sha_ni",
        [FEATURE_AVX] = "avx",           [FEATURE_AVX2] = "avx2",
        [FEATURE_FMA] = "fma",           [FEATURE_F16C] = "f16c",
        [FEATURE_BMI1] = "bmi1",         [FEATURE_BMI2] = "bmi2",
        [FEATURE_LZCNT] = "lzcnt",       [FEATURE_POPCNT] = "popcnt",
        [FEATURE_MOVBE] = "movbe",       [FEATURE_ADX] = "adx",
        [FEATURE_CX16] = "cx16",         [FEATURE_RDRAND] = "rdrand",
        [FEATURE_RDSEED] = "rdseed",     [FEATURE_CLFLUSHOPT] = "clflushopt",
        [FEATURE_CLWB] = "clwb",         [FEATURE_XSAVE] = "xsave",
        [FEATURE_XSAVEOPT] = "xsaveopt", [FEATURE_XSAVEC] = "xsavec",
        [FEATURE_XSAVES] = "xsaves",     [FEATURE_FSGSBASE] = "fsgsbase",
        [FEATURE_RDPID] = "rdpid",       [FEATURE_RDTSCP] = "rdtscp",
        [FEATURE_INVPCID] = "invpcid",   [FEATURE_SMAP] = "smap",
        [FEATURE_MONITOR] = "monitor",   [FEATURE_SVM] = "svm",
        [FEATURE_VMX] = "vmx",           [FEATURE_SERIALIZE] = "serialize",
    };
    return (unsigned)feature < FEATURE_COUNT ? names[feature] : "?";
}
