/*
 * dbt/simd/masked.c - moves that touch only some elements, and may fault only there: VMASKMOVPx,
 * VPMASKMOVx, MASKMOVDQU, MASKMOVQ, and the AVX2 gathers.
 *
 * Spec   Intel SDM vol. 2: each instruction; gathers also vol. 1 14.7 (faults leave what is done).
 * Runs   on the vCPU's thread.
 */
#include "base/bits.h"
#include "dbt/simd/simd_priv.h"

static u64 offset_cut(const struct insn *insn, u64 offset)
{
    return offset & bytes_mask(insn->address_bytes);
}

/* A bitmap of the elements of ELEMENT_BYTES whose sign bit is set in the first BYTES of VECTOR. */
static u32 sign_bitmap(const u8 *vector, unsigned bytes, unsigned element_bytes)
{
    u32 bitmap = 0;
    for (unsigned i = 0; i * element_bytes < bytes; i++)
        bitmap |= (u32)(vector[(i + 1) * element_bytes - 1] >> 7) << i;
    return bitmap;
}

/* One element. These instructions are not alignment-checked: then single bytes, which cannot fail
 * it. */
static void element_read(struct cpu *cpu, gva_t gva, void *to, unsigned bytes)
{
    unsigned step = cpu->align_check ? 1 : bytes;
    for (unsigned i = 0; i < bytes; i += step) {
        u64 value = mmu_read(cpu, gva + i, step);
        simd_copy((u8 *)to + i, &value, step);
    }
}

static void element_write(struct cpu *cpu, gva_t gva, const void *from, unsigned bytes)
{
    unsigned step = cpu->align_check ? 1 : bytes;
    for (unsigned i = 0; i < bytes; i += step) {
        u64 value = 0;
        simd_copy(&value, (const u8 *)from + i, step);
        mmu_write(cpu, gva + i, step, value);
    }
}

/* ---- VMASKMOV ---- */

/* 4 or 8: VMASKMOVPD is the odd one of each pair, VPMASKMOV goes by W. */
static unsigned maskmov_element_bytes(const struct insn *insn)
{
    bool wide = insn->opcode >= 0x8c ? (insn->rex & REX_W) != 0 : (insn->opcode & 1) != 0;
    return wide ? 8 : 4;
}

struct masked {
    u32 bitmap;
    unsigned element_bytes;
    u64 offset;
    enum cpu_access access;
};

static gva_t masked_linear(struct cpu *cpu, const struct insn *insn, const struct masked *masked,
                           unsigned element)
{
    /* The operand is one piece: only its beginning is cut to the address size. */
    u64 offset = masked->offset + element * masked->element_bytes;
    return seg_linear(cpu, (enum x86_segment)insn->segment, offset, masked->element_bytes,
                      masked->access);
}

/* The host address of the whole operand when it is in one page of RAM: the page of the first active
 * element, which faults for that element. NULL otherwise. */
static u8 *masked_host(struct cpu *cpu, const struct insn *insn, const struct masked *masked,
                       unsigned bytes)
{
    unsigned first = (unsigned)__builtin_ctz(masked->bitmap);
    gva_t gva = masked_linear(cpu, insn, masked, first);
    gva_t whole = gva - first * masked->element_bytes;

    if ((whole & 4095) + bytes > 4096 || cpu->code_bytes != 8)
        return NULL;
    mmu_probe(cpu, gva, masked->element_bytes, masked->access, (enum cpu_privilege)cpu->privilege);
    return mmu_host(cpu, whole, bytes, masked->access);
}

static void masked_load(struct cpu *cpu, const struct insn *insn, const struct masked *masked)
{
    u8 *bounce = cpu->simd->bounce;

    simd_zero(bounce, 32);
    for (u32 left = masked->bitmap; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        element_read(cpu, masked_linear(cpu, insn, masked, i), bounce + i * masked->element_bytes,
                     masked->element_bytes);
    }
}

static void masked_store(struct cpu *cpu, const struct insn *insn, const struct masked *masked)
{
    const u8 *bounce = cpu->simd->bounce;

    for (u32 left = masked->bitmap; left != 0; left &= left - 1) {
        gva_t gva = masked_linear(cpu, insn, masked, (unsigned)__builtin_ctz(left));
        mmu_probe(cpu, gva, masked->element_bytes, ACCESS_WRITE,
                  (enum cpu_privilege)cpu->privilege);
    }
    for (u32 left = masked->bitmap; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        element_write(cpu, masked_linear(cpu, insn, masked, i), bounce + i * masked->element_bytes,
                      masked->element_bytes);
    }
}

