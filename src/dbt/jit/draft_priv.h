/*
 * dbt/jit/draft_priv.h - one block while it is being translated: what front, access, operand and
 * control code share.
 */
#ifndef DBT_JIT_DRAFT_PRIV_H
#define DBT_JIT_DRAFT_PRIV_H

#include "dbt/jit/encode.h"
#include "dbt/jit/slow_priv.h"

enum { COLD_MAX = 6 * JIT_BLOCK_INSNS + 16 };

/* How an instruction is translated. */
enum insn_how {
    HOW_GENERIC, /* itself, with other registers or another memory operand */
    HOW_SPECIAL, /* by a translation of its own (special.c, control.c) */
    HOW_NOTHING, /* no code at all */
    HOW_INTERPRET
};

struct draft_insn {
    struct insn insn;
    u16 offset; /* from the block's first byte */
    u8 bytes[INSN_MAX_BYTES + 1];
    u8 how;          /* enum insn_how */
    bool same_gprs;  /* generic: general registers in its encoding are the host's as well */
    bool flags_away; /* the guest's flags are not in the host's while it is done (away.c) */
    u8 *code;        /* where its hot code begins */
    u32 live_before; /* arithmetic flags that it or what follows reads */
    u32 killed;      /* those that it gives new values, or values that nobody may rely on */
    u32 live;        /* in a stretch (group.c): the same, before away.c took some of them */
    u8 group;        /* in a stretch: its operand's group, or GROUP_NONE */
    u8 *again;       /* in a stretch: its code where all is tested */
};
enum { GROUP_NONE = 0xff };

/* What was decoded lately, by the first eight bytes: of instructions that are no longer. */
struct draft_known {
    u64 bytes;
    struct insn insn; /* its length is 0 where there is none */
    u32 killed;
};
enum { DRAFT_KNOWN = 1024 };

enum cold_kind {
    COLD_SLOW,    /* the instruction is interpreted */
    COLD_ACCESS,  /* a memory access that missed */
    COLD_EXIT,    /* an exit's stub */
    COLD_READY,   /* an interpreted instruction in decoded form */
    COLD_STRETCH, /* to where all is tested (stretch.c) */
    COLD_AGAIN    /* the block cannot run as things are: back to C, to find it anew */
};

/* How flags are made again (flags.c). */
struct flags_recipe {
    const struct draft_insn *from; /* what has made them; NULL: no recipe */
    u16 op;
    u8 gpr;       /* where its result is, */
    s32 imm;      /* what it added or subtracted, */
    s32 moved;    /* and how far RSP has moved since */
    bool wide;    /* the result has 64 bits, else 32 */
    bool scratch; /* T1 is lost */
    u32 inputs;   /* the GPRs that must still be what they were, a bit each */
};

/* A memory operand's address. */
struct guest_ea {
    u8 base, index, scale; /* GPR, INSN_RIP, INSN_NO_REG */
    u8 segment;
    u8 address_bytes;
    s64 disp;
};

/* Code that is placed after the block's hot code. */
struct cold {
    enum cold_kind kind;
    bool restore_flags; /* keep_restore must come first */
    bool restore_rcx;   /* rcx is in the spill slot */
    u8 *jump;           /* the displacement of the branch that comes here; may be NULL for exits */
    u8 *resume;         /* slow: the end of the instruction */
    u32 number;         /* slow: meta; exit: the exit */
    u8 *poll;           /* a second branch that comes here; may be NULL */
    u8 *retry, *done;   /* access: before the test, and after it */
    u64 address;        /* access of FORM_CONSTANT */
    struct guest_ea ea; /* access of FORM_KEEP */
    const struct draft_insn *one;
    u32 stub; /* access: what is called */
    u8 bytes, form, line;
    bool line_sum;              /* of a line: the address is in T1; else T0 is it and minus_base */
    struct flags_recipe recipe; /* access: the flags are lost and must be made again */
    const struct draft_insn *group; /* access: of these instructions together (stack.c), or NULL */
    u8 group_count;
    const struct draft_insn *again; /* what misses in a stretch goes on where this is tested */
    bool flags_away;                /* and flags are away before */
    u8 span;                        /* access: it is a group's test of so many bytes */
};

/* What a register holds: a value that something had or left, and a constant. */
struct draft_value {
    u8 id; /* by number: what that GPR had when the stretch began */
    s32 add;
};

