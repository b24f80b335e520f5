/*
 * tests/cpu/decode_zydis_compare.c - compares the fields of one instruction with Zydis's.
 */
#include "decode_zydis.h"

#include <stdio.h>
#include <string.h>

/* Number of a GPR, or X86_GPR_COUNT. */
static unsigned gpr_number(ZydisRegister reg)
{
    ZydisRegister large = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    if (large < ZYDIS_REGISTER_RAX || large > ZYDIS_REGISTER_R15)
        return X86_GPR_COUNT;
    return (unsigned)(large - ZYDIS_REGISTER_RAX);
}

static u8 address_register(ZydisRegister reg)
{
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);
    if (reg == ZYDIS_REGISTER_NONE)
        return INSN_NO_REG;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return INSN_RIP;
    if (class == ZYDIS_REGCLASS_XMM || class == ZYDIS_REGCLASS_YMM)
        return (u8)ZydisRegisterGetId(reg);
    return (u8)gpr_number(reg);
}

static unsigned segment_number(ZydisRegister reg)
{
    return (unsigned)(reg - ZYDIS_REGISTER_ES);
}

static void compare_memory(const struct comparison *c)
{
    const ZydisDecodedOperand *memory = NULL;

    for (unsigned i = 0; i < c->theirs.operand_count_visible && memory == NULL; i++)
        if (c->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            c->operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
            (c->operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
             c->operands[i].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64))
            memory = &c->operands[i];
    compare_number(c, "has memory", c->insn.has_memory, memory != NULL);
    if (memory == NULL || !c->insn.has_memory)
        return;
    compare_number(c, "base", c->insn.base, address_register(memory->mem.base));
    compare_number(c, "index", c->insn.index, address_register(memory->mem.index));
    if (c->insn.index != INSN_NO_REG)
        compare_number(c, "scale", 1u << c->insn.scale, memory->mem.scale);
    u64 mask = c->insn.address_bytes == 8   ? ~0ull
               : c->insn.address_bytes == 4 ? 0xffffffff
                                            : 0xffff;
    compare_number(c, "disp", (u64)c->insn.disp & mask, (u64)memory->mem.disp.value & mask);
    if (memory->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
        compare_number(c, "segment", c->insn.segment, segment_number(memory->mem.segment));
    if (c->insn.desc->operand[c->insn.desc->memory].access != ACCESS_NONE &&
        c->insn.desc->operand[c->insn.desc->memory].size != SIZE_XSAVE)
        compare_number(c, "memory bytes", insn_memory_bytes(&c->insn), memory->size / 8);
}

static void compare_layout(const struct comparison *c)
{
    const struct insn *insn = &c->insn;
    const ZydisDecodedInstructionRaw *raw = &c->theirs.raw;
    unsigned imm_bytes = (raw->imm[0].size + raw->imm[1].size) / 8u;

    compare_number(c, "length", insn->length, c->theirs.length);
    compare_number(c, "opcode", insn->opcode, c->theirs.opcode);
    compare_number(c, "address size", insn->address_bytes * 8u, c->theirs.address_width);
    if (c->theirs.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        compare_number(c, "modrm offset", insn->modrm_offset, raw->modrm.offset);
        compare_number(c, "modrm", insn->modrm,
                       (unsigned)(raw->modrm.mod << 6 | raw->modrm.reg << 3 | raw->modrm.rm));
    }
    compare_number(c, "disp bytes", (unsigned)(insn->imm_offset - insn->disp_offset),
                   raw->disp.size / 8u);
    if (raw->disp.size != 0)
        compare_number(c, "disp offset", insn->disp_offset, raw->disp.offset);
    compare_number(c, "imm bytes", (unsigned)(insn->length - insn->imm_offset), imm_bytes);
    if (imm_bytes != 0)
        compare_number(c, "imm offset", insn->imm_offset, raw->imm[0].offset);
}

/* The value as an operation would use it: cut to the operand it meets. */
static void compare_immediate(const struct comparison *c, const ZydisDecodedOperand *operand)
{
    u64 mask = ~0ull;

    if (operand->type == ZYDIS_OPERAND_TYPE_POINTER) {
        compare_number(c, "far offset", c->insn.imm, operand->ptr.offset);
        compare_number(c, "far selector", c->insn.imm2, operand->ptr.segment);
        return;
    }
    if (operand->encoding == ZYDIS_OPERAND_ENCODING_IS4)
        return;
    if (!operand->imm.is_relative && operand->size < 64)
        mask = (1ull << operand->size) - 1;
    if (c->insn.desc->imm_form == IMM_ENTER && operand->id == 1)
        compare_number(c, "imm2", c->insn.imm2, operand->imm.value.u & mask);
    else
        compare_number(c, "imm", c->insn.imm & mask, operand->imm.value.u & mask);
}

/* Register number that our operand I names, or -1 for other kinds. */
static int our_register(const struct insn *insn, unsigned i)
{
    switch (insn->desc->operand[i].kind) {
    case OPERAND_G:
    case OPERAND_V:
    case OPERAND_P:
    case OPERAND_S:
    case OPERAND_C:
    case OPERAND_D:
    case OPERAND_Z:
        return insn->reg;
    case OPERAND_E:
    case OPERAND_W:
    case OPERAND_Q:
        return insn->has_memory ? -1 : insn->rm;
    case OPERAND_R:
    case OPERAND_U:
    case OPERAND_N:
        return insn->rm;
    case OPERAND_STI:
        return insn->rm & 7;
    case OPERAND_B:
    case OPERAND_H:
        return (int)insn_vvvv(insn);
    case OPERAND_L:
        return (int)(insn->imm >> 4 & (insn->code_bytes == 8 ? 15 : 7));
    case OPERAND_GPR:
    case OPERAND_SEG:
    case OPERAND_XMM:
    case OPERAND_ST:
        return insn->desc->operand[i].reg;
    default:
        return -1;
    }
}

static int their_register(const struct comparison *c, const ZydisDecodedOperand *operand)
{
    ZydisRegister reg = operand->reg.value;
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);

    if (class == ZYDIS_REGCLASS_GPR8) {
        unsigned number = gpr_number(reg);
        bool high = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
        return (int)(high ? number + 4 : number);
    }
    if (class == ZYDIS_REGCLASS_SEGMENT)
        return (int)segment_number(reg);
    return ZydisRegisterGetId(reg);
}

