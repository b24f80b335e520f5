/*
 * dbt/interp/op_priv.h - decoded blocks and the short forms of instructions that run fast.
 *
 * A block is a run of instructions from one page (the last may reach into the next), decoded into
 * ops. An op's `run` executes it and then calls the next op's run as its last act, which compiles
 * to a jump; the depth of calls is bounded by the block's length even where it does not. An op that
 * leaves the block sets cpu->rip and returns.
 *
 * While a block runs, cpu->gpr[OP_RIP] is the RIP at which it began; an op knows its distance from
 * there, so a block serves every address at which its page is mapped. cpu->rip is stale then:
 * whatever may fault or look at it sets it first (op_at). OF is kept in cpu->overflow, see
 * dbt/cpu.h.
 *
 * Forms without a fast op run through the handlers of interp_priv.h (op_plain.c).
 */
#ifndef DBT_INTERP_OP_PRIV_H
#define DBT_INTERP_OP_PRIV_H

#include "dbt/interp/interp_priv.h"
#include "dbt/tlb.h"

enum { OP_RIP = X86_GPR_COUNT, OP_ZERO = X86_GPR_COUNT + 1 };
enum { OVERFLOW_IN_RFLAGS = 2 }; /* cpu->overflow when rflags is a full image */
enum { BLOCK_OPS_MAX = 32 };

struct op;
typedef void (*op_run)(struct cpu *cpu, const struct op *op);

/* An instruction in full, for ops that need more than their short form. */
struct op_insn {
    struct insn insn;
    interp_handler handler;
    u64 prepared; /* simd_run's word */
};

enum op_address {
    OP_ADDRESS_PLAIN,   /* 64-bit, no segment base */
    OP_ADDRESS_32,      /* flat 32-bit code */
    OP_ADDRESS_BASE,    /* 64-bit with FS or GS base */
    OP_ADDRESS_CHECKED, /* seg_linear decides */
    OP_ADDRESS_NONE     /* not expressible here: the plain handler computes it */
};

/* Register fields are byte offsets into cpu->gpr, so that AH is 1. */
struct op {
    op_run run;
    u64 imm;
    struct op_insn *full; /* NULL where the short form says everything */
    s32 disp;
    u8 dst, src, base, index;
    u8 scale;
    u8 address;      /* enum op_address */
    u16 start, next; /* of the instruction and its successor, from the block's first byte */
    u8 count;        /* instructions of the block up to and with this one */
    u8 segment;
};

/* What a block is decoded for, besides its physical address. */
enum block_mode {
    BLOCK_CODE_BYTES = 0x0e, /* 2, 4 or 8 */
    BLOCK_FLAT = 0x10,
    BLOCK_SINGLE = 0x20, /* one instruction only: something must be checked after each */
    BLOCK_USER = 0x40    /* not of the block but of its fetch: CPL 3 */
};

struct block {
    struct block *next; /* with the same hash of physical address */
    gpa_t gpa;
    const u32 *generation;  /* of its page; the block is stale when it is no longer... */
    u32 generation_seen;    /* ...this */
    u32 generation_seen2;   /* for a last instruction that reaches into the next page */
    const u32 *generation2; /* NULL when it does not */
    gpa_t gpa2;
    u16 bytes;
    u8 op_count;
    u8 mode;    /* enum block_mode without BLOCK_USER */
    bool fresh; /* not run yet: it runs once even if its bytes were written meanwhile */
    u16 form;   /* the first instruction's number in the decoder's table; 0: none */
    struct op ops[];
};

/* Finds or decodes the block at cpu->rip, LINEAR, for MODE (with BLOCK_USER); raises fetch faults
 * and #UD. Never NULL. */
struct block *block_get(struct cpu *cpu, gva_t linear, unsigned mode);
MUST_CHECK int block_cache_init(struct cpu *cpu);
void block_cache_fini(struct cpu *cpu);
void block_cache_flush(struct cpu *cpu);

/* Where blocks were found lately, by linear address. */
enum { BLOCK_SLOTS = 1 << 14 };
struct block_slot {
    gva_t linear;
    u64 stamp; /* fetch epoch and mode for which the entry was found */
    struct block *block;
};
struct block_cache {
    struct block_slot slots[BLOCK_SLOTS];
    struct block **buckets; /* by physical address */
    u8 *arena;
    size_t arena_used;
};

static inline unsigned block_slot_index(gva_t linear, unsigned mode)
{
    return (unsigned)(linear ^ linear >> 14 ^ mode << 8) & (BLOCK_SLOTS - 1);
}

static inline u64 block_stamp(const struct cpu *cpu, gva_t linear, unsigned mode)
{
    return cpu->tlb.fetch_epoch[cpu_code_half(cpu, linear)] << 8 | mode;
}

/* The same as block_get, after a look at where the block was found last. */
static inline const struct block *block_find(struct cpu *cpu, gva_t linear, unsigned mode)
{
    const struct block_slot *slot = &cpu->blocks->slots[block_slot_index(linear, mode)];
    const struct block *block = slot->block;
    if (unlikely(slot->linear != linear || slot->stamp != block_stamp(cpu, linear, mode) ||
                 __atomic_load_n(block->generation, __ATOMIC_RELAXED) != block->generation_seen))
        block = block_get(cpu, linear, mode);
    return block;
}