void simd_run_vmaskmov(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 mask[32];
    unsigned bytes = insn_vector_bytes(insn);
    struct masked masked = {.element_bytes = maskmov_element_bytes(insn),
                            .offset = insn_offset(cpu, insn),
                            .access = plan->writes ? ACCESS_WRITE : ACCESS_READ};

    simd_vector_get(cpu, insn_vvvv(insn), mask);
    masked.bitmap = sign_bitmap(mask, bytes, masked.element_bytes);
    u8 *host = masked.bitmap != 0 ? masked_host(cpu, insn, &masked, bytes) : NULL;
    if (host != NULL) {
        simd_call(cpu, insn, plan, host);
        return;
    }
    if (!plan->writes)
        masked_load(cpu, insn, &masked);
    simd_call(cpu, insn, plan, cpu->simd->bounce);
    if (plan->writes)
        masked_store(cpu, insn, &masked);
}

/* ---- MASKMOVDQU, MASKMOVQ ---- */

void simd_run_maskmov(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *bounce = cpu->simd->bounce;
    unsigned bytes = insn->desc->class == CLASS_MMX ? 8 : 16;
    u64 offset = offset_cut(insn, cpu->gpr[X86_RDI]);

    /* The MMX form takes a pending #MF and enters MMX mode before it looks at memory. */
    if (insn->desc->class == CLASS_MMX && simd_wait(cpu)) {
        u32 ignored;
        __asm__ volatile("movd %%mm0, %0" : "=r"(ignored));
    }
    gva_t gva = seg_linear(cpu, (enum x86_segment)insn->segment, offset, bytes, ACCESS_WRITE);

    simd_align_check(cpu, gva, 7);
    u8 *host = mmu_host(cpu, gva, bytes, ACCESS_WRITE);
    if (host != NULL) {
        simd_call(cpu, insn, plan, host);
        return;
    }
    mmu_probe(cpu, gva, bytes, ACCESS_WRITE, (enum cpu_privilege)cpu->privilege);
    /* Over two backgrounds that differ everywhere, the bytes that come out equal are the written.
     */
    for (unsigned i = 0; i < bytes; i++) {
        bounce[i] = 0;
        bounce[64 + i] = 0xff;
    }
    simd_call(cpu, insn, plan, bounce);
    simd_call(cpu, insn, plan, bounce + 64);
    for (unsigned i = 0; i < bytes; i++) {
        if (bounce[i] == bounce[64 + i])
            mmu_write(cpu, gva + i, 1, bounce[i]);
    }
}

/* ---- gathers ---- */

struct gather {
    unsigned element_bytes, index_bytes, count;
    u8 destination[32], index[32], mask[32];
};

static void gather_describe(const struct insn *insn, struct gather *gather)
{
    gather->element_bytes = (insn->rex & REX_W) ? 8 : 4;
    gather->index_bytes = (insn->opcode & 1) ? 8 : 4;
    unsigned wider = gather->element_bytes > gather->index_bytes ? gather->element_bytes
                                                                 : gather->index_bytes;
    gather->count = insn_vector_bytes(insn) / wider;
}

static gva_t gather_linear(struct cpu *cpu, const struct insn *insn, const struct gather *gather,
                           unsigned element)
{
    const u8 *at = gather->index + element * gather->index_bytes;
    u64 index = gather->index_bytes == 8 ? load_le64(at) : sign_extend(load_le32(at), 4);
    u64 offset = (insn->base < X86_GPR_COUNT ? cpu->gpr[insn->base] : 0) + (u64)insn->disp +
                 (index << insn->scale);

    return seg_linear(cpu, (enum x86_segment)insn->segment, offset_cut(insn, offset),
                      gather->element_bytes, ACCESS_READ);
}

/* Makes the progress so far architectural: what a fault, or the machine, may look at. When the
 * instruction starts over it begins with what is left, so answers already used are forgotten. */
static void gather_publish(struct cpu *cpu, const struct insn *insn, struct gather *gather)
{
    simd_vector_set(cpu, insn->reg, gather->destination);
    simd_vector_set(cpu, insn_vvvv(insn), gather->mask);
    cpu->replay.done = 0;
    cpu->replay.next = 0;
}

void simd_run_gather(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    struct gather gather;

    gather_describe(insn, &gather);
    unsigned step = gather.element_bytes, bytes = gather.count * step;
    simd_vector_get(cpu, insn->reg, gather.destination);
    simd_vector_get(cpu, insn->index, gather.index);
    simd_vector_get(cpu, insn_vvvv(insn), gather.mask);
    u32 active = sign_bitmap(gather.mask, bytes, step);

    for (unsigned i = 0; i < gather.count; i++) {
        if (active >> i & 1) {
            if (i != 0) /* the element may fault or leave to the machine */
                gather_publish(cpu, insn, &gather);
            element_read(cpu, gather_linear(cpu, insn, &gather, i), gather.destination + i * step,
                         step);
        }
        simd_zero(gather.mask + i * step, step);
    }
    simd_zero(gather.destination + bytes, sizeof(gather.destination) - bytes);
    simd_zero(gather.mask, sizeof(gather.mask));
    gather_publish(cpu, insn, &gather);
}
