/*
 * x86/decode.h - instruction bytes in, one described instruction out, for 16-, 32- and 64-bit code.
 *
 * Spec   Intel SDM vol. 2 chapters 2 to 6 and appendix A; AMD64 APM vol. 3 appendix A.
 * Runs   anywhere; no state, no allocation, read-only tables.
 * Trust  the bytes are hostile; nothing past `available` is read.
 *
 * The decoder says what an instruction is, not whether it may run now: privilege, CPUID features,
 * CR0, CR4 and protected-mode-only rules are facts of the descriptor (struct insn_desc) for the
 * engine to check. What it rejects itself (DECODE_INVALID, #UD): bytes that are no instruction in
 * this code size, LOCK where it may not stand, VEX with a legacy prefix it forbids, register forms
 * of memory-only instructions and the reverse. AVX-512 (EVEX), XOP and 3DNow! do not exist.
 * Encodings that are hint NOPs on a processor without the extension (ENDBR, BNDxx, CLDEMOTE) are
 * OP_NOP.
 *
 * The table is decode_table.txt, turned into C by decode_gen.py when building.
 */
#ifndef X86_DECODE_H
#define X86_DECODE_H

#include "base/types.h"
#include "x86/regs.h"

/* ---- the descriptor: one per form of an instruction, constant -------------------------------- */

/* One per instruction family: what handlers are found by. The condition of JCC, SETCC and CMOVCC is
 * in the low four bits of the opcode. */
