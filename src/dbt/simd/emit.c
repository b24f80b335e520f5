/*
 * dbt/simd/emit.c - writes the host code of one vector or x87 instruction.
 *
 * A thunk is a C function u64 thunk(struct cpu *rdi, void *rsi): load the guest's general registers
 * and flags that the instruction reads; the instruction, its memory operand turned into [rsi] and
 * its explicit general register into rax; store those and the flags that it writes; return 0. Up to
 * the instruction itself nothing is pushed, so that a trap in it can return to the caller
 * (simd_trap).
 *
 * Spec   Intel SDM vol. 2A chapter 2 (prefixes, REX, VEX, ModRM).
 * Trust  fields of the decoded instruction are cut to the width of their place.
 */
#include "dbt/simd/simd_priv.h"

enum { HOST_RAX = 0, HOST_RSI = 6 };
enum { FLAGS_SAHF = X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF };

static void emit_byte(struct simd_emit *emit, unsigned byte)
{
    if (emit->count < sizeof(emit->code))
        emit->code[emit->count++] = (u8)byte;
}

static void emit_bytes(struct simd_emit *emit, const char *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        emit_byte(emit, (u8)bytes[i]);
}

static void emit_u32(struct simd_emit *emit, u32 value)
{
    for (unsigned i = 0; i < 4; i++)
        emit_byte(emit, value >> (8 * i));
}

/* ModRM and displacement of [rdi + OFFSET]. */
static void emit_cpu_field(struct simd_emit *emit, unsigned host_reg, size_t offset)
{
    emit_byte(emit, 0x87 | host_reg << 3);
    emit_u32(emit, (u32)offset);
}

static void emit_gpr_load(struct simd_emit *emit, unsigned host_reg, unsigned guest_reg)
{
    emit_bytes(emit, "\x48\x8b", 2);
    emit_cpu_field(emit, host_reg, offsetof(struct cpu, gpr) + 8 * (guest_reg & 15));
}

static void emit_gpr_store(struct simd_emit *emit, unsigned host_reg, unsigned guest_reg,
                           unsigned bytes)
{
    if (bytes == 2)
        emit_byte(emit, 0x66); /* FNSTSW AX: the rest of the register stays */
    else
        emit_byte(emit, 0x48);
    emit_byte(emit, 0x89);
    emit_cpu_field(emit, host_reg, offsetof(struct cpu, gpr) + 8 * (guest_reg & 15));
}

/* The guest's flags that INSN reads, into the host's. FCMOVcc alone reads some: CF, PF and ZF. */
static void emit_flags_load(struct simd_emit *emit)
{
    emit_bytes(emit, "\x8a", 1); /* mov ah, [rflags] */
    emit_cpu_field(emit, 4, offsetof(struct cpu, rflags));
    emit_byte(emit, 0x9e); /* sahf */
}

/* The host's arithmetic flags, into the guest's. */
static void emit_flags_store(struct simd_emit *emit)
{
    emit_bytes(emit, "\x9c\x59\x81\xe1", 4); /* pushfq; pop rcx; and ecx, ... */
    emit_u32(emit, X86_ARITH_FLAGS);
    emit_byte(emit, 0x81); /* and dword [rflags], ... */
    emit_cpu_field(emit, 4, offsetof(struct cpu, rflags));
    emit_u32(emit, ~(u32)X86_ARITH_FLAGS);
    emit_byte(emit, 0x09); /* or [rflags], ecx */
    emit_cpu_field(emit, 1, offsetof(struct cpu, rflags));
}

/* Which encodings' register numbers are general registers, to be replaced by rax. */
struct operands {
    bool gpr_in_reg, gpr_in_rm, immediate_register, size_by_w;
    unsigned gpr_read, gpr_written; /* guest register + 1; 0: none */
    unsigned written_bytes;
};

static void operand_note(struct operands *all, const struct insn *insn, unsigned i)
{
    const struct operand_desc *operand = &insn->desc->operand[i];
    unsigned reg;

    if (operand->size == SIZE_Y)
        all->size_by_w = true;
    switch (operand->kind) {
    case OPERAND_G:
        all->gpr_in_reg = true;
        reg = insn->reg;
        break;
    case OPERAND_E:
    case OPERAND_R:
        if (insn->has_memory)
            return;
        all->gpr_in_rm = true;
        reg = insn->rm;
        break;
    case OPERAND_GPR:
        reg = operand->reg;
        break;
    case OPERAND_L:
        all->immediate_register = true;
        return;
    default:
        return;
    }
    if (operand->access & ACCESS_R)
        all->gpr_read = reg + 1;
    if (operand->access & ACCESS_W) {
        all->gpr_written = reg + 1;
        all->written_bytes = insn_operand_bytes(insn, i);
    }
}

static unsigned prefix_vex_pp(const struct insn *insn)
{
    switch (insn->desc->pattern.prefix) {
    case PREFIX_66:
        return 1;
    case PREFIX_F3:
        return 2;
    case PREFIX_F2:
        return 3;
    default:
        return 0;
    }
}

static void emit_vex(struct simd_emit *emit, const struct insn *insn, unsigned rex, u8 vvvv)
{
    emit_byte(emit, 0xc4);
    emit_byte(emit, ((~rex & 7) << 5) | (insn->desc->pattern.map & 3));
    emit_byte(emit, ((rex & REX_W) << 4) | ((~vvvv & 15u) << 3) | ((insn->vex & 16) >> 2) |
                        prefix_vex_pp(insn));
}

