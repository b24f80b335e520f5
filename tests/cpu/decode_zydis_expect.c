/*
 * tests/cpu/decode_zydis_expect.c - where the decoder means to differ from Zydis, and why.
 */
#include "decode_zydis.h"

#include <string.h>

/* Instructions of Zydis that guests do not have: valid there, #UD here. */
static bool is_hidden_extension(ZydisISAExt extension)
{
    switch (extension) {
    /* The guest's CPUID has none of these. */
    case ZYDIS_ISA_EXT_AMD3DNOW:
    case ZYDIS_ISA_EXT_AMD_INVLPGB:
    case ZYDIS_ISA_EXT_AMX_BF16:
    case ZYDIS_ISA_EXT_AMX_INT8:
    case ZYDIS_ISA_EXT_AMX_TILE:
    case ZYDIS_ISA_EXT_AVX512VEX:
    case ZYDIS_ISA_EXT_AVX_VNNI:
    case ZYDIS_ISA_EXT_CET:
    case ZYDIS_ISA_EXT_CLZERO:
    case ZYDIS_ISA_EXT_ENQCMD:
    case ZYDIS_ISA_EXT_FMA4:
    case ZYDIS_ISA_EXT_GFNI:
    case ZYDIS_ISA_EXT_HRESET:
    case ZYDIS_ISA_EXT_KEYLOCKER:
    case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
    case ZYDIS_ISA_EXT_MCOMMIT:
    case ZYDIS_ISA_EXT_MONITORX:
    case ZYDIS_ISA_EXT_MOVDIR:
    case ZYDIS_ISA_EXT_PADLOCK:
    case ZYDIS_ISA_EXT_PCONFIG:
    case ZYDIS_ISA_EXT_PKU:
    case ZYDIS_ISA_EXT_PT:
    case ZYDIS_ISA_EXT_RDPRU:
    case ZYDIS_ISA_EXT_RTM:
    case ZYDIS_ISA_EXT_SGX:
    case ZYDIS_ISA_EXT_SGX_ENCLV:
    case ZYDIS_ISA_EXT_SMX:
    case ZYDIS_ISA_EXT_SNP:
    case ZYDIS_ISA_EXT_SSE4A:
    case ZYDIS_ISA_EXT_TBM:
    case ZYDIS_ISA_EXT_TDX:
    case ZYDIS_ISA_EXT_TSX_LDTRK:
    case ZYDIS_ISA_EXT_UINTR:
    case ZYDIS_ISA_EXT_VAES:
    case ZYDIS_ISA_EXT_VPCLMULQDQ:
    case ZYDIS_ISA_EXT_WAITPKG:
    case ZYDIS_ISA_EXT_XOP:
    /* VEX encodings of Knights Corner, which no other processor has. */
    case ZYDIS_ISA_EXT_KNC:
    case ZYDIS_ISA_EXT_KNCE:
    case ZYDIS_ISA_EXT_KNCV:
        return true;
    default:
        return false;
    }
}

bool expect_hidden(const struct comparison *c)
{
    return c->theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
           c->theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
           c->theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
           c->theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW ||
           is_hidden_extension(c->theirs.meta.isa_ext);
}

/* A field that may differ for instructions of these names (space-separated; a trailing * matches
 * any end; * alone is every name). */
struct expectation {
    const char *field; /* the beginning of what compare_number() is told */
    const char *names;
    const char *why;
};

