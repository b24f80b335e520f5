/*
 * dbt/cpu.h - one vCPU inside the translator library: its state block, and what its parts (mmu,
 * interp, simd) call of one another.
 *
 * Runs   on the vCPU's thread; only `attention` is written by others, and TLB write tags are
 * cleared by the other vCPUs of the group when they decode code from a page. Trust  everything the
 * guest controls is hostile: no guest value indexes host memory unchecked.
 *
 * Guest faults and exits leave an instruction by a non-local jump (cpu_raise, cpu_exit) to the run
 * loop. So an instruction changes architectural state only after its last access that can fault:
 * the commit point is its last step. What it wrote to guest memory before a later fault stays
 * written, as on hardware, so code that writes more than one place probes all of them first
 * (mmu_probe).
 *
 * Port, MMIO and MSR accesses that the machine must answer leave through cpu_exit before the
 * instruction has changed anything; after the answer the instruction runs again from its start, and
 * the same access, recognised by its order, takes the stored answer (struct cpu_replay). The record
 * is cleared when an instruction retires.
 *
 * Vector state: while `vector_live` is true, the guest's x87, SSE and AVX state is in the host's
 * registers and the copy in `xsave` is stale. This library is built without vector registers; it
 * calls simd_save() before anything that is not (the exit to the machine does).
 */
#ifndef DBT_CPU_H
#define DBT_CPU_H

#include "base/lock.h"
#include "base/types.h"
#include "core/exit.h"
#include "dbt/cpu_tlb.h"
#include "x86/regs.h"

struct mem;
struct cpuid_model;
struct insn;

enum { CPU_REPLAY_MAX = 160 };
/* Answers and acknowledgements of device accesses of the instruction in progress, in order. */
struct cpu_replay {
    unsigned done; /* accesses that the machine has answered */
    unsigned next; /* accesses that this pass over the instruction has met */
    u64 value[CPU_REPLAY_MAX];
    bool msr_fault; /* the machine refused the last one */
    bool waiting;   /* the exit to the machine was an access of this instruction */
};

/* What other threads ask of a vCPU: bits of cpu->attention, set by cpu_request, and looked at
 * between blocks of guest code. */
enum cpu_attention {
    ATTENTION_EXIT = 1,      /* leave the run loop with EXIT_KICKED */
    ATTENTION_NMI = 2,       /* an NMI came */
    ATTENTION_FLUSH = 4,     /* drop the TLB and all decoded blocks */
    ATTENTION_PAUSE = 8,     /* another vCPU needs all others to stand still (cpu_group_pause) */
    ATTENTION_CODE = 16,     /* decoded code was overwritten: see cpu_group.code_log */
    ATTENTION_TLB = 32,      /* drop the TLB */
    ATTENTION_NMI_AGAIN = 64 /* a second NMI came before the first was seen */
};

/* What translated code reaches with a displacement from the state register; see jit/. */
enum { CPU_JIT_GUARDS = 1 << 14, CPU_JIT_TARGETS = 1 << 16, CPU_JIT_TARGET_ROTATE = 14 };
enum { CPU_JIT_BUFFER = 64, CPU_JIT_GROUPS = 12 };
struct cpu_jit_tables {
    /* By code_page: its number, while its mapping is known to hold, and, for code that may run at
     * any address, how far from its home that is plus jit_guard_tag; ~0 matches nothing there. */
    u32 page_guard[CPU_JIT_GUARDS];
    u64 guard_delta[CPU_JIT_GUARDS];
    void *targets[CPU_JIT_TARGETS]; /* by hash of RIP: entries that verify RIP and mapping */
};

/* Why __builtin_longjmp brought control back to who holds cpu->jump. */
enum cpu_left { LEFT_NOT, LEFT_FAULT, LEFT_EXIT };

/* What makes the run loop look closer between two instructions: bits of cpu->special. */
enum cpu_special {
    SPECIAL_STEP = 1, /* TF, RF, code breakpoints, an interrupt shadow: one instruction at a time */
    SPECIAL_IRQ = 2,  /* an interrupt may be pending */
    SPECIAL_REPLAY = 4, /* an instruction is being run again with the machine's answers */
    SPECIAL_EVENT = 8   /* a trap (#DB), NMI or stored event waits for delivery */
};

