/*
 * tests/cpu/oracle.h - the CPU oracle: the same instructions from the same state on the host's
 * processor, in a child process, and in our interpreter or translator; both must end alike.
 *
 * A case is a few instructions at a fixed low address, with registers, vector state and memory. It
 * ends with the first exception: INT3, which fills the rest of the code page, or whatever the
 * instructions themselves raise. The child sees it as a signal, the guest as an interrupt.
 *
 * Linear addresses, the same in both, everything else unmapped:
 *
 *   ORACLE_CODE   1 page   read, write, execute
 *   ORACLE_DATA   2 pages  read, write
 *                 1 page   read only
 *   ORACLE_STACK  2 pages  read, write
 */
#ifndef CPU_ORACLE_H
#define CPU_ORACLE_H

#include "x86/decode.h"

enum { ORACLE_PAGE = 4096, ORACLE_CODE = 0x10000000, ORACLE_DATA = 0x20000000 };
enum { ORACLE_STACK = 0x30000000, ORACLE_DATA_PAGES = 3, ORACLE_STACK_PAGES = 2 };
enum { ORACLE_DATA_BYTES = ORACLE_DATA_PAGES * ORACLE_PAGE };
enum { ORACLE_READ_ONLY = ORACLE_DATA + 2 * ORACLE_PAGE };
enum { ORACLE_STACK_BYTES = ORACLE_STACK_PAGES * ORACLE_PAGE };
enum { ORACLE_MEMORY_BYTES = ORACLE_DATA_BYTES + ORACLE_STACK_BYTES };
enum {
    ORACLE_INSNS_MAX = 28,
    ORACLE_CODE_BYTES = 192,
    ORACLE_IMAGES = 16,
    ORACLE_POKE_BYTES = 832
};
enum { ORACLE_BATCH = 64 };
/* 16-bit code has segments of its own, in the LDT: code at offset 0 of its page, the stack, the
 * data pages; ES begins a little later, FS expands down, GS begins at the second page. */
enum oracle_ldt {
    ORACLE_CS16 = 0x07,
    ORACLE_DS16 = 0x0f,
    ORACLE_SS16 = 0x17,
    ORACLE_ES16 = 0x1f,
    ORACLE_FS16 = 0x27,
    ORACLE_GS16 = 0x2f,
    ORACLE_LDT_COUNT = 6
};
struct oracle_ldt_entry {
    u32 base, limit;
    u8 access; /* byte 5 of the descriptor */
};
extern const struct oracle_ldt_entry oracle_ldt[ORACLE_LDT_COUNT];
/* Linux's selectors; the guest's GDT is made alike. */
enum { ORACLE_CS32 = 0x23, ORACLE_DS = 0x2b, ORACLE_CS64 = 0x33 };

struct oracle_state {
    u64 gpr[X86_GPR_COUNT];
    u64 rip, rflags;
    u64 fs_base, gs_base;
    u16 selector[X86_SEGMENT_COUNT];
    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
};

struct oracle_case {
    u64 seed;
    struct oracle_state before;
    u8 code[ORACLE_CODE_BYTES];
    unsigned code_count;
    unsigned code_at;    /* offset in the code page */
    unsigned code_bytes; /* 2, 4 or 8 */
    unsigned image;      /* what memory starts as */
    u32 poke_at;         /* offset in memory of bytes of the case's own */
    u32 poke_count;
    u8 poke[ORACLE_POKE_BYTES];
    unsigned insn_count;
    const struct insn_desc *desc[ORACLE_INSNS_MAX]; /* descriptor 0 for what is no instruction */
    u32 undefined_flags;                            /* that any of them may leave */
    /* Memory that may differ: COUNT[0] bytes at AT, and four bytes COUNT[1] after AT. */
    u32 ignore_at, ignore_count[2];
};

struct oracle_outcome {
    struct oracle_state after;
    u8 vector;
    u32 error;
    u64 cr2;
    u8 memory[ORACLE_MEMORY_BYTES];
};

/* What memory starts as: data pages, then stack pages. */
extern u8 oracle_image[ORACLE_IMAGES][ORACLE_MEMORY_BYTES];

/* ---- make.c: cases from the decoder's table
 * ------------------------------------------------------- */

void oracle_make_images(u64 seed);
/* Why DESC cannot be run or compared, or NULL when it can: in expect.c. */
const char *oracle_excluded(const struct insn_desc *desc);
/* Fills a case around DESC, the INDEXth of SEED; false when this try made none. */
bool oracle_make(struct oracle_case *ret_case, const struct insn_desc *desc, u64 seed, u64 index);
/* The same with several instructions, chosen at random. */
bool oracle_make_sequence(struct oracle_case *ret_case, u64 seed, u64 index);

/* ---- native.c: the child process
 * ------------------------------------------------------------------ */

/* Starts the child; false when this host cannot. */
bool oracle_native_start(void);
void oracle_native_stop(void);
/* The batch shared with the child. */
extern struct oracle_case *oracle_cases;       /* ORACLE_BATCH */
extern struct oracle_outcome *oracle_outcomes; /* ORACLE_BATCH */
/* Runs COUNT cases of the batch; returns how many were run: fewer when the child hung or died in
 * the case of that number, after which a new child is there. */
unsigned oracle_native_run(unsigned count);

/* ---- guest.c: the interpreter
 * --------------------------------------------------------------------- */

/* TRANSLATE: with the translator, which leaves to the interpreter what it does not translate. HOT:
 * as it translates what runs often. EXACT: with all flags right at a fault. */
struct oracle_engine {
    bool translate, exact;
};
bool oracle_guest_start(const struct oracle_engine *engine);
/* How the guest runs: translated and not exact, flags that nothing reads may differ at a fault. */
extern struct oracle_engine oracle_engine;
void oracle_guest_stop(void);
/* False when the guest did not come to an exception (a hang, or a failure of the engine). */
bool oracle_guest_run(const struct oracle_case *c, struct oracle_outcome *ret_outcome);

/* ---- expect.c ---- */

enum oracle_field {
    FIELD_VECTOR,
    FIELD_ERROR,
    FIELD_CR2,
    FIELD_RIP,
    FIELD_GPR,
    FIELD_FLAGS,
    FIELD_SEGMENT,
    FIELD_X87,
    FIELD_VECTORS,
    FIELD_MEMORY
};
/* Whether FIELD of this case may differ. */
bool oracle_tolerated(const struct oracle_case *c, const struct oracle_outcome *native,
                      const struct oracle_outcome *guest, enum oracle_field field);

/* ---- compare.c
 * ------------------------------------------------------------------------------------ */

/* Returns true when there is no difference; with IS_NOTED, oracle_report() will tell of those that
 * there are. */
bool oracle_compare(const struct oracle_case *c, const struct oracle_outcome *native,
                    const struct oracle_outcome *guest, u64 index, bool is_noted);
void oracle_dump(const struct oracle_case *c, const struct oracle_outcome *native,
                 const struct oracle_outcome *guest);
/* Prints each kind of difference once; returns how many kinds. */
unsigned oracle_report(void);

#endif
