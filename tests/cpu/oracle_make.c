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

static u64 random_state;

static void random_seed(u64 seed, u64 index)
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
    random_seed(seed, ~0ull);
    for (unsigned i = 0; i < ORACLE_IMAGES; i++)
        for (unsigned at = 0; at < ORACLE_MEMORY_BYTES; at += 8)
            store_le64(oracle_image[i] + at, vector_value());
    /* The read-only page is the same for all: it is never loaded again. */
    for (unsigned i = 1; i < ORACLE_IMAGES; i++)
        memcpy(oracle_image[i] + 2 * ORACLE_PAGE, oracle_image[0] + 2 * ORACLE_PAGE, ORACLE_PAGE);
}

/* ---- the state before
 * ------------------------------------------------------------------------------ */

static void make_x87(u8 *image)
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

static void make_vectors(u8 *image)
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

static void make_state(struct oracle_case *c)
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
    s->gpr[X86_RSP] = ORACLE_STACK + (oracle_chance(80) ? edge & ~7ull : edge);
    if (c->code_bytes == 8) {
        s->fs_base = oracle_chance(50) ? ORACLE_DATA + (oracle_random() & 0xff0)
                                       : oracle_value() >> 17;
        s->gs_base = ORACLE_DATA + 0x1000 + (oracle_random() & 0xff0);
    } else {
        for (unsigned i = 0; i < 8; i++)
            s->gpr[i] = (u32)s->gpr[i];
    }
    make_x87(s->xsave);
    make_vectors(s->xsave);
    c->image = oracle_random() % ORACLE_IMAGES;
    c->poke_count = 0;
    c->poke_at = 0;
}

/* ---- where memory operands go
 * ---------------------------------------------------------------------- */

/* An address for BYTES of memory, aligned when ALIGNED. */
static u64 pick_target(unsigned bytes, bool aligned)
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
static void aim(struct oracle_case *c, const struct insn *insn, u8 *code, u64 target)
{
    u64 *gpr = c->before.gpr;
    u64 sum = (u64)insn->disp;
    unsigned disp_bytes = (unsigned)(insn->imm_offset - insn->disp_offset);

    if (insn->desc->attr & ATTR_VSIB)
        tame_vector_index(c, insn);
    else if (insn->index < X86_GPR_COUNT)
        sum += gpr[insn->index] << insn->scale;
    if (insn->segment == X86_FS && c->code_bytes == 8)
        sum += c->before.fs_base;
    if (insn->segment == X86_GS && c->code_bytes == 8)
        sum += c->before.gs_base;
    if (insn->base == INSN_RIP || insn->base == INSN_NO_REG) {
        u64 next = insn->base == INSN_RIP
                       ? ORACLE_CODE + c->code_at + (unsigned)(code - c->code) + insn->length
                       : 0;
        u64 disp = target - next - (sum - (u64)insn->disp);
        memcpy(code + insn->disp_offset, &disp, disp_bytes < 8 ? disp_bytes : 8);
    } else if (insn->base == insn->index && !(insn->desc->attr & ATTR_VSIB)) {
        gpr[insn->base] = (target - (u64)insn->disp) / (1 + (1u << insn->scale));
    } else if (insn->base != X86_RSP || oracle_chance(70)) {
        gpr[insn->base] = target - sum;
    }
    if (c->code_bytes == 4)
        for (unsigned i = 0; i < 8; i++)
            gpr[i] = (u32)gpr[i];
}

static void poke(struct oracle_case *c, u64 address, const void *bytes, unsigned count)
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

/* ---- what particular instructions need to do something interesting
 * ---------------------------------- */

static u64 code_target(const struct oracle_case *c)
{
    return oracle_chance(90)
               ? ORACLE_CODE + (c->code_at > 2048 ? 64 : 3000) + (oracle_random() & 255)
               : oracle_value();
}

static void prepare_strings(struct oracle_case *c, const struct insn *insn)
{
    unsigned bytes = insn->desc->operand[0].size == SIZE_B || insn->desc->operand[1].size == SIZE_B
                         ? 1
                         : insn->operand_bytes;
    c->before.gpr[X86_RSI] = pick_target(bytes, false);
    c->before.gpr[X86_RDI] = pick_target(bytes, false);
    if (oracle_chance(20))
        c->before.gpr[X86_RDI] = c->before.gpr[X86_RSI] + (oracle_random() & 31) - 16;
    if (oracle_chance(80))
        c->before.gpr[X86_RCX] = oracle_random() % 40;
    if (insn->segment == X86_FS && c->code_bytes == 8)
        c->before.gpr[X86_RSI] -= c->before.fs_base;
    if (insn->segment == X86_GS && c->code_bytes == 8)
        c->before.gpr[X86_RSI] -= c->before.gs_base;
}

