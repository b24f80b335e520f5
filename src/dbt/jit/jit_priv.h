/*
 * dbt/jit/jit_priv.h - the translator's own structures.
 *
 * Host registers while translated code runs:
 *   rax rcx rdx rbx rbp rsi rdi r12-r15   the guest's registers of the same name
 *   r8, r9                                scratch (T0, T1)
 *   r10                                   the guest's RSP
 *   r11                                   the state block: struct cpu + STATE_BIAS
 *   rsp                                   a private stack that holds return addresses of translated
 *                                         code only (return prediction)
 * Guest r8 to r11 live in cpu->gpr. Host flags are the guest's arithmetic flags.
 *
 * Blocks. A block is the translation of guest code within one page, from one entry in one mode.
 * Blocks of a page belong to a struct code_page, whose number stands in cpu_jit_tables.page_guard
 * while its mapping is known to hold: links between pages check it.
 *
 * Absolute blocks hold guest addresses: they are keyed by virtual page, physical page and mode.
 * Relative blocks, those of 64-bit user code, run wherever their physical page is mapped, so that
 * libraries are translated once and not for each process. The page's home, an address below
 * HOME_BYTES, stands for the address in all that is known when translating; cpu->jit_delta is what
 * must be added for the true one. Whoever enters a relative block sets it: the dispatch loop, an
 * indirect branch's verifying entry, a return site (the caller's delta lies on the return stack),
 * and a link to a page with another delta. It is always one for which the mapping was verified.
 *
 * Ways between blocks. A link leads to a block's code with the guest's flags in the host's. Where
 * the target is not known - returns and indirect branches - r8 is its guest address, and flags are
 * in cpu->jit_flags: so that verifying entries and return sites may compare. Hardly any code that
 * is reached in this way reads flags before it sets them; what does gets them from there.
 */
#ifndef DBT_JIT_JIT_PRIV_H
#define DBT_JIT_JIT_PRIV_H

#include "base/codemem.h"
#include "dbt/cpu.h"
#include "dbt/jit.h"
#include "dbt/jit/emit.h"
#include "x86/decode.h"

enum { T0 = 8, T1 = 9, GUEST_RSP = 10, STATE = 11, HOST_RSP = 4 };
enum { STATE_BIAS = 128 };

/* The displacement of a field of struct cpu from the state register. */
#define STATE_AT(field) ((s32)offsetof(struct cpu, field) - STATE_BIAS)

enum {
    JIT_BLOCK_INSNS = 32,   /* most guest instructions in a block */
    JIT_BLOCK_BRANCHES = 3, /* most branches in it: what follows one is rarely reached */
    JIT_BLOCKS = 1 << 20,   /* most blocks: META has 20 bits for their numbers */
    JIT_HASH_BITS = 18,
    JIT_HASH = 1 << JIT_HASH_BITS,
    JIT_BLOCK_EXITS = JIT_BLOCK_INSNS + 2, /* most exits of a block */
    /* What lies at the bottom of a return stack, and is never taken away: two addresses, because a
     * call that finds the stack full may have lost the delta it had pushed, and its return site
     * then takes one more than the call has left. */
    RETURN_STACK_BOTTOM = 16,
    JIT_REGIONS = 16,
    JIT_CODE_BYTES_MAX = 1 << 30, /* of code memory */
    JIT_ROOM_BYTES = 512,         /* left in a region to go on with it: an entry or guard fits */
    JIT_NONE = 0
};
/* In place of a block: there was no room to translate it. */
#define JIT_FULL UINT32_MAX
#define HOME_BYTES (1ull << 30)

/* Why translated code came back to C: the low two bits of what enter() returns. */
enum jit_leave {
    LEAVE_LOOKUP,   /* go on at cpu->rip */
    LEAVE_EXIT,     /* an unlinked exit or a poll: its number is in the upper bits */
    LEAVE_INDIRECT, /* the target of an indirect branch (cpu->rip) was not in the table */
    LEAVE_BITS = 2
};

/* What the interpreter says to translated code: go on after the instruction, or leave; all else is
 * the host address of the block to go on with. */
enum jit_answer { ANSWER_CONTINUE, ANSWER_LEAVE };

