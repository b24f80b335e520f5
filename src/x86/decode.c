/*
 * x86/decode.c - the decoder: prefixes, opcode lookup, ModRM, displacement, immediate, checks.
 *
 * Spec   Intel SDM vol. 2 chapter 2 (formats, VEX), appendix A; AMD64 APM vol. 3 chapter 1.
 * Runs   anywhere; no state.
 * Trust  every byte is hostile; take() is the one place that reads them.
 *
 *   [legacy prefixes and REX] [0F [38 | 3A] | C4 .. .. | C5 ..] opcode [ModRM [SIB] [disp]] [imm]
 */
#include "x86/decode_priv.h"

#include "base/bits.h"

/* The state of one decode. `limit` is how far bytes may be read: what is available, at most 15. */
struct cursor {
    const u8 *bytes;
    unsigned at, limit;
    unsigned code_bytes;
    u8 prefix; /* mandatory prefix: 0 none, 1 66, 2 F3, 3 F2 */
};

enum prefix_kind { PK_NONE, PK_SEG, PK_66, PK_67, PK_LOCK, PK_REPNE, PK_REP, PK_REX };

static const u8 prefix_kinds[256] = {
    [0x26] = PK_SEG, [0x2e] = PK_SEG, [0x36] = PK_SEG, [0x3e] = PK_SEG,  [0x64] = PK_SEG,
    [0x65] = PK_SEG, [0x66] = PK_66,  [0x67] = PK_67,  [0xf0] = PK_LOCK, [0xf2] = PK_REPNE,
    [0xf3] = PK_REP, [0x40] = PK_REX, [0x41] = PK_REX, [0x42] = PK_REX,  [0x43] = PK_REX,
    [0x44] = PK_REX, [0x45] = PK_REX, [0x46] = PK_REX, [0x47] = PK_REX,  [0x48] = PK_REX,
    [0x49] = PK_REX, [0x4a] = PK_REX, [0x4b] = PK_REX, [0x4c] = PK_REX,  [0x4d] = PK_REX,
    [0x4e] = PK_REX, [0x4f] = PK_REX,
};

static enum decode_result out_of_bytes(const struct cursor *c)
{
    return c->limit >= INSN_MAX_BYTES ? DECODE_TOO_LONG : DECODE_TRUNCATED;
}

static bool has_bytes(const struct cursor *c, unsigned count)
{
    return c->at + count <= c->limit;
}

static void take_segment(struct cursor *c, struct insn *insn, u8 byte)
{
    if (byte >= 0x64) {
        insn->segment = byte == 0x64 ? X86_FS : X86_GS;
    } else if (c->code_bytes != 8) {
        insn->segment = (byte - 0x26) >> 3; /* 26 ES, 2E CS, 36 SS, 3E DS */
    } else {
        return; /* without effect in 64-bit code */
    }
    insn->prefixes |= INSN_SEG;
}

/* Legacy prefixes and REX; leaves the cursor at the first byte after them. */
static bool take_prefixes(struct cursor *c, struct insn *insn)
{
    for (;;) {
        if (!has_bytes(c, 1))
            return false;
        u8 byte = c->bytes[c->at];
        unsigned kind = prefix_kinds[byte];
        if (likely(kind == PK_NONE) || (kind == PK_REX && c->code_bytes != 8))
            return true;
        c->at++;
        if (kind == PK_REX) {
            insn->rex = byte & 15;
            insn->prefixes |= INSN_REX;
            continue;
        }
        insn->rex = 0; /* REX counts only right before the opcode */
        insn->prefixes &= (u8)~INSN_REX;
        if (kind == PK_SEG)
            take_segment(c, insn, byte);
        else if (kind == PK_66)
            insn->prefixes |= INSN_66;
        else if (kind == PK_67)
            insn->prefixes |= INSN_67;
        else if (kind == PK_LOCK)
            insn->prefixes |= INSN_LOCK;
        else
            insn->prefixes = (u8)((insn->prefixes & ~(INSN_REP | INSN_REPNE)) |
                                  (kind == PK_REP ? INSN_REP : INSN_REPNE));
    }
}

/* C5 and C4 after the escape byte itself. Returns the VEX map, or 0 for an invalid one. */
static unsigned take_vex(struct cursor *c, struct insn *insn, u8 escape)
{
    unsigned map = 1;
    u8 rxb = c->bytes[c->at++];
    u8 last = rxb;
    u8 rex = (rxb & 0x80) ? 0 : REX_R;

    if (escape == 0xc4) {
        map = rxb & 31;
        rex |= ((rxb & 0x40) ? 0 : REX_X) | ((rxb & 0x20) ? 0 : REX_B);
        last = c->bytes[c->at++];
        if (last & 0x80)
            rex |= REX_W;
    }
    insn->vex = (u8)((~last >> 3 & 15) | ((last & 4) << 2));
    if (c->code_bytes != 8) {
        rex &= REX_W; /* no registers beyond 7 exist */
    }
    insn->rex = rex;
    insn->prefixes |= INSN_VEX;
    c->prefix = last & 3; /* pp: none, 66, F3, F2 */
    return map <= 3 ? map : 0;
}

