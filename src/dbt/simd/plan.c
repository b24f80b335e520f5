/*
 * dbt/simd/plan.c - decides once per form of an instruction how it is run, and keeps the thunks.
 *
 * Plans are found by their contents (the thunk's bytes and the facts beside it) in an
 * open-addressed hash table. When plans or code memory run out, all are dropped: the generation in
 * every word that simd_prepare gave no longer matches, and each instruction prepares itself anew.
 * So a guest that makes up endless forms only slows itself down.
 *
 * Runs   on the vCPU's thread; the code memory belongs to one vCPU.
 */
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dbt/simd/simd_priv.h"

/* ---- what an instruction needs ---- */

static u8 plan_gate(const struct insn *insn)
{
    switch (insn->op) {
    case OP_FXSAVE:
    case OP_FXRSTOR:
        return GATE_FXSAVE;
    case OP_XSAVE:
    case OP_XSAVEC:
    case OP_XSAVEOPT:
    case OP_XRSTOR:
        return GATE_XSAVE;
    case OP_XSAVES:
    case OP_XRSTORS:
        return GATE_NEVER;
    case OP_FWAIT:
        return GATE_WAIT;
    default:
        break;
    }
    if (insn->prefixes & INSN_VEX)
        return GATE_AVX;
    switch (insn->desc->class) {
    case CLASS_X87:
        return GATE_X87;
    case CLASS_MMX:
        return GATE_MMX;
    default:
        return GATE_SSE;
    }
}

static u8 plan_runner(const struct insn *insn)
{
    switch (insn->op) {
    case OP_FINIT:
        return RUN_INIT;
    case OP_LDMXCSR:
        return RUN_LDMXCSR;
    case OP_MASKMOV:
        return RUN_MASKMOV;
    case OP_VMASKMOV:
        return RUN_VMASKMOV;
    case OP_GATHER:
        return RUN_GATHER;
    case OP_FLDENV:
        return RUN_FLDENV;
    case OP_FSTENV:
        return RUN_FSTENV;
    case OP_FRSTOR:
        return RUN_FRSTOR;
    case OP_FSAVE:
        return RUN_FSAVE;
    case OP_FXSAVE:
        return RUN_FXSAVE;
    case OP_FXRSTOR:
        return RUN_FXRSTOR;
    case OP_XSAVE:
    case OP_XSAVEC:
    case OP_XSAVEOPT:
        return RUN_XSAVE;
    case OP_XRSTOR:
        return RUN_XRSTOR;
    default:
        return RUN_THUNK;
    }
}

/* What alignment checking wants of an operand: vectors of 32 bytes count as two of 16, and the ten
 * bytes of an x87 number as eight. */
static u8 plan_check_mask(unsigned bytes)
{
    if (bytes > 16)
        return 15;
    return bytes == 10 ? 7 : (u8)(bytes - (bytes != 0));
}

static void plan_describe(struct simd_plan *plan, const struct insn *insn)
{
    plan->gate = plan_gate(insn);
    plan->runner = plan_runner(insn);
    plan->tracks = insn->op == OP_X87;
    if (insn->desc->class == CLASS_X87 && insn->op == OP_X87)
        plan->fop = (u16)((insn->opcode & 7) << 8 | insn->modrm);
    if (insn->has_memory && insn->op != OP_GATHER) {
        unsigned bytes = insn_memory_bytes(insn);
        plan->bytes = (u8)(bytes <= 32 ? bytes : 0);
        if (plan->bytes == 0 &&
            plan->runner == RUN_THUNK) /* no form has such; never run it blind */
            plan->gate = GATE_NEVER;
        /* Conversions to MMX registers are of the SSE class, and enter MMX mode all the same. */
        plan->waits = plan->gate == GATE_MMX || insn->op == OP_X87 || insn->op == OP_FLDCW ||
                      insn->desc->operand[0].kind == OPERAND_P;
        plan->writes = (insn_memory_access(insn) & ACCESS_W) != 0;
        plan->check_mask = plan_check_mask(plan->bytes);
        /* Not every processor wants SHA operands aligned: the host's own refusal decides. */
        if ((insn->desc->attr & ATTR_ALIGNED) != 0 && plan->bytes != 0 &&
            insn->desc->feature != FEATURE_SHA)
            plan->align_mask = (u8)(plan->bytes - 1);
    }
}

/* Runners that work on an image of their own call no thunk, or a fixed one. */
static bool plan_has_thunk(const struct simd_plan *plan)
{
    switch (plan->runner) {
    case RUN_THUNK:
    case RUN_INIT:
    case RUN_MASKMOV:
    case RUN_VMASKMOV:
    case RUN_FLDENV:
    case RUN_FRSTOR:
        return plan->gate != GATE_NEVER;
    default:
        return false;
    }
}

/* ---- the store ---- */

