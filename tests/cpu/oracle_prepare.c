/*
 * tests/cpu/oracle_prepare.c - what particular instructions need to do something interesting:
 * divisors that fit, selectors that exist, images that can be loaded, targets of jumps.
 */
#include "oracle_make.h"

#include <string.h>

#include "base/bits.h"

/* ---- what particular instructions need to do something interesting
 * ---------------------------------- */

/* A place on the stack, as an offset in its segment; and the linear address of its top. */
static u64 stack_offset(const struct oracle_case *c, unsigned at)
{
    return ORACLE_STACK + at - oracle_segment_base(c, X86_SS);
}

static u64 stack_top(const struct oracle_case *c)
{
    return oracle_segment_base(c, X86_SS) + c->before.gpr[X86_RSP];
}

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
    c->before.gpr[X86_RSI] = oracle_target(bytes, false);
    c->before.gpr[X86_RDI] = oracle_target(bytes, false);
    if (oracle_chance(20))
        c->before.gpr[X86_RDI] = c->before.gpr[X86_RSI] + (oracle_random() & 31) - 16;
    /* Not over the instruction itself: how soon a repeated one notices is the processor's. */
    if (c->before.gpr[X86_RDI] - ORACLE_CODE + ORACLE_PAGE < 3 * ORACLE_PAGE)
        c->before.gpr[X86_RDI] += ORACLE_DATA - ORACLE_CODE;
    if (oracle_chance(80))
        c->before.gpr[X86_RCX] = oracle_random() % 40;
    c->before.gpr[X86_RSI] -= oracle_segment_base(c, insn->segment);
    c->before.gpr[X86_RDI] -= oracle_segment_base(c, X86_ES);
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
    if (c->code_bytes != 8) {
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
    oracle_make_x87(area);
    oracle_make_vectors(area);
    memset(area + 512, 0, 64);
    area[512] = oracle_random() & 7;
    if (oracle_chance(15))
        area[513 + oracle_random() % 23] = (u8)oracle_random(); /* not AVX-512's components */
    oracle_poke(c, target, area, insn->op == OP_FXRSTOR ? 512 : sizeof(area));
}

static void prepare_return(struct oracle_case *c, const struct insn *insn)
{
    static const u16 selectors[] = {ORACLE_CS64, ORACLE_CS32, ORACLE_CS64, ORACLE_DS,
                                    0,           0x10,        0x31,        0x53};
    unsigned bytes = insn->operand_bytes;
    u8 frame[40] = {0};
    u16 cs = oracle_chance(60) ? c->before.selector[X86_CS] : selectors[oracle_random() & 7];
    u64 values[5] = {code_target(c), cs,
                     X86_IF | X86_FLAG_FIXED | (oracle_random() & 0x244dd5), /* no TF */
                     stack_offset(c, 256) + (oracle_random() & 0xff8), c->before.selector[X86_SS]};

    if (oracle_chance(5))
        values[4] = selectors[oracle_random() & 7];
    for (unsigned i = 0; i < 5; i++)
        memcpy(frame + i * bytes, &values[i], bytes);
    oracle_poke(c, stack_top(c), frame, insn->op == OP_RET ? bytes : 5 * bytes);
}

static u64 user_selector(const struct oracle_case *c)
{
    static const u16 selectors[] = {0,    1,    3,    0x23, 0x2b, 0x33, 0x28,   0x18,
                                    0x10, 0x08, 0x53, 0x5b, 0x43, 0xf8, 0xffff, 0x2f};
    if (oracle_chance(c->code_bytes == 2 ? 60 : 15))
        return (oracle_random() % 7) << 3 | 7; /* of the LDT, which has six */
    if (oracle_chance(40))
        return ORACLE_DS;
    /* Linux kills a process whose 64-bit code has a 16-bit stack. */
    if (oracle_chance(30))
        return oracle_chance(50) || c->code_bytes == 2 ? ORACLE_CS32 : ORACLE_CS64;
    u16 selector = selectors[oracle_random() & 15];
    if (c->code_bytes == 2 && selector == ORACLE_CS64)
        selector = ORACLE_CS16;
    return oracle_chance(80) ? selector : oracle_random() & 0xff00;
}