static void emit_legacy(struct simd_emit *emit, const struct insn *insn, unsigned rex)
{
    static const u8 mandatory[] = {0, 0x66, 0xf3, 0xf2};
    unsigned pp = prefix_vex_pp(insn);

    if (pp != 0 && insn->desc->pattern.map != 0)
        emit_byte(emit, mandatory[pp]);
    if (rex != 0)
        emit_byte(emit, 0x40 | rex);
    if (insn->desc->pattern.map != 0)
        emit_byte(emit, 0x0f);
    if (insn->desc->pattern.map == 2)
        emit_byte(emit, 0x38);
    if (insn->desc->pattern.map == 3)
        emit_byte(emit, 0x3a);
}

/* The instruction itself. */
static void emit_instruction(struct simd_emit *emit, const struct insn *insn,
                             const struct operands *all, bool long_mode)
{
    unsigned rex = insn->rex & (REX_R | REX_B | REX_W);
    unsigned modrm = insn->modrm;
    u8 vvvv = insn->vex & 15;

    /* Outside 64-bit mode there are eight registers, and W does not widen general registers. */
    if (!long_mode) {
        rex &= ~(unsigned)(REX_R | REX_B);
        vvvv &= 7;
        if (all->size_by_w)
            rex &= ~(unsigned)REX_W;
    }
    if (all->gpr_in_reg) {
        modrm &= ~0x38u;
        rex &= ~(unsigned)REX_R;
    }
    /* Whatever the decoder thinks of it: no memory but at [rsi] is ever reached. */
    if (insn->has_memory)
        modrm = (modrm & 0x38) | HOST_RSI;
    else
        modrm |= 0xc0;
    if (!insn->has_memory && all->gpr_in_rm)
        modrm &= ~7u;
    if (insn->has_memory || all->gpr_in_rm)
        rex &= ~(unsigned)REX_B;

    if (insn->prefixes & INSN_VEX)
        emit_vex(emit, insn, rex, vvvv);
    else
        emit_legacy(emit, insn, rex);
    emit_byte(emit, insn->opcode);
    if (insn->desc->attr & ATTR_MODRM)
        emit_byte(emit, modrm);
    if (insn->desc->imm_form != IMM_NONE || insn->imm_offset < insn->length) {
        /* Bit 7 of a register number in an immediate is ignored outside 64-bit mode. */
        bool cut = all->immediate_register && !long_mode;
        emit_byte(emit, (unsigned)insn->imm & (cut ? 0x7f : 0xff));
    }
}

/* VZEROUPPER and VZEROALL touch only YMM0-7 outside 64-bit mode, which the host's forms in 64-bit
 * mode do not: vmovaps xmm, xmm or vpxor xmm, xmm, xmm for each of the eight. */
static void emit_zero_eight(struct simd_emit *emit, bool all)
{
    for (unsigned i = 0; i < 8; i++) {
        emit_byte(emit, 0xc5);
        emit_byte(emit, all ? 0x81 | (~i & 7) << 3 | 0x40 : 0xf8);
        emit_byte(emit, all ? 0xef : 0x28);
        emit_byte(emit, 0xc0 | i << 3 | i);
    }
}

void simd_emit_thunk(struct simd_emit *emit, const struct insn *insn, unsigned code_bytes)
{
    const struct insn_desc *desc = insn->desc;
    struct operands all = {0};
    bool long_mode = code_bytes == 8;

    for (unsigned i = 0; i < desc->operand_count; i++)
        operand_note(&all, insn, i);
    if (desc->flags_read != 0)
        emit_flags_load(emit);
    if (all.gpr_read != 0)
        emit_gpr_load(emit, HOST_RAX, all.gpr_read - 1);
    /* Implicit ones are the length operands and the result of PCMPxSTRx: rax, rcx, rdx, as they
     * are. */
    for (unsigned reg = X86_RAX; reg <= X86_RDX; reg++) {
        if ((desc->gpr_read & 1u << reg) != 0 && all.gpr_read != reg + 1)
            emit_gpr_load(emit, reg, reg);
    }
    if (insn->op == OP_MASKMOV)
        emit_bytes(emit, "\x48\x89\xf7", 3); /* mov rdi, rsi: its memory operand */

    if (insn->op == OP_VZEROUPPER && !long_mode)
        emit_zero_eight(emit, (insn->vex & 16) != 0);
    else
        emit_instruction(emit, insn, &all, long_mode);

    if (all.gpr_written != 0)
        emit_gpr_store(emit, HOST_RAX, all.gpr_written - 1, all.written_bytes);
    for (unsigned reg = X86_RAX; reg <= X86_RDX; reg++) {
        if ((desc->gpr_written & 1u << reg) != 0 && all.gpr_written != reg + 1)
            emit_gpr_store(emit, reg, reg, 8);
    }
    if ((desc->flags_written | desc->flags_maybe | desc->flags_undefined) & X86_ARITH_FLAGS)
        emit_flags_store(emit);
    emit_bytes(emit, "\x31\xc0\xc3", 3); /* xor eax, eax; ret */
}

void simd_emit_vector(struct simd_emit *emit, unsigned reg, bool avx, bool store)
{
    if (avx) { /* vmovdqu ymm */
        emit_byte(emit, 0xc5);
        emit_byte(emit, 0x7e | (~reg & 8) << 4);
    } else { /* movdqu xmm */
        emit_byte(emit, 0xf3);
        emit_byte(emit, 0x40 | (reg & 8) >> 1);
        emit_byte(emit, 0x0f);
    }
    emit_byte(emit, store ? 0x7f : 0x6f);
    emit_byte(emit, (reg & 7) << 3 | HOST_RSI);
    emit_bytes(emit, "\x31\xc0\xc3", 3);
}
