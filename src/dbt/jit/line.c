/*
 * dbt/jit/line.c - memory operands through lines: the page that an operand was in last time is
 * looked at first, and its translation is not on the way from the address to the access.
 *
 * A line (dbt/cpu.h) is picked when the block is translated: one pair, for reading and for writing,
 * for all accesses by the stack pointer, one for each of FS and GS, and in blocks that are known to
 * run often one for each other base register. The test changes flags.
 *
 * A miss calls a stub of the privilege, which looks into the first-level TLB in the line's place,
 * and makes the line that page's now and then only: so an access that changes between pages costs
 * little more than without a line. What the first level does not have either, or what leaves the
 * page, goes the way of all accesses that miss (refill.c, slow.c).
 *
 * Trust  a line gives access to what a first-level entry gives access to, and only as long.
 */
#include "dbt/jit/draft_priv.h"

enum { RAX = 0, RCX = 1, RDX = 2, ENTRY_SHIFT = 5, LINE_SHIFT = 6, PAGE_BYTES = 4096 };
_Static_assert(sizeof(struct cpu_line) == 1 << LINE_SHIFT, "a number is scaled by one shift");
/* The longest access; and every how manieth miss fills its line, as a power of two. */
enum { LINE_BYTES_MAX = 1 << (CPU_LINE_SIZES - 1), LINE_CLOCK_BITS = 3 };
enum { LINE_STACK = 0, LINE_FS = 2, LINE_GS = 4, LINE_FIRST = 6 };

s32 draft_line_at(const struct draft *draft, unsigned line, size_t field)
{
    return STATE_AT(lines) +
           (s32)((draft->privilege * CPU_LINES + line) * sizeof(struct cpu_line)) + (s32)field;
}

/* The size that an access of BYTES is tested as. */
unsigned draft_line_size(unsigned bytes)
{
    unsigned size = 0;
    while (1u << size < bytes)
        size++;
    return size;
}

static s32 limit_at(const struct draft *draft, unsigned line, unsigned bytes)
{
    return draft_line_at(draft, line,
                         offsetof(struct cpu_line, limit) + draft_line_size(bytes) * sizeof(u64));
}

/* What accesses must have in common to use one line: registers, and for constants the page. */
static u64 line_key(const struct draft *draft, const struct draft_insn *one,
                    const struct guest_ea *ea)
{
    u64 page = 0;
    if (ea->base == INSN_RIP)
        page = (insn_next_rip(draft, one) + (u64)ea->disp) >> 12;
    return page << 16 | (u64)ea->index << 8 | ea->base;
}

/* The even line for EA; false where there is none. */
static bool line_pick(struct draft *draft, const struct draft_insn *one, const struct guest_ea *ea,
                      unsigned *ret_line)
{
    struct jit *jit = draft->jit;
    u64 key = line_key(draft, one, ea);
    unsigned at = 0;
    if (ea->segment == X86_FS || ea->segment == X86_GS) {
        *ret_line = ea->segment == X86_FS ? LINE_FS : LINE_GS;
        return true;
    }
    if (ea->base == X86_RSP && ea->index == INSN_NO_REG) {
        *ret_line = LINE_STACK;
        return true;
    }
    while (at < draft->line_count && draft->lines[at].key != key)
        at++;
    if (!draft->hot || at == DRAFT_LINES)
        return false;
    if (at == draft->line_count) {
        jit->line_next = jit->line_next + 2 < CPU_LINES ? jit->line_next + 2 : LINE_FIRST;
        draft->lines[draft->line_count++] = (struct draft_line){key, (u8)jit->line_next};
    }
    *ret_line = draft->lines[at].line;
    return true;
}

bool draft_group_line(struct draft *draft, unsigned *ret_line)
{
    struct jit *jit = draft->jit;
    if (draft->line_count == DRAFT_LINES)
        return false;
    jit->line_next = jit->line_next + 2 < CPU_LINES ? jit->line_next + 2 : LINE_FIRST;
    draft->lines[draft->line_count++] = (struct draft_line){~0ull, (u8)jit->line_next};
    *ret_line = jit->line_next;
    return true;
}

/* T0 = the address and minus_base, and the operand, where the address is in registers: with one
 * register, the access does not wait for more than that; with two, for their sum. */
static void test_register(struct draft *draft, const struct guest_ea *ea, unsigned line,
                          struct host_mem *ret_mem)
{
    struct host_mem sum = {(u8)host_gpr(ea->base), T0, 0, (s32)ea->disp};
    emit_load(&draft->out, T0, STATE,
              draft_line_at(draft, line, offsetof(struct cpu_line, minus_base)));
    emit_lea(&draft->out, true, T0, &sum);
    *ret_mem = (struct host_mem){(u8)host_gpr(ea->base), T1, 0, (s32)ea->disp};
}

static void test_sum(struct draft *draft, const struct draft_insn *one, const struct access *access,
                     unsigned line)
{
    struct host_mem base = host_mem_base(
        STATE, draft_line_at(draft, line, offsetof(struct cpu_line, minus_base)));
    draft_linear_address(draft, one, access);
    emit_mov(&draft->out, T1, T0);
    emit_alu_mem(&draft->out, ALU_ADD, T0, &base);
}

