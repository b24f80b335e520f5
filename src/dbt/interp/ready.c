/*
 * dbt/interp/ready.c - single instructions that translated code keeps in decoded form.
 *
 * Runs   on the vCPU's thread.
 * Trust  whoever keeps one makes sure that the guest's bytes are still those it was decoded from.
 */
#include "dbt/interp.h"
#include "dbt/interp/run_priv.h"
#include "dbt/simd.h"

struct ready {
    struct op ops[2]; /* the instruction, and the end of its block */
    struct op_insn full;
    u16 form;
    bool inner;
};
_Static_assert(sizeof(struct ready) <= INTERP_READY_BYTES, "a ready instruction fits");

bool interp_ready_make(struct cpu *cpu, const struct insn *insn, bool inner, void *place)
{
    struct ready *ready = place;
    if (simd_handles(insn))
        return false;
    *ready = (struct ready){.form = (u16)((unsigned)(insn->desc - insn_descs) % CPU_INSN_FORMS),
                            .inner = inner};
    for (unsigned i = 0; i < ARRAY_LEN(ready->ops); i++)
        ready->ops[i] = (struct op){.next = insn->length, .count = 1};
    ready->ops[1].start = insn->length;
    ready->ops[1].run = op_end;
    op_build(cpu, &ready->ops[0], insn, &ready->full, cpu->block_mode | BLOCK_SINGLE);
    return true;
}

/* Takes an interrupt shadow away if nothing else asks for a closer look, and nothing that it holds
 * back waits. */
static bool shadow_passes(struct cpu *cpu)
{
    if (!cpu->interrupt_shadow)
        return false;
    cpu->interrupt_shadow = false;
    run_special_follow(cpu);
    if (cpu->special == 0)
        return true;
    cpu->interrupt_shadow = true;
    run_special_follow(cpu);
    return false;
}

bool interp_ready_run(struct cpu *cpu, const void *place)
{
    const struct ready *ready = place;
    u64 next_rip = cpu->rip + ready->ops[0].next;
    cpu->counters.insns_interpreted[ready->form]++;
    cpu->leave_block = false;
    cpu->gpr[OP_RIP] = cpu->rip;
    flags_from_rflags(cpu);
    ready->ops[0].run(cpu, ready->ops);
    flags_to_rflags(cpu);
    cpu->replay.done = cpu->replay.next = 0;
    return cpu->rip == next_rip && (cpu->special == 0 || (ready->inner && shadow_passes(cpu)));
}