static void prepare_selector(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u64 value = user_selector(c);

    if (insn->has_memory)
        oracle_poke(c, target, &value, 2);
    else
        c->before.gpr[insn->rm] = (c->before.gpr[insn->rm] & ~0xffffull) | value;
}

static void prepare_far_pointer(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u8 bytes[16] = {0};
    u64 offset = code_target(c);
    u16 selector = (u16)user_selector(c);

    memcpy(bytes, &offset, insn->operand_bytes);
    memcpy(bytes + insn->operand_bytes, &selector, 2);
    oracle_poke(c, target, bytes, insn->operand_bytes + 2u);
}

static void prepare_far_immediate(struct oracle_case *c, const struct insn *insn, u8 *code)
{
    u64 offset = code_target(c);
    u16 selector = (u16)user_selector(c);
    unsigned offset_bytes = insn->operand_bytes == 2 ? 2 : 4;

    memcpy(code + insn->imm_offset, &offset, offset_bytes);
    memcpy(code + insn->imm_offset + offset_bytes, &selector, 2);
}

static void prepare_jump(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u64 to = code_target(c);

    if (insn->has_memory)
        oracle_poke(c, target, &to, insn->operand_bytes);
    else
        c->before.gpr[insn->rm] = to;
}

/* Images of the x87's state hold where its last instruction was, and processors differ in that;
 * those of SSE hold which MXCSR bits there are, and the guest has fewer than the host. */
static void ignore_pointers(struct oracle_case *c, const struct insn *insn, u64 target)
{
    u64 at = target - ORACLE_DATA;

    if (target - ORACLE_STACK < ORACLE_STACK_BYTES)
        at = target - ORACLE_STACK + ORACLE_DATA_BYTES;
    if (at >= ORACLE_MEMORY_BYTES)
        return;
    if (insn->op == OP_FSTENV || insn->op == OP_FSAVE) {
        c->ignore_at = (u32)at + (insn->operand_bytes == 2 ? 6 : 12);
        c->ignore_count[0] = insn->operand_bytes == 2 ? 8 : 16;
    } else {
        c->ignore_at = (u32)at + 6;
        c->ignore_count[0] = 18;
        c->ignore_count[1] = 22; /* 28 - 6 */
    }
}

/* What the instruction finds through a pointer or on the stack. */
static void prepare_control(struct oracle_case *c, const struct insn *insn, u8 *code, u64 target)
{
    u64 selector = user_selector(c);

    switch ((enum x86_op)insn->op) {
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
    case OP_POP_SEG:
        oracle_poke(c, stack_top(c), &selector, 2);
        break;
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
    case OP_INT:
        if (oracle_chance(30)) /* the two that user mode may raise */
            code[insn->imm_offset] = (u8)(3 + (oracle_random() & 1));
        break;
    case OP_ENTER:
        code[insn->imm_offset + 1] &= 1;
        if (oracle_chance(70))
            code[insn->imm_offset + 2] &= 0xe3;
        c->before.gpr[X86_RBP] = stack_offset(c, 512) + (oracle_random() & 0x7f8);
        break;
    case OP_LEAVE:
        c->before.gpr[X86_RBP] = stack_offset(c, 512) + (oracle_random() & 0x7f8);
        break;
    default:
        break;
    }
}

void oracle_prepare(struct oracle_case *c, const struct insn *insn, u64 target)
{
    if (insn->desc->attr & ATTR_RESTART && !(insn->desc->attr & ATTR_VSIB))
        prepare_strings(c, insn);
    prepare_control(c, insn, c->code, target);
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
        ignore_pointers(c, insn, target);
        break;
    case OP_FSTENV:
    case OP_FSAVE:
        ignore_pointers(c, insn, target);
        break;
    case OP_XLAT:
        c->before.gpr[X86_RBX] = oracle_target(1, false) - oracle_segment_base(c, insn->segment);
        break;
    case OP_MASKMOV:
        c->before.gpr[X86_RDI] = oracle_target(16, false) - oracle_segment_base(c, insn->segment);
        break;
    default:
        break;
    }
}
