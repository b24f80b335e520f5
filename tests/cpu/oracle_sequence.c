/*
 * tests/cpu/oracle_sequence.c - makes cases of several instructions: what one leaves, the next
 * uses.
 *
 * One register points to memory throughout. Flags that a manual leaves undefined are followed, and
 * no later instruction may read them.
 */
#include "oracle_make.h"

#include <string.h>

/* In a sequence one register points to memory throughout, and nothing may change it. */
static bool fits_sequence(const struct insn *insn, unsigned pointer, u32 undefined)
{
    u32 read, written;

    if (insn->desc->flags_read & undefined)
        return false;
    if ((insn->op >= OP_FLDENV && insn->op <= OP_FSAVE) ||
        (insn->op >= OP_FXSAVE && insn->op <= OP_LDMXCSR))
        return false; /* images: what may differ in them is not tracked */
    if (insn->op == OP_MOV_SEG || insn->op == OP_POP_SEG ||
        (insn->op >= OP_LES && insn->op <= OP_VERW))
        return false; /* selectors of the host's own, for instance its CPU number's */

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
    return true;
}

/* Each branch goes to the beginning of some later instruction, or to the end. */
static void aim_branches(struct oracle_case *c, const u8 *starts, const u8 *branches,
                         unsigned branch_count)
{
    for (unsigned i = 0; i < branch_count; i++) {
        struct insn insn;
        unsigned at = starts[branches[i]];
        unsigned to = branches[i] + 1 + oracle_random() % (c->insn_count - branches[i]);
        if (decode(c->code + at, ORACLE_CODE_BYTES - at, c->code_bytes, &insn) != DECODE_OK)
            continue;
        u32 disp = (to == c->insn_count ? c->code_count : starts[to]) - at - insn.length;
        memcpy(c->code + at + insn.imm_offset, &disp, insn.length - insn.imm_offset);
    }
}

/* Tries to add one random instruction; UNDEFINED follows the flags that have no defined value. */
static bool add_random(struct oracle_case *c, unsigned pointer, u32 *undefined, bool *ret_branch)
{
    const struct insn_desc *desc = &insn_descs[1 + oracle_random() % (insn_desc_count - 1)];
    u8 bytes[ORACLE_ENCODE_BYTES];
    struct insn insn;

    if (((desc->attr & ATTR_NO64) && c->code_bytes == 8) ||
        ((desc->attr & ATTR_ONLY64) && c->code_bytes == 4) || oracle_excluded(desc) != NULL ||
        (desc->class != CLASS_INTEGER && oracle_chance(60)))
        return false;
    oracle_encode(bytes, desc, c->code_bytes, ORACLE_POINTER_MEMORY);
    if (decode(bytes, sizeof(bytes), c->code_bytes, &insn) != DECODE_OK ||
        oracle_excluded_insn(&insn) != NULL || !fits_sequence(&insn, pointer, *undefined) ||
        !oracle_add_insn(c, &insn, bytes))
        return false;
    *ret_branch = insn.op == OP_JCC;
    *undefined = (*undefined & ~insn.desc->flags_written) | insn.desc->flags_undefined;
    return true;
}

bool oracle_make_sequence(struct oracle_case *ret_case, u64 seed, u64 index)
{
    struct oracle_case *c = ret_case;
    unsigned pointer = X86_RBX, branch_count = 0;
    u8 starts[ORACLE_INSNS_MAX], branches[ORACLE_INSNS_MAX];
    u32 undefined = 0;

    oracle_seed(seed, index);
    c->code_count = c->insn_count = c->undefined_flags = 0;
    c->code_bytes = oracle_chance(70) ? 8 : 4;
    oracle_make_state(c);
    c->before.rflags &= ~(u64)(X86_AC | X86_DF);
    unsigned wanted = 2 + oracle_random() % (ORACLE_INSNS_MAX - 2);
    for (unsigned tries = 0; tries < 200 && c->insn_count < wanted; tries++) {
        bool branch;
        unsigned start = c->code_count;
        u32 before = undefined;
        if (!add_random(c, pointer, &undefined, &branch))
            continue;
        if (branch_count != 0) /* it may be jumped over */
            undefined |= before;
        starts[c->insn_count - 1] = (u8)start;
        if (branch)
            branches[branch_count++] = (u8)(c->insn_count - 1);
    }
    if (c->insn_count < 2)
        return false;
    aim_branches(c, starts, branches, branch_count);
    c->before.gpr[pointer] = ORACLE_DATA + 512 + (oracle_random() & 0xfc0);
    c->before.gpr[X86_RSP] = ORACLE_STACK + 1024 + (oracle_random() & 0xff0);
    oracle_place_code(c, c->code_count);
    return true;
}
