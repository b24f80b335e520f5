/*
 * dbt/jit/keep.c - flags that an instruction must leave alone, kept in cpu->jit_target while its
 * tests change them.
 *
 * For what is long anyway: it costs some 20 cycles.
 */
#include "dbt/jit/draft_priv.h"

enum { RAX = 0 };

void keep_begin(struct draft *draft, const struct draft_insn *one)
{
    struct emitter *out = &draft->out;
    if (!one->live_before)
        return;
    emit_pushf(out);
    emit_pop(out, T1);
    emit_store(out, T1, STATE, STATE_AT(jit_target));
}

void keep_otherwise(struct draft *draft, const struct draft_insn *one, unsigned condition)
{
    unsigned before = draft->cold_count;
    draft_otherwise_interpret(draft, one, emit_jcc(&draft->out, condition, NULL));
    if (draft->cold_count > before)
        draft->colds[before].restore_flags = one->live_before != 0;
}

void keep_restore(struct emitter *out)
{
    emit_store(out, RAX, STATE, STATE_AT(jit_spill));
    emit_load32(out, RAX, STATE, STATE_AT(jit_target));
    emit_set_flags(out, T0);
    emit_load(out, RAX, STATE, STATE_AT(jit_spill));
}

void keep_end(struct draft *draft, const struct draft_insn *one)
{
    if (one->live_before)
        keep_restore(&draft->out);
}