/* clang-format off */
enum x86_op {
    OP_INVALID,
    /* Integer. */
    OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_CMP, OP_TEST, OP_INC, OP_DEC, OP_NEG,
    OP_NOT, OP_MUL, OP_IMUL1 /* DX:AX form */, OP_IMUL /* two or three operands */, OP_DIV, OP_IDIV,
    OP_ROL, OP_ROR, OP_RCL, OP_RCR, OP_SHL, OP_SHR, OP_SAR, OP_SHLD, OP_SHRD, OP_BT, OP_BTS, OP_BTR,
    OP_BTC, OP_BSF, OP_BSR, OP_TZCNT, OP_LZCNT, OP_POPCNT, OP_MOV /* GPRs, memory, immediates */,
    OP_MOV_SEG /* to a segment register */, OP_MOV_FROM_SEG, OP_MOVZX, OP_MOVSX /* MOVSXD too */,
    OP_LEA, OP_XCHG, OP_XADD, OP_CMPXCHG, OP_CMPXCHG8B /* and 16B, by operand size */, OP_BSWAP,
    OP_MOVBE, OP_MOVNTI, OP_CMOVCC, OP_SETCC, OP_CBW /* CBW, CWDE, CDQE */,
    OP_CWD /* CWD, CDQ, CQO */, OP_XLAT, OP_LAHF, OP_SAHF, OP_SALC, OP_AAA, OP_AAS, OP_DAA, OP_DAS,
    OP_AAM, OP_AAD, OP_CRC32, OP_ADCX, OP_ADOX, OP_ANDN, OP_BEXTR, OP_BLSI, OP_BLSMSK, OP_BLSR,
    OP_BZHI, OP_MULX, OP_PDEP, OP_PEXT, OP_RORX, OP_SARX, OP_SHLX, OP_SHRX, OP_CLC, OP_STC, OP_CMC,
    OP_CLD, OP_STD,
    /* Stack. */
    OP_PUSH, OP_PUSH_SEG, OP_POP, OP_POP_SEG, OP_PUSHA, OP_POPA, OP_PUSHF, OP_POPF, OP_ENTER,
    OP_LEAVE,
    /* Control flow. */
    OP_JCC, OP_JCXZ, OP_LOOP, OP_LOOPE, OP_LOOPNE, OP_JMP /* relative */, OP_JMP_IND, OP_JMP_FAR,
    OP_CALL /* relative */, OP_CALL_IND, OP_CALL_FAR, OP_RET, OP_RETF, OP_IRET, OP_INT, OP_INT1,
    OP_INT3, OP_INTO, OP_BOUND, OP_UD,
    /* Strings and ports. */
    OP_MOVS, OP_CMPS, OP_STOS, OP_LODS, OP_SCAS, OP_INS, OP_OUTS, OP_IN, OP_OUT,
    /* Segments. */
    OP_LES, OP_LDS, OP_LSS, OP_LFS, OP_LGS, OP_ARPL, OP_LAR, OP_LSL, OP_VERR, OP_VERW, OP_SLDT,
    OP_STR, OP_LLDT, OP_LTR, OP_SGDT, OP_SIDT, OP_LGDT, OP_LIDT, OP_SMSW, OP_LMSW,
    /* System. */
    OP_CLI, OP_STI, OP_HLT, OP_NOP, OP_PAUSE, OP_CPUID, OP_RDTSC, OP_RDTSCP, OP_RDPMC, OP_RDMSR,
    OP_WRMSR, OP_MOV_FROM_CR, OP_MOV_TO_CR, OP_MOV_FROM_DR, OP_MOV_TO_DR, OP_CLTS, OP_INVD,
    OP_WBINVD, OP_SERIALIZE, OP_INVLPG, OP_INVPCID, OP_SYSCALL, OP_SYSRET, OP_SYSENTER,
    OP_SYSEXIT, OP_RSM, OP_SWAPGS, OP_RDFSBASE, OP_RDGSBASE, OP_WRFSBASE, OP_WRGSBASE, OP_RDPID,
    OP_MONITOR, OP_MWAIT, OP_CLAC, OP_STAC, OP_RDRAND, OP_RDSEED, OP_XGETBV, OP_XSETBV, OP_LFENCE,
    OP_MFENCE, OP_SFENCE, OP_CLFLUSH, OP_CLFLUSHOPT, OP_CLWB, OP_PREFETCH,
    /* Virtualization: hypercalls; what is #UD to a guest without SVM and VMX. */
    OP_VMCALL, OP_VMMCALL, OP_SVM, OP_VMX,
    /* Vector and x87, run generically on the host's units from the operand descriptors... */
    OP_X87, OP_VECTOR,
    /* ...except for those with a memory image, implicit memory, or faults of their own. */
    OP_FWAIT, OP_FLDENV, OP_FSTENV, OP_FRSTOR, OP_FSAVE, OP_FLDCW, OP_FSTCW, OP_FSTSW, OP_FINIT,
    OP_FCLEX, OP_FXSAVE, OP_FXRSTOR, OP_XSAVE, OP_XSAVEC, OP_XSAVEOPT, OP_XSAVES, OP_XRSTOR,
    OP_XRSTORS, OP_LDMXCSR, OP_STMXCSR, OP_MASKMOV /* (V)MASKMOVDQU, MASKMOVQ: DS:rDI */,
    OP_VMASKMOV /* VMASKMOVPx, VPMASKMOVx: masked-off elements do not fault */, OP_GATHER, OP_EMMS,
    OP_VZEROUPPER /* and VZEROALL, by VEX.L */, OP_COUNT
};
/* clang-format on */

