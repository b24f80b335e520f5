/*
 * dbt/jit/front.c - decodes a draft, decides how each instruction is translated, finds live flags.
 *
 * A block goes on through conditional branches that are not taken and through calls (their return
 * sites); it ends at other branches, at instructions that end a draft, at the end of the page, and,
 * unless it is known to run often, where another block begins.
 *
 * Flags. Memory checks and polls change host flags, so they must know whether a guest flag is still
 * to be read. Liveness runs backwards over the block; at its exits it looks a few instructions
 * ahead within the page, and takes all flags as live where it cannot see.
 */
#include "dbt/jit/draft_priv.h"

enum { LOOK_AHEAD = 10, FLAGS = X86_ARITH_FLAGS, PAGE_BYTES = 4096 };

/* Whether nothing of the block can follow INSN. What may change the mode without being a branch
 * need not end the block: jit_interpret looks whether the translation still fits. It does end where
 * it always changes, or stops. */
static bool ends_block(const struct draft *draft, const struct insn *insn)
{
    switch (insn->op) {
    case OP_JCC:
    case OP_CALL:
    case OP_CALL_IND:
    case OP_JCXZ:
    case OP_LOOP:
    case OP_SWAPGS:
    case OP_CLI:
    case OP_STI:
    case OP_MOV_SEG:
    case OP_POPF:
    case OP_WRMSR:
    case OP_INVLPG:
        return false;
    case OP_STAC:
    case OP_CLAC:
        return system_changes_privilege(draft, insn);
    default:
        return (insn->desc->attr & (ATTR_ENDS_BLOCK | ATTR_BRANCH)) != 0;
    }
}

/* Whether INSN's memory operand, if it has one, can be addressed: not through 16-bit registers, and
 * in 32-bit code not through CS, which may not be readable. */
static bool address_possible(const struct insn *insn)
{
    return !insn->has_memory ||
           (insn->address_bytes >= 4 && (insn->code_bytes == 8 || insn->segment != X86_CS));
}

static enum insn_how choose(const struct draft *draft, struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    u8 feature = insn->desc->feature;
    if (feature != FEATURE_NONE && !(draft->cpu->features & BIT(feature)))
        return HOW_INTERPRET;
    switch (insn->op) {
    case OP_NOP:
    case OP_PREFETCH:
        return HOW_NOTHING;
    case OP_ADD ... OP_IMUL: /* only that, and most common */
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_CMOVCC:
    case OP_SETCC:
    case OP_VECTOR:
        if (!address_possible(insn))
            return HOW_INTERPRET;
        break;
    default:
        if (!address_possible(insn))
            return HOW_INTERPRET;
        if (control_possible(insn) || special_possible(draft, insn) ||
            system_possible(draft, insn) || bit_possible(draft, insn) ||
            string_possible(draft, insn) || repeat_possible(draft, insn))
            return HOW_SPECIAL;
        break;
    }
    return generic_possible(draft, one) ? HOW_GENERIC : HOW_INTERPRET;
}

/* Whether INSN, whose descriptor says that it may keep flags, does not: a string instruction that
 * is done once, or a shift by a constant that is not 0. */
static bool sets_flags_surely(const struct insn *insn)
{
    switch (insn->op) {
    case OP_CMPS:
    case OP_SCAS:
        return !insn_repeats(insn);
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
        return insn->desc->operand[1].kind == OPERAND_I &&
               (insn->imm & (insn_operand_bytes(insn, 0) == 8 ? 63 : 31)) != 0;
    default:
        return false;
    }
}

/* The flags that INSN gives new values, or values that nobody may rely on. */
static u32 killed_flags(const struct insn *insn)
{
    const struct insn_desc *desc = insn->desc;
    if (insn->op == OP_IRET || insn->op == OP_SYSRET)
        return FLAGS;
    if (sets_flags_surely(insn))
        return desc->flags_written | desc->flags_maybe | desc->flags_undefined;
    return desc->flags_written | (desc->flags_undefined & ~desc->flags_maybe);
}

static void depend(struct draft *draft, unsigned at, unsigned bytes)
{
    if (at < draft->low)
        draft->low = at;
    if (at + bytes > draft->high)
        draft->high = at + bytes;
}

/* Copies up to 16 bytes from offset AT of the page; the rest of the copy is lost. */
static void bytes_copy(const struct draft *draft, unsigned at, u8 to[INSN_MAX_BYTES + 1])
{
    const u8 *from = draft->page + at;
    if (likely(at + 16 <= PAGE_BYTES)) {
        store_le64(to, load_le64(from));
        store_le64(to + 8, load_le64(from + 8));
        return;
    }
    for (unsigned i = 0; at + i < PAGE_BYTES; i++)
        to[i] = from[i];
}

/* The instruction at BYTES, a copy that the guest does not change; NULL where there is none. */
static const struct draft_known *decode_known(struct draft *draft, const u8 *bytes, unsigned room)
{
    u64 key = room >= 8 ? load_le64(bytes) : 0;
    struct draft_known *known = &draft->known[(key * 0x9e3779b97f4a7c15ull) >> 54];
    if (likely(room >= 8 && known->bytes == key && known->insn.length != 0 &&
               known->insn.code_bytes == draft->code_bytes))
        return known;
    if (decode(bytes, room, draft->code_bytes, &draft->known_not.insn) != DECODE_OK)
        return NULL;
    draft->known_not.killed = killed_flags(&draft->known_not.insn);
    if (room < 8 || draft->known_not.insn.length > 8)
        return &draft->known_not;
    *known = draft->known_not;
    known->bytes = key;
    return known;
}

