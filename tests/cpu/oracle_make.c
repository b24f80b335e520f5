/*
 * tests/cpu/oracle_make.c - makes cases out of the decoder's table.
 *
 * An instruction is encoded at random within its descriptor's pattern, decoded again, and then the
 * registers that it addresses memory with are set so that it mostly reaches the data pages: their
 * middle, their edges, the read-only page, and sometimes nothing.
 *
 * Every case has a random sequence of its own, from the seed and its index, so that one case can be
 * made again alone.
 */
#include "oracle_make.h"

#include <string.h>

#include "base/bits.h"

u8 oracle_image[ORACLE_IMAGES][ORACLE_MEMORY_BYTES];

enum { ACCESS_CODE = 0xfb, ACCESS_DATA = 0xf3, ACCESS_EXPAND_DOWN = 0xf7 };
const struct oracle_ldt_entry oracle_ldt[ORACLE_LDT_COUNT] = {
    {ORACLE_CODE, ORACLE_PAGE - 1, ACCESS_CODE},
    {ORACLE_DATA, ORACLE_DATA_BYTES - 1, ACCESS_DATA},
    {ORACLE_STACK, ORACLE_STACK_BYTES - 1, ACCESS_DATA},
    {ORACLE_DATA + 0x100, ORACLE_DATA_BYTES - 1, ACCESS_DATA},
    {ORACLE_DATA, 0x4ff, ACCESS_EXPAND_DOWN},
    {ORACLE_DATA + ORACLE_PAGE, ORACLE_PAGE - 1, ACCESS_DATA},
};

u64 oracle_segment_base(const struct oracle_case *c, unsigned segment)
{
    if (c->code_bytes == 2)
        return oracle_ldt[c->before.selector[segment] >> 3].base;
    if (c->code_bytes == 8 && segment == X86_FS)
        return c->before.fs_base;
    return c->code_bytes == 8 && segment == X86_GS ? c->before.gs_base : 0;
}

static void make_selectors(struct oracle_case *c)
{
    static const u16 of_16[X86_SEGMENT_COUNT] = {ORACLE_ES16, ORACLE_CS16, ORACLE_SS16,
                                                 ORACLE_DS16, ORACLE_FS16, ORACLE_GS16};
    u16 *selector = c->before.selector;

    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        selector[i] = c->code_bytes == 2 ? of_16[i] : i == X86_FS || i == X86_GS ? 0 : ORACLE_DS;
    if (c->code_bytes != 2)
        selector[X86_CS] = c->code_bytes == 8 ? ORACLE_CS64 : ORACLE_CS32;
}

static u64 random_state;

void oracle_seed(u64 seed, u64 index)
{
    random_state = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (index + 1) * 0xd1342543de82ef95ull;
    for (unsigned i = 0; i < 4; i++)
        oracle_random();
}

