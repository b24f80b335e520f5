/*
 * dbt/interp/operand.c - operands of handlers: registers, immediates, memory addresses,
 * read-modify-write.
 *
 * Spec   Intel SDM vol. 1 3.7; vol. 2A 2.1 to 2.2; vol. 3A 8.1 (locked operations).
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "dbt/interp/int_priv.h"

u64 interp_get_gpr(const struct cpu *cpu, const struct insn *insn, unsigned reg, unsigned bytes)
{
    if (bytes == 1 && insn_high_byte(insn, reg))
        return cpu->gpr[reg - 4] >> 8 & 0xff;
    return cpu->gpr[reg] & bytes_mask(bytes);
}

void interp_set_gpr(struct cpu *cpu, const struct insn *insn, unsigned reg, unsigned bytes,
                    u64 value)
{
    if (bytes == 1 && insn_high_byte(insn, reg))
        cpu->gpr[reg - 4] = (cpu->gpr[reg - 4] & ~0xff00ull) | (value & 0xff) << 8;
    else
        gpr_set(cpu, reg, bytes, value);
}

u64 insn_offset(const struct cpu *cpu, const struct insn *insn)
{
    u64 offset = (u64)insn->disp;
    if (insn->base == INSN_RIP)
        offset += cpu->rip + insn->length;
    else if (insn->base != INSN_NO_REG)
        offset += cpu->gpr[insn->base];
    if (insn->index != INSN_NO_REG && !(insn->desc->attr & ATTR_VSIB))
        offset += cpu->gpr[insn->index] << insn->scale;
    return offset & bytes_mask(insn->address_bytes);
}

gva_t insn_linear(struct cpu *cpu, const struct insn *insn, size_t bytes, enum cpu_access access)
{
    return seg_linear(cpu, insn->segment, insn_offset(cpu, insn), bytes, access);
}

/* The register that operand I names, or INSN_NO_REG when it is none. */
static unsigned operand_reg(const struct insn *insn, unsigned i)
{
    const struct operand_desc *operand = &insn->desc->operand[i];
    switch (operand->kind) {
    case OPERAND_E:
    case OPERAND_R:
        return insn->has_memory ? INSN_NO_REG : insn->rm;
    case OPERAND_G:
    case OPERAND_Z:
        return insn->reg;
    case OPERAND_B:
        return insn_vvvv(insn);
    case OPERAND_GPR:
        return operand->reg;
    default:
        return INSN_NO_REG;
    }
}

u64 int_read(struct cpu *cpu, const struct insn *insn, unsigned i)
{
    unsigned bytes = insn_operand_bytes(insn, i);
    unsigned reg = operand_reg(insn, i);
    if (reg != INSN_NO_REG)
        return interp_get_gpr(cpu, insn, reg, bytes);
    const struct operand_desc *operand = &insn->desc->operand[i];
    if (operand->kind == OPERAND_I || operand->kind == OPERAND_J)
        /* It is extended already: what it meets, the first operand, is how wide it counts. */
        return i == 0 ? insn->imm : insn->imm & bytes_mask(insn_operand_bytes(insn, 0));
    if (operand->kind == OPERAND_CONST)
        return operand->reg;
    return mmu_read(cpu, insn_linear(cpu, insn, bytes, ACCESS_READ), bytes);
}

void int_write(struct cpu *cpu, const struct insn *insn, unsigned i, u64 value)
{
    unsigned bytes = insn_operand_bytes(insn, i);
    unsigned reg = operand_reg(insn, i);
    if (reg != INSN_NO_REG)
        interp_set_gpr(cpu, insn, reg, bytes, value);
    else
        mmu_write(cpu, insn_linear(cpu, insn, bytes, ACCESS_WRITE), bytes, value);
}

u64 interp_read_rm(struct cpu *cpu, const struct insn *insn, unsigned bytes)
{
    if (!insn->has_memory)
        return interp_get_gpr(cpu, insn, insn->rm, bytes);
    return mmu_read(cpu, insn_linear(cpu, insn, bytes, ACCESS_READ), bytes);
}

