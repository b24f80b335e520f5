/*
 * dbt/interp/sys_priv.h - the system architecture: what the parts of it offer one another, and the
 * helpers by which handlers and the run loop use it.
 *
 * Control transfers (interrupts, far_*, iret, task_switch, SYSCALL and its kin) take the return
 * address from cpu->next_rip, where they need one, and commit by sys_set_rip: what follows is the
 * new place's business, even a fault there (a task switch may still raise one).
 */
#ifndef DBT_INTERP_SYS_PRIV_H
#define DBT_INTERP_SYS_PRIV_H

#include "dbt/cpu.h"
#include "dbt/interp/seg_priv.h"

enum sys_vendor { SYS_VENDOR_INTEL, SYS_VENDOR_AMD };

/* DR6 and DR7 (SDM vol. 3B 17.2). */
enum sys_dr6 {
    DR6_BREAKPOINTS = 0xf,
    DR6_BD = 1 << 13,
    DR6_BS = 1 << 14,
    DR6_BT = 1 << 15,
    DR6_RTM = 1 << 16,
    DR6_WRITABLE = DR6_BREAKPOINTS | DR6_BD | DR6_BS | DR6_BT
};
#define DR6_FIXED 0xffff0ff0u
enum sys_dr7 { DR7_ENABLES = 0xff, DR7_GD = 1 << 13, DR7_FIXED = 1 << 10 };
#define DR7_WRITABLE 0xffff23ffu

/* ---- sys_stack.c: a stack that is being pushed to or popped from
 * --------------------------------- The vCPU's registers do not change until sys_stack_commit. */

struct sys_stack {
    struct x86_seg seg;
    u64 pointer;
    u8 bytes;    /* 2, 4 or 8: how much of rSP counts */
    bool system; /* not the stack of the current privilege level */
    u32 error;   /* of the #SS that a push or pop beyond the limit raises */
};

void sys_stack_current(const struct cpu *cpu, struct sys_stack *ret_stack);
void sys_stack_push(struct cpu *cpu, struct sys_stack *stack, unsigned bytes, u64 value);
u64 sys_stack_pop(struct cpu *cpu, struct sys_stack *stack, unsigned bytes);
/* Reads BYTES at OFFSET above the pointer. */
u64 sys_stack_peek(struct cpu *cpu, const struct sys_stack *stack, u64 offset, unsigned bytes);
/* Moves the pointer by DELTA. */
void sys_stack_adjust(struct sys_stack *stack, u64 delta);
/* Sets rSP from the pointer, changing only the bytes that count. */
void sys_stack_commit(struct cpu *cpu, const struct sys_stack *stack);
/* Reads SS and rSP of privilege level CPL from the TSS; #TS when the TSS is too short. */
void sys_stack_from_tss(struct cpu *cpu, unsigned cpl, bool external, u16 *ret_selector,
                        u64 *ret_pointer);
/* The inner stack of a call or interrupt gate in protected mode: checked, ready for pushes. */
void sys_stack_inner(struct cpu *cpu, unsigned cpl, bool external, struct seg_desc *ret_desc,
                     struct sys_stack *ret_stack);
/* In long mode: RSP of privilege level CPL, or of IST entry IST (not 0), from the TSS. */
u64 sys_stack_long(struct cpu *cpu, unsigned cpl, unsigned ist, bool external);

/* ---- sys_deliver.c ------------------------------------------------------------------------------
 */

/* Executes INT n: checks of virtual-8086 mode, then delivery. */
void sys_interrupt(struct cpu *cpu, u8 vector);
/* INT3, INTO (no IOPL check) and INT1 (as if from hardware: no gate DPL check). */
void sys_software_exception(struct cpu *cpu, u8 vector, bool hardware);

/* ---- sys_task.c ---------------------------------------------------------------------------------
 */

enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET };
struct task_switch {
    enum task_reason reason;
    struct seg_desc tss; /* of the incoming task: available, or busy for TASK_IRET; present */
    u64 rip, flags;      /* saved for the outgoing task */
    bool external;
};
void task_switch(struct cpu *cpu, const struct task_switch *to);
/* Reads the TSS descriptor that a task gate names and checks it: errors #GP, #NP. */
void task_gate_tss(struct cpu *cpu, u16 selector, bool external, struct seg_desc *ret_tss);
/* Return from a nested task: IRET with NT set. */
void task_return(struct cpu *cpu);

/* ---- sys_far.c, sys_far_call.c, sys_ret.c, sys_iret.c
 * --------------------------------------------- */

/* The target of a far transfer. */
struct far_target {
    u16 selector;
    u64 offset;
    u8 operand_bytes; /* 2, 4 or 8 */
};
void far_jump(struct cpu *cpu, const struct far_target *target);
void far_call(struct cpu *cpu, const struct far_target *target);
/* RETF with EXTRA bytes of parameters to drop. */
void far_return(struct cpu *cpu, unsigned operand_bytes, u16 extra);
void iret(struct cpu *cpu, unsigned operand_bytes);

/* Shared by them: reads SELECTOR's descriptor; #GP(0) for null, #GP(selector) outside the table. */
void far_read_code(struct cpu *cpu, u16 selector, bool external, struct seg_desc *ret_desc);
/* In long mode L and D must not both be set, and the code of a gate must be 64-bit: #GP(selector).
 */
