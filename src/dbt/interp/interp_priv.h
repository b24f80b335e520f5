/*
 * dbt/interp/interp_priv.h - how an instruction's handler looks, and what handlers share.
 *
 * Handlers. `void op_name(struct cpu *cpu, const struct insn *insn)` executes one instruction. When
 * it is called, cpu->rip is the instruction's own address, cpu->next_rip that of the following one
 * (cut to 32 bits outside 64-bit code), and cpu->rflags a full image. A handler that jumps sets
 * cpu->next_rip. When the handler returns the caller commits: rip becomes next_rip. A handler that
 * raises has changed nothing (see dbt/cpu.h); it never sets cpu->rip itself.
 *
 * What the caller has checked before: that the CPUID feature is there (#UD), ATTR_PROTECTED (#UD in
 * real and virtual-8086 mode) and ATTR_PRIVILEGED (#GP(0) unless CPL is 0), in this order. Handlers
 * of ATTR_IOPL instructions check for themselves. An instruction with ATTR_ENDS_BLOCK may change
 * the mode; its handler calls cpu_mode_update when it did.
 *
 * A repeated string instruction whose count has not run out commits what it has done to registers
 * and memory and sets next_rip = rip.
 *
 * Tables. A handler is found by enum x86_op in one of two tables, interp_integer_handlers
 * (handlers.c) and interp_system_handlers (sys_table.c); x87 and vector classes go to simd_execute.
 * An op in none of them leaves the run loop with EXIT_FAILED. integer: OP_ADD to OP_LEAVE, near
 * control flow, strings, IN and OUT, HLT, NOP, PAUSE, RDTSC, RDTSCP, RDRAND, RDSEED, fences,
 * cache-line hints, prefetches. system:  far transfers, INT and IRET, BOUND, UD, segments and
 * descriptor tables, CLI, STI, CPUID, RDPMC, MSRs, control and debug registers, TLB and cache
 * control, SYSCALL and SYSENTER families, SWAPGS, FS/GS bases, RDPID, MONITOR, MWAIT, CLAC, STAC,
 * XGETBV, XSETBV, hypercalls, SVM, VMX; PUSH_SEG, POP_SEG, MOV_SEG and MOV_FROM_SEG as well.
 */
#ifndef DBT_INTERP_INTERP_PRIV_H
#define DBT_INTERP_INTERP_PRIV_H

#include "base/bits.h"
#include "dbt/cpu.h"
#include "x86/decode.h"

typedef void (*interp_handler)(struct cpu *cpu, const struct insn *insn);

extern const interp_handler interp_integer_handlers[OP_COUNT];
extern const interp_handler interp_system_handlers[OP_COUNT];

/* ---- registers ----------------------------------------------------------------------------------
 */

/* General register REG as INSN names it (AH to BH where it means these), BYTES wide. Writing 4
 * bytes clears the upper half, 1 and 2 bytes keep the rest. */
u64 interp_get_gpr(const struct cpu *cpu, const struct insn *insn, unsigned reg, unsigned bytes);
void interp_set_gpr(struct cpu *cpu, const struct insn *insn, unsigned reg, unsigned bytes,
                    u64 value);

/* The same for a fixed register where no AH to BH can be meant. */
static inline void gpr_set(struct cpu *cpu, unsigned reg, unsigned bytes, u64 value)
{
    if (bytes == 4)
        cpu->gpr[reg] = (u32)value;
    else
        cpu->gpr[reg] = (cpu->gpr[reg] & ~bytes_mask(bytes)) | (value & bytes_mask(bytes));
}

/* ---- ModRM.rm operands: a register or memory
 * ----------------------------------------------------- */

u64 interp_read_rm(struct cpu *cpu, const struct insn *insn, unsigned bytes);
void interp_write_rm(struct cpu *cpu, const struct insn *insn, unsigned bytes, u64 value);

/* ---- the stack
 * ------------------------------------------------------------------------------------ */

/* Pushes or pops one value with the current stack size, and moves RSP after the access. */
void interp_push(struct cpu *cpu, unsigned bytes, u64 value);
u64 interp_pop(struct cpu *cpu, unsigned bytes);
/* For instructions with several: *rsp is a local copy of RSP that moves; interp_set_rsp commits it.
 */
void interp_push_at(struct cpu *cpu, u64 *rsp, unsigned bytes, u64 value);
u64 interp_pop_at(struct cpu *cpu, u64 *rsp, unsigned bytes);
/* Writes as much of RSP as the stack size says. */
void interp_set_rsp(struct cpu *cpu, u64 rsp);

/* ---- control
 * -------------------------------------------------------------------------------------- */

/* Makes TARGET the next RIP: cut to OPERAND_BYTES; #GP(0) outside the CS limit or non-canonical. */
void interp_jump(struct cpu *cpu, unsigned operand_bytes, u64 target);

/* Replaces the bits in MASK of RFLAGS, keeps the fixed ones as they must be, and follows with
 * cpu_mode_update. */
void interp_set_rflags(struct cpu *cpu, u64 value, u64 mask);

static inline unsigned cpu_iopl(const struct cpu *cpu)
{
    return (unsigned)(cpu->rflags >> 12) & 3;
}

static inline bool address_is_canonical(u64 address)
{
    return (u64)((s64)(address << 16) >> 16) == address;
}

#endif