void interp_write_rm(struct cpu *cpu, const struct insn *insn, unsigned bytes, u64 value)
{
    if (!insn->has_memory)
        interp_set_gpr(cpu, insn, insn->rm, bytes, value);
    else
        mmu_write(cpu, insn_linear(cpu, insn, bytes, ACCESS_WRITE), bytes, value);
}

/* ---- read-modify-write
 * --------------------------------------------------------------------------- */

/* Puts NEW where OLD was if it still is; an atomic step of a locked operation. */
static bool host_exchange(u8 *host, unsigned bytes, u64 old, u64 new)
{
    bool done;
    switch (bytes) {
    case 1:
        __asm__ volatile("lock cmpxchgb %[new], %[mem]"
                         : "=@ccz"(done), [mem] "+m"(*host), "+a"(old)
                         : [new] "r"((u8) new)
                         : "memory");
        break;
    case 2:
        __asm__ volatile("lock cmpxchgw %[new], %[mem]"
                         : "=@ccz"(done), [mem] "+m"(*host), "+a"(old)
                         : [new] "r"((u16) new)
                         : "memory");
        break;
    case 4:
        __asm__ volatile("lock cmpxchgl %[new], %[mem]"
                         : "=@ccz"(done), [mem] "+m"(*host), "+a"(old)
                         : [new] "r"((u32) new)
                         : "memory");
        break;
    default:
        __asm__ volatile("lock cmpxchgq %[new], %[mem]"
                         : "=@ccz"(done), [mem] "+m"(*host), "+a"(old)
                         : [new] "r"(new)
                         : "memory");
        break;
    }
    return done;
}

/* Memory that no host pointer serves: devices, ROM, two pages. Locked, it is atomic because no
 * other vCPU moves meanwhile; the run loop lets them go again when the instruction is left
 * half-way. */
static void modify_slow(struct cpu *cpu, gva_t gva, unsigned bytes, bool locked,
                        struct int_modify *modify)
{
    mmu_probe(cpu, gva, bytes, ACCESS_WRITE, cpu->privilege);
    bool pause = locked && !cpu->exclusive && (gva & 0xfff) + bytes > 4096;
    if (pause) {
        if (cpu->vector_live)
            simd_save(cpu);
        cpu_group_pause(cpu);
        cpu->exclusive = true;
        mmu_probe(cpu, gva, bytes, ACCESS_WRITE, cpu->privilege);
    }
    modify->old = mmu_read(cpu, gva, bytes);
    modify->new = modify->compute(modify, modify->old);
    mmu_write(cpu, gva, bytes, modify->new);
    if (pause) {
        cpu->exclusive = false;
        cpu_group_resume(cpu);
    }
}

void int_modify_at(struct cpu *cpu, gva_t gva, unsigned bytes, bool locked,
                   struct int_modify *modify)
{
    gpa_t code_gpa;
    u8 *host = mmu_host_write(cpu, gva, bytes, &code_gpa);
    modify->bytes = bytes;
    if (host == NULL) {
        modify_slow(cpu, gva, bytes, locked, modify);
        return;
    }
    do {
        modify->old = host_load(host, bytes);
        modify->new = modify->compute(modify, modify->old);
        if (!locked) {
            host_store(host, bytes, modify->new);
            break;
        }
    } while (!host_exchange(host, bytes, modify->old, modify->new));
    if (code_gpa != MMU_NO_GPA)
        mmu_code_written(cpu, code_gpa, bytes);
}

void int_modify(struct cpu *cpu, const struct insn *insn, unsigned i, bool locked,
                struct int_modify *modify)
{
    unsigned bytes = insn_operand_bytes(insn, i);
    unsigned reg = operand_reg(insn, i);
    modify->bytes = bytes;
    if (reg == INSN_NO_REG) {
        int_modify_at(cpu, insn_linear(cpu, insn, bytes, ACCESS_WRITE), bytes, locked, modify);
        return;
    }
    modify->old = interp_get_gpr(cpu, insn, reg, bytes);
    modify->new = modify->compute(modify, modify->old);
    interp_set_gpr(cpu, insn, reg, bytes, modify->new);
}