bool draft_line(struct draft *draft, const struct draft_insn *one, const struct access *access,
                struct host_mem *ret_mem)
{
    struct emitter *out = &draft->out;
    const struct guest_ea *ea = &access->ea;
    unsigned line;
    if (access->keep_flags || access->bytes > LINE_BYTES_MAX ||
        ea->address_bytes != draft->code_bytes || !line_pick(draft, one, ea, &line) ||
        !jit_line_pays(draft->jit, draft->physical_page << 12 | (draft->start + one->offset)))
        return false;
    line += access->write;
    /* In 32-bit code the sum wraps, and the line may be that of a page above. */
    bool plain = draft->code_bytes == 8 && ea->base < X86_GPR_COUNT && !in_slot(ea->base) &&
                 ea->index == INSN_NO_REG && ea->segment != X86_FS && ea->segment != X86_GS;
    if (plain)
        test_register(draft, ea, line, ret_mem);
    else
        test_sum(draft, one, access, line);
    struct host_mem limit = host_mem_base(STATE, limit_at(draft, line, access->bytes));
    emit_alu_mem(out, ALU_CMP, T0, &limit);
    struct cold *cold = draft_missed(draft, one, access, emit_jcc(out, COND_AE, NULL));
    s32 delta = draft_line_at(draft, line, offsetof(struct cpu_line, delta));
    if (plain) {
        emit_load(out, T1, STATE, delta);
    } else {
        emit_load(out, T0, STATE, delta);
        *ret_mem = (struct host_mem){T0, T1, 0, 0};
    }
    if (cold) {
        cold->done = out->at;
        cold->stub = draft->jit->line_miss[draft->privilege][access->write];
        cold->form |= FORM_LINE;
        cold->line = (u8)line;
        cold->line_sum = !plain;
    }
    return true;
}

void draft_cold_line(struct draft *draft, const struct cold *cold)
{
    struct host_mem base = host_mem_base(
        STATE, draft_line_at(draft, cold->line, offsetof(struct cpu_line, minus_base)));
    if (cold->line_sum)
        emit_mov(&draft->out, T0, T1);
    else
        emit_alu_mem(&draft->out, ALU_SUB, T0, &base);
}

/* ---- the stub ---- */

struct line_stub {
    unsigned privilege;
    bool write;
    const u8 *again; /* where it looks into the first level */
};

static void registers_back(struct emitter *out)
{
    emit_load(out, RCX, STATE, STATE_AT(jit_save) + 8);
    emit_load(out, RDX, STATE, STATE_AT(jit_save) + 16);
}

static void store_limit(struct emitter *out, unsigned size, u32 value)
{
    struct host_mem limit = host_mem_base(RCX, (s32)(size * sizeof(u64)));
    emit_op_mem(out, 0xc7, true, 0, &limit);
    emit_u32(out, value);
}

/* The displacement of the first-level entry of the address in r8, from the state, into TO. */
static void entry_of(struct emitter *out, unsigned to)
{
    emit_rorx(out, to, T0, 12 - ENTRY_SHIFT);
    emit_alu_imm(out, ALU_AND, false, to, (CPU_TLB_ENTRIES - 1) << ENTRY_SHIFT);
}

static struct host_mem tag_of(const struct line_stub *stub, unsigned index)
{
    return (struct host_mem){STATE, (u8)index, 0, jit_tlb_tag_at(stub->privilege, stub->write)};
}

static struct host_mem host_of(const struct line_stub *stub, unsigned index)
{
    return (struct host_mem){STATE, (u8)index, 0,
                             jit_tlb_at(stub->privilege, offsetof(struct cpu_tlb_entry, host))};
}

/* rcx = the line, r8 = the address, r9 = its page: makes the line the page's. Branches in NOT are
 * taken where the first level does not have the page any more. */
static void fill(struct emitter *out, const struct line_stub *stub, u8 * not [2])
{
    struct host_mem tag = tag_of(stub, RDX), host = host_of(stub, RDX);
    entry_of(out, RDX);
    emit_alu_mem(out, ALU_CMP, T1, &tag);
    not [0] = emit_jcc(out, COND_NE, NULL);
    emit_op_mem(out, 0x8b, true, RDX, &host);
    emit_op_reg(out, 0x2b, true, RDX, T1); /* sub rdx, r9 */
    emit_store(out, RDX, RCX, offsetof(struct cpu_line, delta));
    emit_op_reg(out, 0xf7, true, 3, T1); /* neg r9 */
    emit_store(out, T1, RCX, offsetof(struct cpu_line, minus_base));
    for (unsigned i = 0; i < CPU_LINE_SIZES; i++)
        store_limit(out, i, PAGE_BYTES + 1 - (1u << i));
    not [1] = NULL;
    if (!stub->write)
        return;
    /* Another vCPU that takes the write tag empties the lines after it. */
    emit_barrier(out);
    emit_op_reg(out, 0xf7, true, 3, T1);
    entry_of(out, RDX);
    emit_alu_mem(out, ALU_CMP, T1, &tag);
    u8 *stands = emit_jcc8(out, COND_E);
    for (unsigned i = 0; i < CPU_LINE_SIZES; i++)
        store_limit(out, i, 0);
    not [1] = emit_jmp(out, NULL);
    emit_patch8(out, stands, out->at);
}

