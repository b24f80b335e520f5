/*
 * dbt/jit/lockstep_priv.h - what the interpreter did ahead of translated code, and how run.c has
 * the two compared.
 */
#ifndef DBT_JIT_LOCKSTEP_PRIV_H
#define DBT_JIT_LOCKSTEP_PRIV_H

#include "dbt/jit/jit_priv.h"

enum {
    LOCKSTEP_STEPS = 128,
    LOCKSTEP_ACCESSES = 1024,
    LOCKSTEP_BYTES = 64 << 10,
    LOCKSTEP_IMAGES = 64,
    LOCKSTEP_SYSTEMS = 16,
    LOCKSTEP_PAGES = 32,
    LOCKSTEP_PAST = 8
};

/* The state before an instruction. */
struct lockstep_step {
    u64 gpr[X86_GPR_COUNT];
    u64 rip, rflags;
    u32 undefined;                /* arithmetic flags that may have any value */
    const struct insn_desc *desc; /* of the instruction; NULL: nobody has looked */
    u16 stores;                   /* made before it */
    u8 image, system;             /* one more than the number of the state; 0: as at the start */
};

/* A part of a data access within a page. */
struct lockstep_access {
    u8 *host;
    u32 bytes, at; /* where in BEFORE and AFTER */
};

/* A page of guest memory as the interpreter has made it. */
struct lockstep_page {
    u8 *host;  /* where it is in guest memory */
    u8 *bytes; /* borrowed */
};

/* Registers that only system instructions change. */
struct lockstep_system {
    struct x86_seg seg[X86_SEGMENT_COUNT];
    u64 kernel_gs_base, cr0, cr4;
    u8 cpl, code_bytes, stack_bytes, privilege;
};

/* Why the interpreter went no further. */
enum lockstep_end {
    END_BRANCH, /* a branch was taken at which translated code leaves its block */
    END_FAULT,  /* the last step's instruction faults */
    END_STOP    /* the last step's instruction must not run twice, or there was no room for more */
};

/* What was compared before, for the report: a wrong flag shows only when somebody reads it. */
struct lockstep_past {
    u64 first, last;          /* RIP of the first and of the last instruction executed */
    u32 expected, translated; /* arithmetic flags at its end */
    u32 undefined;
};

struct lockstep {
    u32 first, every;
    u32 *runs; /* owned: by block */
    bool active;
    bool sampled;  /* the block in progress is one that is checked */
    bool carries;  /* flags are those that the interpreter would have now */
    bool may_stay; /* translated code may leave before it has executed anything */
    bool gave_up;  /* an access that cannot be taken back */
    bool has_first_image;
    u32 undefined; /* of them */
    u32 flags;     /* arithmetic ones; where translated code's differ, nobody reads them */
    u32 number;    /* the block */
    enum lockstep_end end;
    struct lockstep_past past[LOCKSTEP_PAST];
    u64 past_count;
    unsigned step_count, store_count, load_count, image_count, system_count, byte_count;
    struct lockstep_step steps[LOCKSTEP_STEPS];
    struct lockstep_access stores[LOCKSTEP_ACCESSES], loads[LOCKSTEP_ACCESSES];
    struct lockstep_system systems[LOCKSTEP_SYSTEMS];
    unsigned page_count;
    struct lockstep_page pages[LOCKSTEP_PAGES];
    u8 *page_room;             /* owned: what they are borrowed from */
    u8 before[LOCKSTEP_BYTES]; /* what loads find */
    u8 after[LOCKSTEP_BYTES];  /* what stores leave */
    u8 first_image[X86_XSAVE_BYTES];
    u8 images[LOCKSTEP_IMAGES][X86_XSAVE_BYTES];
    struct lockstep_counters {
        u64 segments, insns, unchecked, disturbed, dead_flags;
    } counters;
};

/* The block NUMBER is about to be entered: decides whether its run is checked, and has the
 * interpreter go ahead. */
void lockstep_enter(struct cpu *cpu, u32 number);
/* Translated code of block NUMBER goes on after an instruction that was interpreted. */
void lockstep_go_on(struct cpu *cpu, u32 number);
/* Translated code has left at cpu->rip, or (AT_INSN) has the instruction there interpreted. Does
 * not return when the interpreter would have another state there. */
void lockstep_meet(struct cpu *cpu, bool at_insn);
/* Something else runs now. */
void lockstep_drop(struct cpu *cpu);
void lockstep_free(struct lockstep *lockstep);

/* lockstep_page.c: cpu->place while the interpreter goes ahead; where what it has made at HOST is;
 * and the page in guest memory for what that has given. */
u8 *lockstep_place(struct cpu *cpu, u8 *host, enum cpu_access access);
u8 *lockstep_made(struct lockstep *lockstep, u8 *host);
u8 *lockstep_origin(struct lockstep *lockstep, u8 *place);
/* lockstep.c: what comes now cannot be executed ahead. */
NO_RETURN void lockstep_give_up(struct cpu *cpu);

/* lockstep_check.c. memcmp may use vector registers, where the guest's state is. */
bool lockstep_bytes_same(const u8 *a, const u8 *b, u32 bytes);
/* Whether CPU is as before STEP. */
bool lockstep_same(struct cpu *cpu, const struct lockstep_step *step);
void lockstep_report(struct cpu *cpu, const struct lockstep_step *step);
void lockstep_system_of(const struct cpu *cpu, struct lockstep_system *ret_system);

#endif
