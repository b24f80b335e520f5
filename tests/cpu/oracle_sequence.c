/*
 * tests/cpu/oracle_sequence.c - makes cases of several instructions: what one leaves, the next
 * uses.
 *
 * One register points to memory throughout, another one may count a loop. Flags that a manual
 * leaves undefined are followed, and no later instruction may read them. Shapes:
 *
 *   straight   instructions, some of them branches forward
 *   loop       the same, then SUB counter, 1; JNZ to the beginning
 *   overwrite  a loop that begins with MOV register, constant, and changes the constant each time
 *   call       JMP main; f: instructions; RET; main: instructions; CALL f; instructions;
 *              [SUB; JNZ main]
 */
#include "oracle_make.h"

#include <string.h>

#include "base/bits.h"

struct sequence {
    struct oracle_case *c;
    unsigned pointer, counter; /* registers that nothing may write */
    bool keeps_stack;          /* no PUSH or POP */
    bool no_branches;
    u32 undefined;
    u8 starts[ORACLE_INSNS_MAX], branches[ORACLE_INSNS_MAX];
    unsigned branch_count;
};

static bool fits(const struct sequence *s, const struct insn *insn)
{
    u32 attr = insn->desc->attr, stack = attr & (ATTR_PUSH | ATTR_POP);
    u32 read, written;

    if (insn->desc->flags_read & s->undefined)
        return false;
    if ((insn->op >= OP_FLDENV && insn->op <= OP_FSAVE) ||
        (insn->op >= OP_FXSAVE && insn->op <= OP_LDMXCSR))
        return false; /* images: what may differ in them is not tracked */
    if (insn->op == OP_MOV_SEG || insn->op == OP_POP_SEG ||
        (insn->op >= OP_LES && insn->op <= OP_VERW))
        return false; /* selectors of the host's own, for instance its CPU number's */
    if (s->keeps_stack && insn->has_memory && insn->base == X86_RSP &&
        (insn_memory_access(insn) & ACCESS_W))
        return false; /* a changed return address may lead anywhere */
    insn_gprs(insn, &read, &written);
    if ((written & 1u << X86_RSP) && !stack)
        return false;
    if ((written & (1u << s->pointer | 1u << s->counter)) || (stack && s->keeps_stack))
        return false;
    if (attr & (ATTR_ENDS_BLOCK | ATTR_REP | ATTR_PRIVILEGED | ATTR_VSIB | ATTR_IOPL))
        return insn->op == OP_JCC && !s->no_branches;
    return insn->op != OP_ENTER && insn->op != OP_LEAVE && insn->op != OP_XRSTOR &&
           insn->op != OP_BOUND && insn->op != OP_XLAT && insn->op != OP_MASKMOV;
}

static bool add_bytes(struct sequence *s, const u8 *bytes)
{
    struct oracle_case *c = s->c;
    struct insn insn;
    unsigned start = c->code_count;

    if (decode(bytes, INSN_MAX_BYTES, c->code_bytes, &insn) != DECODE_OK ||
        !oracle_add_insn(c, &insn, bytes))
        return false;
    s->starts[c->insn_count - 1] = (u8)start;
    return true;
}

/* Tries to add one random instruction. */
static void add_random(struct sequence *s)
{
    const struct insn_desc *desc = &insn_descs[1 + oracle_random() % (insn_desc_count - 1)];
    struct oracle_case *c = s->c;
    u8 bytes[ORACLE_ENCODE_BYTES];
    struct insn insn;

    if (((desc->attr & ATTR_NO64) && c->code_bytes == 8) ||
        ((desc->attr & ATTR_ONLY64) && c->code_bytes == 4) || oracle_excluded(desc) != NULL ||
        (desc->class != CLASS_INTEGER && oracle_chance(60)))
        return;
    oracle_encode(bytes, desc, c->code_bytes, ORACLE_POINTER_MEMORY);
    if (decode(bytes, sizeof(bytes), c->code_bytes, &insn) != DECODE_OK ||
        oracle_excluded_insn(&insn) != NULL || !fits(s, &insn) || !add_bytes(s, bytes))
        return;
    /* Behind a branch an instruction may not be reached: what was undefined stays so. */
    if (s->branch_count == 0)
        s->undefined &= ~insn.desc->flags_written;
    s->undefined |= insn.desc->flags_undefined;
    if (insn.op == OP_JCC)
        s->branches[s->branch_count++] = (u8)(c->insn_count - 1);
}

static void add_some(struct sequence *s, unsigned count)
{
    unsigned wanted = s->c->insn_count + count;

    for (unsigned tries = 0; tries < 30 * count && s->c->insn_count < wanted; tries++)
        add_random(s);
}

/* A branch, whose displacement of 32 bits is set later. Returns where it is, or 0 for no room. */
static unsigned add_branch(struct sequence *s, u8 opcode, u8 second)
{
    u8 bytes[ORACLE_ENCODE_BYTES] = {opcode, second};

    return add_bytes(s, bytes) ? s->c->code_count - 4 : 0;
}

static void set_branch(struct sequence *s, unsigned at, unsigned target)
{
    store_le32(s->c->code + at, target - at - 4);
}

/* Each conditional branch goes to the beginning of some later instruction of the first COUNT, or to
 * the end of those. */