enum { CPU_INSN_FORMS = 2048 }; /* more than the decoder's table has */

/* Told by name through dbt/counters.h. */
struct cpu_counters {
    u64 instructions, tlb_misses, page_walks, exceptions, interrupts, exits, decoded_blocks;
    u64 code_writes, simd_thunks, walk_hits, page_flushes, full_flushes, cr3_writes;
    u64 exits_by_kind[EXIT_KIND_COUNT];
    u64 exceptions_by_vector[32];
    /* By the decoder's descriptor: instructions that translated code has the interpreter execute,
     * because they have no translation or because their memory access missed; and the first ones of
     * blocks that the run loop interprets. */
    u64 insns_interpreted[CPU_INSN_FORMS], insns_missed[CPU_INSN_FORMS];
    u64 insns_started[CPU_INSN_FORMS];
    u64 insns_ahead[CPU_INSN_FORMS]; /* executed to be compared, and taken back (jit/lockstep.c) */
};

enum { CPU_GROUP_MAX = 256, CPU_CODE_HASH = 1 << 16, CPU_CODE_LOG = 1024 };

/* What the vCPUs of one VM share. */
struct cpu_group {
    struct mem *mem;                 /* borrowed */
    const struct cpuid_model *cpuid; /* borrowed */
    struct lock lock;                /* held by who has paused the others, and to join or leave */
    u32 pausing;                     /* somebody holds the others paused, or waits for them to */
    struct cpu *cpus[CPU_GROUP_MAX]; /* borrowed; by index */
    unsigned cpu_count;              /* one more than the highest index that ever joined */
    u64 tsc_offset;                  /* of the vCPU that was set last; others are drawn to it */
    /* Decoded code, by hash of the physical page (hash collisions only cost time): the 64-byte
     * granules that blocks were decoded from, and a count of the times that one of them was
     * written. A block is good while the count is what it was when the block was made. Atomic. */
    u64 code_granules[CPU_CODE_HASH];
    u32 code_generation[CPU_CODE_HASH];
    /* The hashes whose count went up lately, for those who keep links between blocks. */
    u32 code_log[CPU_CODE_LOG];
    u32 code_log_reserved, code_log_count;
    u32 code_flags_in_work; /* atomic: pages whose write tags are being taken away (mmu/code.c) */
};

struct cpu {
    /* Translated code compares both at once: its mode, and no attention. */
    u32 jit_mode;  /* jit_mode() of what runs now: entries by address check it */
    u32 attention; /* enum cpu_attention; atomic, written by other threads */
    u32 running;   /* atomic: inside the run loop and not standing still */

    /* Hot. Entry 16 of gpr is the RIP at which the block in progress starts, entry 17 is zero: so
     * base and index registers of every kind are read alike. */
    u64 gpr[X86_GPR_COUNT + 2];
    u64 rip;      /* of the instruction in progress until it retires */
    u64 next_rip; /* where it continues when it retires: the next instruction, or a jump's target */
    u16 jit_flags; /* jit/: arithmetic flags that were put away, as AX after LAHF and SETO AL */
    u8 padding[5];
    /* OF lives here while blocks run; in rflags, bit 11 is then stale. In plain handlers, in
     * simd_*, and outside the run loop rflags is a full image. Both lie side by side so that one
     * 16-bit store of AX after LAHF and SETO AL writes all arithmetic flags. */
    u8 overflow;
    u64 rflags;
    struct cpu_tlb_entry *tlb_data; /* of the current privilege */
    /* jit/: the C stack and the return stack while the other is in use, and two spilled registers.
     */
    u64 jit_c_stack, jit_return_stack, jit_spill, jit_target;
    u64 jit_delta; /* how far from its home the relative code runs that runs now (jit/) */
    u64 jit_return_stacks[PRIVILEGE_COUNT]; /* of each privilege, while not in use */
    u32 jit_stack_modes[PRIVILEGE_COUNT];   /* the mode of the code whose return sites it holds */
    u32 irq_wanted;                         /* an interrupt was pending when IF was clear; 0 or 1 */
    u32 special;                            /* enum cpu_special */
    u8 cpl;
    u8 code_bytes;         /* 2, 4 or 8: default code size from CS and EFER.LMA */
    u8 stack_bytes;        /* 2, 4 or 8 */
    u8 privilege;          /* enum cpu_privilege of plain data accesses now; follows cpl and AC */
    bool flat;             /* outside 64-bit code: CS, DS, ES and SS have base 0 and limit 4 GiB */
    bool interrupt_shadow; /* the instruction just done was STI or MOV/POP SS */
    bool leave_block;      /* decoded code was overwritten: stop after this instruction */
    bool vector_live;
    u8 block_mode;    /* enum block_mode of interp/op_priv.h, as the mode is now */
    u8 left;          /* enum cpu_left */
    bool shadow_now;  /* the instruction in progress runs in an interrupt shadow */
    bool resume_now;  /* the instruction in progress began with RF set */
    bool exclusive;   /* this vCPU holds all others paused */
    bool align_check; /* CPL 3 with CR0.AM and EFLAGS.AC */
    u64 code_base;    /* added to RIP for a fetch: CS base, 0 in 64-bit code */

