/*
 * dbt/interp/sys_ops.c - system instructions other than those about segments: they take their
 * operands apart and call what does the work.
 *
 * Spec   Intel SDM vol. 2, the pages of the instructions.
 * Runs   on the vCPU's thread; see interp_priv.h for what a handler may rely on.
 */
#include "dbt/interp/sys_ops_priv.h"
#include "x86/cpuid.h"

enum { HYPERCALL_EPERM = 1 }; /* KVM's answer to a hypercall from a program */

/* ---- control transfers
 * ----------------------------------------------------------------------------- */

/* The target in the instruction itself, or the far pointer in memory that it names. */
static void read_far_target(struct cpu *cpu, const struct insn *insn, struct far_target *ret_target)
{
    unsigned bytes = insn->operand_bytes;

    ret_target->operand_bytes = (u8)bytes;
    if (!insn->has_memory) {
        ret_target->selector = insn->imm2;
        ret_target->offset = insn->imm;
        return;
    }
    gva_t gva = insn_linear(cpu, insn, bytes + 2, ACCESS_READ);
    ret_target->offset = mmu_read(cpu, gva, bytes);
    gva = cpu->code_bytes == 8 ? gva + bytes : (u32)(gva + bytes);
    ret_target->selector = (u16)mmu_read(cpu, gva, 2);
}

void op_jmp_far(struct cpu *cpu, const struct insn *insn)
{
    struct far_target target;

    read_far_target(cpu, insn, &target);
    far_jump(cpu, &target);
}

void op_call_far(struct cpu *cpu, const struct insn *insn)
{
    struct far_target target;

    read_far_target(cpu, insn, &target);
    far_call(cpu, &target);
}

void op_retf(struct cpu *cpu, const struct insn *insn)
{
    far_return(cpu, insn->operand_bytes, (u16)insn->imm);
}

void op_iret(struct cpu *cpu, const struct insn *insn)
{
    iret(cpu, insn->operand_bytes);
}

void op_int(struct cpu *cpu, const struct insn *insn)
{
    sys_interrupt(cpu, (u8)insn->imm);
}

void op_int1(struct cpu *cpu, const struct insn *insn)
{
    sys_software_exception(cpu, X86_DB, true);
}

void op_int3(struct cpu *cpu, const struct insn *insn)
{
    sys_software_exception(cpu, X86_BP, false);
}

void op_into(struct cpu *cpu, const struct insn *insn)
{
    if ((cpu->rflags & X86_OF) != 0)
        sys_software_exception(cpu, X86_OF_TRAP, false);
}

void op_bound(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn->operand_bytes;
    gva_t gva = insn_linear(cpu, insn, (size_t)bytes * 2, ACCESS_READ);
    s64 index = (s64)sign_extend(cpu->gpr[insn->reg], bytes);
    s64 low = (s64)sign_extend(mmu_read(cpu, gva, bytes), bytes);
    s64 high = (s64)sign_extend(mmu_read(cpu, (u32)(gva + bytes), bytes), bytes);

    if (index < low || index > high)
        cpu_raise(cpu, X86_BR);
}

void op_undefined(struct cpu *cpu, const struct insn *insn)
{
    cpu_raise(cpu, X86_UD);
}

void op_syscall(struct cpu *cpu, const struct insn *insn)
{
    sys_syscall(cpu);
}

void op_sysret(struct cpu *cpu, const struct insn *insn)
{
    sys_sysret(cpu, insn->operand_bytes);
}

void op_sysenter(struct cpu *cpu, const struct insn *insn)
{
    sys_sysenter(cpu);
}

void op_sysexit(struct cpu *cpu, const struct insn *insn)
{
    sys_sysexit(cpu, insn->operand_bytes);
}

/* ---- flags
 * ----------------------------------------------------------------------------------------- */

void op_cli(struct cpu *cpu, const struct insn *insn)
{
    sys_cli(cpu);
}

void op_sti(struct cpu *cpu, const struct insn *insn)
{
    sys_sti(cpu);
}

/* CLAC and STAC: #UD where other privileged instructions raise #GP. */
static void require_kernel(struct cpu *cpu)
{
    if (cpu->cpl != 0)
        cpu_raise(cpu, X86_UD);
}

void op_clac(struct cpu *cpu, const struct insn *insn)
{
    require_kernel(cpu);
    cpu->rflags &= ~(u64)X86_AC;
    cpu_mode_update(cpu);
}

void op_stac(struct cpu *cpu, const struct insn *insn)
{
    require_kernel(cpu);
    cpu->rflags |= X86_AC;
    cpu_mode_update(cpu);
}

/* ---- registers
 * ------------------------------------------------------------------------------------- */

static void set_edx_eax(struct cpu *cpu, u64 value)
{
    cpu->gpr[X86_RAX] = (u32)value;
    cpu->gpr[X86_RDX] = value >> 32;
}

static u64 get_edx_eax(const struct cpu *cpu)
{
    return cpu->gpr[X86_RDX] << 32 | (u32)cpu->gpr[X86_RAX];
}

