/*
 * dbt/jit/operand.c - an instruction as itself: guest operands become host registers and checked
 * memory.
 *
 * Pinned registers stand for themselves, RSP becomes r10, and guest r8 to r11 are brought into a
 * scratch register before and stored after. Where the scratch registers do not suffice, the
 * instruction is interpreted.
 */
#include "dbt/jit/draft_priv.h"

enum { RSI = 6 };

/* A guest register in a field of the encoding. */
enum field_name { FIELD_REG, FIELD_RM, FIELD_VVVV, FIELD_NONE };

struct gpr_use {
    u8 gpr;
    bool read, written;
};

static enum field_name operand_field(const struct insn *insn, const struct operand_desc *operand)
{
    switch (operand->kind) {
    case OPERAND_G:
    case OPERAND_Z:
        return FIELD_REG;
    case OPERAND_E:
    case OPERAND_R:
        return insn->has_memory ? FIELD_NONE : FIELD_RM;
    case OPERAND_B:
        return FIELD_VVVV;
    default:
        return FIELD_NONE;
    }
}

static unsigned field_gpr(const struct insn *insn, enum field_name field, unsigned bytes)
{
    unsigned gpr = field == FIELD_REG ? insn->reg : field == FIELD_RM ? insn->rm : insn_vvvv(insn);
    return bytes == 1 && insn_high_byte(insn, gpr) ? gpr - 4 : gpr;
}

/* Whether an operand of INSN in FIELD is GPR. */
static bool field_is(const struct insn *insn, enum field_name field, unsigned gpr)
{
    for (unsigned i = 0; i < insn->desc->operand_count; i++)
        if (operand_field(insn, &insn->desc->operand[i]) == field &&
            field_gpr(insn, field, insn_operand_bytes(insn, i)) == gpr)
            return true;
    return false;
}

static bool keeps_old_value(const struct insn *insn, const struct operand_desc *operand,
                            unsigned bytes)
{
    return bytes < 4 || (operand->access & ACCESS_MAYBE_W & ~ACCESS_RW) != 0 ||
           insn->op == OP_CMOVCC || insn->op == OP_BSF || insn->op == OP_BSR;
}

/* The distinct slot registers in encoding fields and how they are used; -1 when more than MAX.
 * *ret_rsp: whether RSP is in one. */
static int slot_uses(const struct insn *insn, struct gpr_use *uses, int max, bool *ret_rsp)
{
    int count = 0;
    *ret_rsp = false;
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        const struct operand_desc *operand = &insn->desc->operand[i];
        enum field_name field = operand_field(insn, operand);
        unsigned bytes = insn_operand_bytes(insn, i);
        if (field == FIELD_NONE)
            continue;
        unsigned gpr = field_gpr(insn, field, bytes);
        *ret_rsp |= gpr == X86_RSP;
        if (likely(!in_slot(gpr)))
            continue;
        int at = 0;
        while (at < count && uses[at].gpr != gpr)
            at++;
        if (at == max)
            return -1;
        if (at == count)
            uses[count++] = (struct gpr_use){.gpr = (u8)gpr};
        bool written = (operand->access & ACCESS_W) != 0;
        uses[at].written |= written;
        uses[at].read |= (operand->access & ACCESS_R) != 0 ||
                         (written && keeps_old_value(insn, operand, bytes));
    }
    return count;
}

static bool op_is_plain(const struct insn *insn)
{
    switch (insn->op) {
    case OP_ADD ... OP_IMUL:
    case OP_DIV:
    case OP_IDIV:
    case OP_ROL ... OP_POPCNT:
    case OP_MOV:
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_XCHG:
    case OP_XADD:
    case OP_CMPXCHG:
    case OP_CMPXCHG8B:
    case OP_BSWAP:
    case OP_MOVBE:
    case OP_MOVNTI:
    case OP_CMOVCC:
    case OP_SETCC:
    case OP_CBW:
    case OP_CWD:
    case OP_LAHF:
    case OP_SAHF:
    case OP_CRC32 ... OP_CMC:
    case OP_LFENCE:
    case OP_MFENCE:
    case OP_SFENCE:
        return true;
    default:
        return false;
    }
}

