/*
 * dbt/cpu.h - one vCPU inside the translator library: its state block, and what its parts (mmu, interp,
 * simd) call of one another.
 *
 * Runs   on the vCPU's thread; only exit_request, nmi_request and flush_request are written by others.
 * Trust  everything the guest controls is hostile: no guest value indexes host memory unchecked.
 *
 * Guest faults and exits leave an instruction by a non-local jump (cpu_raise, cpu_exit) to the run
 * loop. So an instruction changes architectural state only after its last access that can fault: the
 * commit point is its last step. What it wrote to guest memory before a later fault stays written, as
 * on hardware, so code that writes more than one place probes all of them first (mmu_probe).
 *
 * Port, MMIO and MSR accesses that the machine must answer leave through cpu_exit before the
 * instruction has changed anything; after the answer the instruction runs again from its start, and
 * the same access, recognised by its order, takes the stored answer (struct cpu_replay). The record is
 * cleared when an instruction retires.
 *
 * Vector state: while `vector_live` is true, the guest's x87, SSE and AVX state is in the host's
 * registers and the copy in `xsave` is stale. This library is built without vector registers; it calls
 * simd_save() before anything that is not (the exit to the machine does).
 */
#ifndef DBT_CPU_H
#define DBT_CPU_H

#include "base/types.h"
#include "core/exit.h"
#include "x86/regs.h"

struct mem;
struct cpuid_model;
struct insn;

enum { CPU_TLB_ENTRIES = 1024, CPU_REPLAY_MAX = 160 };

/* How an access is checked (SDM vol. 3A 4.6). The TLB has one set of tags for each of user,
 * supervisor, and supervisor with AC set. */
enum cpu_access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };
enum cpu_privilege {
    PRIVILEGE_USER,      /* CPL 3 */
    PRIVILEGE_KERNEL,    /* CPL 0-2, SMAP enforced (AC clear) */
    PRIVILEGE_KERNEL_AC, /* CPL 0-2 with EFLAGS.AC set: SMAP lifted */
    PRIVILEGE_SYSTEM,    /* implicit supervisor access: descriptor tables, TSS; SMAP always enforced */
    PRIVILEGE_COUNT
};

/* One direct-mapped entry. A tag is the page's GVA, or TLB_NO_TAG; `host` is host address of the page
 * minus nothing: host + (gva & 0xfff) is the byte. */
struct cpu_tlb {
    u64 read_tag[CPU_TLB_ENTRIES];
    u64 write_tag[CPU_TLB_ENTRIES];
    u64 fetch_tag[CPU_TLB_ENTRIES];
    u8 *host[CPU_TLB_ENTRIES];
    u64 gpa[CPU_TLB_ENTRIES];
};
#define TLB_NO_TAG UINT64_MAX

/* Answers and acknowledgements of device accesses of the instruction in progress, in order. */
struct cpu_replay {
    unsigned done;  /* accesses that the machine has answered */
    unsigned next;  /* accesses that this pass over the instruction has met */
    u64 value[CPU_REPLAY_MAX];
};

struct cpu_counters {
    u64 instructions, tlb_misses, page_walks, exceptions, interrupts, exits, decoded_blocks;
    u64 invalidated_blocks, simd_thunks;
};

struct cpu {
    /* Written by other threads, atomically. */
    u32 exit_request;  /* leave the run loop with EXIT_KICKED */
    u32 nmi_request;   /* an NMI came */
    u32 flush_request; /* the engine asks for a full TLB and block flush (safepoint) */

    /* Hot. */
    u64 gpr[X86_GPR_COUNT];
    u64 rip;    /* of the instruction in progress until it retires */
    u64 rflags; /* a full image, always valid between instructions */
    u8 cpl;
    u8 code_bytes;  /* 2, 4 or 8: default code size from CS and EFER.LMA */
    u8 stack_bytes; /* 2, 4 or 8 */
    u8 privilege;   /* enum cpu_privilege of plain data accesses now; follows cpl and AC */
    bool interrupt_shadow; /* the instruction just done was STI or MOV/POP SS */
    bool vector_live;

    struct x86_seg seg[X86_SEGMENT_COUNT];
    struct x86_seg ldtr, tr;
    struct x86_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, cr8, xcr0;
    u64 dr[8];
    struct x86_msrs msr;
    u64 tsc_offset; /* guest TSC = host TSC + offset */
    bool nmi_pending, nmi_blocked;
    u32 activity; /* enum x86_activity */

    /* DR6 bits of the debug trap that follows the instruction in progress (data breakpoints, task
     * switches); `debug_active` says that DR7 enables any breakpoint, so that somebody must look. */
    u32 debug_pending;
    bool debug_active;

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

