/*
 * dbt/jit/emit.c - encodes the host instructions that translated code is made of.
 */
#include "dbt/jit/emit.h"

enum { REX = 0x40, REX_BIT_W = 8, REX_BIT_B = 1 };

void emit_bytes(struct emitter *out, const u8 *bytes, unsigned count)
{
    if ((size_t)(out->end - out->at) < count) {
        out->full = true;
        return;
    }
    for (unsigned i = 0; i < count; i++)
        out->at[i] = bytes[i];
    out->at += count;
}

/* With less than 8 bytes of room. */
void emit_word_last(struct emitter *out, u64 bytes, unsigned count)
{
    u8 word[8];
    store_le64(word, bytes);
    emit_bytes(out, word, count);
}

static bool fits8(s32 value)
{
    return value >= -128 && value <= 127;
}

/* Bytes that are put together before they are written. */
struct word {
    u64 bytes;
    unsigned count;
};

/* At most 6 bytes. */
static inline struct word modrm_mem(unsigned reg, const struct host_mem *mem)
{
    unsigned base = mem->base & 7, count = 1;
    s32 disp = mem->disp;
    unsigned mod = disp == (s8)disp ? 1 : 2;
    u64 bytes = (reg & 7) << 3;
    if (disp == 0 && base != 5)
        mod = 0;
    if (mem->index != EMIT_NO_INDEX) {
        bytes |= 4 | (u64)((unsigned)mem->scale << 6 | (mem->index & 7u) << 3 | base) << 8;
        count = 2;
    } else if (base == 4) {
        bytes |= 4 | 0x24 << 8;
        count = 2;
    } else {
        bytes |= base;
    }
    bytes |= mod << 6 | (u64)(u32)disp << 8 * count;
    return (struct word){bytes, count + (mod == 2 ? 4 : mod)};
}

void emit_modrm_mem(struct emitter *out, unsigned reg, const struct host_mem *mem)
{
    struct word word = modrm_mem(reg, mem);
    emit_word(out, word.bytes, word.count);
}

static inline unsigned rex_bits(unsigned reg, const struct host_mem *mem)
{
    unsigned rex = (reg >> 3 & 1) << 2 | (mem->base >> 3 & 1);
    return mem->index != EMIT_NO_INDEX ? rex | (mem->index >> 3 & 1) << 1 : rex;
}

unsigned emit_rex_bits(unsigned reg, const struct host_mem *mem)
{
    return rex_bits(reg, mem);
}

/* REX, where it is not 0, and OPCODE. */
static inline struct word opcode_word(unsigned rex, unsigned opcode)
{
    struct word word = {opcode, 1};
    if (opcode > 0xff)
        word = (struct word){opcode >> 8 | (opcode & 0xff) << 8, 2};
    if (rex)
        word = (struct word){word.bytes << 8 | REX | rex, word.count + 1};
    return word;
}

void emit_op_mem(struct emitter *out, unsigned opcode, bool wide, unsigned reg,
                 const struct host_mem *mem)
{
    struct word head = opcode_word(rex_bits(reg, mem) | (wide ? REX_BIT_W : 0), opcode);
    struct word tail = modrm_mem(reg, mem);
    if (likely(head.count + tail.count <= 8)) {
        emit_word(out, head.bytes | tail.bytes << 8 * head.count, head.count + tail.count);
        return;
    }
    emit_word(out, head.bytes, head.count);
    emit_word(out, tail.bytes, tail.count);
}

void emit_op_reg(struct emitter *out, unsigned opcode, bool wide, unsigned reg, unsigned rm)
{
    unsigned rex = (wide ? REX_BIT_W : 0) | (reg >> 3 & 1) << 2 | (rm >> 3 & 1);
    struct word word = opcode_word(rex, opcode);
    u64 modrm = 0xc0 | (reg & 7) << 3 | (rm & 7);
    emit_word(out, word.bytes | modrm << 8 * word.count, word.count + 1);
}

void emit_store8_imm(struct emitter *out, unsigned base, s32 disp, u8 value)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0xc6, false, 0, &mem);
    emit_u8(out, value);
}

void emit_store32_imm(struct emitter *out, unsigned base, s32 disp, u32 value)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0xc7, false, 0, &mem);
    emit_u32(out, value);
}

void emit_store_imm(struct emitter *out, unsigned base, s32 disp, s32 value)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0xc7, true, 0, &mem);
    emit_u32(out, (u32)value);
}

void emit_mov(struct emitter *out, unsigned to, unsigned from)
{
    emit_op_reg(out, 0x8b, true, to, from);
}