static bool vector_allowed(const struct draft *draft, const struct insn *insn)
{
    switch (insn->op) {
    case OP_X87:
    case OP_VECTOR:
    case OP_FLDCW:
    case OP_FSTCW:
    case OP_FSTSW:
    case OP_FWAIT:
    case OP_STMXCSR:
    case OP_EMMS:
        break;
    case OP_VZEROUPPER: /* outside 64-bit code it leaves the upper eight registers alone */
        if (insn->code_bytes != 8)
            return false;
        break;
    default:
        return false;
    }
    switch (insn->desc->class) {
    case CLASS_X87:
    case CLASS_MMX:
        return (draft->mode & MODE_X87) != 0;
    case CLASS_SSE:
        return (draft->mode & MODE_SSE) != 0;
    case CLASS_AVX:
        return (draft->mode & MODE_AVX) != 0;
    default:
        return false;
    }
}

static bool operands_possible(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        const struct operand_desc *operand = &insn->desc->operand[i];
        switch (operand->kind) {
        case OPERAND_S:
        case OPERAND_C:
        case OPERAND_D:
        case OPERAND_SEG:
        case OPERAND_A:
        case OPERAND_J:
        case OPERAND_X:
        case OPERAND_Y:
        case OPERAND_O:
            return false;
        case OPERAND_GPR:
            if (operand->reg == X86_RSP)
                return false;
            break;
        default:
            break;
        }
    }
    return ((insn->desc->gpr_read | insn->desc->gpr_written) & (1u << X86_RSP)) == 0;
}

bool generic_possible(const struct draft *draft, struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct gpr_use uses[2];
    bool rsp;
    bool vector = insn->desc->class != CLASS_INTEGER;
    if (vector ? !vector_allowed(draft, insn) : !op_is_plain(insn))
        return false;
    if (insn->desc->attr & (ATTR_PRIVILEGED | ATTR_IOPL | ATTR_VSIB | ATTR_RESTART | ATTR_REP))
        return false;
    if (!operands_possible(insn))
        return false;
    if (insn->has_memory) {
        unsigned bytes = insn_memory_bytes(insn);
        bool bit_string = insn->op >= OP_BT && insn->op <= OP_BTC;
        if (bytes == 0 || bytes > 64 || insn_memory_access(insn) == ACCESS_NONE)
            return false;
        if (bit_string && insn->desc->operand[1].kind == OPERAND_G)
            return false;
        if ((insn->desc->attr & ATTR_ALIGNED) && !is_power_of_two(bytes))
            return false;
    }
    int count = slot_uses(insn, uses, insn->has_memory ? 1 : 2, &rsp);
    one->same_gprs = count == 0 && !rsp;
    return count >= 0;
}

static unsigned host_of(const struct gpr_use *uses, int count, unsigned gpr, unsigned first_scratch)
{
    for (int i = 0; i < count; i++)
        if (uses[i].gpr == gpr)
            return first_scratch + (unsigned)i;
    return host_gpr(gpr);
}

/* Fills in the register fields; fields that are no general registers keep their numbers. */
static void fill_fields(const struct draft_insn *one, const struct gpr_use *uses, int count,
                        unsigned scratch, struct encoding *encoding)
{
    const struct insn *insn = &one->insn;
    encoding->reg = insn->reg;
    encoding->rm = insn->rm;
    encoding->vvvv = (u8)insn_vvvv(insn);
    if (one->same_gprs)
        return;
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        enum field_name field = operand_field(insn, &insn->desc->operand[i]);
        unsigned bytes = insn_operand_bytes(insn, i);
        if (field == FIELD_NONE)
            continue;
        unsigned number = field == FIELD_REG  ? insn->reg
                          : field == FIELD_RM ? insn->rm
                                              : insn_vvvv(insn);
        u8 host = (u8)(bytes == 1 && insn_high_byte(insn, number)
                           ? number
                           : host_of(uses, count, number, scratch));
        if (field == FIELD_REG)
            encoding->reg = host;
        else if (field == FIELD_RM)
            encoding->rm = host;
        else
            encoding->vvvv = host;
    }
}

