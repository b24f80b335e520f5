/*
 * dbt/simd/image.c - FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC and XRSTOR.
 *
 * Each works on a copy of the live state in the standard format (cpu->xsave), from which the
 * guest's image is composed, or into which it is merged before all is loaded again. The AVX
 * component stands at the same offset in the standard and in the compacted format, for it is the
 * only extended one.
 *
 * Spec   Intel SDM vol. 1 10.5 (FXSAVE) and 13.6 to 13.12 (XSAVE feature set); vol. 2 of each.
 * Runs   on the vCPU's thread.
 * Trust  an image is copied from guest memory once, then checked, then used.
 */
#include "base/bits.h"
#include "dbt/simd/simd_priv.h"

#define XCOMP_COMPACTED BIT(63)
enum { FX_BYTES = 512, FX_ALIGN = 16, HEADER_BYTES = 64 };

/* How many of the sixteen vector registers the current mode reaches. */
static unsigned vector_count(const struct cpu *cpu)
{
    return cpu->code_bytes == 8 ? 16 : 8;
}

/* The last-instruction fields as offset and selector unless REX.W asks for 64-bit offsets. */
static void pointers_to_guest(const struct cpu *cpu, const struct insn *insn, u8 *image)
{
    const struct simd_pointers *last = &cpu->simd->last;

    if (insn->rex & REX_W)
        return;
    store_le64(image + IMAGE_FIP, (u32)last->fip | (u64)simd_selector(cpu, last->fcs) << 32);
    store_le64(image + IMAGE_FDP, (u32)last->fdp | (u64)simd_selector(cpu, last->fds) << 32);
}

/* Loads cpu->xsave. When X87 is true the guest has written its last-instruction fields, in the
 * format that REX.W says. */
static void image_commit(struct cpu *cpu, const struct insn *insn, bool x87)
{
    u8 *image = cpu->xsave;
    u64 fip = load_le64(image + IMAGE_FIP);
    u64 fdp = load_le64(image + IMAGE_FDP);
    bool wide = (insn->rex & REX_W) != 0;

    if (x87) {
        store_le64(image + IMAGE_FIP, wide ? fip : (u32)fip);
        store_le64(image + IMAGE_FDP, wide ? fdp : (u32)fdp);
        store_le16(image + IMAGE_FCS, wide ? 0 : (u16)(fip >> 32));
        store_le16(image + IMAGE_FDS, wide ? 0 : (u16)(fdp >> 32));
    }
    simd_load(cpu);
}

static gva_t image_linear(struct cpu *cpu, const struct insn *insn, size_t bytes, u64 align,
                          enum cpu_access access)
{
    if (insn->segment == X86_SS && align != FX_ALIGN)
        simd_stack_align_check(cpu, insn, align - 1);
    gva_t gva = insn_linear(cpu, insn, bytes, access);
    if (align == FX_ALIGN)
        simd_align_check(cpu, gva, 3);
    if ((gva & (align - 1)) != 0)
        cpu_raise_error(cpu, X86_GP, 0);
    return gva;
}

static void mxcsr_check(struct cpu *cpu, const u8 *image)
{
    if ((load_le32(image + IMAGE_MXCSR) & ~(u32)MXCSR_VALID) != 0)
        cpu_raise_error(cpu, X86_GP, 0);
}

/* ---- FXSAVE ---- */

void simd_run_fxsave(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    gva_t gva = image_linear(cpu, insn, FX_BYTES, FX_ALIGN, ACCESS_WRITE);

    simd_image_probe(cpu, gva, FX_BYTES, ACCESS_WRITE);
    simd_capture(cpu);
    simd_copy(image, cpu->xsave, FX_BYTES);
    pointers_to_guest(cpu, insn, image);
    simd_memory_write(cpu, gva, image, IMAGE_XMM + 16 * vector_count(cpu));
}

void simd_run_fxrstor(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    gva_t gva = image_linear(cpu, insn, FX_BYTES, FX_ALIGN, ACCESS_READ);

    simd_image_probe(cpu, gva, FX_BYTES, ACCESS_READ);
    simd_memory_read(cpu, gva, image, FX_BYTES);
    mxcsr_check(cpu, image);
    simd_capture(cpu);
    simd_copy(cpu->xsave, image, IMAGE_XMM + 16 * vector_count(cpu));
    cpu->xsave[IMAGE_XSTATE_BV] |= COMPONENT_X87 | COMPONENT_SSE;
    image_commit(cpu, insn, true);
}

/* ---- XSAVE ---- */

static u64 requested_components(const struct cpu *cpu)
{
    return ((u32)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32) & cpu->xcr0 & cpu->simd->components;
}

/* Which components the image will hold, and its header. */
static u64 xsave_header(const struct cpu *cpu, const struct insn *insn, u64 requested, u8 *image)
{
    u64 in_use = load_le64(image + IMAGE_XSTATE_BV);

    if (insn->op == OP_XSAVEC) {
        if (load_le32(image + IMAGE_MXCSR) != MXCSR_DEFAULT)
            in_use |= COMPONENT_SSE;
        store_le64(image + IMAGE_XSTATE_BV, requested & in_use);
        store_le64(image + IMAGE_XCOMP_BV, requested | XCOMP_COMPACTED);
    } else {
        u64 old = load_le64(cpu->simd->bounce + IMAGE_END);
        store_le64(image + IMAGE_XSTATE_BV, (old & ~requested) | (requested & in_use));
    }
    return insn->op == OP_XSAVE ? requested : requested & in_use;
}

