/*
 * dbt/jit/refill.c - stubs that fill the first-level TLB from the second, without C.
 *
 * They give only what C has given before from the same second-level entry (cpu_walk_had), and look
 * at what may have changed without a flush: for a write, the flags of the page, by the same steps
 * as tlb_fill of mmu/tlb.c. Everything else goes on to slow.c.
 *
 * Each is reached by a call from a cold access (slow.c), r8 = the linear address, and returns to
 * have the test made again. Where the first level already has the page, the access leaves it, and
 * is for slow.c as well: so no test is made again and again.
 *
 * Trust  the address is any; what is not canonical is left to C.
 */
#include "dbt/jit/draft_priv.h"

#include "core/mem.h"

enum { RAX = 0, RCX = 1, RDX = 2, ENTRY_SHIFT = 5, SET_SHIFT = 7, PAGE_BYTES = 4096 };
_Static_assert(sizeof(struct cpu_tlb_entry) == 1 << ENTRY_SHIFT, "the index is made by one shift");
_Static_assert(sizeof(struct cpu_walk_entry) * CPU_TLB_WAYS == 1 << SET_SHIFT, "and a set's");
/* A page whose number has this bit the other way is looked up half a table away. */
enum { OTHER_HALF = CPU_TLB_ENTRIES / 2 << 12, BRANCHES_MAX = 8 };

struct refill {
    struct emitter *out;
    unsigned privilege;
    bool write;
    u8 *slow[BRANCHES_MAX]; /* branches to where C is called */
    unsigned slow_count;
};

static void slow_if(struct refill *refill, unsigned condition)
{
    refill->slow[refill->slow_count++] = emit_jcc(refill->out, condition, NULL);
}

static struct host_mem first_level(const struct refill *refill, size_t field)
{
    return (struct host_mem){STATE, RAX, 0, jit_tlb_at(refill->privilege, field)};
}

static struct host_mem second_level(size_t field)
{
    return (struct host_mem){STATE, RCX, 0, STATE_AT(tlb.walks) + (s32)field};
}

static void load(struct emitter *out, unsigned reg, struct host_mem mem)
{
    emit_op_mem(out, 0x8b, true, reg, &mem);
}

static void store(struct emitter *out, unsigned reg, struct host_mem mem)
{
    emit_op_mem(out, 0x89, true, reg, &mem);
}

/* eax = the flags of the page in MASK. */
static void page_flags(struct refill *refill, u32 mask)
{
    struct emitter *out = refill->out;
    struct host_mem flags = host_mem_base(RAX, 0);
    load(out, RAX, second_level(offsetof(struct cpu_walk_entry, page_flags)));
    emit_op_mem(out, 0x0fb6, false, RAX, &flags); /* movzx */
    emit_alu_imm(out, ALU_AND, false, RAX, (s32)mask);
}

static void first_level_of(struct emitter *out)
{
    emit_rorx(out, RAX, T0, 12 - ENTRY_SHIFT);
    emit_alu_imm(out, ALU_AND, false, RAX, (CPU_TLB_ENTRIES - 1) << ENTRY_SHIFT);
}

/* r9 = the page of the address in r8; rcx = the displacement of its second-level entry, rdx = its
 * host address and what it allows. */
