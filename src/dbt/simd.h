/*
 * dbt/simd.h - x87, MMX, SSE and AVX instructions of the guest, run on the host's own units.
 *
 * Each instruction becomes once a host thunk: the same instruction with its memory operand at a
 * fixed pointer register and its general registers exchanged with the state block. The guest's
 * vector state stays in the host's registers from one thunk to the next (cpu->vector_live).
 *
 * Runs   on the vCPU's thread. simd_trap also in that thread's signal handler.
 * Trust  an instruction is hostile: whatever faults inside a thunk becomes a fault of the guest.
 *
 * An unmasked floating-point exception (and, as a second fence, an instruction that the host
 * refuses) arrives as a host signal inside a thunk. The program installs one handler for SIGFPE,
 * SIGILL and SIGSEGV with SA_SIGINFO | SA_ONSTACK on each vCPU thread; it calls simd_trap with
 * pointers into the saved context, and returns when that says true. Any other such signal is a
 * defect of this program.
 */
#ifndef DBT_SIMD_H
#define DBT_SIMD_H

#include "base/types.h"
#include "x86/decode.h"

struct cpu;

/* Makes or frees cpu->simd. -ENOMEM; -ENOTSUP on a host without XSAVE. cpu->cpuid must be set:
 * features that it hides raise #UD (NULL hides nothing). */
MUST_CHECK int simd_init(struct cpu *cpu);
void simd_fini(struct cpu *cpu);

/* Whether INSN is simd's to execute. */
static inline bool simd_handles(const struct insn *insn)
{
    return insn->op >= OP_X87 && insn->op < OP_COUNT;
}

/* simd_execute with a memory: *PREPARED, a word that belongs to this one decoded instruction and
 * starts as 0, keeps its thunk from one execution to the next. */
void simd_run(struct cpu *cpu, const struct insn *insn, u64 *prepared);

/* For the signal handler. TRAP is the exception's vector (REG_TRAPNO); PC, SP and RESULT point to
 * the interrupted RIP, RSP and RAX. True when the trap was a thunk's: the context is changed so
 * that the thunk returns the trap, which then becomes the guest's. CPU may be NULL: false. */
bool simd_trap(const struct cpu *cpu, unsigned trap, u64 *pc, u64 *sp, u64 *result);

#endif