/* Whether a memory operand that is not aligned to its size raises #GP: here as there, because a
 * page offset is the same in the guest and in the host. */
static bool needs_alignment(const struct insn *insn)
{
    return insn->has_memory && ((insn->desc->attr & ATTR_ALIGNED) != 0 ||
                                (insn->op == OP_CMPXCHG8B && insn_memory_bytes(insn) == 16));
}

static bool can_trap(const struct insn *insn)
{
    return insn->op == OP_DIV || insn->op == OP_IDIV || insn->desc->class != CLASS_INTEGER ||
           needs_alignment(insn);
}

static void note_trap(struct draft *draft, const struct draft_insn *one)
{
    struct jit *jit = draft->jit;
    struct jit_span *traps = &jit_filling(jit)->traps, *cold = &jit_filling(jit)->cold_traps;
    struct jit_trap_site site = {jit_offset(jit, draft->out.at), insn_meta(draft, one)};
    if (traps->next == cold->first) {
        draft->out.full = true;
    } else if (draft->cold_start) {
        jit->traps[cold->first - 1] = site;
        __atomic_store_n(&cold->first, cold->first - 1, __ATOMIC_RELEASE);
    } else {
        jit->traps[traps->next] = site;
        __atomic_store_n(&traps->next, traps->next + 1, __ATOMIC_RELEASE);
    }
}

/* Whether the slot register in INSN's ModRM.rm may be its memory operand: not where a register is
 * zero-extended, locked or addressed otherwise than memory. */
static bool slot_as_memory(const struct insn *insn)
{
    const struct operand_desc *operands = insn->desc->operand;
    switch (insn->op) {
    case OP_ADD ... OP_NOT:
    case OP_ROL ... OP_SAR:
    case OP_MOV:
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_IMUL:
    case OP_CMOVCC:
    case OP_ADCX:
    case OP_ADOX:
        break;
    default:
        return false;
    }
    if (insn->has_memory || !in_slot(insn->rm) || !(insn->desc->attr & ATTR_MODRM))
        return false;
    for (unsigned i = 0; i < insn->desc->operand_count; i++) {
        if (operands[i].kind == OPERAND_E)
            return !(operands[i].access & ACCESS_W) || insn_operand_bytes(insn, i) != 4;
    }
    return false;
}

/* Two slot registers, one of them as a memory operand. */
static bool two_slots(struct draft *draft, const struct draft_insn *one,
                      const struct gpr_use uses[2])
{
    const struct insn *insn = &one->insn;
    const struct gpr_use *other = uses[0].gpr == insn->rm ? &uses[1] : &uses[0];
    struct encoding encoding = {.has_memory = true, .mem = host_mem_base(STATE, slot_at(insn->rm))};
    fill_fields(one, other, 1, T0, &encoding);
    if (other->read)
        emit_load(&draft->out, T0, STATE, slot_at(other->gpr));
    if (!encode_insn(&draft->out, one->bytes, insn, &encoding))
        return false;
    if (other->written)
        emit_store(&draft->out, T0, STATE, slot_at(other->gpr));
    return true;
}

/* Whether ONE's memory access may lose the flags that are live, because they can be made again
 * before the instruction, when it reads them, or after it. */
static bool flags_again(const struct draft *draft, const struct draft_insn *one,
                        struct flags_recipe *recipe, bool *ret_before)
{
    const struct insn *insn = &one->insn;
    const struct insn_desc *desc = insn->desc;
    u32 changed = desc->flags_written | desc->flags_undefined | desc->flags_maybe;
    if (one->live_before == 0 || !insn->has_memory || can_trap(insn) ||
        !flags_recipe(draft, one, recipe))
        return false;
    *ret_before = (desc->flags_read & X86_ARITH_FLAGS) != 0;
    return *ret_before ? !recipe->scratch
                       : changed == 0 && !(recipe->inputs & flags_gprs_written(insn));
}