static bool plan_equal(const struct simd *simd, const struct simd_plan *a,
                       const struct simd_plan *b, const u8 *code)
{
    if (a->fop != b->fop || a->code_bytes != b->code_bytes || a->gate != b->gate ||
        a->runner != b->runner || a->bytes != b->bytes || a->align_mask != b->align_mask ||
        a->check_mask != b->check_mask || a->writes != b->writes || a->tracks != b->tracks ||
        a->waits != b->waits)
        return false;
    for (unsigned i = 0; i < b->code_bytes; i++) {
        if (simd->code.write[a->code + i] != code[i])
            return false;
    }
    return true;
}

static u32 plan_hash(const struct simd_plan *plan, const u8 *code)
{
    u64 hash = plan->fop ^ (u64)plan->bytes << 16 ^ (u64)plan->runner << 24;
    for (unsigned i = 0; i < plan->code_bytes; i++)
        hash = (hash ^ code[i]) * 0x9e3779b97f4a7c15ull;
    return (u32)(hash >> 40) & (PLAN_HASH_COUNT - 1);
}

static void plan_flush(struct simd *simd)
{
    simd_zero(simd->hash, PLAN_HASH_COUNT * sizeof(simd->hash[0]));
    simd->plan_count = 0;
    simd->code_used = simd->code_fixed;
    simd->generation++;
    if (simd->generation == 0) /* 0 is what a word that was never prepared holds */
        simd->generation = 1;
}

static u32 code_add(struct simd *simd, const struct simd_emit *emit)
{
    u32 offset = simd->code_used;
    simd_copy(simd->code.write + offset, emit->code, emit->count);
    simd->code_used = (offset + emit->count + 15) & ~15u;
    return offset;
}

u64 simd_prepare(struct cpu *cpu, const struct insn *insn)
{
    struct simd *simd = cpu->simd;
    struct simd_plan plan = {0};
    struct simd_emit emit;

    emit.count = 0;
    plan_describe(&plan, insn);
    if (plan_has_thunk(&plan))
        simd_emit_thunk(&emit, insn, insn->code_bytes);
    plan.code_bytes = (u8)emit.count;
    if (simd->plan_count == PLAN_COUNT || simd->code_used + THUNK_BYTES_MAX > CODE_BYTES)
        plan_flush(simd);

    /* At most half of the table is in use, so the search ends. */
    u32 slot = plan_hash(&plan, emit.code);
    while (simd->hash[slot] != 0) {
        u32 found = simd->hash[slot] - 1u;
        if (plan_equal(simd, &simd->plans[found], &plan, emit.code))
            return (u64)simd->generation << 32 | found;
        slot = (slot + 1) & (PLAN_HASH_COUNT - 1);
    }
    plan.code = code_add(simd, &emit);
    u32 index = simd->plan_count++;
    simd->plans[index] = plan;
    simd->hash[slot] = (u16)(index + 1);
    cpu->counters.simd_thunks++;
    return (u64)simd->generation << 32 | index;
}

/* ---- life ---- */

static bool host_components(u64 *ret_xcr0)
{
    u32 eax = 1, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if ((ecx & 1u << 27) == 0) /* OSXSAVE */
        return false;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    *ret_xcr0 = eax;
    return true;
}

int simd_init(struct cpu *cpu)
{
    struct simd *simd;
    u64 xcr0;

    if ((uintptr_t)cpu->xsave % 64 != 0) /* XSAVE faults */
        return -EINVAL;
    simd = new0(struct simd);
    if (simd == NULL)
        return -ENOMEM;
    cpu->simd = simd;
    simd->bounce = (u8 *)(uintptr_t)align_up((u64)(uintptr_t)simd->bounce_memory, 64);
    int result = -EOPNOTSUPP;
    if (!host_components(&xcr0))
        goto fail;
    /* AVX-512's upper halves are reset with the rest, so that they cost nothing at thread switches.
     */
    simd->host_components = xcr0 & 0xe7;
    simd->components = xcr0 & (COMPONENT_X87 | COMPONENT_SSE | COMPONENT_AVX);
    result = -ENOMEM;
    simd->plans = new0_array(struct simd_plan, PLAN_COUNT);
    simd->hash = new0_array(u16, PLAN_HASH_COUNT);
    if (simd->plans == NULL || simd->hash == NULL)
        goto fail;
    result = codemem_init(&simd->code, CODE_BYTES);
    if (result != 0)
        goto fail;
    for (unsigned i = 0; i < 2 * VECTOR_COUNT; i++) {
        struct simd_emit emit;
        emit.count = 0;
        simd_emit_vector(&emit, i % VECTOR_COUNT, (simd->components & COMPONENT_AVX) != 0,
                         i < VECTOR_COUNT);
        code_add(simd, &emit);
    }
    simd->code_fixed = simd->code_used;
    plan_flush(simd);
    return 0;
fail:
    simd_fini(cpu);
    return result;
}

void simd_fini(struct cpu *cpu)
{
    struct simd *simd = cpu->simd;

    if (simd == NULL)
        return;
    codemem_fini(&simd->code);
    alloc_free(simd->plans);
    alloc_free(simd->hash);
    alloc_free(simd);
    cpu->simd = NULL;
}