void simd_run_xsave(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    enum cpu_privilege privilege = (enum cpu_privilege)cpu->privilege;
    unsigned vectors = vector_count(cpu);
    u64 requested = requested_components(cpu);
    gva_t gva = image_linear(cpu, insn, IMAGE_YMM, 64, ACCESS_WRITE);

    simd_image_probe(cpu, gva, IMAGE_YMM, ACCESS_WRITE);
    simd_capture(cpu);
    simd_copy(image, cpu->xsave, IMAGE_END);
    pointers_to_guest(cpu, insn, image);
    if (insn->op != OP_XSAVEC) /* what the header says of other components stays */
        simd_memory_read(cpu, gva + IMAGE_XSTATE_BV, image + IMAGE_END, 8);
    u64 held = xsave_header(cpu, insn, requested, image);
    bool mxcsr = (insn->op == OP_XSAVEC ? held & COMPONENT_SSE
                                        : requested & (COMPONENT_SSE | COMPONENT_AVX)) != 0;
    if (held & COMPONENT_AVX)
        mmu_probe(cpu, gva + IMAGE_YMM, 16 * vectors, ACCESS_WRITE, privilege);

    if (held & COMPONENT_X87) {
        simd_memory_write(cpu, gva, image, IMAGE_MXCSR);
        simd_memory_write(cpu, gva + IMAGE_ST, image + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
    }
    if (mxcsr)
        simd_memory_write(cpu, gva + IMAGE_MXCSR, image + IMAGE_MXCSR, 8);
    if (held & COMPONENT_SSE)
        simd_memory_write(cpu, gva + IMAGE_XMM, image + IMAGE_XMM, 16 * vectors);
    if (held & COMPONENT_AVX)
        simd_memory_write(cpu, gva + IMAGE_YMM, image + IMAGE_YMM, 16 * vectors);
    simd_memory_write(cpu, gva + IMAGE_XSTATE_BV, image + IMAGE_XSTATE_BV,
                      insn->op == OP_XSAVEC ? 16 : 8);
}

/* ---- XRSTOR ---- */

static bool bytes_are_zero(const u8 *bytes, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static void xrstor_check_header(struct cpu *cpu, const u8 *header)
{
    u64 xstate_bv = load_le64(header);
    u64 xcomp_bv = load_le64(header + 8);
    bool valid;

    if (xcomp_bv & XCOMP_COMPACTED)
        valid = (xstate_bv & ~xcomp_bv) == 0 && ((xcomp_bv & ~XCOMP_COMPACTED) & ~cpu->xcr0) == 0 &&
                bytes_are_zero(header, 16, HEADER_BYTES);
    else
        valid = (xstate_bv & ~cpu->xcr0) == 0 && bytes_are_zero(header, 8, 24);
    if (!valid)
        cpu_raise_error(cpu, X86_GP, 0);
}

/* Puts a vector component of the guest's image, or zeroes for one that is in its initial state,
 * into the copy of the live state. */
static void component_merge(struct cpu *cpu, u64 component, unsigned offset, bool held)
{
    size_t bytes = 16 * vector_count(cpu);

    if (held)
        simd_copy(cpu->xsave + offset, cpu->simd->bounce + offset, bytes);
    else
        simd_zero(cpu->xsave + offset, bytes);
    cpu->xsave[IMAGE_XSTATE_BV] |= (u8)component;
}

void simd_run_xrstor(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    u8 *state = cpu->xsave;
    u64 requested = requested_components(cpu);
    gva_t gva = image_linear(cpu, insn, IMAGE_YMM, 64, ACCESS_READ);

    /* The header counts first. */
    mmu_probe(cpu, gva + IMAGE_HEADER, 1, ACCESS_READ, (enum cpu_privilege)cpu->privilege);
    simd_memory_read(cpu, gva, image, IMAGE_YMM);
    xrstor_check_header(cpu, image + IMAGE_HEADER);
    u64 held = load_le64(image + IMAGE_XSTATE_BV) & requested;
    bool compacted = (load_le64(image + IMAGE_XCOMP_BV) & XCOMP_COMPACTED) != 0;
    if (compacted && (held & COMPONENT_SSE) == 0)
        store_le32(image + IMAGE_MXCSR, MXCSR_DEFAULT);
    bool mxcsr = (requested & (compacted ? COMPONENT_SSE : COMPONENT_SSE | COMPONENT_AVX)) != 0;
    if (mxcsr)
        mxcsr_check(cpu, image);
    if (held & COMPONENT_AVX)
        simd_memory_read(cpu, gva + IMAGE_YMM, image + IMAGE_YMM, 16 * vector_count(cpu));

    simd_capture(cpu);
    if (held & COMPONENT_X87) {
        simd_copy(state, image, IMAGE_MXCSR);
        simd_copy(state + IMAGE_ST, image + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
        state[IMAGE_XSTATE_BV] |= COMPONENT_X87;
    } else if (requested & COMPONENT_X87) {
        state[IMAGE_XSTATE_BV] &= (u8)~COMPONENT_X87;
    }
    if (mxcsr)
        store_le32(state + IMAGE_MXCSR, load_le32(image + IMAGE_MXCSR));
    if (requested & COMPONENT_SSE)
        component_merge(cpu, COMPONENT_SSE, IMAGE_XMM, (held & COMPONENT_SSE) != 0);
    if (requested & COMPONENT_AVX)
        component_merge(cpu, COMPONENT_AVX, IMAGE_YMM, (held & COMPONENT_AVX) != 0);
    image_commit(cpu, insn, (held & COMPONENT_X87) != 0);
}