/* Operands that differ by constants. */
struct draft_group {
    u8 base, index, scale, segment; /* values */
    struct guest_ea ea;             /* the lowest byte, where the test is */
    u8 first, last, check;          /* instructions: the operands', and the one before which the
                                     * test is */
    bool write, used;
    bool write_branch; /* a branch stands before the first write */
    int branch;        /* the last one before the first operand, or -1 */
    s32 low, high;     /* the bytes from the values on */
    unsigned saved;    /* instructions of translated code */
    bool stride_known; /* the test is before the loop: */
    s32 stride;        /* from round to round */
    unsigned line;
};

/* What is known of a run of instructions, and the stretch in it. */
enum { DRAFT_GROUPS = CPU_JIT_GROUPS, DRAFT_STRETCHES = 4 };
struct group_plan {
    bool any;         /* there is a stretch: */
    u8 start, end;    /* its first instruction, and the one behind it */
    u8 next;          /* the first instruction that was not looked at */
    u8 counter;       /* a GPR that tells rounds of the loop, */
    s32 counter_step; /* which grows by so much; 0: it is no loop */
    struct draft_group groups[DRAFT_GROUPS];
    unsigned group_count;
    int branch; /* while looking: the last one, or -1 */
    u8 next_value;
    struct draft_value values[JIT_BLOCK_INSNS + 1][X86_GPR_COUNT];
};
struct draft_stretch {
    u8 start, end;
    u8 *resume; /* behind it */
};

/* A line that a block's accesses use (line.c). */
struct draft_line {
    u64 key;
    u8 line;
};
enum { DRAFT_LINES = 20 };

struct draft {
    struct cpu *cpu;
    struct jit *jit;
    struct emitter out;
    u32 number;
    u64 rip;            /* of the block, as its page has it */
    const u8 *page;     /* the guest's page */
    const u8 *tail;     /* the next page, for an instruction that ends there; else NULL */
    unsigned start;     /* offset of rip in it */
    unsigned low, high; /* the part of the page that the translation depends on */
    u8 mode;
    bool relative; /* RIP and what is made of it are counted from the page's home */
    unsigned privilege;
    unsigned code_bytes; /* 4 or 8: of addresses and stack words as well */
    struct draft_insn insns[JIT_BLOCK_INSNS];
    struct draft_known known[DRAFT_KNOWN], known_not; /* the latter: for all others */
    unsigned insn_count;
    u64 physical_page;
    u32 code_page; /* its number */
    bool hot;      /* lines are used for all registers */
    struct draft_line lines[DRAFT_LINES];
    unsigned line_count;
    struct group_plan plan;
    struct draft_stretch stretches[DRAFT_STRETCHES];
    unsigned stretch_count;
    const struct draft_insn *inside; /* what is translated in a stretch; NULL outside of them */
    u8 *round;                       /* where the next round of the loop begins */
    bool flags_away;                 /* as of the instruction being translated */
    bool ended;                      /* the last instruction leaves the block in all cases */
    struct cold colds[COLD_MAX];
    unsigned cold_count;
    unsigned resumed;         /* so many of them know already where they resume */
    u8 *away_entry;           /* where the block may be entered with flags put away; or NULL */
    u8 *hot_end, *cold_start; /* cold_start is NULL where there is none */
    bool failed;              /* a limit was met: the block cannot be used */
};

/* front.c: decodes the block and finds which flags are live where; sets low and high. */
void draft_decode(struct draft *draft);
/* The arithmetic flags that code at RIP may read before it writes them; all where it is not known.
 */
u32 draft_live_flags_at(struct draft *draft, u64 rip);
/* Whether the guest's bytes are still those that were decoded. */
bool draft_unchanged(const struct draft *draft);

/* access.c: makes the memory operand at EA (guest register numbers) accessible for WRITE or only
 * read. Afterwards *ret_mem is a host operand for BYTES: [T0 + T1 + disp]; scratch registers
 * otherwise lost. With KEEP_FLAGS host flags stay. */
struct access {
    struct guest_ea ea;
    unsigned bytes;
    bool write, keep_flags;
    const struct flags_recipe
        *recipe; /* without keep_flags: the caller makes them again; or NULL */
};
struct guest_ea ea_of(const struct insn *insn);
struct guest_ea ea_stack(const struct draft *draft, s64 disp);
void draft_access(struct draft *draft, const struct draft_insn *one, const struct access *access,
                  struct host_mem *ret_mem);
/* The same for the linear address in T0, for BYTES and WRITE of ACCESS; flags are lost. */
void draft_access_linear(struct draft *draft, const struct draft_insn *one,
                         const struct access *access, struct host_mem *ret_mem);