    struct x86_seg seg[X86_SEGMENT_COUNT];
    /* In 32-bit code: what translated code adds to addresses in FS and GS. 0 where the segment has
     * 4 GiB to read and write; else an address that no TLB entry has, so that it asks. */
    u64 segment_miss[2];
    struct x86_seg ldtr, tr;
    struct x86_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, cr8, xcr0;
    u64 dr[8];
    struct x86_msrs msr;
    u64 tsc_offset; /* guest TSC = host TSC + offset */
    u64 pause_tsc;  /* the host's TSC at the last PAUSE */
    u64 spin_tsc;   /* and at the first of its loop */
    /* Two NMIs can wait where none is in service: the first would have been taken, and only the
     * second latched, had the processor been faster. */
    bool nmi_pending, nmi_again, nmi_blocked;
    u32 activity; /* enum x86_activity */

    /* DR6 bits of the debug trap that follows the instruction in progress (data breakpoints, task
     * switches); `debug_active` says that DR7 enables any breakpoint, so that somebody must look.
     */
    u32 debug_pending;
    bool debug_active;
    bool step_skip; /* no single-step trap after this instruction (MOV SS, INT n, SYSCALL) */

    /* Delivery in progress, for double-fault rules and for saving state. */
    struct x86_event event;

    /* How the run loop was left: filled by cpu_raise and cpu_exit. */
    struct {
        u8 vector;
        bool has_error;
        u32 error;
        u64 cr2;
    } fault;
    struct vm_exit exit;
    struct cpu_replay replay;
    void *jump[5]; /* __builtin_setjmp buffer of the run loop */

    u32 waits_inside;                /* atomic: waits in cpu_group_pause */
    struct cpu_group *group;         /* borrowed */
    struct mem *mem;                 /* borrowed */
    const struct cpuid_model *cpuid; /* borrowed */
    unsigned index;                  /* APIC id */
    u64 features;                    /* bit n: enum insn_feature n is there */
    u64 physical_mask;               /* valid bits of a physical address */
    bool large_1g;                   /* 1 GiB pages are there */
    struct {                         /* the source of external interrupts; pending may be NULL */
        bool (*pending)(void *ctx);
        int (*ack)(void *ctx);
        void *ctx; /* borrowed */
        u8 *tpr;   /* borrowed: CR8 is its bits 7:4; may be NULL */
    } irq;
    /* Called by cpu_watch before data accesses, while tlb_data is the empty table; may be NULL. */
    void (*watch)(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access);
    /* Where accesses find what guest memory has at HOST; ACCESS_FETCH is for code and entries of
     * page tables. May be NULL: there. */
    u8 *(*place)(struct cpu *cpu, u8 *host, enum cpu_access access);
    struct cpu_counters counters;
    struct block_cache *blocks; /* owned: interp's decoded blocks */
    struct simd *simd;          /* owned: simd's thunks */
    struct jit *jit;            /* borrowed: jit's blocks; NULL: everything is interpreted */
    struct jit_own *jit_own;    /* owned: what jit keeps for each vCPU */
    /* How much of the group's log of overwritten code jit has followed. Until it is all, writes are
     * not to go unnoticed: this vCPU may still run what was made of the old bytes, and rely on its
     * own writes to be told. */
    u32 code_seen;

    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
    /* By privilege. Write lines are emptied by other vCPUs as well, with the write tags. */
    struct cpu_line lines[PRIVILEGE_COUNT][CPU_LINES] __attribute__((aligned(64)));
    u64 jit_save[3]; /* jit/: registers of a stub that fills a line */
    u64 jit_keep;    /* and flags, as in jit_flags */
    u64 jit_refills; /* counts what translated code took from the second-level TLB */
    u64 jit_slow[2]; /* r8 and r9 around a call for an access that missed */
    u8 jit_buffer[2 * CPU_JIT_BUFFER] __attribute__((aligned(64)));
    u64 jit_groups[CPU_JIT_GROUPS]; /* host address - GVA of operands that were tested together */
    u64 jit_rounds;     /* what a loop's counter has after the last round that was tested ahead */
    u64 jit_runs;       /* counts how often the block on trial runs */
    u32 jit_fills;      /* counts down fills of lines until jit/ looks why there are so many */
    u32 jit_line_clock; /* wraps whenever an access that missed its line is to fill it */
    struct cpu_tlb tlb;
    struct cpu_jit_tables jit_tables;
};