/* Where an operand is. Letters are those of the SDM's opcode maps. */
enum operand_kind {
    OPERAND_NONE,
    OPERAND_E,    /* GPR or memory, by ModRM.rm */
    OPERAND_G,    /* GPR, by ModRM.reg */
    OPERAND_M,    /* memory only, by ModRM.rm */
    OPERAND_R,    /* GPR only, by ModRM.rm */
    OPERAND_Z,    /* GPR, by the opcode's low three bits and REX.B */
    OPERAND_B,    /* GPR, by VEX.vvvv */
    OPERAND_V,    /* XMM or YMM, by ModRM.reg */
    OPERAND_W,    /* XMM or YMM or memory, by ModRM.rm */
    OPERAND_U,    /* XMM or YMM only, by ModRM.rm */
    OPERAND_H,    /* XMM or YMM, by VEX.vvvv */
    OPERAND_L,    /* XMM or YMM, by the immediate's bits 7:4 */
    OPERAND_P,    /* MMX, by ModRM.reg */
    OPERAND_Q,    /* MMX or memory, by ModRM.rm */
    OPERAND_N,    /* MMX only, by ModRM.rm */
    OPERAND_S,    /* segment register, by ModRM.reg */
    OPERAND_C,    /* control register, by ModRM.reg */
    OPERAND_D,    /* debug register, by ModRM.reg */
    OPERAND_I,    /* immediate */
    OPERAND_J,    /* branch displacement, relative to the next instruction */
    OPERAND_A,    /* far pointer in the instruction: imm = offset, imm2 = selector */
    OPERAND_O,    /* memory at the absolute offset `disp` (MOV moffs) */
    OPERAND_X,    /* memory at seg:rSI */
    OPERAND_Y,    /* memory at ES:rDI */
    OPERAND_GPR,  /* the fixed GPR `reg` (REX does not change it) */
    OPERAND_SEG,  /* the fixed segment register `reg` */
    OPERAND_XMM,  /* the fixed vector register `reg` */
    OPERAND_ST,   /* the fixed x87 register ST(`reg`) */
    OPERAND_STI,  /* x87 register ST(i), by ModRM.rm */
    OPERAND_CONST /* the constant `reg` */
};

/* How wide it is. Use insn_operand_bytes() to turn it into a number. */
enum operand_size {
    SIZE_NONE,
    SIZE_B,
    SIZE_W,
    SIZE_D,
    SIZE_Q,  /* 1, 2, 4, 8 */
    SIZE_V,  /* operand size: 2, 4, 8 */
    SIZE_Z,  /* 2 for 16-bit operand size, else 4 */
    SIZE_Y,  /* 8 with REX.W or VEX.W in 64-bit code, else 4 */
    SIZE_N,  /* natural: 8 in 64-bit code, else 4 (control and debug registers) */
    SIZE_P,  /* far pointer: operand size + 2 */
    SIZE_S,  /* descriptor-table register: 6, or 10 in 64-bit code */
    SIZE_A,  /* BOUND: twice the operand size */
    SIZE_DQ, /* 16 */
    SIZE_QQ, /* 32 */
    SIZE_X,  /* 16, or 32 with VEX.L */
    SIZE_XH,
    SIZE_XQ,
    SIZE_XE, /* a half, quarter, eighth of X */
    SIZE_C8, /* CMPXCHG8B/16B: 8, or 16 with REX.W */
    SIZE_T,  /* 10: x87 extended, packed BCD */
    SIZE_ENV,
    SIZE_FSAVE, /* x87 environment (14 or 28), state (94 or 108) */
    SIZE_FX,    /* 512 */
    SIZE_XSAVE  /* depends on XCR0 and the mask: insn_operand_bytes() says 0 */
};

enum operand_access {
    ACCESS_NONE = 0, /* only its address is used (LEA, INVLPG, prefetch), or nothing (NOP Ev) */
    ACCESS_R = 1,
    ACCESS_W = 2,
    ACCESS_RW = 3,
    ACCESS_MAYBE_W = 6, /* written or kept (CMOVcc of 16 bits and memory, masked stores) */
    ACCESS_MAYBE_RW = 7
};

struct operand_desc {
    u8 kind;   /* enum operand_kind */
    u8 size;   /* enum operand_size */
    u8 access; /* enum operand_access */
    u8 reg;    /* number of a fixed register; the value of a constant */
};

/* Whose state an instruction uses. */
enum insn_class { CLASS_INTEGER, CLASS_X87, CLASS_MMX, CLASS_SSE, CLASS_AVX };

/* The CPUID feature that must be there, else #UD. FEATURE_NONE is always there in 64-bit
 * processors, where SSE, SSE2, CMOV, MMX, FXSR, CMPXCHG8B and SYSCALL belong to the base as well.
 */