/* A guest instruction, as stubs are told: block number, and offset from the block's first byte.
 * META_LEAVE: nothing of the translation follows it. META_MISSED: it has a translation, but its
 * memory access missed. META_FLAGS: the guest's flags are in cpu->jit_flags. */
enum { META_OFFSET_BITS = 10, META_LEAVE = 0x200, META_OFFSET = 0x1ff };
#define META_MISSED (1u << 30)
#define META_FLAGS (1u << 31)
_Static_assert(JIT_BLOCK_INSNS *INSN_MAX_BYTES <= META_OFFSET, "an offset fits");

static inline u32 jit_meta(u32 block, u32 offset)
{
    return block << META_OFFSET_BITS | offset;
}

static inline u32 jit_meta_block(u32 meta)
{
    return (meta & ~(META_MISSED | META_FLAGS)) >> META_OFFSET_BITS;
}

/* One way out of a block to a guest address known when translating. */
struct jit_exit {
    u64 target_rip;       /* from home, when RELATIVE */
    u32 target;           /* the block it is linked to, or JIT_NONE */
    u32 next_in, prev_in; /* among the exits linked to the same target */
    u32 jump;             /* offset in code memory of the hot 32-bit displacement */
    u32 stub;             /* offset of the stub that leaves */
    u32 guard;            /* offset of the guard of the link, or 0 */
    bool leaves_page;     /* links need a guard */
    bool relative;
    u16 guard_jump;  /* how far into the guard the displacement of its jump to the target is */
    bool flags_away; /* the guest's flags are in cpu->jit_flags */
};

/* An instruction that ends in another page is a block of its own. A second block without code, of
 * MODE_TAIL, stands for the bytes in the other page, so that whatever happens to that page's blocks
 * happens to it; one does not outlive the other. */
struct jit_block {
    u64 rip;      /* at home, when its mode is relative */
    u32 code;     /* offset in code memory */
    u32 indirect; /* offset of the verifying entry, or 0 */
    u32 away;     /* where it is entered with flags put away, or 0 */
    u32 page;     /* its code_page; JIT_NONE: it is forgotten */
    u32 next_hash;
    u32 next_in_page, prev_in_page;
    u32 linked_in; /* list of the exits linked to it */
    u32 tail;      /* of a block whose instruction ends in another page: that end; and back */
    u8 mode;
    bool has_live_flags; /* it may read flags before it writes them */
    bool hot;            /* made as one that runs often */
    u8 samples;          /* polls that were met on the way to it */
    u8 remakes;          /* how often it was made again */
    u8 exit_count;
    u32 first_exit; /* the first of its exits */
};

struct code_page {
    u64 virtual_page;  /* RIP >> 12; of the home, when RELATIVE */
    u64 physical_page; /* GPA >> 12 */
    u32 blocks;        /* never empty, but between jit_page and jit_register */
    u32 next_hash;     /* or among the free ones */
    u32 number;        /* what page_guard holds; never used twice */
    u64 heads[4];      /* a bit for every 16 bytes: whether blocks ever began there */
    bool relative;
    bool upper; /* cpu_code_half() */
};

/* A host instruction that can trap for the guest (divide error, floating point). */
struct jit_trap_site {
    u32 code; /* offset in code memory; ascending */
    u32 meta;
};

/* Code made for a link after its block: an exit's guard, or a block's verifying entry. It may lie
 * in another region than what it belongs to, and go before it. */
struct jit_piece {
    u32 code;
    u32 owner; /* exit or block */
    bool is_entry;
};

/* Numbers from FIRST to END are a region's; those below NEXT are given out. */
struct jit_span {
    u32 first, next, end;
};

/* Code memory is filled region by region, the oldest emptied to be filled again. Whatever is
 * numbered is numbered by region, so that a region's numbers come free with it. */
struct jit_region {
    struct jit_span code; /* offsets in code memory */
    /* What is rarely run lies apart, so that the rest lies close together: in pieces that are taken
     * from the end of CODE downwards, to FIRST; NEXT and END are of the last piece. */
    struct jit_span cold;
    struct jit_span blocks, exits, pieces;
    struct jit_span traps;      /* in ascending order of their code */
    struct jit_span cold_traps; /* of cold code, from the end of TRAPS downwards, in no order */
};