static const struct expectation expectations[] = {
    /* Which operands an assembler shows: ours lists fixed registers and string memory, Zydis hides
     * them. What they do is compared through the register sets. */
    {"operand count", "aaa aas daa das salc cbw ins outs movs cmps stos lods scas",
     "hidden operands"},
    {"operand count", "f*", "ST(0) is hidden"},
    {"operand count", "pblendvb blendvps blendvpd sha256rnds2", "XMM0 is hidden"},
    {"operand count", "vmrun vmload vmsave invlpga skinit", "rAX and ECX are shown, we imply them"},
    {"operand count", "nop", "hint NOPs have one unused operand here, two or none there"},
    {"register of operand 0", "nop", "same"},
    {"access of operand", "nop ud0 ud1", "their operands are not touched"},
    {"registers read", "nop ud0 ud1", "same"},
    {"operand count", "xchg", "F3 41 90: see the mnemonic"},
    {"registers", "xchg", "same"},
    /* Names of one operation in several sizes. */
    {"mnemonic", "cbw cwd ins outs movs cmps stos lods scas iret jcxz popa pusha popf pushf retf",
     "the size is an operand"},
    {"mnemonic",
     "cmpxchg8b fxsave fxrstor xsave xsavec xsaveopt xsaves xrstor xrstors movd vmovd "
     "pextrd vpextrd pinsrd vpinsrd",
     "REX.W or VEX.W is not in the name"},
    {"mnemonic", "fneni fndisi fnsetpm", "8087 and 80287 no-operations by their own names"},
    {"mnemonic", "prefetch prefetchw", "all cache hints are one"},
    {"mnemonic pause", "xchg", "F3 41 90 exchanges R8 and rAX on processors; tried"},
    /* Memory that is named for its address only. */
    {"access of operand 0", "clflush clflushopt clwb invlpg prefetch prefetchw", "address only"},
    /* What is always written, and what may stay. */
    {"access of operand 0", "bsf bsr", "a zero source leaves the destination as it was"},
    {"registers read", "bsf bsr", "same"},
    {"access of operand 0", "lsl arpl", "written only when the selector passes"},
    {"access of operand 0", "cmpxchg cmpxchg8b",
     "memory is always written, with itself or the new"},
    {"access of operand 0", "shld shrd", "a register is always written, zero-extended"},
    {"access of operand 0", "v*gather* vgather* vpgather* vmaskmov* vpmaskmov*",
     "by element masks"},
    {"access of operand 0", "movhps movhpd movlhps", "the low half stays: it is a partial write"},
    {"access of operand 0", "cvtsi2ss cvtsi2sd", "only the low element is the operand"},
    {"access of operand 0", "ffree ffreep", "they write the register's tag"},
    {"registers read", "vmfunc", "ECX is its input"},
    {"registers written", "ins outs cmps scas", "rSI and rDI step"},
    {"registers", "syscall", "R11 in every mode, RSP in none"},
    /* Register sources of selectors are wider in Zydis; 16 bits of them count. */
    {"size of operand 1", "lar lsl", "the selector is 16 bits"},
    {"size of operand 1", "movsxd", "with 66 a register's low 16 bits or 32: the result is 16"},
    /* Flags. */
    {"flags undefined", "sbb", "AF is defined (SDM)"},
    {"flags undefined", "rol ror rcl rcr shl shr sar", "OF of a shift by one is defined"},
    {"flags", "bextr", "CF and OF are cleared (SDM)"},
    {"flags", "blsi", "OF is cleared (SDM)"},
    {"flags", "vptest vtestps vtestpd", "OF, AF, PF and SF are cleared, as by PTEST (SDM)"},
    {"flags read", "cmps scas", "ZF that REP tests is the one it has just computed"},
    {"flags", "int int1 int3 into iret popf pushf syscall sysret rsm",
     "which system flags, by mode"},
    {"flags read", "cli sti in out ins outs", "IOPL counts in protected mode as well"},
    {"flags", "vm* inv*", "VMX sets all flags by its outcome"},
    /* A defect of Zydis 4.0: SIB.base = 101b without displacement base and 67 with REX.B. */
    {"base", "*", "67 with REX.B and no base; tried on a processor"},
    {"disp", "*", "same"},
    {"registers read", "*", "same"},
};

static bool name_matches(const char *names, const char *name)
{
    while (*names != 0) {
        size_t length = strcspn(names, " ");
        if (names[length - 1] == '*') {
            const char *star = memchr(names, '*', length);
            if (strncmp(names, name, (size_t)(star - names)) == 0)
                return true;
        } else if (strlen(name) == length && memcmp(names, name, length) == 0) {
            return true;
        }
        names += length;
        names += strspn(names, " ");
    }
    return false;
}

/* The last three expectations hold only for the encoding of that defect. */
static bool is_sib_defect(const struct comparison *c)
{
    const struct insn *insn = &c->insn;
    unsigned sib_offset = insn->modrm_offset + 1u;
    return insn->has_memory && insn->address_bytes == 4 && (insn->rex & REX_B) &&
           (insn->modrm & 0xc7) == 4 && (c->bytes[sib_offset] & 7) == 5;
}

bool expect_field(const struct comparison *c, const char *what)
{
    for (unsigned i = 0; i < ARRAY_LEN(expectations); i++) {
        const struct expectation *e = &expectations[i];
        if (strncmp(e->field, what, strlen(e->field)) != 0)
            continue;
        if (strcmp(e->names, "*") == 0 ? is_sib_defect(c) : name_matches(e->names, c->name))
            return true;
    }
    return false;
}
