/*
 * dbt/interp/sys_table.c - which handler a system instruction has.
 */
#include "dbt/interp/sys_ops_priv.h"

#define SYS_OP_ENTRY(name, number) [number] = op_##name,

const interp_handler interp_system_handlers[OP_COUNT] = {
    SYS_OPS_SEG(SYS_OP_ENTRY) SYS_OPS(SYS_OP_ENTRY)
        /* The same as another one, or not there: SMM, MONITOR, SVM and VMX are not offered. */
        [OP_INVD] = op_wbinvd,
    [OP_VMMCALL] = op_vmcall,
    [OP_RSM] = op_undefined,
    [OP_MONITOR] = op_undefined,
    [OP_MWAIT] = op_undefined,
    [OP_SVM] = op_undefined,
    [OP_VMX] = op_undefined,
};