/* What the dispatch loop found lately: the block for a RIP, in a mode and an epoch, and what its
 * code_page says. */
struct jit_slot {
    u64 rip;
    u64 stamp; /* epoch and mode */
    u64 age;   /* jit_own.slot_age; 0: nothing */
    u32 block;
    bool relative;
    u16 guard, tail_guard;
    u32 page_number, tail_number; /* tail_number is 0 where there is no tail */
    u64 tail_home;
};
enum { JIT_SLOTS = 1 << 12 };

/* Told by name in counters.c. */
struct jit_counters {
    /* What was translated, ever: blocks, instructions, and their bytes; refused: what was not. */
    u64 blocks, insns, guest_bytes, hot_bytes, cold_bytes, refused;
    u64 translate_tsc; /* host time in jit_translate */
    u64 links, links_ahead, indirect_entries;
    u64 hot_blocks, line_looks, line_trials, lines_given_up;
    u64 fills, reads_across; /* of accesses that missed */
    u64 entered, left[4];    /* by enum jit_leave */
    u64 lookups, interpreted;
};

/* The lower half's guards, as guard.c keeps them by epoch. */
enum { JIT_GUARD_NOTES = 4096, JIT_GUARD_CONTEXTS = 16 };
struct jit_guard_note {
    u16 index;
    u32 number;
    u64 delta;
};
struct jit_guard_context {
    u64 epoch; /* 0: none */
    u32 count;
    struct jit_guard_note notes[JIT_GUARD_NOTES];
};
struct jit_guards {
    u32 set_count; /* of SET; more than it holds: not all are noted */
    u16 set[JIT_GUARD_NOTES];
    u32 next_context; /* the next one to replace */
    struct jit_guard_context contexts[JIT_GUARD_CONTEXTS];
};

/* An access whose line is on trial: how many of the fills that were looked at were its own. */
struct line_trial {
    u32 meta;   /* 0: none is */
    u32 before; /* the block as it was, in whose place one that counts its runs is meanwhile */
    u32 fills, looks;
};

/* What a vCPU keeps of its own. */
struct jit_own {
    struct jit_stacks stacks;
    struct jit_slot *slots; /* owned */
    struct jit_guards guards;
    u64 slot_age; /* counts what makes slots stale besides changed mappings */
    u64 evict_seen, forget_seen, restart_seen;
    u64 fetch_epoch_seen[2]; /* of the lower and the upper half of the address space */
    /* Since the mappings of that half last changed: */
    bool low_kernel_code; /* the lower half: code was run with kernel privilege */
    bool high_user_code;  /* the upper half: relative code was run; its guards are of the lower */
    bool wants_entry;     /* the block that is made next is the target of an indirect branch */
    bool stacks_reset;    /* the return stacks were emptied: do not go back to code */
    unsigned full_region; /* with JIT_FULL: which it was */
    struct line_trial trial;
    u64 look_tsc; /* when jit_line_look ran last */
    struct jit_counters counters;
    struct lockstep *lockstep; /* owned; NULL: translated code is not checked */
};

/* What the vCPUs of a group share. Everything but memory, stubs and counts is read and written with
 * LOCK held only, with these exceptions. A block's rip, code and mode, and an exit's target_rip, do
 * not change until their region is emptied, which no vCPU that runs is ever surprised by: whoever
 * empties one has all others paused. Whoever pauses the others does not hold LOCK, since they may
 * wait for it. */