void emit_mov32(struct emitter *out, unsigned to, unsigned from)
{
    emit_op_reg(out, 0x8b, false, to, from);
}

void emit_mov_imm(struct emitter *out, unsigned reg, u64 value)
{
    unsigned b = (reg & 8) ? REX_BIT_B : 0;
    if (value <= UINT32_MAX) {
        if (b)
            emit_u8(out, REX | b);
        emit_u8(out, 0xb8 | (reg & 7));
        emit_u32(out, (u32)value);
    } else if ((s64)value >= INT32_MIN && (s64)value < 0) {
        emit_op_reg(out, 0xc7, true, 0, reg);
        emit_u32(out, (u32)value);
    } else {
        emit_u8(out, REX | REX_BIT_W | b);
        emit_u8(out, 0xb8 | (reg & 7));
        emit_u64(out, value);
    }
}

void emit_lea(struct emitter *out, bool wide, unsigned reg, const struct host_mem *mem)
{
    emit_op_mem(out, 0x8d, wide, reg, mem);
}

void emit_alu_mem(struct emitter *out, enum emit_alu op, unsigned reg, const struct host_mem *mem)
{
    emit_op_mem(out, (unsigned)op << 3 | 3, true, reg, mem);
}

void emit_alu_imm(struct emitter *out, enum emit_alu op, bool wide, unsigned reg, s32 value)
{
    emit_op_reg(out, fits8(value) ? 0x83 : 0x81, wide, op, reg);
    if (fits8(value))
        emit_u8(out, (u8)value);
    else
        emit_u32(out, (u32)value);
}

void emit_cmp32_mem_imm(struct emitter *out, unsigned base, s32 disp, u32 value)
{
    struct host_mem mem = host_mem_base(base, disp);
    bool small = fits8((s32)value);
    emit_op_mem(out, small ? 0x83 : 0x81, false, ALU_CMP, &mem);
    if (small)
        emit_u8(out, (u8)value);
    else
        emit_u32(out, value);
}

void emit_cmp_mem_imm(struct emitter *out, unsigned base, s32 disp, s32 value)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0x81, true, ALU_CMP, &mem);
    emit_u32(out, (u32)value);
}

void emit_cmp_mem_reg(struct emitter *out, unsigned base, s32 disp, unsigned reg)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0x39, true, reg, &mem);
}

void emit_cmp_reg(struct emitter *out, unsigned a, unsigned b)
{
    emit_op_reg(out, 0x3b, true, a, b);
}

void emit_shr32_imm(struct emitter *out, unsigned reg, unsigned count)
{
    emit_op_reg(out, 0xc1, false, 5, reg);
    emit_u8(out, count);
}

void emit_alu32_mem_imm(struct emitter *out, enum emit_alu op, const struct host_mem *mem,
                        u32 value)
{
    emit_op_mem(out, 0x81, false, op, mem);
    emit_u32(out, value);
}

void emit_shift_imm(struct emitter *out, enum emit_shift op, unsigned reg, unsigned count)
{
    emit_op_reg(out, 0xc1, true, op, reg);
    emit_u8(out, count);
}

/* SAHF for all but OF, which 0x7f + 1 makes. */
void emit_set_flags(struct emitter *out, unsigned reg)
{
    emit_mov32(out, reg, 0);
    emit_shr32_imm(out, reg, 11);
    emit_alu_imm(out, ALU_AND, false, reg, 1);
    if (reg & 8)
        emit_u8(out, REX | REX_BIT_B);
    emit_u8(out, 0x80); /* add reg8, 0x7f */
    emit_u8(out, 0xc0 | (reg & 7));
    emit_u8(out, 0x7f);
    emit_u8(out, 0x88); /* mov ah, al */
    emit_u8(out, 0xc4);
    emit_u8(out, 0x9e); /* sahf */
}

void emit_not(struct emitter *out, unsigned reg)
{
    emit_op_reg(out, 0xf7, true, 2, reg);
}

/* A three-byte VEX instruction with 64-bit registers: ModRM.reg = REG, ModRM.rm = RM. */
static void emit_vex(struct emitter *out, unsigned map, unsigned pp, unsigned opcode, unsigned reg,
                     unsigned vvvv, unsigned rm)
{
    u64 rxb = ((reg & 8) ? 0 : 0x80) | 0x40 | ((rm & 8) ? 0 : 0x20) | map;
    u64 wvp = 0x80 | (~vvvv & 15) << 3 | pp, modrm = 0xc0 | (reg & 7) << 3 | (rm & 7);
    emit_word(out, 0xc4 | rxb << 8 | wvp << 16 | (u64)opcode << 24 | modrm << 32, 5);
}