static void find(struct refill *refill)
{
    struct emitter *out = refill->out;
    struct host_mem asid = host_mem_base(STATE, STATE_AT(tlb.asid));
    struct host_mem tag = second_level(offsetof(struct cpu_walk_entry, tag));
    u8 *found[CPU_TLB_WAYS];
    emit_mov(out, T1, T0);
    emit_shift_imm(out, SHIFT_SHL, T1, 16);
    emit_shift_imm(out, SHIFT_SAR, T1, 16);
    emit_cmp_reg(out, T1, T0);
    slow_if(refill, COND_NE);
    emit_alu_imm(out, ALU_AND, true, T1, -PAGE_BYTES);
    first_level_of(out);
    struct host_mem has = first_level(refill, refill->write
                                                  ? offsetof(struct cpu_tlb_entry, write_tag)
                                                  : offsetof(struct cpu_tlb_entry, read_tag));
    emit_alu_mem(out, ALU_CMP, T1, &has);
    slow_if(refill, COND_E);
    emit_op_mem(out, 0x0fb7, false, RAX, &asid); /* movzx */
    emit_mov(out, RCX, T1);
    emit_shift_imm(out, SHIFT_SAR, RCX, 63);
    emit_alu_imm(out, ALU_AND, false, RCX, CPU_ASID_GLOBAL);
    emit_op_reg(out, 0x0b, false, RAX, RCX); /* or: the upper half's pages are global */
    emit_mov(out, RCX, T1);
    emit_shift_imm(out, SHIFT_SHL, RCX, 4);
    emit_op_reg(out, 0x0b, true, RAX, RCX); /* or: the tag */
    emit_mov_imm(out, RCX, CPU_WALK_HASH);
    emit_op_reg(out, 0x0faf, true, RCX, RAX); /* imul */
    emit_shift_imm(out, SHIFT_SHR, RCX, CPU_WALK_HASH_SHIFT);
    emit_shift_imm(out, SHIFT_SHL, RCX, SET_SHIFT);
    for (unsigned way = 0; way < CPU_TLB_WAYS; way++) {
        if (way > 0)
            emit_alu_imm(out, ALU_ADD, false, RCX, sizeof(struct cpu_walk_entry));
        emit_alu_mem(out, ALU_CMP, RAX, &tag);
        found[way] = emit_jcc8(out, COND_E);
    }
    refill->slow[refill->slow_count++] = emit_jmp(out, NULL);
    for (unsigned way = 0; way < CPU_TLB_WAYS; way++)
        emit_patch8(out, found[way], out->at);
    load(out, RDX, second_level(offsetof(struct cpu_walk_entry, host)));
    unsigned had = cpu_walk_had(refill->privilege, refill->write);
    emit_bytes(out, (const u8[]){0xf6, 0xc2, (u8)had}, 3); /* test dl, had */
    slow_if(refill, COND_E);
    emit_alu_imm(out, ALU_AND, true, RDX, -PAGE_BYTES);
}

/* Makes the first-level entry the page's; r8 and r9 stay. Its write tag is another page's before,
 * and stays so for reads. */
static void fill(struct refill *refill)
{
    struct emitter *out = refill->out;
    struct host_mem write_tag = first_level(refill, offsetof(struct cpu_tlb_entry, write_tag));
    first_level_of(out);
    emit_op_reg(out, 0x81, true, ALU_XOR, T1);
    emit_u32(out, OTHER_HALF);
    store(out, T1, write_tag);
    emit_op_reg(out, 0x81, true, ALU_XOR, T1);
    emit_u32(out, OTHER_HALF);
    store(out, RDX, first_level(refill, offsetof(struct cpu_tlb_entry, host)));
    load(out, RDX, second_level(offsetof(struct cpu_walk_entry, gpa)));
    store(out, RDX, first_level(refill, offsetof(struct cpu_tlb_entry, gpa)));
    store(out, T1, first_level(refill, offsetof(struct cpu_tlb_entry, read_tag)));
    if (refill->write)
        store(out, T1, write_tag);
}

/* Notes the entry, unless rdx says that its page is global. */
static void note(struct refill *refill)
{
    struct emitter *out = refill->out;
    struct host_mem at = {STATE, RDX, 1, STATE_AT(tlb.journal)};
    struct host_mem count = host_mem_base(STATE, STATE_AT(tlb.journal_count));
    emit_bytes(out, (const u8[]){0xf6, 0xc2, CPU_WALK_GLOBAL}, 3); /* test dl, */
    u8 *global = emit_jcc8(out, COND_NE);
    emit_op_mem(out, 0x8b, false, RDX, &count);
    emit_alu_imm(out, ALU_CMP, false, RDX, CPU_TLB_JOURNAL);
    u8 *full = emit_jcc8(out, COND_AE);
    first_level_of(out);
    emit_shr32_imm(out, RAX, ENTRY_SHIFT);
    if (refill->privilege > 0)
        emit_alu_imm(out, ALU_ADD, false, RAX, (s32)(refill->privilege * CPU_TLB_ENTRIES));
    emit_u8(out, 0x66); /* 16 bits */
    emit_op_mem(out, 0x89, false, RAX, &at);
    emit_alu32_mem_imm(out, ALU_ADD, &count, 1);
    emit_patch8(out, global, out->at);
    emit_patch8(out, full, out->at);
}