struct jit {
    struct lock lock;
    struct codemem memory;
    struct cpu_group *group; /* borrowed */
    unsigned users;          /* vCPUs */
    u32 stubs_end;           /* where regions start */
    /* Large pages of code memory that were asked for, a bit each. */
    u64 large[JIT_CODE_BYTES_MAX / CODEMEM_LARGE_BYTES / 64];
    struct jit_region regions[JIT_REGIONS];
    unsigned region_count;
    unsigned filling; /* the region that new code goes to */
    /* Offsets of the stubs in code memory. */
    u32 enter, exit_stub, exit_away, again, fallback, ready, lookup, indirect_miss, bottom, trap;
    u32 syscall, sysret, line_look, slow;
    /* [][1]: for writing */
    u32 line_miss[PRIVILEGE_COUNT][2], slow_table[PRIVILEGE_COUNT][2];
    u32 refill[PRIVILEGE_COUNT][2], refill_keep[PRIVILEGE_COUNT][2]; /* which keeps flags */
    struct jit_block *blocks;
    u32 *hash;
    struct code_page *pages; /* as many as blocks can be, so there is always one */
    u32 page_next;           /* the first one never used */
    u32 page_free;           /* list of those used and free again */
    u32 *page_hash;
    u32 page_number; /* the next one to give out */
    struct jit_exit *exits;
    struct jit_piece *pieces;
    struct draft *draft; /* owned: the block being made */
    struct jit_trap_site *traps;
    u32 line_next;          /* the line given out last */
    bool all_hot;           /* every block is to be hot */
    bool make_hot;          /* the block being made is to be hot */
    bool make_counted;      /* and to count how often it runs */
    u32 line_pays[1 << 16]; /* by hash: what hot.c has found out of accesses by a line; atomic */
    u32 code_log_seen;      /* how much of the group's log of overwritten code */
    /* Atomic: how often a region was emptied, blocks were forgotten. Each vCPU that sees a new
     * count drops what it keeps of its own and that may lead there. */
    u64 evict_count, forget_count, restart_count; /* restart: page numbers began again */
    u64 invalidated_blocks;                       /* ever */
    bool exact_flags;                             /* no flag is taken for dead */
    const struct jit_tracer *tracer;              /* borrowed; NULL: nobody wants to see */
    u64 *runs;                                    /* owned: entries by block, with a tracer only */
};

/* Writable and executable addresses of an offset in code memory. */
static inline u8 *jit_rw(const struct jit *jit, u32 offset)
{
    return jit->memory.write + offset;
}

static inline u8 *jit_rx(const struct jit *jit, u32 offset)
{
    return (u8 *)(uintptr_t)jit->memory.execute + offset;
}

/* The offset of an address in the writable view. */
static inline u32 jit_offset(const struct jit *jit, const u8 *rw)
{
    return (u32)(rw - jit->memory.write);
}

/* stubs.c: makes the stubs at the start of code memory; false when there is no room. */
bool jit_make_stubs(struct jit *jit);
/* gate.c: those of SYSCALL and SYSRET, after the others. */
void jit_make_gates(struct jit *jit, struct emitter *out);

/* Where the code of a block is: its code_page and page in guest and host; and, for an instruction
 * that ends there, the next page's (tail_host is NULL for others). */
struct jit_source {
    u32 page, tail_page;
    const u8 *host, *tail_host;
    gpa_t gpa, tail_gpa; /* of the first byte; of the page */
};

/* translate.c: translates the block at cpu->rip, which is at SOURCE. The block's number; JIT_NONE
 * where it cannot be translated now: where draft->out.full is set, because the region being filled
 * has no room for it. */
u32 jit_translate(struct cpu *cpu, const struct jit_source *source);

/* straddle.c: where the code at cpu->rip is, but for the pages' numbers; raises the fetch's fault.
 * False where it cannot be translated. */
bool jit_source_find(struct cpu *cpu, struct jit_source *ret_source);
/* Gives the pages of SOURCE numbers, or back those that no block was made for. */
void jit_source_number(struct cpu *cpu, struct jit_source *source);
void jit_source_done(struct jit *jit, const struct jit_source *source);
/* Whether BLOCK, found at SOURCE, ends in the page that it must. */
bool jit_tail_fits(const struct jit *jit, u32 block, const struct jit_source *source);
/* Makes the block that stands for OWNER's end in PAGE. */
void jit_tail_register(struct jit *jit, u32 owner, u32 page);

/* Branches that are taken where something is not as it must be, to be patched together. */
enum { MISSES_MAX = 6 };
struct misses {
    u8 *at[MISSES_MAX];
    unsigned count;
};
/* link.c: goes on only while the guard of PAGE holds; where it is relative, T1 is its delta and
 * jit_guard_tag. */