/* ---- leaving an instruction --------------------------------------------------------------------
 */

/* Raises exception VECTOR for the instruction in progress. */
NO_RETURN void cpu_raise(struct cpu *cpu, unsigned vector);
NO_RETURN void cpu_raise_error(struct cpu *cpu, unsigned vector, u32 error);
NO_RETURN void cpu_raise_page_fault(struct cpu *cpu, gva_t gva, u32 error);
/* Leaves the run loop with cpu->exit, which the caller has filled; the instruction in progress runs
 * again from its start when the vCPU does. */
NO_RETURN void cpu_exit(struct cpu *cpu);
/* Leaves it with EXIT_FAILED and this static text: our own limit was met. */
NO_RETURN void cpu_fail(struct cpu *cpu, const char *reason);

/* A device access of the instruction in progress: returns its answer when the machine has given it,
 * else exits to ask. KIND is an EXIT_* kind of the port, MMIO or MSR family; VALUE is what a write
 * writes. An MSR access that the machine refused raises #GP(0). */
u64 cpu_device_access(struct cpu *cpu, enum vm_exit_kind kind, u64 address, unsigned bytes,
                      u64 value);
/* The same for a hypercall in code of BYTES (8 or 4): returns what is for RAX. */
u64 cpu_hypercall(struct cpu *cpu, u64 number, const u64 args[VM_EXIT_ARGS], unsigned bytes);

/* ---- mmu/: linear addresses. Each call raises #PF (or #GP for non-canonical ones) itself. -------
 */

/* Has the first-level TLB allow ACCESS with the current privilege to GVA's page, if what is cached
 * says that it is allowed and need not be noticed; no walk, no fault. */
bool mmu_fill(struct cpu *cpu, gva_t gva, enum cpu_access access);
/* Reads or writes BYTES (1, 2, 4, 8) at linear address GVA, with the current privilege. Any
 * alignment; page crossing and MMIO included. */
u64 mmu_read(struct cpu *cpu, gva_t gva, unsigned bytes);
void mmu_write(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value);
/* The same with PRIVILEGE_SYSTEM, for descriptor tables, the TSS and delivery onto inner stacks. */
u64 mmu_read_system(struct cpu *cpu, gva_t gva, unsigned bytes);
void mmu_write_system(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value);
/* Any length up to 4096; not atomic. */
void mmu_read_bytes(struct cpu *cpu, gva_t gva, void *to, size_t bytes);
void mmu_write_bytes(struct cpu *cpu, gva_t gva, const void *from, size_t bytes);
/* Faults if any byte could not be accessed; changes nothing but A and D bits. */
void mmu_probe(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access,
               enum cpu_privilege privilege);
/* The host address of BYTES at GVA, or NULL when they are not in one page of RAM (MMIO, crossing,
 * or a write to a page whose translations must be dropped first). Faults like mmu_probe. */