/* After the tag was stored: it goes again where another vCPU has made the page code meanwhile; and
 * where this one has not yet dropped all code that was overwritten (cpu->code_seen). */
static void look_again(struct refill *refill)
{
    struct emitter *out = refill->out;
    struct host_mem seen = host_mem_base(STATE, STATE_AT(code_seen));
    emit_barrier(out);
    page_flags(refill, MEM_CODE | MEM_CACHED);
    emit_alu_imm(out, ALU_CMP, false, RAX, MEM_CACHED);
    u8 *is_code = emit_jcc8(out, COND_NE);
    emit_load(out, RAX, STATE, STATE_AT(group));
    emit_load32(out, RAX, RAX, offsetof(struct cpu_group, code_log_reserved));
    emit_op_mem(out, 0x3b, false, RAX, &seen); /* cmp */
    u8 *stands = emit_jcc8(out, COND_E);
    emit_patch8(out, is_code, out->at);
    first_level_of(out);
    emit_op_reg(out, 0x81, true, ALU_XOR, T1);
    emit_u32(out, OTHER_HALF);
    store(out, T1, first_level(refill, offsetof(struct cpu_tlb_entry, write_tag)));
    refill->slow[refill->slow_count++] = emit_jmp(out, NULL);
    emit_patch8(out, stands, out->at);
}

static void begin(struct emitter *out, bool keep)
{
    emit_store(out, RAX, STATE, STATE_AT(jit_save));
    emit_store(out, RCX, STATE, STATE_AT(jit_save) + 8);
    emit_store(out, RDX, STATE, STATE_AT(jit_save) + 16);
    if (!keep)
        return;
    emit_bytes(out, (const u8[]){0x9f, 0x0f, 0x90, 0xc0}, 4); /* lahf; seto al */
    emit_store(out, RAX, STATE, STATE_AT(jit_keep));
}

static void end(struct emitter *out, bool keep)
{
    if (keep) {
        emit_load(out, RAX, STATE, STATE_AT(jit_keep));
        emit_bytes(out, (const u8[]){0x04, 0x7f, 0x9e}, 3); /* add al, 0x7f; sahf */
    }
    emit_load(out, RAX, STATE, STATE_AT(jit_save));
    emit_load(out, RCX, STATE, STATE_AT(jit_save) + 8);
    emit_load(out, RDX, STATE, STATE_AT(jit_save) + 16);
}

void jit_emit_refill(const struct jit *jit, struct emitter *out, const struct refill_kind *kind)
{
    struct refill refill = {.out = out, .privilege = kind->privilege, .write = kind->write};
    struct host_mem refills = host_mem_base(STATE, STATE_AT(jit_refills));
    begin(out, kind->keep_flags);
    find(&refill);
    if (refill.write) {
        page_flags(&refill, MEM_DIRTY | MEM_CODE | MEM_CACHED);
        emit_alu_imm(out, ALU_CMP, false, RAX, MEM_DIRTY | MEM_CACHED);
        slow_if(&refill, COND_NE);
    }
    fill(&refill);
    note(&refill);
    if (refill.write)
        look_again(&refill);
    emit_op_mem(out, 0x83, true, ALU_ADD, &refills);
    emit_u8(out, 1);
    end(out, kind->keep_flags);
    if (kind->again)
        emit_jmp(out, kind->again);
    else
        emit_ret(out);
    for (unsigned i = 0; i < refill.slow_count && !out->full; i++)
        emit_patch(refill.slow[i], out->at);
    end(out, kind->keep_flags);
    emit_jmp(out, jit_rw(jit, jit->slow));
}

void jit_make_refill_stubs(struct jit *jit, struct emitter *out)
{
    for (unsigned i = 0; i < PRIVILEGE_COUNT * 2; i++) {
        for (unsigned keep = 0; keep < 2; keep++) {
            u32 *stub = &(keep ? jit->refill_keep : jit->refill)[i / 2][i % 2];
            struct refill_kind kind = {.privilege = i / 2, .write = i % 2, .keep_flags = keep};
            *stub = jit_offset(jit, out->at);
            jit_emit_refill(jit, out, &kind);
        }
    }
}