static void aim_branches(struct sequence *s, unsigned count, unsigned end)
{
    struct oracle_case *c = s->c;

    for (unsigned i = 0; i < s->branch_count; i++) {
        struct insn insn;
        unsigned number = s->branches[i], at = s->starts[number];
        unsigned to = number + 1 + oracle_random() % (count - number);
        if (decode(c->code + at, ORACLE_CODE_BYTES - at, c->code_bytes, &insn) != DECODE_OK)
            continue;
        u32 disp = (to == count ? end : s->starts[to]) - at - insn.length;
        memcpy(c->code + at + insn.imm_offset, &disp, insn.length - insn.imm_offset);
    }
}

/* Counts down, and goes back to START. */
static void add_loop(struct sequence *s, unsigned start)
{
    static const u8 subtract_64[ORACLE_ENCODE_BYTES] = {0x49, 0x83, 0xef, 1};
    static const u8 subtract_32[ORACLE_ENCODE_BYTES] = {0x83, 0xed, 1};

    if (!add_bytes(s, s->c->code_bytes == 8 ? subtract_64 : subtract_32))
        return;
    unsigned back = add_branch(s, 0x0f, 0x85);
    if (back != 0)
        set_branch(s, back, start);
}

/* MOV ECX, constant; later ADD [the constant], 3. Returns where the constant is. */
static unsigned add_constant(struct sequence *s)
{
    u8 move[ORACLE_ENCODE_BYTES] = {0xb9};

    store_le32(move + 1, (u32)oracle_random());
    return add_bytes(s, move) ? s->c->code_count - 4 : 0;
}

static void add_overwrite(struct sequence *s, unsigned constant)
{
    u8 add[ORACLE_ENCODE_BYTES] = {0x80, 0x05, 0, 0, 0, 0, 3}; /* RIP-relative */

    store_le32(add + 2, constant + (oracle_random() & 3) - (s->c->code_count + 7));
    add_bytes(s, add);
}

/* False when there was no room for all parts. */
static bool add_call(struct sequence *s, bool loop)
{
    static const u8 ret[ORACLE_ENCODE_BYTES] = {0xc3};
    unsigned over = add_branch(s, 0xe9, 0);
    unsigned function = s->c->code_count;

    /* The function does not know its caller's flags, nor the caller which of them it left. */
    s->undefined = X86_ARITH_FLAGS;
    add_some(s, 1 + oracle_random() % 3);
    u32 undefined = s->undefined;
    if (over == 0 || !add_bytes(s, ret))
        return false;
    unsigned main = s->c->code_count;
    set_branch(s, over, main);
    s->undefined = 0;
    add_some(s, 1 + oracle_random() % 3);
    unsigned call = add_branch(s, 0xe8, 0);
    if (call == 0)
        return false;
    set_branch(s, call, function);
    s->undefined = undefined;
    add_some(s, 1 + oracle_random() % 3);
    if (loop)
        add_loop(s, main);
    return true;
}

/* The pointer and the stack: in the middle of a page, or where pages end, so that some operand lies
 * in two, or cannot be read or written. */
static void place_memory(struct oracle_case *c)
{
    static const u32 data_edges[] = {ORACLE_DATA, ORACLE_DATA + ORACLE_PAGE, ORACLE_READ_ONLY,
                                     ORACLE_DATA + ORACLE_DATA_BYTES};
    static const u32 stack_edges[] = {ORACLE_STACK, ORACLE_STACK + ORACLE_PAGE,
                                      ORACLE_STACK + ORACLE_STACK_BYTES};

    c->before.gpr[X86_RBX] = ORACLE_DATA + 512 + (oracle_random() & 0xfc0);
    c->before.gpr[X86_RSP] = ORACLE_STACK + 1024 + (oracle_random() & 0xff0);
    if (oracle_chance(40))
        c->before.gpr[X86_RBX] = data_edges[oracle_random() % ARRAY_LEN(data_edges)] +
                                 (oracle_random() & 255) - 128;
    if (oracle_chance(30))
        c->before.gpr[X86_RSP] = stack_edges[oracle_random() % ARRAY_LEN(stack_edges)] +
                                 (oracle_random() & 63) - 32;
}

bool oracle_make_sequence(struct oracle_case *ret_case, u64 seed, u64 index)
{
    struct oracle_case *c = ret_case;

    oracle_seed(seed, index);
    c->code_count = c->insn_count = c->undefined_flags = 0;
    c->code_bytes = oracle_code_bytes(0);
    oracle_make_state(c);
    c->before.rflags &= ~(u64)(X86_AC | X86_DF);
    unsigned shape = oracle_random() % (c->code_bytes == 2 ? 2 : 4);
    bool call = shape == 3, loop = shape == 2 || (call && oracle_chance(50));
    struct sequence s = {
        .c = c, .pointer = X86_RBX, .counter = X86_RBX, .keeps_stack = call, .no_branches = call};
    if (loop)
        s.counter = c->code_bytes == 8 ? X86_R15 : X86_RBP;
    c->before.gpr[s.counter] = 1 + oracle_random() % 6;
    if (call) {
        if (!add_call(&s, loop))
            return false;
    } else {
        bool overwrite = loop && c->code_bytes == 8 && oracle_chance(40);
        unsigned constant = overwrite ? add_constant(&s) : 0;
        add_some(&s, 2 + oracle_random() % 19);
        if (overwrite && s.branch_count == 0)
            add_overwrite(&s, constant);
        unsigned count = c->insn_count, end = c->code_count;
        if (loop)
            add_loop(&s, 0);
        aim_branches(&s, count, end);
    }
    if (c->insn_count < 2)
        return false;
    place_memory(c);
    c->before.gpr[X86_RBX] -= oracle_segment_base(c, X86_DS);
    c->before.gpr[X86_RSP] -= oracle_segment_base(c, X86_SS);
    oracle_place_code(c, c->code_count);
    return true;
}
