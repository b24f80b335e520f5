/*
 * dbt/simd/simd_priv.h - what the files of this folder share: plans, thunks, the state image.
 */
#ifndef DBT_SIMD_SIMD_PRIV_H
#define DBT_SIMD_SIMD_PRIV_H

#include "base/codemem.h"
#include "base/types.h"
#include "dbt/cpu.h"
#include "dbt/simd.h"
#include "x86/decode.h"

/* Which bits of CR0, CR4, XCR0 and the mode must allow an instruction (SDM vol. 3A 2.5, 13.1). */
enum simd_gate {
    GATE_NEVER, /* the guest's CPUID hides it: #UD */
    GATE_X87,
    GATE_WAIT,
    GATE_MMX,
    GATE_SSE,
    GATE_AVX,
    GATE_FXSAVE,
    GATE_XSAVE,
    GATE_COUNT
};

/* Who runs a plan. */
enum simd_runner {
    RUN_THUNK, /* the thunk, on the memory operand */
    RUN_INIT,  /* FNINIT */
    RUN_LDMXCSR,
    RUN_MASKMOV,
    RUN_VMASKMOV,
    RUN_GATHER,
    RUN_FLDENV,
    RUN_FSTENV,
    RUN_FRSTOR,
    RUN_FSAVE,
    RUN_FXSAVE,
    RUN_FXRSTOR,
    RUN_XSAVE,
    RUN_XRSTOR,
    RUN_COUNT
};

/* How one form of an instruction is run; found by its contents, so equal forms share one. */
struct simd_plan {
    u32 code;      /* offset of its thunk in the code memory */
    u16 fop;       /* x87: the opcode that FNSTENV shows, 11 bits */
    u8 code_bytes; /* of the thunk */
    u8 gate;       /* enum simd_gate */
    u8 runner;     /* enum simd_runner */
    u8 bytes;      /* of the thunk's memory operand; 0: none */
    u8 align_mask; /* address bits that must be 0 (#GP) */
    u8 check_mask; /* and with alignment checking on (#AC) */
    u8 writes;     /* the memory operand is written (else read) */
    u8 tracks;     /* a non-control x87 instruction: moves the last-instruction pointers */
    u8 waits;      /* takes a pending #MF before it looks at its memory operand */
};

enum {
    PLAN_COUNT = 16384,
    PLAN_HASH_COUNT = 2 * PLAN_COUNT,
    THUNK_BYTES_MAX = 80,
    CODE_BYTES = 1 << 20,
    VECTOR_COUNT = 16,
    VECTOR_THUNK_BYTES = 16 /* of each fixed thunk that moves one vector register */
};

/* The x87 last-instruction registers (SDM vol. 1 8.1.8). The host's own hold addresses of this
 * process, which the guest must not see, so they are kept here and put into every image that
 * leaves. */
struct simd_pointers {
    u64 fip, fdp;
    u16 fcs, fds, fop;
};

struct simd {
    struct codemem code; /* owned */
    u32 code_used;
    u32 code_fixed; /* where the thunks that a flush keeps end */
    u32 plan_count;
    u32 generation;          /* of plans; counts flushes, from 1 */
    struct simd_plan *plans; /* owned: PLAN_COUNT */
    u16 *hash;               /* owned: PLAN_HASH_COUNT plan indices + 1; 0: free */
    u64 host_components;     /* what to load: also AVX-512, to its initial state */
    u64 components;          /* x87, SSE, and AVX where the host has it */
    struct simd_pointers last;
    /* The result of a store that left to the machine half way; see simd_store_bounced. */
    struct {
        bool valid;
        u64 rip;
    } store;
    u8 *bounce; /* borrowed from bounce_memory: 1024 bytes, aligned to 64 */
    u8 bounce_memory[1024 + 64];
};

typedef u64 simd_thunk(struct cpu *cpu, void *memory);

/* ---- emit.c ---- */

/* A thunk in the making. */
struct simd_emit {
    u8 code[THUNK_BYTES_MAX];
    unsigned count;
};

/* Writes the thunk of INSN, code of CODE_BYTES, into EMIT. */
void simd_emit_thunk(struct simd_emit *emit, const struct insn *insn, unsigned code_bytes);
/* Writes the fixed thunk that stores YMM (XMM without AVX) REGISTER to memory, or loads it. */
void simd_emit_vector(struct simd_emit *emit, unsigned reg, bool avx, bool store);

/* ---- plan.c ---- */

/* The plan for INSN now, as the word that simd_run keeps. */
u64 simd_prepare(struct cpu *cpu, const struct insn *insn);