static unsigned natural_bytes(const struct cpu *cpu)
{
    return cpu->code_bytes == 8 ? 8 : 4;
}

void op_mov_from_cr(struct cpu *cpu, const struct insn *insn)
{
    interp_set_gpr(cpu, insn, insn->rm, natural_bytes(cpu), sys_read_cr(cpu, insn->reg));
}

void op_mov_to_cr(struct cpu *cpu, const struct insn *insn)
{
    sys_write_cr(cpu, insn->reg, cpu->gpr[insn->rm] & bytes_mask(natural_bytes(cpu)));
}

void op_mov_from_dr(struct cpu *cpu, const struct insn *insn)
{
    interp_set_gpr(cpu, insn, insn->rm, natural_bytes(cpu), sys_read_dr(cpu, insn->reg));
}

void op_mov_to_dr(struct cpu *cpu, const struct insn *insn)
{
    sys_write_dr(cpu, insn->reg, cpu->gpr[insn->rm] & bytes_mask(natural_bytes(cpu)));
}

void op_clts(struct cpu *cpu, const struct insn *insn)
{
    sys_clts(cpu);
}

void op_rdmsr(struct cpu *cpu, const struct insn *insn)
{
    set_edx_eax(cpu, sys_rdmsr(cpu, (u32)cpu->gpr[X86_RCX]));
}

void op_wrmsr(struct cpu *cpu, const struct insn *insn)
{
    sys_wrmsr(cpu, (u32)cpu->gpr[X86_RCX], get_edx_eax(cpu));
}

void op_xgetbv(struct cpu *cpu, const struct insn *insn)
{
    set_edx_eax(cpu, sys_xgetbv(cpu, (u32)cpu->gpr[X86_RCX]));
}

void op_xsetbv(struct cpu *cpu, const struct insn *insn)
{
    sys_xsetbv(cpu, (u32)cpu->gpr[X86_RCX], get_edx_eax(cpu));
}

/* No counter exists, so every index is a wrong one, whoever asks. */
void op_rdpmc(struct cpu *cpu, const struct insn *insn)
{
    cpu_raise_error(cpu, X86_GP, 0);
}

void op_rdpid(struct cpu *cpu, const struct insn *insn)
{
    interp_set_gpr(cpu, insn, insn->rm, natural_bytes(cpu), cpu->msr.tsc_aux);
}

void op_cpuid(struct cpu *cpu, const struct insn *insn)
{
    u32 values[4];

    sys_cpuid(cpu, (u32)cpu->gpr[X86_RAX], (u32)cpu->gpr[X86_RCX], values);
    cpu->gpr[X86_RAX] = values[0];
    cpu->gpr[X86_RBX] = values[1];
    cpu->gpr[X86_RCX] = values[2];
    cpu->gpr[X86_RDX] = values[3];
}

/* ---- caches and translations
 * ----------------------------------------------------------------------- */

/* Guest memory is coherent, so that there is nothing to write back. */
void op_wbinvd(struct cpu *cpu, const struct insn *insn)
{
}

/* Blocks end here, and the run loop sees what others have written into code before the next. */
void op_serialize(struct cpu *cpu, const struct insn *insn)
{
}

void op_invlpg(struct cpu *cpu, const struct insn *insn)
{
    u64 offset = insn_offset(cpu, insn);

    if (cpu->code_bytes != 8)
        sys_invlpg(cpu, (u32)(cpu->seg[insn->segment].base + offset));
    else if (insn->segment >= X86_FS)
        sys_invlpg(cpu, cpu->seg[insn->segment].base + offset);
    else
        sys_invlpg(cpu, offset);
}

void op_invpcid(struct cpu *cpu, const struct insn *insn)
{
    gva_t gva = insn_linear(cpu, insn, 16, ACCESS_READ);
    u64 pcid = mmu_read(cpu, gva, 8);
    u64 address = mmu_read(cpu, gva + 8, 8);

    sys_invpcid(cpu, cpu->gpr[insn->reg] & bytes_mask(natural_bytes(cpu)), pcid, address);
}

/* ---- hypercalls
 * ------------------------------------------------------------------------------------ */

/* Each vendor's instruction is taken on both. A guest that sees no hypervisor has neither. */
void op_vmcall(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = natural_bytes(cpu);
    u64 mask = bytes_mask(bytes);
    const u64 args[VM_EXIT_ARGS] = {cpu->gpr[X86_RBX] & mask, cpu->gpr[X86_RCX] & mask,
                                    cpu->gpr[X86_RDX] & mask, cpu->gpr[X86_RSI] & mask};
    u64 answer = (u64)-HYPERCALL_EPERM;

    if (cpu->cpuid == NULL || !cpu->cpuid->has_hypercalls)
        cpu_raise(cpu, X86_UD);
    if (cpu->cpl == 0)
        answer = cpu_hypercall(cpu, cpu->gpr[X86_RAX] & mask, args, bytes);
    gpr_set(cpu, X86_RAX, bytes, answer);
}
