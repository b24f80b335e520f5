/*
 * dbt/jit/trace.c - tells a tracer of blocks, and makes blocks count their runs.
 *
 * Runs   on the vCPU's thread.
 */
#include "dbt/trace.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "dbt/jit/draft_priv.h"
#include "dbt/simd.h"

int jit_trace(struct cpu *cpu, const struct jit_tracer *tracer)
{
    struct jit *jit = cpu->jit;
    lock_acquire(&jit->lock);
    if (jit->runs == NULL)
        jit->runs = new0_array(u64, JIT_BLOCKS);
    if (jit->runs != NULL)
        jit->tracer = tracer;
    lock_release(&jit->lock);
    return jit->runs != NULL ? 0 : -ENOMEM;
}

void trace_count_run(struct draft *draft)
{
    struct emitter *out = &draft->out;
    struct host_mem next = host_mem_base(T1, 1);
    emit_mov_imm(out, T0, (u64)(uintptr_t)&draft->jit->runs[draft->number]);
    emit_load(out, T1, T0, 0);
    emit_lea(out, true, T1, &next);
    emit_store(out, T1, T0, 0);
}

static const char *how_name(const struct draft_insn *one)
{
    static const char *const names[] = {"generic", "special", "nothing", "interpret"};
    return names[one->how];
}

void trace_block(const struct draft *draft, gpa_t gpa, u32 first_exit)
{
    struct jit *jit = draft->jit;
    const struct jit_block *block = &jit->blocks[draft->number];
    struct trace_insn insns[JIT_BLOCK_INSNS];
    struct trace_exit exits[JIT_BLOCK_EXITS];
    unsigned exit_count = 0;
    u64 rip = draft->cpu->rip, delta = rip - draft->rip;
    if (!jit->tracer->wants(jit->tracer->ctx, rip))
        return;
    for (unsigned i = 0; i < draft->insn_count; i++) {
        const struct draft_insn *one = &draft->insns[i];
        insns[i] = (struct trace_insn){.rip = insn_rip(draft, one) + delta,
                                       .insn = &one->insn,
                                       .bytes = one->bytes,
                                       .how = how_name(one),
                                       .live_flags = one->live_before,
                                       .code = one->code};
    }
    for (u32 i = first_exit; i < jit_filling(jit)->exits.next && exit_count < JIT_BLOCK_EXITS; i++)
        exits[exit_count++] = (struct trace_exit){jit->exits[i].target_rip + delta,
                                                  jit->exits[i].leaves_page};
    u8 *code = jit_rw(jit, block->code);
    const u8 *cold = draft->cold_start ? draft->cold_start : draft->hot_end;
    const struct trace_block told = {.cpu = draft->cpu->index,
                                     .number = draft->number,
                                     .rip = rip,
                                     .code_bytes = draft->code_bytes,
                                     .relative = draft->relative,
                                     .gpa = gpa,
                                     .mode = block->mode,
                                     .low = draft->low,
                                     .high = draft->high,
                                     .insns = insns,
                                     .insn_count = draft->insn_count,
                                     .exits = exits,
                                     .exit_count = exit_count,
                                     .code = code,
                                     .code_rx = (u64)(uintptr_t)jit_rx(jit, block->code),
                                     .hot_bytes = (unsigned)(draft->hot_end - code),
                                     .cold = cold,
                                     .cold_rx = (u64)(uintptr_t)jit_rx(jit, jit_offset(jit, cold)),
                                     .cold_bytes = draft_cold_bytes(draft)};
    /* The tracer may use vector registers; and blocks are made again in the middle of code, which
     * goes on with what it had in them. */
    bool live = draft->cpu->vector_live;
    simd_save(draft->cpu);
    jit->tracer->block(jit->tracer->ctx, &told);
    if (live)
        simd_load(draft->cpu);
}

void trace_tell_runs(struct cpu *cpu, const struct jit_span *blocks)
{
    struct jit *jit = cpu->jit;
    simd_save(cpu); /* those who call are between blocks, where it is loaded again */
    for (u32 i = blocks->first; i < blocks->next; i++) {
        if (jit->runs[i] != 0 && jit->tracer->wants(jit->tracer->ctx, jit->blocks[i].rip))
            jit->tracer->runs(jit->tracer->ctx, cpu->index, i, jit->blocks[i].rip, jit->runs[i]);
        jit->runs[i] = 0;
    }
}