static void prepare_divide(struct oracle_case *c)
{
    if (oracle_chance(70))
        c->before.gpr[X86_RDX] = oracle_chance(50) ? 0 : oracle_random() & 15;
    if (oracle_chance(30))
        c->before.gpr[X86_RDX] = ~0ull;
}

/* Bit offsets in registers reach far beyond a memory operand. */
static void prepare_bit_offset(struct oracle_case *c, const struct insn *insn)
{
    if (insn->has_memory && insn->reg != insn->base && insn->reg != insn->index &&
        oracle_chance(85))
        c->before.gpr[insn->reg] = (u64)((s64)(oracle_random() % 4096) - 2048);
}

static void prepare_compare_exchange(struct oracle_case *c, u64 target)
{
    u64 at = target - ORACLE_DATA;

    if (!oracle_chance(60) || at > ORACLE_DATA_BYTES - 16)
        return;
    c->before.gpr[X86_RAX] = load_le64(oracle_image[c->image] + at);
    c->before.gpr[X86_RDX] = load_le64(oracle_image[c->image] + at + 8);
    if (c->code_bytes == 4) {
        c->before.gpr[X86_RDX] = c->before.gpr[X86_RAX] >> 32;
        c->before.gpr[X86_RAX] = (u32)c->before.gpr[X86_RAX];
    }
}

/* An area that FXRSTOR and XRSTOR mostly accept. */
static void prepare_area(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u8 area[X86_XSAVE_BYTES];

    if (insn->op != OP_FXRSTOR && insn->op != OP_FXSAVE) {
        c->before.gpr[X86_RAX] = oracle_random() & 7;
        c->before.gpr[X86_RDX] = 0;
    }
    memcpy(area, c->before.xsave, sizeof(area));
    make_x87(area);
    make_vectors(area);
    memset(area + 512, 0, 64);
    area[512] = oracle_random() & 7;
    if (oracle_chance(15))
        area[512 + oracle_random() % 24] = (u8)oracle_random();
    poke(c, target, area, insn->op == OP_FXRSTOR ? 512 : sizeof(area));
}

static void prepare_return(struct oracle_case *c, const struct insn *insn)
{
    static const u16 selectors[] = {ORACLE_CS64, ORACLE_CS32, ORACLE_CS64, ORACLE_DS,
                                    0,           0x10,        0x31,        0x53};
    unsigned bytes = insn->operand_bytes;
    u8 frame[40] = {0};
    u64 values[5] = {code_target(c), selectors[oracle_random() & 7],
                     X86_IF | X86_FLAG_FIXED | (oracle_random() & 0x244dd5), /* no TF */
                     ORACLE_STACK + 256 + (oracle_random() & 0xff8), ORACLE_DS};

    if (oracle_chance(5))
        values[4] = selectors[oracle_random() & 7];
    for (unsigned i = 0; i < 5; i++)
        memcpy(frame + i * bytes, &values[i], bytes);
    poke(c, c->before.gpr[X86_RSP], frame, insn->op == OP_RET ? bytes : 5 * bytes);
}

static u64 user_selector(void)
{
    static const u16 selectors[] = {0,    1,    3,    0x23, 0x2b, 0x33, 0x28,   0x18,
                                    0x10, 0x08, 0x53, 0x5b, 0x43, 0xf8, 0xffff, 0x2f};
    if (oracle_chance(40))
        return ORACLE_DS;
    if (oracle_chance(30))
        return oracle_chance(50) ? ORACLE_CS32 : ORACLE_CS64;
    return oracle_chance(80) ? selectors[oracle_random() & 15] : oracle_random() & 0xff00;
}

static void prepare_selector(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u64 value = user_selector();

    if (insn->has_memory)
        poke(c, target, &value, 2);
    else
        c->before.gpr[insn->rm] = (c->before.gpr[insn->rm] & ~0xffffull) | value;
}