u8 *mmu_host(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access);
/* The host address of BYTES at GVA for reading and writing, code pages included: when *ret_code_gpa
 * is not MMU_NO_GPA, call mmu_code_written with it after the write. NULL for MMIO, ROM and
 * crossing. */
u8 *mmu_host_write(struct cpu *cpu, gva_t gva, size_t bytes, gpa_t *ret_code_gpa);
#define MMU_NO_GPA UINT64_MAX
void mmu_code_written(struct cpu *cpu, gpa_t gpa, size_t bytes);
/* Notes that a block is decoded from BYTES at GPA (within one page), before they are read. Gives
 * the page's generation count, or NULL where there is no RAM or ROM. mmu_code_marked says, after
 * they were read, whether the note still stands: else they changed meanwhile. */
const u32 *mmu_code_mark(struct cpu *cpu, gpa_t gpa, size_t bytes);
bool mmu_code_marked(struct cpu *cpu, gpa_t gpa, size_t bytes);
/* The GPA of the page that GVA's instruction bytes are fetched from; faults. */
gpa_t mmu_fetch_page(struct cpu *cpu, gva_t gva);

/* Joining and leaving the group; entering and leaving the state in which guest memory is touched.
 */
void cpu_group_join(struct cpu *cpu);
void cpu_group_leave(struct cpu *cpu);
void cpu_group_enter(struct cpu *cpu);
void cpu_group_exit(struct cpu *cpu);
/* A locked access across two pages needs every other vCPU to stand still: pause, access, resume.
 * The caller must not hold guest state in vector registers (simd_save). */
void cpu_group_pause(struct cpu *cpu);
void cpu_group_resume(struct cpu *cpu);
/* The same for one that is between two instructions. While the others are paused cpu_group_inside
 * gives one of them that is in the middle of an instruction, waiting for cpu_group_pause; or NULL.
 */
void cpu_group_pause_between(struct cpu *cpu);
struct cpu *cpu_group_inside(struct cpu *cpu);

/* After a change of CR0, CR3, CR4, EFER: what is cached follows. CPL and AC need no flush. */
void mmu_flush_all(struct cpu *cpu);
void mmu_flush_non_global(struct cpu *cpu);
/* INVLPG: every entry of GVA's page for the current PCID, and global ones. */
void mmu_flush_page(struct cpu *cpu, gva_t gva);
/* INVPCID's kinds 0 and 1 for a PCID that need not be the current one. */
void mmu_flush_page_pcid(struct cpu *cpu, unsigned pcid, gva_t gva);
void mmu_flush_pcid(struct cpu *cpu, unsigned pcid);
/* Follows a MOV to CR3 that has put the new value (without bit 63) into cpu->cr3: KEEP is bit 63
 * with CR4.PCIDE set, and keeps what is cached of the new PCID. */
void mmu_switch(struct cpu *cpu, bool keep);
/* False when PAE paging with CR3 would load page-directory pointers with reserved bits set. */
bool mmu_pae_pointers_valid(struct cpu *cpu, u64 cr3);

/* ---- interp/: segmented addresses and control ---------------------------------------------------
 */

/* Linear address of OFFSET in segment SEG for an access of BYTES; raises #GP or #SS. OFFSET is
 * already cut to the address size. */
gva_t seg_linear(struct cpu *cpu, enum x86_segment seg, u64 offset, size_t bytes,
                 enum cpu_access access);
/* The linear address of INSN's memory operand, segment checks done for BYTES. */
gva_t insn_linear(struct cpu *cpu, const struct insn *insn, size_t bytes, enum cpu_access access);
/* The offset of INSN's memory operand (LEA). */
u64 insn_offset(const struct cpu *cpu, const struct insn *insn);

/* Looks at a data access while tlb_data is the empty table: notes data breakpoints, raises #AC. The
 * MMU calls it before accesses of the current privilege. */
void cpu_watch(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access);

/* Recomputes cpl, code and stack size, privilege, `flat` and `special` from segments, CR0, EFER,
 * DR7 and RFLAGS. Whoever changes one of these (AC, TF, RF, IF, VM in RFLAGS) calls it. */