enum insn_feature {
    FEATURE_NONE,
    FEATURE_SSE3,
    FEATURE_SSSE3,
    FEATURE_SSE41,
    FEATURE_SSE42,
    FEATURE_AES,
    FEATURE_PCLMUL,
    FEATURE_SHA,
    FEATURE_AVX,
    FEATURE_AVX2,
    FEATURE_FMA,
    FEATURE_F16C,
    FEATURE_BMI1,
    FEATURE_BMI2,
    FEATURE_LZCNT,
    FEATURE_POPCNT,
    FEATURE_MOVBE,
    FEATURE_ADX,
    FEATURE_CX16,
    FEATURE_RDRAND,
    FEATURE_RDSEED,
    FEATURE_CLFLUSHOPT,
    FEATURE_CLWB,
    FEATURE_XSAVE,
    FEATURE_XSAVEOPT,
    FEATURE_XSAVEC,
    FEATURE_XSAVES,
    FEATURE_FSGSBASE,
    FEATURE_RDPID,
    FEATURE_RDTSCP,
    FEATURE_INVPCID,
    FEATURE_SMAP,
    FEATURE_SERIALIZE,
    FEATURE_MONITOR,
    FEATURE_SVM,
    FEATURE_VMX,
    FEATURE_COUNT
};

/* What follows the address bytes, and how it is extended into insn.imm. */
enum insn_imm {
    IMM_NONE,
    IMM_U8,     /* imm8, zero-extended: shift counts, INT, IN, OUT, SIMD controls; L operands */
    IMM_S8,     /* imm8 or rel8, sign-extended to 64 bits */
    IMM_U16,    /* imm16, zero-extended: RET, RETF */
    IMM_Z,      /* 2 or 4 bytes by operand size, sign-extended to 64 bits */
    IMM_V,      /* 2, 4 or 8 bytes by operand size (MOV to a register), sign-extended */
    IMM_FAR,    /* offset of 2 or 4 bytes, zero-extended, then the selector in imm2 */
    IMM_OFFSET, /* an absolute address of address size, zero-extended, in disp */
    IMM_ENTER   /* imm16, zero-extended, then imm8 in imm2 */
};

enum insn_attr {
    ATTR_LOCK = 1 << 0,       /* LOCK is allowed with a memory destination */
    ATTR_REP = 1 << 1,        /* string instruction: REP/REPE/REPNE repeat it */
    ATTR_REPE = 1 << 2,       /* ...and ZF ends the repetition (CMPS, SCAS) */
    ATTR_PRIVILEGED = 1 << 3, /* #GP(0) unless CPL = 0 */
    ATTR_IOPL = 1 << 4, /* needs CPL <= IOPL, or its own mode rules (CLI, IN, PUSHF in VM86...) */
    ATTR_DEFAULT64 = 1 << 5, /* operand size is 8 in 64-bit code, or 2 with 66 */
    ATTR_FORCE64 = 1 << 6,   /* operand size is 8 in 64-bit code, always */
    ATTR_NO64 = 1 << 7,      /* no such instruction in 64-bit code */
    ATTR_ONLY64 = 1 << 8,    /* ... in 16- and 32-bit code */
    ATTR_PROTECTED = 1 << 9, /* #UD in real and virtual-8086 mode */
    ATTR_BRANCH = 1 << 10,   /* may go elsewhere than to the next instruction (faults aside) */
    ATTR_ENDS_BLOCK =
        1 << 11,         /* a translator ends its block: branches, mode and paging changes, exits */
    ATTR_PUSH = 1 << 12, /* writes the stack at rSP */
    ATTR_POP = 1 << 13,  /* reads the stack at rSP */
    ATTR_ALIGNED = 1 << 14, /* a memory operand not aligned to its size raises #GP(0) */
    ATTR_RESTART = 1 << 15, /* may stop between its parts and be resumed (REP strings, gathers) */
    ATTR_VSIB = 1 << 16,    /* the index register is a vector register */
    ATTR_MODRM = 1 << 17,   /* a ModRM byte follows the opcode */
    ATTR_ZERO_UPPER = 1 << 18, /* VEX: bits above the written vector length become zero */
    ATTR_SERIALIZING = 1 << 19,
    ATTR_UNDOCUMENTED = 1 << 20, /* in no manual, but processors run it (SALC, D0 /6) */
    ATTR_EXCEPTION_FP = 1 << 21  /* SIMD or x87 floating point: can raise #XM or #MF */
};