void jit_expect_mapping(struct emitter *out, struct misses *misses, const struct code_page *page,
                        bool keep_flags);

/* link.c: connects EXIT with BLOCK, where it can, or undoes that; undoes all that leads to BLOCK.
 */
bool jit_link(struct jit *jit, u32 exit, u32 block);
void jit_unlink_exit(struct jit *jit, u32 exit);
/* Leads all that leads to block OLD to NEW, another translation of the same code. */
void jit_links_move(struct jit *jit, u32 old, u32 new);
void jit_unlink(struct jit *jit, u32 block);
/* The verifying entry of BLOCK for indirect branches, made when it is first asked for. */
u32 jit_indirect_entry(struct jit *jit, u32 block);
/* Its tests, at a multiple of 8, for what of BLOCK is set: rip, page, mode. */
void jit_emit_entry(struct emitter *out, const struct jit *jit, const struct jit_block *block);

/* hot.c: whether the access of the instruction at GPA may use a line. */
bool jit_line_pays(struct jit *jit, gpa_t gpa);
/* Translated code was left by EXIT: by its poll, if it is linked. Only between blocks. Takes the
 * lock. */
void jit_sample(struct cpu *cpu, u32 exit);
/* The same for an indirect branch to BLOCK, which found that there is attention to pay. */
void jit_sample_block(struct cpu *cpu, u32 block);

/* expect.c: each emits a branch that is taken unless the 32-bit or 64-bit word at displacement AT
 * of the state is VALUE, or what REG holds, and returns the branch's displacement. Flags are lost
 * unless KEEP_FLAGS; with that, T0 is. */
u8 *jit_expect_u64(struct emitter *out, s32 at, u32 value, bool keep_flags);
u8 *jit_expect_u32(struct emitter *out, s32 at, u32 value, bool keep_flags);
u8 *jit_expect_reg(struct emitter *out, s32 at, unsigned reg, bool keep_flags);
/* The same unless r8 is RIP, or RIP and the word at displacement AT of the state. T1 and flags are
 * lost. */
u8 *jit_expect_rip(struct emitter *out, u64 rip);
u8 *jit_expect_rip_relative(struct emitter *out, u64 rip, s32 at);
/* A branch to what the table has for the guest address in r8; T1 and flags are lost. */
void jit_emit_indirect(struct emitter *out, bool is_call);

/* cache.c: finds the block of PAGE (a code_page) for RIP, as the page has it, in MODE. */
u32 jit_find(const struct jit *jit, u64 rip, u32 page, u8 mode);
/* The same for places where mostly none begins. */
static inline u32 jit_find_head(const struct jit *jit, u64 rip, u32 page, u8 mode)
{
    bool maybe = jit->pages[page].heads[rip >> 10 & 3] >> (rip >> 4 & 63) & 1;
    return maybe ? jit_find(jit, rip, page, mode) : JIT_NONE;
}
void jit_register(struct jit *jit, u32 block);
/* Takes it out again, and undoes all links to it; its code stays until its region goes. */
void jit_unregister(struct jit *jit, u32 block);
/* The code_page for MODE's code at RIP, whose physical page is given, made if need be. A new page
 * of relative code gets the home that makes NEAR its delta, where that can be. Where no block was
 * registered in it after all, jit_page_done frees it. */
u32 jit_page(struct jit *jit, u64 rip, u64 physical_page, u8 mode, u64 near);
void jit_page_done(struct jit *jit, u32 page);
/* Forgets the blocks of pages that the group's log says were written, up to COUNT. Takes the lock.
 */
void jit_forget_written(struct jit *jit, u32 count);

/* own.c: follows what has changed since the vCPU last looked: mappings, overwritten code, emptied
 * regions. Before translated code is entered or gone back to, always. */
void jit_follow(struct cpu *cpu);
/* Empties the return stack of a privilege. */
void jit_stack_reset(struct cpu *cpu, unsigned privilege);

/* region.c: divides code memory. -EINVAL when there is too little of it. */
MUST_CHECK int jit_regions_init(struct jit *jit);
static inline struct jit_region *jit_filling(struct jit *jit)
{
    return &jit->regions[jit->filling];
}
/* Has room for BYTES of cold code in the region being filled, beside hot code that ends at the
 * offset HOT_END; false when there is none. */