static void prepare_far_pointer(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u8 bytes[16] = {0};
    u64 offset = code_target(c);
    u16 selector = (u16)user_selector();

    memcpy(bytes, &offset, insn->operand_bytes);
    memcpy(bytes + insn->operand_bytes, &selector, 2);
    poke(c, target, bytes, insn->operand_bytes + 2u);
}

static void prepare_far_immediate(struct oracle_case *c, const struct insn *insn, u8 *code)
{
    u64 offset = code_target(c);
    u16 selector = (u16)user_selector();
    unsigned offset_bytes = insn->operand_bytes == 2 ? 2 : 4;

    memcpy(code + insn->imm_offset, &offset, offset_bytes);
    memcpy(code + insn->imm_offset + offset_bytes, &selector, 2);
}

static void prepare_jump(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u64 to = code_target(c);

    if (insn->has_memory)
        poke(c, target, &to, insn->operand_bytes);
    else
        c->before.gpr[insn->rm] = to;
}

/* The instruction has been aimed at TARGET, if it has a memory operand. */
static void prepare(struct oracle_case *c, const struct insn *insn, u8 *code, u64 target)
{
    switch ((enum x86_op)insn->op) {
    case OP_DIV:
    case OP_IDIV:
        prepare_divide(c);
        break;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC:
        prepare_bit_offset(c, insn);
        break;
    case OP_CMPXCHG:
    case OP_CMPXCHG8B:
        prepare_compare_exchange(c, target);
        break;
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_XSAVE:
    case OP_XSAVEC:
    case OP_XSAVEOPT:
    case OP_XRSTOR:
        prepare_area(c, insn, target);
        break;
    case OP_RET:
    case OP_RETF:
    case OP_IRET:
        prepare_return(c, insn);
        break;
    case OP_MOV_SEG:
    case OP_LAR:
    case OP_LSL:
    case OP_VERR:
    case OP_VERW:
    case OP_ARPL:
        prepare_selector(c, insn, target);
        break;
    case OP_POP_SEG: {
        u64 selector = user_selector();
        poke(c, c->before.gpr[X86_RSP], &selector, 2);
        break;
    }
    case OP_LES:
    case OP_LDS:
    case OP_LFS:
    case OP_LGS:
    case OP_LSS:
    case OP_CALL_FAR:
    case OP_JMP_FAR:
        if (insn->has_memory)
            prepare_far_pointer(c, insn, target);
        else
            prepare_far_immediate(c, insn, code);
        break;
    case OP_CALL_IND:
    case OP_JMP_IND:
        prepare_jump(c, insn, target);
        break;
    case OP_XLAT:
        c->before.gpr[X86_RBX] = pick_target(1, false);
        break;
    case OP_MASKMOV:
        c->before.gpr[X86_RDI] = pick_target(16, false);
        break;
    case OP_INT:
        if (oracle_chance(30))
            code[insn->imm_offset] = (u8)(3 + (oracle_random() & 1));
        break;
    case OP_ENTER:
        code[insn->imm_offset + 1] &= 1;
        if (oracle_chance(70))
            code[insn->imm_offset + 2] &= 0xe3;
        c->before.gpr[X86_RBP] = ORACLE_STACK + 512 + (oracle_random() & 0x7f8);
        break;
    case OP_LEAVE:
        c->before.gpr[X86_RBP] = ORACLE_STACK + 512 + (oracle_random() & 0x7f8);
        break;
    default:
        break;
    }
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

static bool add_insn(struct oracle_case *c, const struct insn *insn, const u8 *bytes)
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
static void place_code(struct oracle_case *c, unsigned bytes)
{
    c->code_at = 64 + (oracle_random() & 63);
    if (oracle_chance(4))
        c->code_at = ORACLE_PAGE - bytes;
    c->before.rip = ORACLE_CODE + c->code_at;
}

bool oracle_make(struct oracle_case *ret_case, const struct insn_desc *desc, u64 seed, u64 index)
{
    struct oracle_case *c = ret_case;
    u8 bytes[ORACLE_ENCODE_BYTES];
    struct insn insn;
    u64 target = 0;

    random_seed(seed, index);
    c->code_count = c->insn_count = c->undefined_flags = 0;
    c->code_bytes = (desc->attr & ATTR_ONLY64) ? 8
                    : (desc->attr & ATTR_NO64) ? 4
                    : oracle_chance(65)        ? 8
                                               : 4;
    make_state(c);
    unsigned count = oracle_encode(bytes, desc, c->code_bytes, ORACLE_ANY_MEMORY);
    enum decode_result result = decode(bytes, sizeof(bytes), c->code_bytes, &insn);
    if (result == DECODE_TRUNCATED || (result == DECODE_OK && oracle_excluded_insn(&insn) != NULL))
        return false;
    if (result != DECODE_OK) {
        insn.desc = &insn_descs[0];
        insn.length = (u8)count;
    }
    place_code(c, insn.length);
    if (!add_insn(c, &insn, bytes))
        return false;
    if (result != DECODE_OK)
        return true;
    tame_branch(c, &insn, c->code);
    if (desc->attr & ATTR_REP || insn.op == OP_INS || insn.op == OP_OUTS)
        prepare_strings(c, &insn);
    if (insn.has_memory) {
        bool aligned = (desc->attr & ATTR_ALIGNED) || insn.op == OP_CMPXCHG8B ||
                       (insn.op >= OP_FXSAVE && insn.op <= OP_XRSTORS);
        target = pick_target(insn_memory_bytes(&insn), aligned);
        aim(c, &insn, c->code, target);
        if (overwrites_code(target))
            return false;
    }
    prepare(c, &insn, c->code, target);
    for (unsigned i = 0; i < 8 && c->code_bytes == 4; i++)
        c->before.gpr[i] = (u32)c->before.gpr[i];
    return true;
}

/* ---- several instructions
 * --------------------------------------------------------------------------- */

/* In a sequence one register points to memory throughout, and nothing may change it. */
static bool fits_sequence(const struct oracle_case *c, const struct insn *insn, unsigned pointer)
{
    u32 read, written;

    insn_gprs(insn, &read, &written);
    if (written & (1u << pointer | 1u << X86_RSP) && !(insn->desc->attr & (ATTR_PUSH | ATTR_POP)))
        return false;
    if (written & 1u << pointer)
        return false;
    if (insn->desc->attr & (ATTR_ENDS_BLOCK | ATTR_REP | ATTR_PRIVILEGED | ATTR_VSIB | ATTR_IOPL))
        return insn->op == OP_JCC;
    if (insn->op == OP_ENTER || insn->op == OP_LEAVE || insn->op == OP_XRSTOR ||
        insn->op == OP_BOUND || insn->op == OP_XLAT || insn->op == OP_MASKMOV)
        return false;
    /* Undefined results would spread. */
    return !(insn->op == OP_DIV || insn->op == OP_IDIV);
}

bool oracle_make_sequence(struct oracle_case *ret_case, u64 seed, u64 index)
{
    struct oracle_case *c = ret_case;
    unsigned pointer = X86_RBX;

    random_seed(seed, index);
    c->code_count = c->insn_count = c->undefined_flags = 0;
    c->code_bytes = oracle_chance(70) ? 8 : 4;
    make_state(c);
    c->before.rflags &= ~(u64)(X86_AC | X86_DF);
    unsigned wanted = 2 + oracle_random() % (ORACLE_INSNS_MAX - 2);
    for (unsigned tries = 0; tries < 200 && c->insn_count < wanted; tries++) {
        const struct insn_desc *desc = &insn_descs[1 + oracle_random() % (insn_desc_count - 1)];
        u8 bytes[ORACLE_ENCODE_BYTES];
        struct insn insn;
        if ((desc->attr & ATTR_NO64 && c->code_bytes == 8) ||
            (desc->attr & ATTR_ONLY64 && c->code_bytes == 4) || oracle_excluded(desc) != NULL ||
            (desc->class != CLASS_INTEGER && oracle_chance(60)))
            continue;
        oracle_encode(bytes, desc, c->code_bytes, ORACLE_POINTER_MEMORY);
        if (decode(bytes, sizeof(bytes), c->code_bytes, &insn) != DECODE_OK ||
            oracle_excluded_insn(&insn) != NULL || !fits_sequence(c, &insn, pointer))
            continue;
        tame_branch(c, &insn, bytes);
        if (!add_insn(c, &insn, bytes))
            break;
    }
    c->before.gpr[pointer] = ORACLE_DATA + 512 + (oracle_random() & 0xfc0);
    c->before.gpr[X86_RSP] = ORACLE_STACK + 1024 + (oracle_random() & 0xff0);
    place_code(c, c->code_count);
    return c->insn_count >= 2;
}