/* Which encodings a descriptor stands for: what a generator of test cases needs. 0xff means any. */
enum { PATTERN_ANY = 0xff };
enum pattern_prefix { PREFIX_ANY, PREFIX_NP, PREFIX_66, PREFIX_F3, PREFIX_F2, PREFIX_NOT66 };
enum pattern_mod { MOD_ANY, MOD_MEMORY, MOD_REGISTER };
struct insn_pattern {
    u8 vex;    /* 0: legacy, 1: VEX */
    u8 map;    /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    u8 opcode; /* the lowest, where the low bits name a register or condition */
    u8 opcode_count;
    u8 prefix;  /* enum pattern_prefix */
    u8 mod;     /* enum pattern_mod */
    u8 reg, rm; /* ModRM fields, or PATTERN_ANY */
    u8 w, l;    /* VEX.W (REX.W in legacy forms), VEX.L, or PATTERN_ANY */
};

struct insn_desc {
    const char *mnemonic; /* lower case: "add", "jcc", "vpaddd" */
    u16 op;               /* enum x86_op */
    u8 class;             /* enum insn_class */
    u8 feature;           /* enum insn_feature */
    u32 attr;             /* enum insn_attr */
    u8 operand_count;     /* explicit ones, in Intel's order: destination first */
    u8 memory;            /* index of the operand that is memory when ModRM says so; 0xff: none */
    u8 imm_form;          /* enum insn_imm */
    u8 check;             /* the decoder's own */
    struct operand_desc operand[4];
    u16 gpr_read, gpr_written; /* implicit ones, whole registers, bit n is GPR n */
    /* EFLAGS, masks of enum x86_flag. `written` ones always have the value that the manual defines;
     * `cleared` and `set` are those of them with a constant value. `maybe` ones are written or
     * kept, by operand values (shift counts, failed checks). `undefined` ones may have any value
     * after. */
    u32 flags_read, flags_written, flags_maybe, flags_undefined, flags_cleared, flags_set;
    struct insn_pattern pattern;
};

/* ---- the decoded instruction --------------------------------------------------------------------
 */

enum insn_prefix {
    INSN_LOCK = 1 << 0,  /* F0 */
    INSN_REP = 1 << 1,   /* F3 was the last of F2 and F3 */
    INSN_REPNE = 1 << 2, /* F2 was */
    INSN_66 = 1 << 3,
    INSN_67 = 1 << 4,
    INSN_REX = 1 << 5, /* any REX: SPL, BPL, SIL, DIL instead of AH, CH, DH, BH */
    INSN_VEX = 1 << 6,
    INSN_SEG = 1 << 7 /* a segment prefix that has effect */
};
enum insn_rex { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };
enum { INSN_NO_REG = 0xff, INSN_RIP = 0x10 };
enum { INSN_MAX_BYTES = 15 };

struct insn {
    const struct insn_desc *desc;
    u64 imm;  /* immediate or branch displacement, extended by desc->imm_form */
    s64 disp; /* of the memory operand, sign-extended; for OPERAND_O the whole address */
    u16 op;   /* enum x86_op, copied from the descriptor */
    u16 imm2; /* ENTER's nesting level; the selector of a far pointer */
    u8 length;
    u8 code_bytes; /* 2, 4, 8: of the code segment, as decode() was told */
    u8 opcode;     /* its last byte; the map is desc->pattern.map */
    u8 prefixes;   /* enum insn_prefix */
    u8 rex;        /* enum insn_rex, from REX or VEX */
    u8 vex;        /* bits 3:0 vvvv (already inverted), bit 4 VEX.L */
    u8 modrm;      /* the byte; 0 without */
    u8 reg; /* ModRM.reg with REX.R; without ModRM the opcode's low bits with REX.B. Segment and
             * MMX registers, here and in rm, are cut to three bits */
    u8 rm;  /* ModRM.rm with REX.B: a register, meaningful when !has_memory */
    bool has_memory;  /* ModRM or moffs memory operand: base, index, scale, disp hold */
    u8 base;          /* GPR, INSN_RIP (the next instruction's address), or INSN_NO_REG */
    u8 index;         /* GPR (vector register with ATTR_VSIB), or INSN_NO_REG */
    u8 scale;         /* shift: 0 to 3 */
    u8 segment;       /* enum x86_segment of the memory operand, and of OPERAND_X */
    u8 operand_bytes; /* 2, 4, 8: operand size; byte forms say so in their operands */
    u8 address_bytes; /* 2, 4, 8 */
    /* Offsets in the encoding. Those of absent parts are where the part would be:
     * displacement bytes = imm_offset - disp_offset, immediate bytes = length - imm_offset. */
    u8 opcode_offset; /* of the opcode byte itself, after prefixes, REX or VEX, and escape bytes */
    u8 modrm_offset;
    u8 disp_offset;
    u8 imm_offset;
};

