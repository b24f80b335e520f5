/*
 * dbt/jit/slow.c - memory accesses whose test in translated code missed, after the second-level TLB
 * (refill.c) did not help.
 *
 * What that has after all is put into the first level, and the test is made again. A read that
 * leaves its page is done here, into a buffer that the instruction then reads instead. Everything
 * else - walks, faults, devices, writes across pages and to pages of code - is interpreted.
 *
 * Cold code calls a stub, with the address in r8 (or what the stub of its kind makes it of). After
 * the return address stand a jump to the test and a note of what the stub must know (enum note).
 *
 * Runs   on the vCPU's thread, called by translated code.
 */
#include "dbt/jit/draft_priv.h"

#include "dbt/tlb.h"

enum { PAGE_BYTES = 4096 };

/* ---- the note ---- */

/* A way in 16 bits: hot code of blocks is smaller than that. */
static void emit_way(struct draft *draft, const u8 *from, const u8 *to)
{
    s64 way = to - from;
    if (way != (s16)way)
        draft->failed = true;
    emit_u8(&draft->out, (u32)way & 0xff);
    emit_u8(&draft->out, ((u32)way >> 8) & 0xff);
}

/* A branch that is taken if a group, at T0 in some page, does not end in it. */
static u8 *leaves_page(struct draft *draft, const struct cold *cold)
{
    struct emitter *out = &draft->out;
    emit_mov32(out, T1, T0);
    emit_alu_imm(out, ALU_AND, false, T1, PAGE_BYTES - 1);
    emit_alu_imm(out, ALU_CMP, false, T1, PAGE_BYTES - cold->span);
    return emit_jcc(out, COND_A, NULL);
}

/* Where the way at OFFSET of a note leads: from the target of the note's jump. */
static u64 way_of(const u8 *note, unsigned offset)
{
    const u8 *from = note + NOTE_META + (s32)load_le32(note + 1);
    return (u64)(uintptr_t)(from + (s16)load_le16(note + offset));
}

void draft_cold_access(struct draft *draft, const struct cold *cold)
{
    struct emitter *out = &draft->out;
    u8 form = cold->form | (cold->again ? FORM_FLAGS | FORM_GROUP : 0);
    bool special = (form & FORM_FLAGS) != 0;
    u8 *leaves = NULL;
    if (form & FORM_CONSTANT)
        emit_mov_imm(out, T0, cold->address);
    if (form & FORM_KEEP)
        draft_linear_address(draft, cold->one, &(const struct access){.ea = cold->ea});
    if (form & FORM_LINE)
        draft_cold_line(draft, cold);
    if (cold->span)
        leaves = leaves_page(draft, cold);
    emit_call(out, jit_rw(draft->jit, cold->stub));
    const u8 *to = form & FORM_LINE ? cold->done : cold->retry;
    emit_jmp(out, to);
    emit_u32(out, cold->number);
    emit_way(draft, to, special ? to : cold->resume); /* those go on after the note */
    emit_way(draft, to, cold->done);
    emit_u8(out, cold->bytes);
    emit_u8(out, form);
    emit_u8(out, cold->line);
    if (leaves)
        emit_patch(leaves, out->at);
    if (!special)
        return;
    if (cold->recipe.from)
        flags_make(draft, &cold->recipe, 0);
    if (cold->again) {
        draft_cold_again(draft, cold);
        return;
    }
    for (unsigned i = 0; cold->group && i < cold->group_count; i++) {
        draft->flags_away = cold->group[i].flags_away;
        draft_one(draft, cold->group + i);
    }
    if (cold->group) {
        emit_jmp(out, cold->resume);
        return;
    }
    emit_mov_imm(out, T1, cold->number);
    emit_call(out, jit_rw(draft->jit, draft->jit->fallback));
    emit_jmp(out, cold->resume);
}

struct cold *draft_missed(struct draft *draft, const struct draft_insn *one,
                          const struct access *access, u8 *jump)
{
    struct cold *cold = draft_cold(draft, COLD_ACCESS);
    if (cold == NULL)
        return NULL;
    cold->jump = jump;
    cold->number = insn_meta(draft, one) | META_MISSED;
    cold->bytes = (u8)access->bytes;
    cold->stub = draft->jit->slow_table[draft->privilege][access->write];
    cold->form = access->write ? FORM_WRITE : 0;
    if (access->recipe) {
        cold->recipe = *access->recipe;
        cold->form |= FORM_FLAGS;
    }
    return cold;
}

/* ---- the access ---- */