void cpu_mode_update(struct cpu *cpu);

static inline bool cpu_protected(const struct cpu *cpu)
{
    return (cpu->cr0 & X86_CR0_PE) && !(cpu->rflags & X86_VM);
}

static inline bool cpu_long_mode(const struct cpu *cpu)
{
    return (cpu->msr.efer & X86_EFER_LMA) != 0;
}

/* Which half of the address space GVA is in where code is concerned: 1 is the upper one, in which
 * kernels have theirs, for all processes alike. Outside long mode that is the last GiB. */
static inline unsigned cpu_code_half(const struct cpu *cpu, gva_t gva)
{
    return cpu_long_mode(cpu) ? gva >> 63 : (gva & 0xffffffff) >= 0xc0000000;
}

/* Delivers an exception, or an interrupt from outside, or INT n (SDM vol. 3A chapter 6). The return
 * address is cpu->rip, or cpu->next_rip when SOFTWARE is true (INT n, INT3, INTO). Sets next_rip to
 * the handler; the caller makes that rip. A fault during delivery raises again: back in the run
 * loop, cpu_deliver_fault does the rest. */
void cpu_deliver(struct cpu *cpu, const struct x86_event *event, bool software);
/* What the run loop calls after cpu_raise has brought it back: delivers cpu->fault, combined with
 * the event that was in delivery by the double-fault rules. Sets CR2. A triple fault leaves with
 * EXIT_SHUTDOWN. Raises again when this delivery faults as well; three rounds at most. */
void cpu_deliver_fault(struct cpu *cpu);

/* ---- simd/: x87, MMX, SSE, AVX on the host's own units ------------------------------------------
 */

/* Executes INSN, one of simd_handles(), wholly: CR0, CR4 and XCR0 checks (#UD, #NM), memory,
 * registers, flags. CPUID features, ATTR_PROTECTED and privilege have been checked; RIP is advanced
 * by the caller. simd_run of dbt/simd.h is the same with a memory; making and freeing
 * cpu->simd is there too. */
void simd_execute(struct cpu *cpu, const struct insn *insn);
/* Puts the live state into cpu->xsave, or takes it from there into the host's registers. */
void simd_save(struct cpu *cpu);
void simd_load(struct cpu *cpu);

/* ---- the library's doors (used by vcpu/dbt and by tests) ----------------------------------------
 */

void cpu_group_init(struct cpu_group *group, struct mem *mem, const struct cpuid_model *cpuid);
/* Bytes at GPA were written by somebody who is not a vCPU: mem.code_written's target, with GROUP as
 * context. Any thread. */
void cpu_group_code_written(void *group, gpa_t gpa, u64 bytes);

/* From its return on, every write marks its page dirty, also one that was marked before: called
 * after somebody has cleared marks, and before he reads the pages that had them. Waits until all
 * vCPUs have stood still for a moment. Not from a vCPU's thread that runs. */
void cpu_group_dirty_sync(struct cpu_group *group);

/* Prepares CPU (zeroed memory) as member INDEX of GROUP; state is that after reset. -ENOMEM. */
MUST_CHECK int cpu_init(struct cpu *cpu, struct cpu_group *group, unsigned index);
void cpu_fini(struct cpu *cpu);
void cpu_get_state(struct cpu *cpu, struct x86_state *ret_state);
/* -EINVAL for a state that no processor can be in. */
MUST_CHECK int cpu_set_state(struct cpu *cpu, const struct x86_state *state);

/* Runs guest code until there is something for the machine to do; fills cpu->exit. An answer to the
 * last exit stands in cpu->exit.value (and msr_fault). Vector state is in cpu->xsave after. */
void cpu_run(struct cpu *cpu);
/* Runs one instruction, or delivers its fault, and leaves with EXIT_KICKED; no event from outside
 * is looked at, but for ATTENTION_FLUSH. An exit to the machine is answered by the next call. */
void cpu_step(struct cpu *cpu);

/* Asks something of a vCPU; any thread. */
static inline void cpu_request(struct cpu *cpu, enum cpu_attention what)
{
    __atomic_fetch_or(&cpu->attention, (u32)what, __ATOMIC_SEQ_CST);
}

#endif