/* Whether it is known what is executed after INSN. */
static bool leads_on(const struct insn *insn)
{
    switch (insn->op) {
    case OP_JMP:
    case OP_JCC:
    case OP_CALL:
    case OP_SWAPGS:
    case OP_CLI:
    case OP_STI:
    case OP_MOV_SEG:
    case OP_POPF:
    case OP_WRMSR:
    case OP_INVLPG:
    case OP_STAC:
    case OP_CLAC:
        return true;
    default:
        return (insn->desc->attr & (ATTR_BRANCH | ATTR_ENDS_BLOCK)) == 0;
    }
}

/* The flags live at offset AT of the page, looking LEFT instructions ahead. */
static u32 look(struct draft *draft, s64 at, unsigned left)
{
    u32 unknown = FLAGS, read = 0;
    while (left-- > 0 && unknown != 0) {
        u8 bytes[INSN_MAX_BYTES + 1];
        if (at < 0 || at >= PAGE_BYTES)
            break;
        unsigned room = (unsigned)min_u64(PAGE_BYTES - (u64)at, INSN_MAX_BYTES);
        bytes_copy(draft, (unsigned)at, bytes);
        const struct draft_known *known = decode_known(draft, bytes, room);
        if (known == NULL)
            break;
        const struct insn *insn = &known->insn;
        s64 imm = (s64)insn->imm;
        depend(draft, (unsigned)at, insn->length);
        read |= insn->desc->flags_read & unknown;
        unknown &= ~known->killed;
        if (!leads_on(insn))
            break;
        at += insn->length;
        if (insn->op == OP_JMP || insn->op == OP_CALL)
            at += imm;
        else if (insn->op == OP_JCC) /* both ways count; the taken one gets a shorter look */
            read |= left > 4 ? look(draft, at + imm, left / 2) & unknown : unknown;
    }
    return (read | unknown) & FLAGS;
}

u32 draft_live_flags_at(struct draft *draft, u64 rip)
{
    s64 at = (s64)(rip - draft->rip) + draft->start;
    return draft->jit->exact_flags ? FLAGS : look(draft, at, LOOK_AHEAD);
}

static void find_live_flags(struct draft *draft)
{
    u32 live = FLAGS;
    for (unsigned i = draft->insn_count; i-- > 0;) {
        struct draft_insn *one = &draft->insns[i];
        const struct insn *insn = &one->insn;
        u64 next_rip = insn_next_rip(draft, one);
        if (i == draft->insn_count - 1 && !draft->ended)
            live = draft_live_flags_at(draft, next_rip);
        if (insn->op == OP_JMP || insn->op == OP_CALL)
            live = draft_live_flags_at(draft, next_rip + insn->imm);
        else if (insn->op == OP_JCC)
            live |= draft_live_flags_at(draft, next_rip + insn->imm);
        else if ((insn->desc->attr & ATTR_BRANCH) || insn->op == OP_CALL_IND)
            live = FLAGS;
        live = ((live & ~one->killed) | insn->desc->flags_read) & FLAGS;
        if (unlikely(draft->jit->exact_flags))
            live = FLAGS;
        one->live_before = live;
    }
}

void jit_exact_flags(struct cpu *cpu, bool exact)
{
    cpu->jit->exact_flags = exact;
}

/* Whether what follows is translated already, and the draft may end there: not one that runs often.
 */
static bool block_begins(const struct draft *draft, unsigned at)
{
    return draft->insn_count > 0 && !draft->hot &&
           jit_find_head(draft->jit, draft->rip + (at - draft->start), draft->code_page,
                         draft->mode) != JIT_NONE;
}

void draft_decode(struct draft *draft)
{
    unsigned at = draft->start, branches = 0;
    draft->low = draft->high = at;
    while (draft->insn_count < JIT_BLOCK_INSNS && at < PAGE_BYTES && !block_begins(draft, at)) {
        struct draft_insn *one = &draft->insns[draft->insn_count];
        unsigned room = (unsigned)min_u64(PAGE_BYTES - at, INSN_MAX_BYTES);
        bytes_copy(draft, at, one->bytes);
        if (draft->tail && draft->insn_count == 0)
            for (; room < INSN_MAX_BYTES; room++)
                one->bytes[room] = draft->tail[at + room - PAGE_BYTES];
        const struct draft_known *known = decode_known(draft, one->bytes, room);
        if (known == NULL)
            break;
        one->insn = known->insn;
        one->killed = known->killed;
        one->offset = (u16)(at - draft->start);
        one->how = choose(draft, one);
        depend(draft, at, (unsigned)min_u64(one->insn.length, PAGE_BYTES - at));
        at += one->insn.length;
        draft->insn_count++;
        if (ends_block(draft, &one->insn)) {
            draft->ended = true;
            break;
        }
        if ((one->insn.desc->attr & ATTR_BRANCH) && ++branches == JIT_BLOCK_BRANCHES)
            break;
    }
    find_live_flags(draft);
}

bool draft_unchanged(const struct draft *draft)
{
    for (unsigned i = 0; i < draft->insn_count; i++) {
        const struct draft_insn *one = &draft->insns[i];
        unsigned at = draft->start + one->offset, length = one->insn.length;
        if (likely(at + 16 <= PAGE_BYTES)) {
            u64 low = load_le64(draft->page + at) ^ load_le64(one->bytes);
            u64 high = load_le64(draft->page + at + 8) ^ load_le64(one->bytes + 8);
            if (length <= 8 ? low << (64 - 8 * length) != 0
                            : low != 0 || high << (128 - 8 * length) != 0)
                return false;
            continue;
        }
        for (unsigned k = 0; k < length; k++, at++)
            if ((at < PAGE_BYTES ? draft->page[at] : draft->tail[at - PAGE_BYTES]) != one->bytes[k])
                return false;
    }
    return true;
}