void emit_shrx(struct emitter *out, unsigned reg, unsigned value, unsigned count)
{
    emit_vex(out, 2, 3, 0xf7, reg, count, value);
}

void emit_pdep(struct emitter *out, unsigned reg, unsigned value, unsigned mask)
{
    emit_vex(out, 2, 3, 0xf5, reg, value, mask);
}

void emit_pext(struct emitter *out, unsigned reg, unsigned value, unsigned mask)
{
    emit_vex(out, 2, 2, 0xf5, reg, value, mask);
}

void emit_rorx(struct emitter *out, unsigned reg, unsigned value, unsigned count)
{
    emit_vex(out, 3, 3, 0xf0, reg, 0, value);
    emit_u8(out, count);
}

void emit_movzx16(struct emitter *out, unsigned reg, unsigned from)
{
    emit_op_reg(out, 0x0fb7, false, reg, from);
}

void emit_push(struct emitter *out, unsigned reg)
{
    if (reg & 8)
        emit_u8(out, REX | REX_BIT_B);
    emit_u8(out, 0x50 | (reg & 7));
}

void emit_push_mem(struct emitter *out, unsigned base, s32 disp)
{
    struct host_mem mem = host_mem_base(base, disp);
    emit_op_mem(out, 0xff, false, 6, &mem);
}

void emit_pop(struct emitter *out, unsigned reg)
{
    if (reg & 8)
        emit_u8(out, REX | REX_BIT_B);
    emit_u8(out, 0x58 | (reg & 7));
}

void emit_pushf(struct emitter *out)
{
    emit_u8(out, 0x9c);
}

void emit_popf(struct emitter *out)
{
    emit_u8(out, 0x9d);
}

void emit_ret(struct emitter *out)
{
    emit_u8(out, 0xc3);
}

void emit_barrier(struct emitter *out)
{
    emit_bytes(out, (const u8[]){0xf0, 0x83, 0x0c, 0x24, 0}, 5); /* lock or dword [rsp], 0 */
}

void emit_jmp_mem(struct emitter *out, const struct host_mem *mem)
{
    emit_op_mem(out, 0xff, false, 4, mem);
}

void emit_jmp_reg(struct emitter *out, unsigned reg)
{
    emit_op_reg(out, 0xff, false, 4, reg);
}

void emit_call_reg(struct emitter *out, unsigned reg)
{
    emit_op_reg(out, 0xff, false, 2, reg);
}

/* OPCODE, of COUNT bytes, and a displacement to TARGET. */
static u8 *emit_branch(struct emitter *out, unsigned opcode, unsigned count, const u8 *target)
{
    u8 *displacement = out->at + count;
    emit_word(out, opcode, count + 4);
    if (out->full)
        return NULL;
    if (target)
        emit_patch(displacement, target);
    return displacement;
}

u8 *emit_jmp(struct emitter *out, const u8 *target)
{
    return emit_branch(out, 0xe9, 1, target);
}

u8 *emit_call(struct emitter *out, const u8 *target)
{
    return emit_branch(out, 0xe8, 1, target);
}

u8 *emit_jcc(struct emitter *out, unsigned condition, const u8 *target)
{
    return emit_branch(out, 0x0f | (0x80 | condition) << 8, 2, target);
}

u8 *emit_jrcxz(struct emitter *out)
{
    emit_word(out, 0xe3, 2);
    return out->at - 1;
}

u8 *emit_jcc8(struct emitter *out, unsigned condition)
{
    emit_word(out, 0x70 | condition, 2);
    return out->at - 1;
}

void emit_patch(u8 *displacement, const u8 *target)
{
    if (displacement)
        __atomic_store_n((u32 *)(void *)displacement, (u32)(target - (displacement + 4)),
                         __ATOMIC_RELAXED);
}

void emit_nop5(struct emitter *out)
{
    emit_word(out, 0x441f0f, 5);
}

void emit_pad_displacement(struct emitter *out, unsigned opcode_bytes)
{
    static const u32 nops[] = {0, 0x90, 0x9066, 0x001f0f};
    unsigned at = (unsigned)((uintptr_t)out->at + opcode_bytes) % 8;
    if (at > 4)
        emit_word(out, nops[8 - at], 8 - at);
}

void emit_patch8(struct emitter *out, u8 *displacement, const u8 *target)
{
    if (!out->full)
        *displacement = (u8)(target - (displacement + 1));
}