enum decode_result {
    DECODE_OK,
    DECODE_INVALID,   /* #UD; length is set as far as known (at least 1) */
    DECODE_TRUNCATED, /* not known with `available` bytes: fetch more, or raise the fetch's fault */
    DECODE_TOO_LONG   /* longer than 15 bytes: #GP(0) */
};

/* Decodes the instruction at BYTES, of which AVAILABLE may be read, as code of CODE_BYTES (2, 4 or
 * 8: CS.D and CS.L). */
enum decode_result decode(const u8 *bytes, unsigned available, unsigned code_bytes,
                          struct insn *ret_insn);

/* Width in bytes of operand I; 0 where there is none or where it is not known here (XSAVE). */
unsigned insn_operand_bytes_other(const struct insn *insn, unsigned i); /* any size */
static inline unsigned insn_operand_bytes(const struct insn *insn, unsigned i)
{
    unsigned size = insn->desc->operand[i].size;
    if (size == SIZE_V)
        return insn->operand_bytes;
    return size <= SIZE_Q ? 1u << size >> 1 : insn_operand_bytes_other(insn, i);
}

/* All GPRs that INSN reads and writes, as masks: explicit operands, address registers, implicit
 * ones. A register that is written only in part (8 and 16 bits) or only sometimes is in both. */
void insn_gprs(const struct insn *insn, u32 *ret_read, u32 *ret_written);

/* Every descriptor of the table, for generators of tests. */
extern const struct insn_desc insn_descs[];
extern const unsigned insn_desc_count;
const char *insn_feature_name(enum insn_feature feature);

/* ---- small questions, inline for the hot paths
 * --------------------------------------------------- */

static inline unsigned insn_condition(const struct insn *insn)
{
    return insn->opcode & 15;
}

static inline unsigned insn_vvvv(const struct insn *insn)
{
    return insn->vex & 15;
}

/* Vector length in bytes: 32 with VEX.L, else 16. */
static inline unsigned insn_vector_bytes(const struct insn *insn)
{
    return (insn->vex & 16) ? 32 : 16;
}

/* Whether byte register number REG means AH, CH, DH or BH (bits 15:8 of GPR reg - 4). */
static inline bool insn_high_byte(const struct insn *insn, unsigned reg)
{
    return reg - 4u < 4u && (insn->prefixes & (INSN_REX | INSN_VEX)) == 0;
}

static inline bool insn_repeats(const struct insn *insn)
{
    return (insn->prefixes & (INSN_REP | INSN_REPNE)) != 0 && (insn->desc->attr & ATTR_REP) != 0;
}

/* How the ModRM or moffs memory operand is used; ACCESS_NONE when there is none. */
static inline enum operand_access insn_memory_access(const struct insn *insn)
{
    return insn->has_memory ? (enum operand_access)insn->desc->operand[insn->desc->memory].access
                            : ACCESS_NONE;
}

static inline unsigned insn_memory_bytes(const struct insn *insn)
{
    return insn->has_memory ? insn_operand_bytes(insn, insn->desc->memory) : 0;
}

#endif
