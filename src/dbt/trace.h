/*
 * dbt/trace.h - what the translator makes of guest code, told block by block to who wants to see
 * it.
 *
 * With a tracer each block counts how often it is entered at its start, which costs a little.
 *
 * Runs   the tracer's calls on the vCPU's thread; never two at once in a group of vCPUs. The
 * guest's vector state is saved before them, so they may be any host code.
 */
#ifndef DBT_TRACE_H
#define DBT_TRACE_H

#include "base/types.h"
#include "x86/decode.h"

struct cpu;

/* One guest instruction of a block, and where its hot host code begins. */
struct trace_insn {
    u64 rip;
    const struct insn *insn;
    const u8 *bytes;
    const char *how; /* "generic", "special", "nothing", "interpret" */
    u32 live_flags;  /* arithmetic flags that are live before it */
    const u8 *code;
};

/* A way out of a block to an address known when it was translated. */
struct trace_exit {
    u64 rip;
    bool other_page; /* linked through a guard */
};

/* A block just translated. Pointers are borrowed for the call. */
struct trace_block {
    unsigned cpu, number; /* a number is used again when its region was emptied */
    u64 rip;
    gpa_t gpa;
    unsigned code_bytes; /* 4 or 8 */
    bool relative;       /* serves every address at which its page is mapped */
    unsigned mode;       /* enum jit_mode_bit of jit/ */
    unsigned low, high;  /* the bytes of the page that it depends on */
    const struct trace_insn *insns;
    unsigned insn_count;
    const struct trace_exit *exits;
    unsigned exit_count;
    const u8 *code, *cold; /* host code; it is executed at CODE_RX and COLD_RX */
    u64 code_rx, cold_rx;
    unsigned hot_bytes, cold_bytes;
};

struct jit_tracer {
    /* Whether the block at RIP is of interest. */
    bool (*wants)(void *ctx, u64 rip);
    void (*block)(void *ctx, const struct trace_block *block);
    /* How often the block NUMBER was entered at its start, when it is dropped or the vCPU ends; not
     * called for those that never were. */
    void (*runs)(void *ctx, unsigned cpu, unsigned number, u64 rip, u64 count);
    void *ctx; /* borrowed */
};

/* From now on TRACER (borrowed, until jit_free) hears of each block that CPU and those it shares
 * code with translate. -ENOMEM.
 */
MUST_CHECK int jit_trace(struct cpu *cpu, const struct jit_tracer *tracer);

#endif