/* Folds *MEM into T0 alone, so that T1 is free; flags stay when KEEP_FLAGS. */
void draft_fold(struct draft *draft, struct host_mem *mem);
/* Computes EA without its segment into host register REG; T1 may be lost; flags stay. */
void draft_effective_address(struct draft *draft, const struct draft_insn *one,
                             const struct guest_ea *ea, unsigned reg);
/* The linear address of ACCESS into T0; T1 is lost, flags stay. */
void draft_linear_address(struct draft *draft, const struct draft_insn *one,
                          const struct access *access);
/* line.c: the same as draft_access by way of a line; false where ACCESS has none. */
bool draft_line(struct draft *draft, const struct draft_insn *one, const struct access *access,
                struct host_mem *ret_mem);
/* Before the call of a line's stub: the address into T0. */
void draft_cold_line(struct draft *draft, const struct cold *cold);
/* line.c: a line for KEY, and where its fields are. */
bool draft_group_line(struct draft *draft, unsigned *ret_line);
s32 draft_line_at(const struct draft *draft, unsigned line, size_t field);
unsigned draft_line_size(unsigned bytes);
/* group.c: makes draft->plan for the instructions from START on. */
void draft_plan(struct draft *draft, unsigned start);
/* stretch.c: before instruction AT is translated, and after the last one. */
void draft_stretch_before(struct draft *draft, unsigned at);
void draft_stretch_end(struct draft *draft);
/* Whether ONE's operand was tested with its group; the operand then. */
static inline bool draft_is_member(const struct draft *draft, const struct draft_insn *one)
{
    return draft->inside != NULL && one->group != GROUP_NONE;
}
void draft_member(struct draft *draft, const struct draft_insn *one, const struct access *access,
                  struct host_mem *ret_mem);
/* A branch back to the next round, if ONE ends a loop whose rounds were tested ahead. */
void draft_next_round(struct draft *draft, const struct draft_insn *one);
/* Leaves the stretch for where ONE is tested. */
void draft_leave_stretch(struct draft *draft);
/* The cold code: all stretches again with tests; the way there, if COLD has one. */
void draft_cold_stretches(struct draft *draft);
void draft_cold_again(struct draft *draft, const struct cold *cold);
/* stack.c: a group of pushes or pops that begins with ONE; how many they are, or 0. */
unsigned draft_stack_group(struct draft *draft, struct draft_insn *one);
static inline unsigned draft_cold_bytes(const struct draft *draft)
{
    return draft->cold_start ? (unsigned)(draft->out.at - draft->cold_start) : 0;
}
/* translate.c: one instruction. */
void draft_one(struct draft *draft, const struct draft_insn *one);
/* flags.c: finds how the flags that are live before ONE can be made again; makes them, when RSP has
 * moved by MOVED after ONE began. The registers that INSN writes. */
bool flags_recipe(const struct draft *draft, const struct draft_insn *one,
                  struct flags_recipe *recipe);
void flags_make(struct draft *draft, const struct flags_recipe *recipe, s32 moved);
u32 flags_gprs_written(const struct insn *insn);
/* slow.c: cold code for ACCESS, which JUMP leads to; retry and done are for the caller to set. */
struct cold *draft_missed(struct draft *draft, const struct draft_insn *one,
                          const struct access *access, u8 *jump);
void draft_cold_access(struct draft *draft, const struct cold *cold);
/* Marks where instructions end: slow accesses made since the last call resume here. */
void draft_resume_here(struct draft *draft);

/* operand.c */
/* Sets same_gprs where it is. */
bool generic_possible(const struct draft *draft, struct draft_insn *one);
bool draft_generic(struct draft *draft, const struct draft_insn *one);
static inline bool in_slot(unsigned gpr)
{
    return gpr >= 8 && gpr <= 11;
}
/* The host register of a guest register that is not in a slot. */
static inline unsigned host_gpr(unsigned gpr)
{
    return gpr == X86_RSP ? GUEST_RSP : gpr;
}
static inline s32 slot_at(unsigned gpr)
{
    return STATE_AT(gpr) + (s32)gpr * 8;
}
/* The host register that holds guest GPR now: its own, or SCRATCH after a load. */
unsigned draft_read_gpr(struct draft *draft, unsigned gpr, unsigned scratch);

/* special.c: translations that are not the instruction itself. */
bool special_possible(const struct draft *draft, const struct insn *insn);
void draft_special(struct draft *draft, const struct draft_insn *one);

/* bit.c: BT, BTS, BTR, BTC whose bit, by a register, may be anywhere in memory. */
bool bit_possible(const struct draft *draft, const struct insn *insn);
void draft_bit(struct draft *draft, const struct draft_insn *one);