static void compare_operands(const struct comparison *c)
{
    const struct insn_desc *desc = c->insn.desc;

    compare_number(c, "operand count", desc->operand_count, c->theirs.operand_count_visible);
    if (desc->operand_count != c->theirs.operand_count_visible)
        return;
    for (unsigned i = 0; i < desc->operand_count; i++) {
        const ZydisDecodedOperand *theirs = &c->operands[i];
        char what[32];
        if (theirs->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            snprintf(what, sizeof(what), "register of operand %u", i);
            compare_number(c, what, (u64)(s64)our_register(&c->insn, i),
                           (u64)(s64)their_register(c, theirs));
        } else if (theirs->type != ZYDIS_OPERAND_TYPE_MEMORY) {
            if (desc->operand[i].kind != OPERAND_CONST)
                compare_immediate(c, theirs);
            continue;
        }
        snprintf(what, sizeof(what), "access of operand %u", i);
        unsigned actions = 0;
        if (theirs->actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD))
            actions |= ACCESS_R;
        if (theirs->actions & ZYDIS_OPERAND_ACTION_WRITE)
            actions |= ACCESS_W;
        if (theirs->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
            actions |= ACCESS_MAYBE_W;
        if (theirs->type == ZYDIS_OPERAND_TYPE_MEMORY && theirs->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            actions = ACCESS_NONE;
        compare_number(c, what, desc->operand[i].access, actions);
        snprintf(what, sizeof(what), "size of operand %u", i);
        if (desc->class == CLASS_INTEGER && desc->operand[i].access != ACCESS_NONE)
            compare_number(c, what, insn_operand_bytes(&c->insn, i), theirs->size / 8u);
    }
}

static void compare_gprs(const struct comparison *c)
{
    u32 read = 0, written = 0, our_read, our_written;

    insn_gprs(&c->insn, &our_read, &our_written);
    for (unsigned i = 0; i < c->theirs.operand_count; i++) {
        const ZydisDecodedOperand *operand = &c->operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            unsigned base = gpr_number(operand->mem.base), index = gpr_number(operand->mem.index);
            if (operand->mem.base != ZYDIS_REGISTER_NONE && base < X86_GPR_COUNT)
                read |= 1u << base;
            if (operand->mem.index != ZYDIS_REGISTER_NONE && index < X86_GPR_COUNT)
                read |= 1u << index;
        }
        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        unsigned reg = gpr_number(operand->reg.value);
        if (reg >= X86_GPR_COUNT)
            continue;
        bool writes = operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        bool partial = operand->size < 32 || (operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE);
        if ((operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || (writes && partial))
            read |= 1u << reg;
        if (writes)
            written |= 1u << reg;
    }
    compare_number(c, "registers read", our_read, read);
    compare_number(c, "registers written", our_written, written);
}

static void compare_flags(const struct comparison *c)
{
    const struct insn_desc *desc = c->insn.desc;
    const ZydisAccessedFlags *theirs = c->theirs.cpu_flags;

    compare_number(c, "flags read", desc->flags_read, theirs->tested);
    compare_number(c, "flags cleared", desc->flags_cleared, theirs->set_0);
    compare_number(c, "flags set", desc->flags_set, theirs->set_1);
    compare_number(c, "flags undefined", desc->flags_undefined & ~desc->flags_maybe,
                   theirs->undefined & ~desc->flags_maybe);
    compare_number(c, "flags touched",
                   desc->flags_written | desc->flags_maybe | desc->flags_undefined,
                   theirs->modified | theirs->set_0 | theirs->set_1 | theirs->undefined);
}

void compare_decoded(const struct comparison *c)
{
    const char *theirs = ZydisMnemonicGetString(c->theirs.mnemonic);

    if (strcmp(c->insn.desc->mnemonic, theirs) != 0) {
        char what[64];
        snprintf(what, sizeof(what), "mnemonic %.40s", theirs);
        compare_number(c, what, 0, 1);
    }
    compare_layout(c);
    compare_memory(c);
    compare_operands(c);
    compare_gprs(c);
    compare_flags(c);
}
