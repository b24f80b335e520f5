/*
 * dbt/jit/encode.c - writes a decoded guest instruction again with substituted operands.
 *
 * Spec   Intel SDM vol. 2 chapter 2: prefixes, REX, VEX, ModRM and SIB.
 */
#include "dbt/jit/encode.h"

static bool uses_high_byte(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        const struct operand_desc *operand = &insn->desc->operand[i];
        if (insn_operand_bytes(insn, i) != 1)
            continue;
        if ((operand->kind == OPERAND_G || operand->kind == OPERAND_Z) &&
            insn_high_byte(insn, insn->reg))
            return true;
        if ((operand->kind == OPERAND_E || operand->kind == OPERAND_R) && !insn->has_memory &&
            insn_high_byte(insn, insn->rm))
            return true;
    }
    return false;
}

/* The REX or VEX register-extension bits R, X and B of ENCODING. */
static unsigned extension_bits(const struct insn *insn, const struct encoding *encoding)
{
    if (encoding->has_memory)
        return emit_rex_bits(encoding->reg, &encoding->mem);
    unsigned bits = 0;
    if (!(insn->desc->attr & ATTR_MODRM))
        return (encoding->reg & 8) ? REX_B : 0;
    if (encoding->reg & 8)
        bits |= REX_R;
    if (encoding->rm & 8)
        bits |= REX_B;
    return bits;
}

/* Outside 64-bit code VEX.W does not widen general registers. */
static bool ignores_w(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->desc->operand_count && insn->code_bytes != 8; i++)
        if (insn->desc->operand[i].size == SIZE_Y)
            return true;
    return false;
}

/* Outside 64-bit code bit 7 of a register number in an immediate is ignored. */
static bool ignores_imm_bit7(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->desc->operand_count && insn->code_bytes != 8; i++)
        if (insn->desc->operand[i].kind == OPERAND_L)
            return true;
    return false;
}

/* Bytes that are put together before they are written: eight at most. */
struct word {
    u64 bytes;
    unsigned count;
};

static void add(struct word *word, unsigned byte)
{
    word->bytes |= (u64)byte << 8 * word->count++;
}

static void add_vex_prefix(struct word *word, const u8 *bytes, const struct insn *insn,
                           const struct encoding *encoding)
{
    unsigned bits = extension_bits(insn, encoding);
    unsigned length_pp = bytes[insn->opcode_offset - 1] & 7;
    unsigned vvvv = (~encoding->vvvv & 15u) << 3;
    unsigned w = ignores_w(insn) ? 0 : insn->rex & REX_W;
    if (!(bits & (REX_X | REX_B)) && !w && insn->desc->pattern.map == 1) {
        add(word, 0xc5);
        add(word, ((bits & REX_R) ? 0 : 0x80) | vvvv | length_pp);
        return;
    }
    add(word, 0xc4);
    add(word, ((bits & REX_R) ? 0 : 0x80) | ((bits & REX_X) ? 0 : 0x40) |
                  ((bits & REX_B) ? 0 : 0x20) | insn->desc->pattern.map);
    add(word, (w ? 0x80 : 0) | vvvv | length_pp);
}

static unsigned rex_bits(const struct insn *insn, const struct encoding *encoding)
{
    return extension_bits(insn, encoding) | (insn->rex & REX_W);
}

bool encode_possible(const struct insn *insn, const struct encoding *encoding)
{
    bool need_rex = rex_bits(insn, encoding) != 0 || (insn->prefixes & INSN_REX) != 0;
    return (insn->prefixes & INSN_VEX) || !need_rex || !uses_high_byte(insn);
}

static void add_legacy_prefixes(struct word *word, const struct insn *insn,
                                const struct encoding *encoding)
{
    unsigned rex = rex_bits(insn, encoding);
    if (unlikely(insn->prefixes & INSN_LOCK))
        add(word, 0xf0);
    if (insn->prefixes & INSN_66)
        add(word, 0x66);
    if (insn->prefixes & INSN_REPNE)
        add(word, 0xf2);
    if (insn->prefixes & INSN_REP)
        add(word, 0xf3);
    if (rex != 0 || (insn->prefixes & INSN_REX) != 0)
        add(word, 0x40 | rex);
    if (insn->desc->pattern.map > 0)
        add(word, 0x0f);
    if (insn->desc->pattern.map > 1)
        add(word, insn->desc->pattern.map == 2 ? 0x38 : 0x3a);
}

/* What 64-bit code has no such opcode for: INC and DEC of a register in one byte. */
static bool add_other_opcode(struct word *word, const struct insn *insn,
                             const struct encoding *encoding)
{
    if (insn->desc->pattern.map != 0 || (insn->opcode & 0xf0) != 0x40)
        return false;
    add(word, 0xff);
    add(word, 0xc0 | (insn->op == OP_DEC ? 1u : 0u) << 3 | (encoding->reg & 7u));
    return true;
}

static void emit_imm(struct emitter *out, const u8 *bytes, const struct insn *insn)
{
    const u8 *imm = bytes + insn->imm_offset;
    unsigned count = (unsigned)(insn->length - insn->imm_offset);
    if (count == 1)
        emit_u8(out, ignores_imm_bit7(insn) ? imm[0] & 0x7f : imm[0]);
    else if (count == 4)
        emit_u32(out, load_le32(imm));
    else if (count != 0)
        emit_bytes(out, imm, count);
}

bool encode_insn(struct emitter *out, const u8 *bytes, const struct insn *insn,
                 const struct encoding *encoding)
{
    bool has_modrm = (insn->desc->attr & ATTR_MODRM) != 0;
    struct word word = {0};
    if (!encode_possible(insn, encoding))
        return false;
    if (insn->prefixes & INSN_VEX)
        add_vex_prefix(&word, bytes, insn, encoding);
    else
        add_legacy_prefixes(&word, insn, encoding);
    if (insn->code_bytes != 8 && add_other_opcode(&word, insn, encoding)) {
        emit_word(out, word.bytes, word.count);
        return true;
    }
    if (!has_modrm && insn->desc->operand_count > 0 &&
        (insn->desc->operand[0].kind == OPERAND_Z || insn->desc->operand[1].kind == OPERAND_Z))
        add(&word, (insn->opcode & 0xf8u) | (encoding->reg & 7u));
    else /* 82 is 80, where it exists */
        add(&word, insn->desc->pattern.map == 0 && insn->opcode == 0x82 ? 0x80 : insn->opcode);
    emit_word(out, word.bytes, word.count);
    if (has_modrm && encoding->has_memory)
        emit_modrm_mem(out, encoding->reg, &encoding->mem);
    else if (has_modrm)
        emit_u8(out, 0xc0 | (encoding->reg & 7u) << 3 | (encoding->rm & 7u));
    emit_imm(out, bytes, insn);
    return true;
}