bool jit_cold_room(struct jit *jit, u32 hot_end, u32 bytes);
/* Whether REGION has room for a link and for the beginning of a block. Also without the lock, as a
 * hint. */
bool jit_has_room(const struct jit *jit, unsigned region);
/* Code is about to be written at OFFSET. */
void jit_code_grows(struct jit *jit, u32 offset);
/* Goes on from region FULL, if that still is the one being filled, to the next one, which is
 * emptied first: with all other vCPUs paused, so the caller must not hold the lock, nor block
 * numbers or exits from before. */
void jit_next_region(struct cpu *cpu, unsigned full);

/* away.c: makes RFLAGS right where META says that it is not. */
void jit_flags_meet(struct cpu *cpu, u32 meta);
/* Takes flags from cpu->jit_flags; T1 is lost. Puts those of an image of RFLAGS there: IMAGE and
 * SCRATCH are lost. */
void jit_emit_flags_back(struct emitter *out);
void jit_emit_flags_put(struct emitter *out, unsigned image, unsigned scratch);

/* guard.c: the mapping of the code_page with NUMBER, whose guard is at INDEX, was seen to hold,
 * with DELTA. */
void jit_guard_set(struct cpu *cpu, unsigned index, u32 number, u64 delta);
/* All mappings must be looked up again; or those of the upper half. */
void jit_guards_clear(struct cpu *cpu);
void jit_guards_clear_upper(struct cpu *cpu);
/* The lower half's mappings of epoch FROM have become those of epoch TO. */
void jit_guards_switch(struct cpu *cpu, u64 from, u64 to);

/* run.c: called from stubs, on the C stack, with the guest's state in struct cpu: interprets the
 * instruction that META names. */
u64 jit_interpret(struct cpu *cpu, u32 meta);
/* The same from its decoded form (dbt/interp.h). */
u64 jit_interpret_ready(struct cpu *cpu, u32 meta, const void *ready);
/* ready.c: also called from stubs: interprets the instruction kept at OFFSET. */
u64 jit_ready(struct cpu *cpu, u32 offset);

/* What blocks are keyed by: privilege, and which units may be used (enum jit_mode_bit). */
/* MODE_CODE32 is flat protected-mode code of 32 bits: CS, DS, ES and SS begin at 0 and have 4 GiB,
 * the stack has 32 bits; else it is 64-bit code. */
enum jit_mode_bit {
    MODE_PRIVILEGE = 3,
    MODE_X87 = 4,
    MODE_SSE = 8,
    MODE_AVX = 16,
    MODE_CODE32 = 32,
    MODE_LEGACY = 64, /* not in long mode: mappings are followed by other halves (cpu_code_half) */
    MODE_TAIL = 128
};
u8 jit_mode(const struct cpu *cpu);

/* Whether code of MODE is translated so that it runs at any address. */
static inline bool jit_relative(u8 mode)
{
    return (mode & MODE_PRIVILEGE) == PRIVILEGE_USER;
}

/* Guards of the lower half of the address space come first, then those of the upper half. By number
 * and not by address: libraries have their homes where others of the same process have theirs. */
static inline unsigned jit_guard_index(const struct code_page *page)
{
    unsigned half = CPU_JIT_GUARDS / 2;
    return page->number % half + (page->upper ? half : 0);
}

/* Tells pages with one guard apart, by the bits that a distance between pages does not have. Never
 * as large as in a guard that is cleared: page numbers begin again before. */
static inline u32 jit_guard_tag(u32 page_number)
{
    return page_number / (CPU_JIT_GUARDS / 2) & 4095;
}
enum { JIT_PAGE_NUMBERS = CPU_JIT_GUARDS / 2 * 2048 };

/* The state displacement of the guard of a page. */
static inline s32 jit_guard_at(const struct code_page *page)
{
    return STATE_AT(jit_tables.page_guard) + (s32)jit_guard_index(page) * 4;
}

static inline s32 jit_guard_delta_at(const struct code_page *page)
{
    return STATE_AT(jit_tables.guard_delta) + (s32)jit_guard_index(page) * 8;
}

#endif