void far_check_long(struct cpu *cpu, const struct seg_desc *desc);
/* RIP must lie within the code segment that DESC describes, or be canonical: #GP(0). */
void far_check_rip(struct cpu *cpu, u16 attr, u32 limit, u64 rip, bool external);
/* Commits a far transfer: CS, RIP. DESC is checked and marked accessed. */
void far_commit(struct cpu *cpu, const struct seg_desc *desc, unsigned cpl, u64 rip);
/* Reads a call gate's (or task gate's) target; returns the code segment, checked for CALL (INNER is
 * allowed and reported) or JMP. */
struct far_gate {
    struct seg_gate gate;
    struct seg_desc code;
    bool inner; /* goes to a more privileged level */
};
void far_gate_read(struct cpu *cpu, struct seg_desc *desc, bool call, struct far_gate *ret_gate);
/* Handles targets that are TSSs and task gates; false when DESC is neither. */
bool far_task(struct cpu *cpu, struct seg_desc *desc, enum task_reason reason);

/* ---- sys_fast.c ---------------------------------------------------------------------------------
 */

void sys_syscall(struct cpu *cpu);
void sys_sysret(struct cpu *cpu, unsigned operand_bytes);
void sys_sysenter(struct cpu *cpu);
void sys_sysexit(struct cpu *cpu, unsigned operand_bytes);

/* ---- sys_flags.c --------------------------------------------------------------------------------
 */

void sys_cli(struct cpu *cpu);
void sys_sti(struct cpu *cpu);
/* The image that PUSHF pushes; #GP(0) in virtual-8086 mode without IOPL 3. */
u64 sys_pushf(struct cpu *cpu, unsigned operand_bytes);
/* Sets RFLAGS as POPF does from VALUE. */
void sys_popf(struct cpu *cpu, unsigned operand_bytes, u64 value);
/* #GP(0) unless BYTES at PORT may be accessed: IOPL or the TSS's bitmap. */
void sys_check_port(struct cpu *cpu, u16 port, unsigned bytes);
/* The instruction in progress ends elsewhere: RIP is there already now. */
static inline void sys_set_rip(struct cpu *cpu, u64 rip)
{
    cpu->rip = rip;
    cpu->next_rip = rip;
}

/* ---- sys_cr.c, sys_debug.c, sys_msr.c, sys_cpuid.c
 * ------------------------------------------------- */

u64 sys_read_cr(struct cpu *cpu, unsigned number);
void sys_write_cr(struct cpu *cpu, unsigned number, u64 value);
void sys_lmsw(struct cpu *cpu, u16 value);
void sys_clts(struct cpu *cpu);
u64 sys_xgetbv(struct cpu *cpu, u32 index);
void sys_xsetbv(struct cpu *cpu, u32 index, u64 value);
void sys_invlpg(struct cpu *cpu, gva_t gva);
void sys_invpcid(struct cpu *cpu, u64 type, u64 pcid, gva_t gva);
/* CR4 bits that the guest's CPUID allows. */
u64 sys_cr4_allowed(const struct cpu *cpu);
/* Checks and stores what a load of CR3 does besides the CPL check; also used by task switches. */
void sys_load_cr3(struct cpu *cpu, u64 value);
/* EFER from WRMSR. */
void sys_write_efer(struct cpu *cpu, u64 value);

u64 sys_read_dr(struct cpu *cpu, unsigned number);
void sys_write_dr(struct cpu *cpu, unsigned number, u64 value);
/* Raises #DB when an instruction breakpoint matches the linear address of RIP and RF is clear. */
void sys_debug_execution(struct cpu *cpu, gva_t gva);
/* Notes data and I/O breakpoints that an access hits; the trap follows the instruction. */
void sys_debug_data(struct cpu *cpu, gva_t gva, unsigned bytes, bool write);
void sys_debug_port(struct cpu *cpu, u16 port, unsigned bytes);
/* No single-step trap follows the instruction in progress (MOV SS, INT n, SYSCALL), although it
 * began with TF set; called before TF changes. */
static inline void sys_debug_skip_step(struct cpu *cpu)
{
    cpu->step_skip = (cpu->rflags & X86_TF) != 0;
}
/* Tells DR6 what was noted of breakpoints; the note is cleared. */
void sys_debug_merge(struct cpu *cpu);
/* After an instruction retired that began with TF set (SINGLE_STEP), or with debug_pending noted:
 * fills the #DB to deliver and returns true. */
MUST_CHECK bool sys_debug_trap(struct cpu *cpu, bool single_step, struct x86_event *ret_event);
/* Puts DR6 and DR7 in with their fixed bits as they must be. */
void sys_debug_load(struct cpu *cpu, u64 dr6, u64 dr7);
/* Recomputes cpu->debug_active. */
void sys_debug_update(struct cpu *cpu);

u64 sys_rdmsr(struct cpu *cpu, u32 index);
void sys_wrmsr(struct cpu *cpu, u32 index, u64 value);
/* The guest's time stamp counter. */
u64 sys_tsc(const struct cpu *cpu);

/* CPUID with the bits that follow from the vCPU's state. RET is EAX, EBX, ECX, EDX. */
void sys_cpuid(const struct cpu *cpu, u32 leaf, u32 subleaf, u32 ret[4]);
enum sys_vendor sys_vendor(const struct cpu *cpu);
/* #GP(0) unless CPL is 0. */
void sys_require_cpl0(struct cpu *cpu);

#endif
