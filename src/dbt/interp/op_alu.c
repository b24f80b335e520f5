/*
 * dbt/interp/op_alu.c - fast ops: arithmetic and logic.
 */
#include "dbt/interp/op_priv.h"

bool op_select_alu(struct op *op, const struct insn *insn)
{
    return false;
}
bool op_select_move(struct op *op, const struct insn *insn)
{
    return false;
}
bool op_select_shift(struct op *op, const struct insn *insn)
{
    return false;
}
bool op_select_flow(struct op *op, const struct insn *insn, unsigned mode)
{
    return false;
}
