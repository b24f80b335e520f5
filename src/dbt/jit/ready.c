/*
 * dbt/jit/ready.c - interpreted instructions of a block: kept decoded in its cold code, so that
 * neither finding nor decoding them takes time when they run.
 *
 * Runs   on the vCPU's thread; what is kept is read by all that run the block.
 */
#include "dbt/jit/draft_priv.h"

#include "dbt/interp.h"

/* In the writable view of code memory. */
struct ready_insn {
    u32 meta;
    u32 padding;
    u8 place[INTERP_READY_BYTES];
};

void draft_ready(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    struct cold *cold = draft_cold(draft, COLD_READY);
    if (cold == NULL)
        return;
    emit_mov_imm(out, T1, 0); /* where it is, when that is known */
    cold->jump = out->at - 4;
    cold->number = (u32)(one - draft->insns);
    emit_call(out, jit_rw(draft->jit, draft->jit->ready));
}

void draft_cold_ready(struct draft *draft, const struct cold *cold)
{
    struct emitter *out = &draft->out;
    const struct draft_insn *one = &draft->insns[cold->number];
    struct ready_insn *ready = (void *)(uintptr_t)align_up((u64)(uintptr_t)out->at, 8);
    if ((u8 *)(ready + 1) > out->end) {
        out->full = true;
        return;
    }
    ready->meta = insn_meta(draft, one);
    bool inner = cold->number + 1 < draft->insn_count;
    if (!interp_ready_make(draft->cpu, &one->insn, inner, ready->place)) {
        draft->failed = true;
        return;
    }
    out->at = (u8 *)(ready + 1);
    store_le32(cold->jump, jit_offset(draft->jit, (const u8 *)ready));
}

u64 jit_ready(struct cpu *cpu, u32 offset)
{
    const struct ready_insn *ready = (const void *)jit_rw(cpu->jit, offset);
    return jit_interpret_ready(cpu, ready->meta, ready->place);
}