/* Has RSI address the operand meanwhile: a register that is never one of four with high bytes. */
static void borrow(struct draft *draft, struct host_mem *mem)
{
    draft_fold(draft, mem);
    struct host_mem at = host_mem_base(T0, mem->disp);
    emit_store(&draft->out, RSI, STATE, STATE_AT(jit_spill));
    emit_lea(&draft->out, true, RSI, &at);
    *mem = host_mem_base(RSI, 0);
}

/* Whether ONE is what it is for the host as well. */
static bool is_same(const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    return one->same_gprs && !insn->has_memory && insn->code_bytes == 8 &&
           (insn->prefixes & (INSN_LOCK | INSN_67 | INSN_SEG)) == 0;
}

static void draft_same(struct draft *draft, const struct draft_insn *one)
{
    if (can_trap(&one->insn))
        note_trap(draft, one);
    emit_copy(&draft->out, one->bytes, one->insn.length);
}

bool draft_generic(struct draft *draft, const struct draft_insn *one)
{
    const struct insn *insn = &one->insn;
    struct emitter *out = &draft->out;
    struct encoding encoding = {.has_memory = insn->has_memory};
    struct gpr_use uses[2] = {{0}};
    u32 live = one->live_before;
    bool rsp;
    if (is_same(one)) {
        draft_same(draft, one);
        return true;
    }
    int count = one->same_gprs ? 0 : slot_uses(insn, uses, insn->has_memory ? 1 : 2, &rsp);
    unsigned scratch = insn->has_memory ? T1 : T0;
    u8 *start = out->at;
    if (count == 1 && slot_as_memory(insn) && uses[0].gpr == insn->rm &&
        !field_is(insn, FIELD_REG, insn->rm)) {
        encoding.has_memory = true;
        encoding.mem = host_mem_base(STATE, slot_at(insn->rm));
        fill_fields(one, uses, 0, 0, &encoding);
        return encode_insn(out, one->bytes, insn, &encoding);
    }
    if (count == 2 && slot_as_memory(insn) && !field_is(insn, FIELD_REG, insn->rm)) {
        if (two_slots(draft, one, uses))
            return true;
        out->at = start;
    }
    struct flags_recipe recipe;
    bool before = false, again = flags_again(draft, one, &recipe, &before), borrowed = false;
    if (count < 0)
        return false;
    fill_fields(one, uses, count, scratch, &encoding);
    if (insn->has_memory) {
        struct access access = {ea_of(insn), insn_memory_bytes(insn),
                                (insn_memory_access(insn) & ACCESS_W) != 0, live != 0 && !again,
                                again ? &recipe : NULL};
        unsigned colds = draft->cold_count;
        draft_access(draft, one, &access, &encoding.mem);
        if (count > 0)
            draft_fold(draft, &encoding.mem);
        if (!encode_possible(insn, &encoding)) { /* AH to BH with memory at r8: not with REX */
            borrow(draft, &encoding.mem);
            borrowed = true;
        }
        if (!encode_possible(insn, &encoding) || (borrowed && (before || can_trap(insn)))) {
            out->at = start; /* give the access up again */
            draft->cold_count = colds;
            return false;
        }
    }
    for (int i = 0; i < count; i++)
        if (uses[i].read)
            emit_load(out, scratch + (unsigned)i, STATE, slot_at(uses[i].gpr));
    if (again && before)
        flags_make(draft, &recipe, 0);
    if (can_trap(insn))
        note_trap(draft, one);
    if (!encode_insn(out, one->bytes, insn, &encoding)) {
        out->at = start;
        return false;
    }
    if (borrowed)
        emit_load(out, RSI, STATE, STATE_AT(jit_spill));
    for (int i = 0; i < count; i++)
        if (uses[i].written)
            emit_store(out, scratch + (unsigned)i, STATE, slot_at(uses[i].gpr));
    if (again && !before)
        flags_make(draft, &recipe, 0);
    return true;
}