/* In 16- and 32-bit code C4, C5 and 62 are LES, LDS and BOUND unless a register form follows. */
static bool is_vex(const struct cursor *c)
{
    return c->code_bytes == 8 || (c->bytes[c->at] >= 0xc0);
}

/* The opcode with its escapes. *ret_map is an index of decode_root. */
static enum decode_result take_opcode(struct cursor *c, struct insn *insn, unsigned *ret_map)
{
    u8 byte = c->bytes[c->at++];
    unsigned map = 0;

    if (byte == 0x0f) {
        if (!has_bytes(c, 1))
            return out_of_bytes(c);
        byte = c->bytes[c->at++];
        map = 1;
        if (byte == 0x38 || byte == 0x3a) {
            if (!has_bytes(c, 1))
                return out_of_bytes(c);
            map = byte == 0x38 ? 2 : 3;
            byte = c->bytes[c->at++];
        }
    } else if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
        if (!has_bytes(c, 1))
            return out_of_bytes(c);
        if (is_vex(c)) {
            if (byte == 0x62) /* EVEX */
                return DECODE_INVALID;
            if (insn->prefixes & (INSN_66 | INSN_REP | INSN_REPNE | INSN_LOCK | INSN_REX))
                return DECODE_INVALID;
            if (!has_bytes(c, byte == 0xc4 ? 3 : 2))
                return out_of_bytes(c);
            map = take_vex(c, insn, byte);
            if (map == 0)
                return DECODE_INVALID;
            byte = c->bytes[c->at++];
            map += 3;
        }
    }
    insn->opcode = byte;
    insn->opcode_offset = (u8)(c->at - 1);
    *ret_map = map;
    return DECODE_OK;
}

/* Walks the lookup tree. Returns a leaf, or NODE_INVALID; NODE_LEAF alone (descriptor 0, never a
 * leaf) when ModRM is needed and not there. */
static unsigned look_up(const struct cursor *c, const struct insn *insn, unsigned map)
{
    unsigned node = decode_root[map][insn->opcode];

    while (!(node & NODE_LEAF)) {
        const u16 *at = &decode_node[node];
        unsigned child = 0;
        if (at[0] >= NODE_MOD && at[0] <= NODE_RM && !has_bytes(c, 1))
            return NODE_LEAF;
        switch (at[0]) {
        case NODE_MODE:
            child = c->code_bytes == 8;
            break;
        case NODE_PREFIX:
            child = c->prefix;
            break;
        case NODE_REXB:
            child = insn->rex & REX_B;
            break;
        case NODE_MOD:
            child = c->bytes[c->at] >= 0xc0;
            break;
        case NODE_REG:
            child = c->bytes[c->at] >> 3 & 7;
            break;
        case NODE_RM:
            child = c->bytes[c->at] & 7;
            break;
        case NODE_W:
            child = (insn->rex & REX_W) != 0;
            break;
        default: /* NODE_L */
            child = (insn->vex & 16) != 0;
            break;
        }
        node = at[1 + child];
    }
    return node;
}

static void set_sizes(const struct cursor *c, struct insn *insn)
{
    const struct insn_desc *desc = insn->desc;
    bool small = (insn->prefixes & INSN_66) && !(desc->check & CHECK_IGNORE_66);

    if (c->code_bytes == 8) {
        insn->address_bytes = (insn->prefixes & INSN_67) ? 4 : 8;
        if (desc->attr & ATTR_FORCE64)
            insn->operand_bytes = 8;
        else if (insn->rex & REX_W)
            insn->operand_bytes = 8;
        else if (small)
            insn->operand_bytes = 2;
        else
            insn->operand_bytes = (desc->attr & ATTR_DEFAULT64) ? 8 : 4;
    } else {
        insn->rex &= (insn->prefixes & INSN_VEX) ? 15 : 0;
        insn->address_bytes = (u8)((insn->prefixes & INSN_67) ? 6 - c->code_bytes : c->code_bytes);
        insn->operand_bytes = (u8)(small ? 6 - c->code_bytes : c->code_bytes);
    }
}

static void default_segment(struct insn *insn, enum x86_segment segment)
{
    if (!(insn->prefixes & INSN_SEG))
        insn->segment = (u8)segment;
}

