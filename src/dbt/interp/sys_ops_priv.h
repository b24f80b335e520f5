/*
 * dbt/interp/sys_ops_priv.h - the handlers of system instructions, for sys_table.c.
 */
#ifndef DBT_INTERP_SYS_OPS_PRIV_H
#define DBT_INTERP_SYS_OPS_PRIV_H

#include "dbt/interp/interp_priv.h"
#include "dbt/interp/sys_priv.h"

/* NAME in lower case and the op it handles; one list makes the prototypes and the table. */
#define SYS_OPS_SEG(X)               \
    X(mov_seg, OP_MOV_SEG)           \
    X(mov_from_seg, OP_MOV_FROM_SEG) \
    X(push_seg, OP_PUSH_SEG)         \
    X(pop_seg, OP_POP_SEG)           \
    X(les, OP_LES)                   \
    X(lds, OP_LDS)                   \
    X(lss, OP_LSS)                   \
    X(lfs, OP_LFS)                   \
    X(lgs, OP_LGS)                   \
    X(lar, OP_LAR)                   \
    X(lsl, OP_LSL)                   \
    X(verr, OP_VERR)                 \
    X(verw, OP_VERW)                 \
    X(arpl, OP_ARPL)                 \
    X(sldt, OP_SLDT)                 \
    X(str, OP_STR)                   \
    X(lldt, OP_LLDT)                 \
    X(ltr, OP_LTR)                   \
    X(sgdt, OP_SGDT)                 \
    X(sidt, OP_SIDT)                 \
    X(lgdt, OP_LGDT)                 \
    X(lidt, OP_LIDT)                 \
    X(smsw, OP_SMSW)                 \
    X(lmsw, OP_LMSW)                 \
    X(rdfsbase, OP_RDFSBASE)         \
    X(rdgsbase, OP_RDGSBASE)         \
    X(wrfsbase, OP_WRFSBASE)         \
    X(wrgsbase, OP_WRGSBASE)         \
    X(swapgs, OP_SWAPGS)

#define SYS_OPS(X)                 \
    X(jmp_far, OP_JMP_FAR)         \
    X(call_far, OP_CALL_FAR)       \
    X(retf, OP_RETF)               \
    X(iret, OP_IRET)               \
    X(int, OP_INT)                 \
    X(int1, OP_INT1)               \
    X(int3, OP_INT3)               \
    X(into, OP_INTO)               \
    X(bound, OP_BOUND)             \
    X(undefined, OP_UD)            \
    X(syscall, OP_SYSCALL)         \
    X(sysret, OP_SYSRET)           \
    X(sysenter, OP_SYSENTER)       \
    X(sysexit, OP_SYSEXIT)         \
    X(cli, OP_CLI)                 \
    X(sti, OP_STI)                 \
    X(clac, OP_CLAC)               \
    X(stac, OP_STAC)               \
    X(mov_from_cr, OP_MOV_FROM_CR) \
    X(mov_to_cr, OP_MOV_TO_CR)     \
    X(mov_from_dr, OP_MOV_FROM_DR) \
    X(mov_to_dr, OP_MOV_TO_DR)     \
    X(clts, OP_CLTS)               \
    X(rdmsr, OP_RDMSR)             \
    X(wrmsr, OP_WRMSR)             \
    X(xgetbv, OP_XGETBV)           \
    X(xsetbv, OP_XSETBV)           \
    X(rdpmc, OP_RDPMC)             \
    X(rdpid, OP_RDPID)             \
    X(cpuid, OP_CPUID)             \
    X(wbinvd, OP_WBINVD)           \
    X(serialize, OP_SERIALIZE)     \
    X(invlpg, OP_INVLPG)           \
    X(invpcid, OP_INVPCID)         \
    X(vmcall, OP_VMCALL)

#define SYS_OP_PROTOTYPE(name, number) void op_##name(struct cpu *cpu, const struct insn *insn);
SYS_OPS_SEG(SYS_OP_PROTOTYPE)
SYS_OPS(SYS_OP_PROTOTYPE)
#undef SYS_OP_PROTOTYPE

#endif