/* r8 = the address of an access that the first level allows: fills its line and goes on at AGAIN,
 * or sometimes looks why there are so many. */
static void emit_fill(struct emitter *out, const struct jit *jit, const struct line_stub *stub)
{
    struct host_mem note = host_mem_base(HOST_RSP, 0), number = host_mem_base(RCX, NOTE_LINE);
    struct host_mem fills = host_mem_base(STATE, STATE_AT(jit_fills));
    s32 lines = STATE_AT(lines) + (s32)(stub->privilege * CPU_LINES * sizeof(struct cpu_line));
    struct host_mem line = {STATE, RCX, 0, lines};
    u8 * not [2];
    emit_store(out, RCX, STATE, STATE_AT(jit_save) + 8);
    emit_store(out, RDX, STATE, STATE_AT(jit_save) + 16);
    emit_op_mem(out, 0x8b, true, RCX, &note);
    emit_op_mem(out, 0x0fb6, false, RCX, &number); /* movzx */
    emit_shift_imm(out, SHIFT_SHL, RCX, LINE_SHIFT);
    emit_lea(out, true, RCX, &line);
    emit_mov(out, T1, T0);
    emit_alu_imm(out, ALU_AND, true, T1, -PAGE_BYTES);
    fill(out, stub, not );
    emit_op_mem(out, 0x83, false, ALU_SUB, &fills);
    emit_u8(out, 1);
    u8 *look = emit_jcc8(out, COND_E);
    for (unsigned i = 0; i < ARRAY_LEN(not ); i++)
        if (not [i])
            emit_patch(not [i], out -> at);
    registers_back(out);
    emit_jmp(out, stub->again);
    emit_patch8(out, look, out->at);
    registers_back(out);
    emit_jmp(out, jit_rw(jit, jit->line_look));
}

/* Reached by a call from a cold line, r8 = the address: r9 becomes what translates it. */
static void emit_miss(struct emitter *out, const struct jit *jit, struct line_stub *stub)
{
    struct host_mem tag = tag_of(stub, RCX), host = host_of(stub, RCX);
    struct host_mem clock = host_mem_base(STATE, STATE_AT(jit_line_clock));
    struct host_mem note = host_mem_base(HOST_RSP, 0), bytes = host_mem_base(RCX, NOTE_BYTES);
    stub->again = out->at;
    emit_store(out, RCX, STATE, STATE_AT(jit_save) + 8);
    entry_of(out, RCX);
    emit_mov(out, T1, T0);
    emit_alu_mem(out, ALU_SUB, T1, &tag);
    emit_alu_imm(out, ALU_CMP, true, T1, PAGE_BYTES - LINE_BYTES_MAX);
    u8 *near = emit_jcc8(out, COND_A);
    const u8 *hit = out->at;
    emit_op_reg(out, 0x2b, true, T1, T0); /* sub */
    emit_alu_mem(out, ALU_ADD, T1, &host);
    emit_load(out, RCX, STATE, STATE_AT(jit_save) + 8);
    emit_alu32_mem_imm(out, ALU_ADD, &clock, 1u << (32 - LINE_CLOCK_BITS));
    u8 *wraps = emit_jcc(out, COND_B, NULL);
    emit_ret(out);
    emit_patch8(out, near, out->at); /* the page's end, or another page */
    emit_alu_imm(out, ALU_CMP, true, T1, PAGE_BYTES - 1);
    u8 *other = emit_jcc8(out, COND_A);
    emit_op_mem(out, 0x8b, true, RCX, &note);
    emit_op_mem(out, 0x0fb6, false, RCX, &bytes); /* movzx */
    emit_op_reg(out, 0x03, false, RCX, T1);       /* add */
    emit_alu_imm(out, ALU_CMP, false, RCX, PAGE_BYTES);
    u8 *leaves = emit_jcc8(out, COND_A);
    entry_of(out, RCX);
    emit_jmp(out, hit);
    emit_patch8(out, other, out->at);
    emit_patch8(out, leaves, out->at);
    emit_load(out, RCX, STATE, STATE_AT(jit_save) + 8);
    jit_emit_refill(jit, out,
                    &(const struct refill_kind){stub->privilege, stub->write, false, stub->again});
    emit_patch(wraps, out->at);
    emit_fill(out, jit, stub);
}

void jit_make_line_stubs(struct jit *jit, struct emitter *out)
{
    for (unsigned privilege = 0; privilege < PRIVILEGE_COUNT; privilege++) {
        for (unsigned write = 0; write < 2 && !out->full; write++) {
            struct line_stub stub = {privilege, write, NULL};
            jit->line_miss[privilege][write] = jit_offset(jit, out->at);
            emit_miss(out, jit, &stub);
        }
    }
}