/* Makes OP, whose positions are filled, run INSN. FULL is room for the instruction in full; where
 * op needs it, op->full is set. */
void op_build(struct cpu *cpu, struct op *op, const struct insn *insn, struct op_insn *full,
              unsigned mode);

/* The short form of INSN, if there is one: sets run, registers and immediate. The address part is
 * filled already. False: op_plain does it. */
bool op_select_alu(struct op *op, const struct insn *insn);
bool op_select_move(struct op *op, const struct insn *insn);
bool op_select_shift(struct op *op, const struct insn *insn);
bool op_select_flow(struct op *op, const struct insn *insn, unsigned mode);

/* Runs the instruction through its handler. */
void op_plain(struct cpu *cpu, const struct op *op);
/* The same for instructions that may change the mode, and that end blocks. */
void op_system(struct cpu *cpu, const struct op *op);
/* x87 and vector instructions. */
void op_simd(struct cpu *cpu, const struct op *op);
/* Closes a block that ends for want of room or bytes. */
void op_end(struct cpu *cpu, const struct op *op);
void op_no_instruction(struct cpu *cpu, const struct op *op);
void op_unknown(struct cpu *cpu, const struct op *op);
/* First in a block whose instruction reaches into a second page: checks that one as well. */
void op_check_second_page(struct cpu *cpu, const struct op *op);

/* ---- flags --------------------------------------------------------------------------------------
 */

static inline void flags_to_rflags(struct cpu *cpu)
{
    if (cpu->overflow == OVERFLOW_IN_RFLAGS)
        return;
    cpu->rflags = (cpu->rflags & ~(u64)X86_OF) | (u64)cpu->overflow << 11;
    cpu->overflow = OVERFLOW_IN_RFLAGS;
}

static inline void flags_from_rflags(struct cpu *cpu)
{
    cpu->overflow = (cpu->rflags & X86_OF) != 0;
}

/* AX after LAHF and SETO AL: one 16-bit word that begins with cpu->overflow. */
typedef u16 u16_unaligned __attribute__((aligned(1), may_alias));
_Static_assert(offsetof(struct cpu, overflow) + 1 == offsetof(struct cpu, rflags), "one store");

static inline u32 flags_get(const struct cpu *cpu)
{
    return *(const u16_unaligned *)&cpu->overflow;
}

static inline void flags_set(struct cpu *cpu, u32 ax)
{
    *(u16_unaligned *)&cpu->overflow = (u16)ax;
}

/* ---- inside a fast op
 * ---------------------------------------------------------------------------- */

#define OP_REG(type, offset) (*(type *)(void *)((u8 *)cpu->gpr + (offset)))
#define OP_NEXT return (op + 1)->run(cpu, op + 1)

/* Makes cpu->rip true, for what may fault. */
static inline void op_at(struct cpu *cpu, const struct op *op)
{
    cpu->rip = cpu->gpr[OP_RIP] + op->start;
}

/* Leaves the block for the next instruction. */
static inline void op_leave(struct cpu *cpu, const struct op *op)
{
    cpu->rip = cpu->gpr[OP_RIP] + op->next;
    cpu->counters.instructions += op->count;
}

gva_t op_linear_slow(struct cpu *cpu, const struct op *op, u64 offset, unsigned bytes,
                     enum cpu_access access);
u64 op_read_slow(struct cpu *cpu, const struct op *op, gva_t gva, unsigned bytes);
/* False when the block must be left. */
bool op_write_slow(struct cpu *cpu, const struct op *op, gva_t gva, unsigned bytes, u64 value);

static inline u64 op_offset(const struct cpu *cpu, const struct op *op)
{
    return OP_REG(const u64, op->base) + (OP_REG(const u64, op->index) << op->scale) +
           (u64)(s64)op->disp;
}

static inline gva_t op_linear(struct cpu *cpu, const struct op *op, unsigned bytes,
                              enum cpu_access access)
{
    u64 offset = op_offset(cpu, op);
    if (likely(op->address == OP_ADDRESS_PLAIN))
        return offset;
    return op_linear_slow(cpu, op, offset, bytes, access);
}

#define OP_LOAD(type, name, gva_expression)                                     \
    type name;                                                                  \
    do {                                                                        \
        gva_t gva_ = (gva_expression);                                          \
        const u8 *host_ = tlb_read_hit(cpu, gva_, sizeof(type));                \
        name = likely(host_) ? (type)host_load(host_, sizeof(type))             \
                             : (type)op_read_slow(cpu, op, gva_, sizeof(type)); \
    } while (0)

/* Must be the op's last act but for OP_NEXT. */
#define OP_STORE(type, gva_expression, value)                          \
    do {                                                               \
        gva_t gva_ = (gva_expression);                                 \
        u8 *host_ = tlb_write_hit(cpu, gva_, sizeof(type));            \
        if (likely(host_))                                             \
            host_store(host_, sizeof(type), (value));                  \
        else if (!op_write_slow(cpu, op, gva_, sizeof(type), (value))) \
            return op_leave(cpu, op);                                  \
    } while (0)

#endif