/* 16-bit addressing: base and index by ModRM.rm. Returns displacement bytes. */
static unsigned take_address16(struct insn *insn, unsigned mod, unsigned rm)
{
    static const u8 base[8] = {X86_RBX, X86_RBX, X86_RBP, X86_RBP,
                               X86_RSI, X86_RDI, X86_RBP, X86_RBX};
    static const u8 index[8] = {X86_RSI,     X86_RDI,     X86_RSI,     X86_RDI,
                                INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
    if (mod == 0 && rm == 6) {
        insn->base = insn->index = INSN_NO_REG;
        return 2;
    }
    insn->base = base[rm];
    insn->index = index[rm];
    if (insn->base == X86_RBP)
        default_segment(insn, X86_SS);
    return mod;
}

/* SIB. Returns displacement bytes. */
static unsigned take_sib(struct insn *insn, unsigned mod, u8 sib)
{
    unsigned index = (sib >> 3 & 7) | (insn->rex & REX_X) << 2;
    unsigned base = sib & 7;

    insn->scale = sib >> 6;
    /* Index 4 means none, unless it is a vector register. */
    if (index != 4 || (insn->desc->attr & ATTR_VSIB))
        insn->index = (u8)index;
    if (base == 5 && mod == 0) {
        insn->base = INSN_NO_REG;
        return 4;
    }
    insn->base = (u8)(base | (insn->rex & REX_B) << 3);
    if (insn->base == X86_RSP || insn->base == X86_RBP)
        default_segment(insn, X86_SS);
    return mod == 2 ? 4 : mod;
}

/* 32- and 64-bit addressing without SIB. Returns displacement bytes. */
static unsigned take_address32(const struct cursor *c, struct insn *insn, unsigned mod, unsigned rm)
{
    if (mod == 0 && rm == 5) {
        insn->base = c->code_bytes == 8 ? INSN_RIP : INSN_NO_REG;
        return 4;
    }
    insn->base = insn->rm;
    if (insn->base == X86_RBP)
        default_segment(insn, X86_SS);
    return mod == 2 ? 4 : mod;
}

static bool take_displacement(struct cursor *c, struct insn *insn, unsigned bytes)
{
    insn->disp_offset = (u8)c->at;
    if (!has_bytes(c, bytes))
        return false;
    const u8 *from = c->bytes + c->at;
    if (bytes == 1)
        insn->disp = (s8)from[0];
    else if (bytes == 2)
        insn->disp = (s16)load_le16(from);
    else if (bytes == 4)
        insn->disp = (s32)load_le32(from);
    c->at += bytes;
    return true;
}

static bool take_modrm(struct cursor *c, struct insn *insn)
{
    unsigned disp_bytes = 0;

    if (!has_bytes(c, 1))
        return false;
    u8 modrm = c->bytes[c->at++];
    unsigned mod = modrm >> 6, rm = modrm & 7;
    insn->modrm = modrm;
    insn->reg = (u8)((modrm >> 3 & 7) | (insn->rex & REX_R) << 1);
    insn->rm = (u8)(rm | (insn->rex & REX_B) << 3);
    if (mod != 3 && !(insn->desc->check & CHECK_MOD_IGNORED)) {
        insn->has_memory = true;
        if (insn->address_bytes == 2) {
            disp_bytes = take_address16(insn, mod, rm);
        } else if (rm == 4) {
            if (!has_bytes(c, 1))
                return false;
            disp_bytes = take_sib(insn, mod, c->bytes[c->at++]);
        } else {
            disp_bytes = take_address32(c, insn, mod, rm);
        }
    }
    return take_displacement(c, insn, disp_bytes);
}

static bool take_unsigned(struct cursor *c, unsigned bytes, u64 *ret_value)
{
    if (!has_bytes(c, bytes))
        return false;
    const u8 *from = c->bytes + c->at;
    c->at += bytes;
    *ret_value = bytes == 1   ? from[0]
                 : bytes == 2 ? load_le16(from)
                 : bytes == 4 ? load_le32(from)
                              : load_le64(from);
    return true;
}

static bool take_immediate(struct cursor *c, struct insn *insn)
{
    unsigned z_bytes = insn->operand_bytes == 2 ? 2 : 4;
    u64 value = 0, second = 0;

    insn->imm_offset = (u8)c->at;
    switch (insn->desc->imm_form) {
    case IMM_NONE:
        return true;
    case IMM_U8:
        return take_unsigned(c, 1, &insn->imm);
    case IMM_U16:
        return take_unsigned(c, 2, &insn->imm);
    case IMM_S8:
        z_bytes = 1;
        break;
    case IMM_Z:
        break;
    case IMM_V:
        z_bytes = insn->operand_bytes;
        break;
    case IMM_FAR:
        if (!take_unsigned(c, z_bytes, &insn->imm) || !take_unsigned(c, 2, &second))
            return false;
        insn->imm2 = (u16)second;
        return true;
    case IMM_ENTER:
        if (!take_unsigned(c, 2, &insn->imm) || !take_unsigned(c, 1, &second))
            return false;
        insn->imm2 = (u16)second;
        return true;
    default: /* IMM_OFFSET */
        insn->has_memory = true;
        insn->imm_offset = (u8)(c->at + insn->address_bytes);
        if (!take_unsigned(c, insn->address_bytes, &value))
            return false;
        insn->disp = (s64)value;
        return true;
    }
    if (!take_unsigned(c, z_bytes, &value))
        return false;
    insn->imm = sign_extend(value, z_bytes);
    return true;
}

static bool gather_is_valid(const struct insn *insn)
{
    return insn->has_memory && (insn->modrm & 7) == 4 && insn->address_bytes != 2 &&
           insn->reg != insn->index && insn->reg != insn_vvvv(insn) &&
           insn->index != insn_vvvv(insn);
}

/* Rules that cross fields: false for what is #UD though the opcode exists. */
static bool check_rules(struct insn *insn)
{
    const struct insn_desc *desc = insn->desc;

    if ((insn->prefixes & INSN_LOCK) && !((desc->attr & ATTR_LOCK) && insn->has_memory))
        return false;
    if ((desc->check & CHECK_NO_VVVV) && insn_vvvv(insn) != 0)
        return false;
    if ((insn->prefixes & INSN_VEX) && insn->code_bytes != 8)
        insn->vex &= 0x17; /* no registers beyond 7 exist */
    if (likely(desc->check == 0))
        return true;
    if (desc->check & CHECK_REG_LOW)
        insn->reg &= 7;
    if (desc->check & CHECK_RM_LOW)
        insn->rm &= 7;
    if ((desc->check & CHECK_GATHER) && !gather_is_valid(insn))
        return false;
    if (desc->check & CHECK_MOD_IGNORED) {
        bool is_cr = desc->op == OP_MOV_FROM_CR || desc->op == OP_MOV_TO_CR;
        if (insn->reg >= 8 && !(is_cr && insn->reg == 8))
            return false;
    }
    return true;
}

static enum decode_result invalid(struct cursor *c, struct insn *insn)
{
    insn->desc = &insn_descs[0];
    insn->op = OP_INVALID;
    insn->length = (u8)(c->at == 0 ? 1 : c->at);
    return DECODE_INVALID;
}

enum decode_result decode(const u8 *bytes, unsigned available, unsigned code_bytes,
                          struct insn *ret_insn)
{
    struct insn *insn = ret_insn;
    struct cursor c = {.bytes = bytes, .code_bytes = code_bytes};
    unsigned map, leaf;

    *insn = (struct insn){.segment = X86_DS,
                          .base = INSN_NO_REG,
                          .index = INSN_NO_REG,
                          .desc = &insn_descs[0],
                          .code_bytes = (u8)code_bytes};
    c.limit = available < INSN_MAX_BYTES ? available : INSN_MAX_BYTES;
    if (!take_prefixes(&c, insn))
        return out_of_bytes(&c);
    c.prefix = (insn->prefixes & INSN_REPNE) ? 3
               : (insn->prefixes & INSN_REP) ? 2
               : (insn->prefixes & INSN_66)  ? 1
                                             : 0;
    enum decode_result result = take_opcode(&c, insn, &map);
    if (result != DECODE_OK)
        return result == DECODE_INVALID ? invalid(&c, insn) : result;
    leaf = look_up(&c, insn, map);
    if (leaf == NODE_LEAF)
        return out_of_bytes(&c);
    if (leaf == NODE_INVALID)
        return invalid(&c, insn);

    insn->desc = &insn_descs[leaf & (NODE_LEAF - 1)];
    insn->op = insn->desc->op;
    set_sizes(&c, insn);
    insn->reg = (u8)((insn->opcode & 7) | (insn->rex & REX_B) << 3);
    insn->modrm_offset = insn->disp_offset = (u8)c.at;
    if ((insn->desc->attr & ATTR_MODRM) && !take_modrm(&c, insn))
        return out_of_bytes(&c);
    if (!take_immediate(&c, insn))
        return out_of_bytes(&c);
    insn->length = (u8)c.at;
    return likely(check_rules(insn)) ? DECODE_OK : invalid(&c, insn);
}