    struct mem *mem;                 /* borrowed */
    const struct cpuid_model *cpuid; /* borrowed */
    unsigned index;                  /* APIC id */
    struct cpu_counters counters;
    struct block_cache *blocks; /* owned: interp's decoded blocks */
    struct simd *simd;          /* owned: simd's thunks */

    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
    struct cpu_tlb tlb[PRIVILEGE_COUNT];
};

/* ---- leaving an instruction -------------------------------------------------------------------- */

/* Raises exception VECTOR for the instruction in progress. */
NO_RETURN void cpu_raise(struct cpu *cpu, unsigned vector);
NO_RETURN void cpu_raise_error(struct cpu *cpu, unsigned vector, u32 error);
NO_RETURN void cpu_raise_page_fault(struct cpu *cpu, gva_t gva, u32 error);
/* Leaves the run loop with cpu->exit, which the caller has filled. */
NO_RETURN void cpu_exit(struct cpu *cpu);

/* A device access of the instruction in progress: returns its answer when the machine has given it,
 * else exits to ask. KIND is an EXIT_* kind of the port, MMIO or MSR family; VALUE is what a write
 * writes. An MSR access that the machine refused raises #GP(0). */
u64 cpu_device_access(struct cpu *cpu, enum vm_exit_kind kind, u64 address, unsigned bytes,
                      u64 value);

/* ---- mmu/: linear addresses. Each call raises #PF (or #GP for non-canonical ones) itself. ------- */

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
/* The host address of BYTES at GVA, or NULL when they are not in one page of RAM (MMIO, crossing, or a
 * write to a page whose translations must be dropped first). Faults like mmu_probe. */
u8 *mmu_host(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access);
/* Copies up to 15 instruction bytes at GVA; stops at the first page that cannot be fetched, and raises
 * the fault only when not even one byte is there. Returns how many. *ret_gpa[2] are the pages' GPAs. */
unsigned mmu_fetch(struct cpu *cpu, gva_t gva, u8 *to, unsigned bytes, gpa_t ret_gpa[2]);

/* After a change of CR0, CR3, CR4, EFER, or of CPL or AC: what is cached follows. */
void mmu_flush_all(struct cpu *cpu);
void mmu_flush_non_global(struct cpu *cpu);
void mmu_flush_page(struct cpu *cpu, gva_t gva);
void mmu_flush_pcid(struct cpu *cpu, unsigned pcid);

/* ---- interp/: segmented addresses and control --------------------------------------------------- */

/* Linear address of OFFSET in segment SEG for an access of BYTES; raises #GP or #SS. OFFSET is already
 * cut to the address size. */
gva_t seg_linear(struct cpu *cpu, enum x86_segment seg, u64 offset, size_t bytes,
                 enum cpu_access access);
/* The linear address of INSN's memory operand, segment checks done for BYTES. */
gva_t insn_linear(struct cpu *cpu, const struct insn *insn, size_t bytes, enum cpu_access access);
/* The offset of INSN's memory operand (LEA). */
u64 insn_offset(const struct cpu *cpu, const struct insn *insn);

/* Recomputes cpl-, code- and stack-size and privilege from segments, CR0, EFER and RFLAGS. */
void cpu_mode_update(struct cpu *cpu);

/* Delivers an exception, or an interrupt from outside, or INT n (SDM vol. 3A chapter 6), with RIP as
 * the return address. SOFTWARE is true for INT n, INT3, INTO. A fault during delivery raises again:
 * back in the run loop, cpu_deliver_fault does the rest. */
void cpu_deliver(struct cpu *cpu, const struct x86_event *event, bool software);
/* What the run loop calls after cpu_raise has brought it back: delivers cpu->fault, combined with the
 * event that was in delivery by the double-fault rules. Sets CR2. A triple fault leaves with
 * EXIT_SHUTDOWN. Raises again when this delivery faults as well; three rounds at most. */
void cpu_deliver_fault(struct cpu *cpu);

/* ---- simd/: x87, MMX, SSE, AVX on the host's own units ------------------------------------------ */

/* Executes INSN, whose descriptor is of the vector or x87 class, wholly: feature and CR0/CR4 checks
 * (#UD, #NM), memory, registers, flags. RIP is advanced by the caller. */
void simd_execute(struct cpu *cpu, const struct insn *insn);
/* Puts the live state into cpu->xsave, or takes it from there into the host's registers. */
void simd_save(struct cpu *cpu);
void simd_load(struct cpu *cpu);

/* ---- the library's doors (used by vcpu/dbt and by tests) ---------------------------------------- */

/* Prepares CPU (zeroed memory) over MEM; state is that after reset of processor INDEX. -ENOMEM. */
MUST_CHECK int cpu_init(struct cpu *cpu, struct mem *mem, const struct cpuid_model *cpuid,
                        unsigned index);
void cpu_fini(struct cpu *cpu);
void cpu_get_state(struct cpu *cpu, struct x86_state *ret_state);
MUST_CHECK int cpu_set_state(struct cpu *cpu, const struct x86_state *state);

#endif
