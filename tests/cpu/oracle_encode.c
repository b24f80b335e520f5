/*
 * tests/cpu/oracle_encode.c - encodes a descriptor at random.
 */
#include "oracle_make.h"

#include <string.h>

struct encoder {
    u8 *bytes;
    unsigned count;
};

static void put(struct encoder *e, unsigned byte)
{
    e->bytes[e->count++] = (u8)byte;
}

static bool uses(const struct insn_desc *desc, enum operand_kind kind)
{
    for (unsigned i = 0; i < desc->operand_count; i++)
        if (desc->operand[i].kind == kind)
            return true;
    return false;
}

static void put_legacy_prefixes(struct encoder *e, const struct insn_desc *desc, bool memory)
{
    static const u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    const struct insn_pattern *p = &desc->pattern;

    if (oracle_chance(memory ? 10 : 3))
        put(e, segments[oracle_random() % 6]);
    if (oracle_chance(7))
        put(e, 0x67);
    if (p->vex) {
        if (oracle_chance(2)) /* which is #UD */
            put(e, (const u8[]){0x66, 0xf2, 0xf3, 0xf0}[oracle_random() & 3]);
        return;
    }
    if (p->prefix == PREFIX_66 || (desc->class == CLASS_INTEGER && oracle_chance(25)))
        put(e, 0x66);
    if (memory && oracle_chance((desc->attr & ATTR_LOCK) ? 35 : 1))
        put(e, 0xf0);
    if (p->prefix == PREFIX_F3 || p->prefix == PREFIX_F2)
        put(e, p->prefix == PREFIX_F3 ? 0xf3 : 0xf2);
    else if ((desc->attr & ATTR_REP) && oracle_chance(60))
        put(e, 0xf2 + (oracle_random() & 1));
    else if (oracle_chance(1))
        put(e, 0xf2 + (oracle_random() & 1));
}

static void put_opcode(struct encoder *e, const struct insn_desc *desc, unsigned code_bytes,
                       unsigned rex, unsigned vvvv)
{
    const struct insn_pattern *p = &desc->pattern;
    unsigned pp = p->prefix == PREFIX_66   ? 1
                  : p->prefix == PREFIX_F3 ? 2
                  : p->prefix == PREFIX_F2 ? 3
                                           : 0;
    unsigned l = p->l == PATTERN_ANY ? oracle_random() & 1 : p->l;

    if (p->vex) {
        if (code_bytes != 8)
            rex &= REX_W;
        if ((rex & ~REX_R) == 0 && p->map == 1 && oracle_chance(60)) {
            put(e, 0xc5);
            put(e, ((rex & REX_R) ? 0 : 0x80) | (~vvvv & 15) << 3 | l << 2 | pp);
        } else {
            put(e, 0xc4);
            put(e, (~rex & 7) << 5 | p->map);
            put(e, (rex & REX_W) << 4 | (~vvvv & 15) << 3 | l << 2 | pp);
        }
    } else {
        if (code_bytes == 8 && (rex != 0 || oracle_chance(10)))
            put(e, 0x40 | rex);
        if (p->map != 0)
            put(e, 0x0f);
        if (p->map > 1)
            put(e, p->map == 2 ? 0x38 : 0x3a);
    }
    put(e, p->opcode + oracle_random() % p->opcode_count);
}

static void put_modrm(struct encoder *e, const struct insn_desc *desc, unsigned reg_rm, bool memory,
                      enum oracle_memory form, unsigned code_bytes)
{
    unsigned mod = oracle_random() % 3, reg = reg_rm >> 3, rm = reg_rm & 7;

    if (!memory) {
        put(e, 0xc0 | reg << 3 | rm);
    } else if (desc->attr & ATTR_VSIB) {
        put(e, mod << 6 | reg << 3 | 4);
    } else if (form == ORACLE_POINTER_MEMORY && code_bytes != 2 && oracle_chance(25)) {
        put(e, 0x40 | reg << 3 | 4); /* [ESP], [RSP] */
        put(e, 0x24);
        put(e, oracle_random() & 0xff);
    } else if (form == ORACLE_POINTER_MEMORY) {
        put(e, 0x40 | reg << 3 | (code_bytes == 2 ? 7 : X86_RBX)); /* [BX], [EBX], [RBX] */
        put(e, oracle_random() & 0xff);
    } else {
        put(e, mod << 6 | reg << 3 | rm);
    }
}

unsigned oracle_encode(u8 bytes[ORACLE_ENCODE_BYTES], const struct insn_desc *desc,
                       unsigned code_bytes, enum oracle_memory form)
{
    const struct insn_pattern *p = &desc->pattern;
    struct encoder e = {.bytes = bytes};
    bool memory = desc->memory != 0xff && p->mod != MOD_REGISTER &&
                  (p->mod == MOD_MEMORY || oracle_chance(55));
    unsigned rex = code_bytes == 8 ? oracle_random() & 7 : 0;
    unsigned vvvv = 0;

    for (unsigned i = 0; i < ORACLE_ENCODE_BYTES; i++)
        bytes[i] = (u8)oracle_random();
    if (oracle_chance(40))
        rex = 0;
    if (form == ORACLE_POINTER_MEMORY && memory)
        rex &= REX_R;
    if (p->w == PATTERN_ANY ? code_bytes == 8 && oracle_chance(35) : p->w)
        rex |= REX_W;
    if (strcmp(desc->mnemonic, "nop") == 0 || desc->op == OP_PAUSE)
        rex &= ~(unsigned)REX_B;
    if (uses(desc, OPERAND_H) || uses(desc, OPERAND_B))
        vvvv = oracle_random() & (code_bytes == 8 ? 15 : 7);
    if (form == ORACLE_ANY_MEMORY)
        put_legacy_prefixes(&e, desc, memory || uses(desc, OPERAND_X));
    else if (p->prefix != PREFIX_ANY && p->prefix != PREFIX_NP && !p->vex)
        put(&e, p->prefix == PREFIX_66 ? 0x66 : p->prefix == PREFIX_F3 ? 0xf3 : 0xf2);
    else if (!p->vex && desc->class == CLASS_INTEGER && p->prefix == PREFIX_ANY &&
             oracle_chance(15))
        put(&e, 0x66);
    put_opcode(&e, desc, code_bytes, rex, vvvv);
    if (desc->attr & ATTR_MODRM) {
        unsigned reg = p->reg == PATTERN_ANY ? oracle_random() & 7 : p->reg;
        unsigned rm = p->rm == PATTERN_ANY ? oracle_random() & 7 : p->rm;
        put_modrm(&e, desc, reg << 3 | rm, memory, form, code_bytes);
    }
    return e.count;
}