/* The arithmetic flags that what follows ONE may read. */
u32 draft_live_after(struct draft *draft, const struct draft_insn *one);
/* The branch at JUMP leads to the interpreter, for the whole of ONE. */
void draft_otherwise_interpret(struct draft *draft, const struct draft_insn *one, u8 *jump);
/* system.c: system instructions in line. */
bool system_possible(const struct draft *draft, const struct insn *insn);
void draft_system(struct draft *draft, const struct draft_insn *one);
/* Whether STAC or CLAC, which INSN is, does anything. */
bool system_changes_privilege(const struct draft *draft, const struct insn *insn);

/* string.c: string instructions without a repeat prefix. */
bool string_possible(const struct draft *draft, const struct insn *insn);
void draft_string(struct draft *draft, const struct draft_insn *one);
/* Sets the zero flag unless the guest's DF is set. */
void string_test_direction(struct emitter *out);
/* repeat.c: REP STOS and REP MOVS. */
bool repeat_possible(const struct draft *draft, const struct insn *insn);
void draft_repeat(struct draft *draft, const struct draft_insn *one);
/* keep.c: while ONE tests: T1 is lost by the first, T0 by the last. In between, CONDITION has ONE
 * interpreted with the flags restored. */
void keep_begin(struct draft *draft, const struct draft_insn *one);
void keep_otherwise(struct draft *draft, const struct draft_insn *one, unsigned condition);
void keep_end(struct draft *draft, const struct draft_insn *one);
void keep_restore(struct emitter *out);

/* ready.c: has ONE, which is no vector instruction, interpreted from its decoded form. */
void draft_ready(struct draft *draft, const struct draft_insn *one);
struct cold;
void draft_cold_ready(struct draft *draft, const struct cold *cold);

/* control.c: branches and block ends. */
bool control_possible(const struct insn *insn);
void draft_control(struct draft *draft, const struct draft_insn *one);
void draft_exit_to(struct draft *draft, u64 rip);
void draft_interpret(struct draft *draft, const struct draft_insn *one);
void draft_cold_code(struct draft *draft);

/* away.c: called before ONE is translated: puts flags away, or takes them back, as it needs. Where
 * they are away, live_before is cleared: the instruction may change the host's. */
void draft_flags_before(struct draft *draft, struct draft_insn *one);
/* Puts them away; T1 is lost. */
void draft_flags_put_away(struct draft *draft);
/* Takes them back if they are away; T1 is lost. */
void draft_flags_back(struct draft *draft);

/* straddle.c: goes on only while the next page is TAIL_PAGE. */
void draft_expect_tail(struct draft *draft, u32 tail_page);

/* access.c: the guest address that is ADDRESS, as the page has it, into REG: its low 32 bits unless
 * WIDE. T1 may be lost; flags stay. */
void draft_address(struct draft *draft, unsigned reg, u64 address, bool wide);

/* Whether a branch to TARGET polls; each loop has such a branch, or an indirect one. By the
 * distance: in relative code the addresses may be below 0. */
static inline bool draft_is_backwards(const struct draft *draft, u64 target)
{
    return (s64)(target - draft->rip) <= 0;
}

/* RIP as code of this size has it; what is relative wraps when the delta is added. */
static inline u64 draft_wrap(const struct draft *draft, u64 rip)
{
    return draft->code_bytes == 8 || draft->relative ? rip : (u32)rip;
}

/* trace.c: with jit->tracer only. Makes the draft's code begin with counting its runs; tells of a
 * block that is whole, whose exits begin with FIRST_EXIT. */
void trace_count_run(struct draft *draft);
void trace_block(const struct draft *draft, gpa_t gpa, u32 first_exit);
/* How often the blocks ran since they were made. */
void trace_tell_runs(struct cpu *cpu, const struct jit_span *blocks);

static inline u64 insn_rip(const struct draft *draft, const struct draft_insn *one)
{
    return draft->rip + one->offset;
}
static inline u64 insn_next_rip(const struct draft *draft, const struct draft_insn *one)
{
    return draft_wrap(draft, draft->rip + one->offset + one->insn.length);
}
static inline u32 insn_meta(const struct draft *draft, const struct draft_insn *one)
{
    bool leave = (one->insn.desc->attr & ATTR_BRANCH) != 0;
    return jit_meta(draft->number, one->offset | (leave ? META_LEAVE : 0)) |
           (one->flags_away ? META_FLAGS : 0);
}
struct cold *draft_cold(struct draft *draft, enum cold_kind kind);

#endif