u64 oracle_random(void)
{
    random_state += 0x9e3779b97f4a7c15ull;
    u64 z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

bool oracle_chance(unsigned percent)
{
    return oracle_random() % 100 < percent;
}

/* A number of the kind that finds mistakes: small, all ones, near powers of two, or any. */
u64 oracle_value(void)
{
    u64 r = oracle_random(), bit = BIT(oracle_random() & 63);

    switch (r & 7) {
    case 0:
        return r >> 8 & 0xff;
    case 1:
        return 0 - (r >> 8 & 0xff);
    case 2:
        return bit;
    case 3:
        return bit - 1;
    case 4:
        return (u64)(s32)oracle_random();
    case 5:
        return (u32)oracle_random();
    default:
        return oracle_random();
    }
}

/* Eight bytes of a kind that vector instructions like: floats, doubles, integers, special ones. */
static u64 vector_value(void)
{
    static const u64 special[] = {0x3ff0000000000000, 0x7ff0000000000000, 0xfff8000000000000,
                                  0x0000000000000001, 0x3f8000003f800000, 0x7f800000ff800000,
                                  0x7fc0000000000001, 0x8000000080000000, 0x0010000000000000,
                                  0x43e0000000000000, 0x4f0000004f000000, 0x0000000000000000};
    u64 r = oracle_random();

    switch (r & 7) {
    case 0:
    case 1: /* doubles of moderate size */
        return (r & 0x800fffffffffff00) | (u64)(1010 + (oracle_random() & 31)) << 52;
    case 2:
    case 3: { /* floats */
        u64 two = (r & 0x807fff00807fff00);
        return two | (u64)(120 + (oracle_random() & 15)) << 23 |
               (u64)(120 + (oracle_random() & 15)) << 55;
    }
    case 4:
        return special[oracle_random() % ARRAY_LEN(special)];
    default:
        return oracle_value();
    }
}

void oracle_make_images(u64 seed)
{
    oracle_seed(seed, ~0ull);
    for (unsigned i = 0; i < ORACLE_IMAGES; i++)
        for (unsigned at = 0; at < ORACLE_MEMORY_BYTES; at += 8)
            store_le64(oracle_image[i] + at, vector_value());
    /* The read-only page is the same for all: it is never loaded again. */
    for (unsigned i = 1; i < ORACLE_IMAGES; i++)
        memcpy(oracle_image[i] + 2 * ORACLE_PAGE, oracle_image[0] + 2 * ORACLE_PAGE, ORACLE_PAGE);
}

/* ---- the state before
 * ------------------------------------------------------------------------------ */

void oracle_make_x87(u8 *image)
{
    static const u64 mantissas[] = {0x8000000000000000, 0xc000000000000000, 0, 1,
                                    0xffffffffffffffff, 0x4000000000000000};

    store_le16(image, (u16)(0x7f | (oracle_random() & 0xf00))); /* FCW: masked, any precision */
    if (oracle_chance(10))
        store_le16(image, (u16)(0x40 | (oracle_random() & 0xf3f)));
    store_le16(image + 2, (u16)((oracle_random() & 7) << 11 | (oracle_random() & 0x4700)));
    image[4] = (u8)(oracle_chance(30) ? oracle_random() : oracle_chance(50) ? 0xff : 0x7f);
    for (unsigned i = 0; i < 8; i++) {
        u8 *st = image + 32 + 16 * i;
        u64 exponent = 16383 - 20 + oracle_random() % 70;
        if (oracle_chance(10))
            exponent = oracle_random() & 0x7fff;
        if (oracle_chance(5))
            exponent = oracle_chance(50) ? 0 : 0x7fff;
        u64 mantissa = oracle_random() | BIT(63);
        if (oracle_chance(20))
            mantissa = mantissas[oracle_random() % ARRAY_LEN(mantissas)];
        store_le64(st, mantissa);
        store_le16(st + 8, (u16)(exponent | (oracle_random() & 0x8000)));
    }
}

void oracle_make_vectors(u8 *image)
{
    u32 mxcsr = 0x1f80 | (oracle_random() & 0x6000);

    if (oracle_chance(10))
        mxcsr = oracle_random() & 0xffc0; /* some exceptions unmasked, DAZ, FTZ */
    store_le32(image + 24, mxcsr);
    for (unsigned at = 160; at < 416; at += 8)
        store_le64(image + at, vector_value());
    for (unsigned at = 576; at < X86_XSAVE_BYTES; at += 8)
        store_le64(image + at, vector_value());
    store_le64(image + 512, 7);
}

/* Outside 64-bit code registers have 32 bits. */
static void cut_registers(struct oracle_case *c)
{
    for (unsigned i = 0; i < 8 && c->code_bytes != 8; i++)
        c->before.gpr[i] = (u32)c->before.gpr[i];
}

void oracle_make_state(struct oracle_case *c)
{
    struct oracle_state *s = &c->before;

    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        s->gpr[i] = i < 8 || c->code_bytes == 8 ? oracle_value() : 0;
    s->rflags = X86_FLAG_FIXED | X86_IF | (oracle_random() & X86_ARITH_FLAGS);
    if (oracle_chance(20))
        s->rflags |= X86_DF;
    if (oracle_chance(3))
        s->rflags |= X86_AC;
    u64 edge = oracle_chance(85)
                   ? 256 + (oracle_random() % (ORACLE_STACK_BYTES - 512))
                   : (oracle_random() & 15) + (oracle_chance(50) ? ORACLE_STACK_BYTES - 12 : 0);
    make_selectors(c);
    s->gpr[X86_RSP] = ORACLE_STACK - oracle_segment_base(c, X86_SS) +
                      (oracle_chance(80) ? edge & ~7ull : edge);
    s->fs_base = s->gs_base = 0;
    if (c->code_bytes == 8) {
        s->fs_base = oracle_chance(50) ? ORACLE_DATA + (oracle_random() & 0xff0)
                                       : oracle_value() >> 32;
        s->gs_base = ORACLE_DATA + 0x1000 + (oracle_random() & 0xff0);
    }
    cut_registers(c);
    oracle_make_x87(s->xsave);
    oracle_make_vectors(s->xsave);
    c->image = oracle_random() % ORACLE_IMAGES;
    c->poke_count = 0;
    c->poke_at = 0;
    c->ignore_at = c->ignore_count[0] = c->ignore_count[1] = 0;
}

/* ---- where memory operands go
 * ---------------------------------------------------------------------- */

/* An address for BYTES of memory, aligned when ALIGNED. */
u64 oracle_target(unsigned bytes, bool aligned)
{
    unsigned place = oracle_random() % 100;
    u64 offset = oracle_random() % (2 * ORACLE_PAGE - 1024) + 64;

    if (bytes == 0)
        bytes = 64;
    if (place < 60)
        offset = oracle_chance(75) || aligned ? align_down(offset, bytes & (0u - bytes)) : offset;
    else if (place < 68) /* across the pages that may be written */
        offset = ORACLE_PAGE - 1 - oracle_random() % bytes;
    else if (place < 76) /* the end of those, and into the read-only one */
        offset = 2 * ORACLE_PAGE - oracle_random() % (2 * bytes);
    else if (place < 81)
        offset = 2 * ORACLE_PAGE + (oracle_random() & 0xf80);
    else if (place < 87) /* the end of all */
        offset = 3 * ORACLE_PAGE - oracle_random() % (2 * bytes);
    else if (place < 90) /* the beginning */
        offset = 0 - oracle_random() % bytes;
    if (place < 90)
        return ORACLE_DATA + (aligned && !oracle_chance(15) ? align_down(offset, 64) : offset);
    if (place < 97)
        return ORACLE_DATA + align_down(offset, 64);
    return oracle_value();
}

static bool overwrites_code(u64 target)
{
    return target >= ORACLE_CODE - 0x2000 && target < ORACLE_CODE + 0x2000;
}

/* Vector index registers of gathers: small numbers. */
static void tame_vector_index(struct oracle_case *c, const struct insn *insn)
{
    unsigned step = (insn->opcode & 1) ? 8 : 4;

    for (unsigned at = 0; at < 16; at += step) {
        u8 *low = c->before.xsave + 160 + 16 * insn->index + at;
        u8 *high = c->before.xsave + 576 + 16 * insn->index + at;
        memset(low, 0, step);
        memset(high, 0, step);
        low[0] = oracle_random() & 0x7f;
        high[0] = oracle_random() & 0x7f;
    }
}

/* Sets INSN's base register, or the displacement at its place in the code, so that the operand is
 * at TARGET. */
static u64 aim(struct oracle_case *c, const struct insn *insn, u8 *code, u64 target)
{
    u64 *gpr = c->before.gpr, mask = bytes_mask(insn->address_bytes);
    u64 segment = oracle_segment_base(c, insn->segment), index = 0;
    u64 offset = target - segment, disp = (u64)insn->disp;
    unsigned disp_bytes = (unsigned)(insn->imm_offset - insn->disp_offset);

    if (insn->desc->attr & ATTR_VSIB)
        tame_vector_index(c, insn);
    else if (insn->index < X86_GPR_COUNT)
        index = gpr[insn->index] << insn->scale;
    if (insn->base == INSN_RIP || insn->base == INSN_NO_REG) {
        if (insn->base == INSN_RIP)
            index = c->before.rip + (unsigned)(code - c->code) + insn->length;
        disp = offset - index;
        memcpy(code + insn->disp_offset, &disp, disp_bytes < 8 ? disp_bytes : 8);
        return segment + ((disp + index) & mask);
    }
    if (insn->base == insn->index && !(insn->desc->attr & ATTR_VSIB)) {
        gpr[insn->base] = (offset - disp) / (1 + (1u << insn->scale));
        index = gpr[insn->index] << insn->scale;
    } else if (insn->base != X86_RSP || oracle_chance(70)) {
        u64 *base = &gpr[insn->base];
        *base = (*base & ~mask) | ((offset - disp - index) & mask);
    }
    cut_registers(c);
    return segment + ((gpr[insn->base] + index + disp) & mask);
}

void oracle_poke(struct oracle_case *c, u64 address, const void *bytes, unsigned count)
{
    u64 at = address - ORACLE_DATA;

    if (address - ORACLE_STACK < ORACLE_STACK_BYTES)
        at = address - ORACLE_STACK + ORACLE_DATA_BYTES;
    else if (at >= 2 * ORACLE_PAGE || at + count > 2 * ORACLE_PAGE)
        return;
    if (at + count > ORACLE_MEMORY_BYTES || count > ORACLE_POKE_BYTES)
        return;
    c->poke_at = (u32)at;
    c->poke_count = count;
    memcpy(c->poke, bytes, count);
}

/* Relative branches go forward, where nothing but INT3 is: no case may loop. */
static void tame_branch(struct oracle_case *c, const struct insn *insn, u8 *code)
{
    bool relative = insn->op == OP_JCC || insn->op == OP_JCXZ || insn->op == OP_JMP ||
                    insn->op == OP_CALL || (insn->op >= OP_LOOP && insn->op <= OP_LOOPNE);

    if (!relative)
        return;
    u8 *at = code + insn->imm_offset;
    if (insn->desc->imm_form == IMM_S8)
        at[0] &= 0x7f;
    else if (oracle_chance(80))
        store_le16(at, (u16)(oracle_random() & 0x7f));
    if (insn->length - insn->imm_offset == 4 && oracle_chance(80))
        store_le16(at + 2, 0);
    if (c->code_bytes == 8 && insn->length - insn->imm_offset == 4)
        at[3] &= 0x7f;
}

/* ---- one instruction
 * -------------------------------------------------------------------------------- */

/* Alignment checks (AC) of these are the processor's own affair: images are checked by parts,
 * masked moves not at all by the manual, gathers on some processors. */
static bool is_align_special(enum x86_op op)
{
    return op == OP_FLDENV || op == OP_FSTENV || op == OP_FSAVE || op == OP_FRSTOR ||
           op == OP_VMASKMOV || op == OP_GATHER || op == OP_MASKMOV;
}

bool oracle_add_insn(struct oracle_case *c, const struct insn *insn, const u8 *bytes)
{
    if (c->code_count + insn->length > ORACLE_CODE_BYTES || c->insn_count == ORACLE_INSNS_MAX)
        return false;
    memcpy(c->code + c->code_count, bytes, insn->length);
    c->code_count += insn->length;
    c->desc[c->insn_count++] = insn->desc;
    c->undefined_flags |= insn->desc->flags_undefined;
    return true;
}

/* Where the code goes: mostly near the page's start, sometimes up to or across its end. */
void oracle_place_code(struct oracle_case *c, unsigned bytes)
{
    c->code_at = 64 + (oracle_random() & 63);
    if (oracle_chance(4))
        c->code_at = ORACLE_PAGE - bytes;
    c->before.rip = c->code_at + (c->code_bytes == 2 ? 0 : ORACLE_CODE);
}

unsigned oracle_code_bytes(u32 attr)
{
    unsigned choice = oracle_random() % 100;

    if ((attr & ATTR_ONLY64) || (choice < 55 && !(attr & ATTR_NO64)))
        return 8;
    return choice & 1 ? 4 : 2;
}

bool oracle_make(struct oracle_case *ret_case, const struct insn_desc *desc, u64 seed, u64 index)
{
    struct oracle_case *c = ret_case;
    u8 bytes[ORACLE_ENCODE_BYTES];
    struct insn insn;
    u64 target = 0;

    oracle_seed(seed, index);
    c->code_count = c->insn_count = c->undefined_flags = 0;
    c->code_bytes = oracle_code_bytes(desc->attr);
    oracle_make_state(c);
    unsigned count = oracle_encode(bytes, desc, c->code_bytes, ORACLE_ANY_MEMORY);
    enum decode_result result = decode(bytes, sizeof(bytes), c->code_bytes, &insn);
    if (result == DECODE_TRUNCATED || (result == DECODE_OK && oracle_excluded_insn(&insn) != NULL))
        return false;
    if (result != DECODE_OK) {
        insn.desc = &insn_descs[0];
        insn.length = (u8)count;
    }
    oracle_place_code(c, insn.length);
    if (!oracle_add_insn(c, &insn, bytes))
        return false;
    if (result != DECODE_OK)
        return true;
    tame_branch(c, &insn, c->code);
    if (is_align_special((enum x86_op)insn.op))
        c->before.rflags &= ~(u64)X86_AC;
    if (insn.op >= OP_XSAVE && insn.op <= OP_XRSTORS &&
        (insn.base == X86_RAX || insn.base == X86_RDX || insn.index == X86_RAX ||
         insn.index == X86_RDX))
        return false; /* they hold the mask */
    if (insn.has_memory) {
        bool aligned = (desc->attr & ATTR_ALIGNED) || insn.op == OP_CMPXCHG8B ||
                       (insn.op >= OP_FXSAVE && insn.op <= OP_XRSTORS);
        target = oracle_target(insn_memory_bytes(&insn), aligned);
        if (c->code_bytes == 2 && insn.segment == X86_SS && oracle_chance(90))
            target = target - ORACLE_DATA + ORACLE_STACK;
        target = aim(c, &insn, c->code, target);
        if (overwrites_code(target))
            return false;
    }
    oracle_prepare(c, &insn, target);
    cut_registers(c);
    return true;
}