static inline simd_thunk *simd_code(const struct simd *simd, u32 offset)
{
    return (simd_thunk *)(uintptr_t)(simd->code.execute + offset);
}

/* Moves 32 bytes (16 without AVX) between vector register REG and memory. State must be live. */
static inline void simd_vector_get(struct cpu *cpu, unsigned reg, void *to)
{
    simd_code(cpu->simd, (reg & 15) * VECTOR_THUNK_BYTES)(cpu, to);
}

static inline void simd_vector_set(struct cpu *cpu, unsigned reg, const void *from)
{
    simd_code(cpu->simd, (VECTOR_COUNT + (reg & 15)) * VECTOR_THUNK_BYTES)(cpu, (void *)from);
}

/* ---- simd.c ---- */

/* Copy between guest memory and a buffer: at once where one page of RAM holds it all, else by
 * accesses as wide as devices like them. A write must have been probed. */
void simd_memory_read(struct cpu *cpu, gva_t gva, void *to, size_t bytes);
void simd_memory_write(struct cpu *cpu, gva_t gva, const void *from, size_t bytes);
/* #AC when alignment checking is on and GVA has bits of MASK. */
static inline void simd_align_check(struct cpu *cpu, gva_t gva, u64 mask)
{
    if (unlikely(cpu->align_check) && (gva & mask) != 0)
        cpu_raise_error(cpu, X86_AC_FAULT, 0);
}

/* Runs PLAN's thunk on MEMORY; raises what it trapped. */
void simd_call(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan,
               void *memory);
/* #GP for an operand in the stack segment that has bits of MASK: misalignment counts before what
 * insn_linear would raise, and only there is that another vector. */
void simd_stack_align_check(struct cpu *cpu, const struct insn *insn, u64 mask);
/* Faults as a write of a whole image does: at its last byte first, then from its start. */
void simd_image_probe(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access);
/* Raises a pending #MF, for instructions whose memory accesses come after it. True when none is
 * pending; false when one is and must be ignored, so that only a thunk may run a waiting
 * instruction. */
bool simd_wait(struct cpu *cpu);
/* Moves the last-instruction registers to INSN. */
void simd_track(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan);
/* Whether the bounce buffer holds the finished result of this very instruction, whose store the
 * machine has answered in part; else marks that it will from now on. See simd.c. */
bool simd_store_resumed(struct cpu *cpu);
void simd_store_begun(struct cpu *cpu);
/* Writes BYTES of the bounce buffer to GVA and ends the store. */
void simd_store_finish(struct cpu *cpu, gva_t gva, size_t bytes);

/* ---- runners ---- */

typedef void simd_runner_fn(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan);
simd_runner_fn simd_run_maskmov, simd_run_vmaskmov, simd_run_gather;
simd_runner_fn simd_run_fldenv, simd_run_fstenv, simd_run_frstor, simd_run_fsave;
simd_runner_fn simd_run_fxsave, simd_run_fxrstor, simd_run_xsave, simd_run_xrstor;

/* ---- state.c ---- */

/* Offsets in the XSAVE image, standard format (SDM vol. 1 13.4). */
enum {
    IMAGE_FCW = 0,
    IMAGE_FSW = 2,
    IMAGE_FTW = 4,
    IMAGE_FOP = 6,
    IMAGE_FIP = 8,
    IMAGE_FDP = 16,
    IMAGE_MXCSR = 24,
    IMAGE_MXCSR_MASK = 28,
    IMAGE_ST = 32,
    IMAGE_XMM = 160,
    IMAGE_LEGACY_END = 416,
    IMAGE_FCS = 464, /* ours, in what is free for software: the selectors that belong to FIP... */
    IMAGE_FDS = 466, /* ...and FDP, for which the 64-bit format has no room */
    IMAGE_HEADER = 512,
    IMAGE_XSTATE_BV = 512,
    IMAGE_XCOMP_BV = 520,
    IMAGE_YMM = 576,
    IMAGE_END = 832
};
enum { COMPONENT_X87 = 1, COMPONENT_SSE = 2, COMPONENT_AVX = 4 };
/* Bit 17 (misaligned SSE) exists only on some processors and is hidden, so that a guest may move.
 */
enum { MXCSR_VALID = 0xffff, MXCSR_DEFAULT = 0x1f80, FCW_DEFAULT = 0x37f };

/* A last-instruction selector as a protected-mode image shows it: zero where CPUID says that the
 * processor no longer keeps them. */
u16 simd_selector(const struct cpu *cpu, u16 selector);

/* Copies the live state into cpu->xsave; it stays live. */
void simd_capture(struct cpu *cpu);

static inline void simd_copy(void *to, const void *from, size_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static inline void simd_zero(void *to, size_t bytes)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

#endif