/* The host address of BYTES to read at GVA, all in one page, if a TLB has them. */
static const u8 *read_from(struct cpu *cpu, gva_t gva, unsigned bytes)
{
    const u8 *host = tlb_read_hit(cpu, gva, bytes);
    if (host == NULL && mmu_fill(cpu, gva, ACCESS_READ))
        host = tlb_read_hit(cpu, gva, bytes);
    return host;
}

/* Has the access go on with HOST in place of GVA. */
static void translate_to(struct cpu *cpu, gva_t gva, const u8 *host, const u8 *note)
{
    cpu->jit_slow[0] = gva;
    cpu->jit_slow[1] = (u64)(uintptr_t)host - gva;
    if (note[NOTE_FORM] & FORM_KEEP)
        cpu->jit_slow[1] += note[NOTE_BYTES] - 1u;
}

/* Copies what is read at GVA, across two pages, to the buffer: as far from its aligned start as the
 * original is, so that the host finds the same misalignment. */
static bool read_across(struct cpu *cpu, gva_t gva, const u8 *note)
{
    unsigned first = PAGE_BYTES - (unsigned)(gva & (PAGE_BYTES - 1)), bytes = note[NOTE_BYTES];
    u8 *to = cpu->jit_buffer + gva % CPU_JIT_BUFFER;
    if (first > bytes)
        first = bytes;
    const u8 *a = read_from(cpu, gva, first);
    const u8 *b = first < bytes ? read_from(cpu, gva + first, bytes - first) : a;
    if (a == NULL || b == NULL)
        return false;
    /* Filling the second may have taken the first out of the table, but not from memory. */
    for (unsigned i = 0; i < bytes; i++)
        to[i] = i < first ? a[i] : b[i - first];
    translate_to(cpu, gva, to, note);
    return true;
}

/* An access of one page: true when it can be made, or its test be made again. */
static bool read_or_write(struct cpu *cpu, gva_t gva, const u8 *note)
{
    unsigned bytes = note[NOTE_BYTES];
    bool write = (note[NOTE_FORM] & FORM_WRITE) != 0;
    if (!mmu_fill(cpu, gva, write ? ACCESS_WRITE : ACCESS_READ))
        return false;
    if (!(note[NOTE_FORM] & FORM_LINE))
        return true;
    const u8 *host = write ? tlb_write_hit(cpu, gva, bytes) : tlb_read_hit(cpu, gva, bytes);
    if (host == NULL) /* another vCPU has just made the page code */
        return false;
    translate_to(cpu, gva, host, note);
    return true;
}

u64 jit_slow_access(struct cpu *cpu, u32 unused)
{
    u64 *back = (u64 *)(uintptr_t)(cpu->jit_return_stack - 8);
    const u8 *note = (const u8 *)(uintptr_t)*back;
    struct jit_counters *counters = &cpu->jit_own->counters;
    unsigned bytes = note[NOTE_BYTES], form = note[NOTE_FORM];
    gva_t gva = cpu->jit_slow[0];
    (void)unused;
    if ((gva & (PAGE_BYTES - 1)) + bytes <= PAGE_BYTES) {
        bool filled = read_or_write(cpu, gva, note);
        counters->fills += filled;
        if (filled && !(form & FORM_GROUP)) /* those go one by one after a call of C */
            return ANSWER_CONTINUE;
    } else if (!(form & (FORM_WRITE | FORM_GROUP)) && read_across(cpu, gva, note)) {
        counters->reads_across++;
        *back = way_of(note, NOTE_DONE);
        return ANSWER_CONTINUE;
    }
    if (form & FORM_FLAGS) {
        *back = (u64)(uintptr_t)(note + NOTE_BYTES_ALL);
        return ANSWER_CONTINUE;
    }
    *back = way_of(note, NOTE_RESUME);
    return jit_interpret(cpu, load_le32(note + NOTE_META));
}

/* ---- stubs ---- */

void jit_make_slow_stubs(struct jit *jit, struct emitter *out)
{
    for (unsigned privilege = 0; privilege < PRIVILEGE_COUNT; privilege++) {
        for (unsigned write = 0; write < 2; write++) {
            /* r8 is the address minus the tag of the entry that r9 is the displacement of. */
            struct host_mem tag = {STATE, T1, 0, jit_tlb_tag_at(privilege, write)};
            jit->slow_table[privilege][write] = jit_offset(jit, out->at);
            emit_alu_mem(out, ALU_ADD, T0, &tag);
            emit_jmp(out, jit_rw(jit, jit->refill[privilege][write]));
        }
    }
}
