/*
 * dbt/interp/int_alu.c - handlers: arithmetic and logic, shifts and rotates, exchanges.
 *
 * Spec   Intel SDM vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction.
 */
#include "dbt/interp/int_priv.h"

/* compute_NAME: the host's instruction on the old value and the operand. The operands of the
 * assembly: d is changed, s is read, AX holds the flags. */
#define COMPUTE_SIZED(text, type, suffix)              \
    do {                                               \
        type d = (type)old;                            \
        __asm__(FLAGS_FROM_AX text(suffix) FLAGS_TO_AX \
                : [d] "+r"(d), "+&a"(ax)               \
                : [s] "r"((type)modify->operand)       \
                : "cc");                               \
        result = d;                                    \
    } while (0)
#define COMPUTE(name, text)                             \
    static u64 name(struct int_modify *modify, u64 old) \
    {                                                   \
        u32 ax = modify->flags_before;                  \
        u64 result;                                     \
        switch (modify->bytes) {                        \
        case 1:                                         \
            COMPUTE_SIZED(text, u8, "b");               \
            break;                                      \
        case 2:                                         \
            COMPUTE_SIZED(text, u16, "w");              \
            break;                                      \
        case 4:                                         \
            COMPUTE_SIZED(text, u32, "l");              \
            break;                                      \
        default:                                        \
            COMPUTE_SIZED(text, u64, "q");              \
            break;                                      \
        }                                               \
        modify->flags = ax;                             \
        return result;                                  \
    }

#define TEXT_ADD(suffix) "add" suffix " %[s], %[d]"
#define TEXT_OR(suffix) "or" suffix " %[s], %[d]"
#define TEXT_ADC(suffix) "adc" suffix " %[s], %[d]"
#define TEXT_SBB(suffix) "sbb" suffix " %[s], %[d]"
#define TEXT_AND(suffix) "and" suffix " %[s], %[d]"
#define TEXT_SUB(suffix) "sub" suffix " %[s], %[d]"
#define TEXT_XOR(suffix) "xor" suffix " %[s], %[d]"
#define TEXT_INC(suffix) "inc" suffix " %[d]"
#define TEXT_DEC(suffix) "dec" suffix " %[d]"
#define TEXT_NEG(suffix) "neg" suffix " %[d]"
COMPUTE(compute_add, TEXT_ADD)
COMPUTE(compute_or, TEXT_OR)
COMPUTE(compute_adc, TEXT_ADC)
COMPUTE(compute_sbb, TEXT_SBB)
COMPUTE(compute_and, TEXT_AND)
COMPUTE(compute_sub, TEXT_SUB)
COMPUTE(compute_xor, TEXT_XOR)
COMPUTE(compute_inc, TEXT_INC)
COMPUTE(compute_dec, TEXT_DEC)
COMPUTE(compute_neg, TEXT_NEG)

static u64 compute_not(struct int_modify *modify, u64 old)
{
    modify->flags = modify->flags_before;
    return ~old;
}

static u64 compute_exchange(struct int_modify *modify, u64 old)
{
    modify->flags = modify->flags_before;
    return modify->operand;
}

/* Operand 0 becomes COMPUTE of itself and operand 1 (or nothing). */
static void alu_modify(struct cpu *cpu, const struct insn *insn,
                       u64 (*compute)(struct int_modify *, u64), bool two)
{
    struct int_modify modify = {.compute = compute, .flags_before = int_flags(cpu)};
    if (two)
        modify.operand = int_read(cpu, insn, 1);
    int_modify(cpu, insn, 0, insn_locked(insn), &modify);
    int_set_flags(cpu, modify.flags);
}

/* The same without writing the result. */
static void alu_compare(struct cpu *cpu, const struct insn *insn,
                        u64 (*compute)(struct int_modify *, u64))
{
    struct int_modify modify = {.flags_before = int_flags(cpu),
                                .bytes = insn_operand_bytes(insn, 0)};
    u64 left = int_read(cpu, insn, 0);
    modify.operand = int_read(cpu, insn, 1);
    compute(&modify, left);
    int_set_flags(cpu, modify.flags);
}

#define ALU_HANDLER(name, compute, two)                 \
    void name(struct cpu *cpu, const struct insn *insn) \
    {                                                   \
        alu_modify(cpu, insn, compute, two);            \
    }
ALU_HANDLER(op_add, compute_add, true)
ALU_HANDLER(op_or, compute_or, true)
ALU_HANDLER(op_adc, compute_adc, true)
ALU_HANDLER(op_sbb, compute_sbb, true)
ALU_HANDLER(op_and, compute_and, true)
ALU_HANDLER(op_sub, compute_sub, true)
ALU_HANDLER(op_xor, compute_xor, true)
ALU_HANDLER(op_inc, compute_inc, false)
ALU_HANDLER(op_dec, compute_dec, false)
ALU_HANDLER(op_neg, compute_neg, false)
ALU_HANDLER(op_not, compute_not, false)

void op_cmp(struct cpu *cpu, const struct insn *insn)
{
    alu_compare(cpu, insn, compute_sub);
}

void op_test(struct cpu *cpu, const struct insn *insn)
{
    alu_compare(cpu, insn, compute_and);
}

/* ---- shifts and rotates
 * --------------------------------------------------------------------------- */

#define SHIFT_SIZED(name, type, suffix)                             \
    do {                                                            \
        type d = (type)old;                                         \
        __asm__(FLAGS_FROM_AX name suffix " %%cl, %[d]" FLAGS_TO_AX \
                : [d] "+r"(d), "+&a"(ax)                            \
                : "c"((u8)modify->operand)                          \
                : "cc");                                            \
        result = d;                                                 \
    } while (0)
#define SHIFT(function, handler, name)                      \
    static u64 function(struct int_modify *modify, u64 old) \
    {                                                       \
        u32 ax = modify->flags_before;                      \
        u64 result;                                         \
        if (modify->bytes == 1)                             \
            SHIFT_SIZED(name, u8, "b");                     \
        else if (modify->bytes == 2)                        \
            SHIFT_SIZED(name, u16, "w");                    \
        else if (modify->bytes == 4)                        \
            SHIFT_SIZED(name, u32, "l");                    \
        else                                                \
            SHIFT_SIZED(name, u64, "q");                    \
        modify->flags = ax;                                 \
        return result;                                      \
    }                                                       \
    void handler(struct cpu *cpu, const struct insn *insn)  \
    {                                                       \
        alu_modify(cpu, insn, function, true);              \
    }
SHIFT(compute_rol, op_rol, "rol")
SHIFT(compute_ror, op_ror, "ror")
SHIFT(compute_rcl, op_rcl, "rcl")
SHIFT(compute_rcr, op_rcr, "rcr")
SHIFT(compute_shl, op_shl, "shl")
SHIFT(compute_shr, op_shr, "shr")
SHIFT(compute_sar, op_sar, "sar")

/* 16-bit counts above 16 are undefined in manuals; the host's own result is taken. */
#define DOUBLE_SHIFT(function, handler, name)                                             \
    static u64 function(struct int_modify *modify, u64 old)                               \
    {                                                                                     \
        u32 ax = modify->flags_before;                                                    \
        u64 d = old;                                                                      \
        if (modify->bytes == 2)                                                           \
            __asm__(FLAGS_FROM_AX name "w %%cl, %w[s], %w[d]" FLAGS_TO_AX                 \
                    : [d] "+r"(d), "+&a"(ax)                                              \
                    : [s] "r"(modify->operand2), "c"((u8)modify->operand)                 \
                    : "cc");                                                              \
        else if (modify->bytes == 4)                                                      \
            __asm__(FLAGS_FROM_AX name "l %%cl, %k[s], %k[d]" FLAGS_TO_AX                 \
                    : [d] "+r"(d), "+&a"(ax)                                              \
                    : [s] "r"(modify->operand2), "c"((u8)modify->operand)                 \
                    : "cc");                                                              \
        else                                                                              \
            __asm__(FLAGS_FROM_AX name "q %%cl, %[s], %[d]" FLAGS_TO_AX                   \
                    : [d] "+r"(d), "+&a"(ax)                                              \
                    : [s] "r"(modify->operand2), "c"((u8)modify->operand)                 \
                    : "cc");                                                              \
        modify->flags = ax;                                                               \
        return d;                                                                         \
    }                                                                                     \
    void handler(struct cpu *cpu, const struct insn *insn)                                \
    {                                                                                     \
        struct int_modify modify = {.compute = function, .flags_before = int_flags(cpu)}; \
        modify.operand2 = int_read(cpu, insn, 1);                                         \
        modify.operand = int_read(cpu, insn, 2);                                          \
        int_modify(cpu, insn, 0, false, &modify);                                         \
        int_set_flags(cpu, modify.flags);                                                 \
    }
DOUBLE_SHIFT(compute_shld, op_shld, "shld")
DOUBLE_SHIFT(compute_shrd, op_shrd, "shrd")

/* ---- bit tests
 * -------------------------------------------------------------------------------------- */

/* The flags that manuals leave undefined stay as they were. */
static u32 bit_flags(const struct int_modify *modify, u64 old)
{
    u32 carry = old >> modify->operand & 1;
    return (modify->flags_before & ~0x100u) | carry << 8;
}

static u64 compute_bts(struct int_modify *modify, u64 old)
{
    modify->flags = bit_flags(modify, old);
    return old | BIT(modify->operand);
}

static u64 compute_btr(struct int_modify *modify, u64 old)
{
    modify->flags = bit_flags(modify, old);
    return old & ~BIT(modify->operand);
}

static u64 compute_btc(struct int_modify *modify, u64 old)
{
    modify->flags = bit_flags(modify, old);
    return old ^ BIT(modify->operand);
}

/* A bit offset in a register reaches the whole of memory around the operand's address. */
static void bit_modify(struct cpu *cpu, const struct insn *insn,
                       u64 (*compute)(struct int_modify *, u64), bool write)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    struct int_modify modify = {.compute = compute, .flags_before = int_flags(cpu), .bytes = bytes};
    u64 bit = int_read(cpu, insn, 1);
    modify.operand = bit & (bytes * 8 - 1);
    if (!insn->has_memory) {
        modify.old = interp_get_gpr(cpu, insn, insn->rm, bytes);
        modify.new = compute(&modify, modify.old);
        if (write)
            interp_set_gpr(cpu, insn, insn->rm, bytes, modify.new);
    } else {
        u64 offset = insn_offset(cpu, insn);
        if (insn->desc->operand[1].kind != OPERAND_I) {
            u64 index = sign_extend(bit, bytes);
            offset += (u64)((s64)index >> 3) & ~(u64)(bytes - 1);
            offset &= bytes_mask(insn->address_bytes);
        }
        gva_t gva = seg_linear(cpu, insn->segment, offset, bytes,
                               write ? ACCESS_WRITE : ACCESS_READ);
        if (write)
            int_modify_at(cpu, gva, bytes, insn_locked(insn), &modify);
        else
            compute(&modify, mmu_read(cpu, gva, bytes));
    }
    int_set_flags(cpu, modify.flags);
}

void op_bt(struct cpu *cpu, const struct insn *insn)
{
    bit_modify(cpu, insn, compute_bts, false);
}

void op_bts(struct cpu *cpu, const struct insn *insn)
{
    bit_modify(cpu, insn, compute_bts, true);
}

void op_btr(struct cpu *cpu, const struct insn *insn)
{
    bit_modify(cpu, insn, compute_btr, true);
}

void op_btc(struct cpu *cpu, const struct insn *insn)
{
    bit_modify(cpu, insn, compute_btc, true);
}

/* ---- exchanges
 * --------------------------------------------------------------------------------------- */

void op_xchg(struct cpu *cpu, const struct insn *insn)
{
    unsigned memory = insn->desc->operand[0].kind == OPERAND_G ? 1 : 0;
    struct int_modify modify = {.compute = compute_exchange};
    modify.operand = int_read(cpu, insn, 1 - memory);
    int_modify(cpu, insn, memory, true, &modify);
    int_write(cpu, insn, 1 - memory, modify.old);
}

void op_xadd(struct cpu *cpu, const struct insn *insn)
{
    struct int_modify modify = {.compute = compute_add, .flags_before = int_flags(cpu)};
    modify.operand = int_read(cpu, insn, 1);
    if (!insn->has_memory) {
        /* With the same register twice, the sum is what stays. */
        modify.bytes = insn_operand_bytes(insn, 0);
        modify.old = int_read(cpu, insn, 0);
        modify.new = compute_add(&modify, modify.old);
        int_write(cpu, insn, 1, modify.old);
        int_write(cpu, insn, 0, modify.new);
    } else {
        int_modify(cpu, insn, 0, insn_locked(insn), &modify);
        int_write(cpu, insn, 1, modify.old);
    }
    int_set_flags(cpu, modify.flags);
}

/* operand is the accumulator, operand2 the new value; memory is written in either case. */
static u64 compute_cmpxchg(struct int_modify *modify, u64 old)
{
    u64 accumulator = modify->operand;
    modify->operand = old;
    compute_sub(modify, accumulator);
    modify->operand = accumulator;
    return old == accumulator ? modify->operand2 : old;
}

void op_cmpxchg(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    struct int_modify modify = {.compute = compute_cmpxchg, .flags_before = int_flags(cpu)};
    modify.operand = cpu->gpr[X86_RAX] & bytes_mask(bytes);
    modify.operand2 = int_read(cpu, insn, 1);
    if (!insn->has_memory) {
        modify.bytes = bytes;
        modify.old = int_read(cpu, insn, 0);
        modify.new = compute_cmpxchg(&modify, modify.old);
        if (modify.old == modify.operand)
            int_write(cpu, insn, 0, modify.new);
    } else {
        int_modify(cpu, insn, 0, insn_locked(insn), &modify);
    }
    if (modify.old != modify.operand)
        gpr_set(cpu, X86_RAX, bytes, modify.old);
    int_set_flags(cpu, modify.flags);
}

/* 8 or 16 bytes. Without a host pointer (two pages, a device) the others stand still meanwhile. */
static bool wide_exchange(struct cpu *cpu, gva_t gva, unsigned bytes, u64 expected[2],
                          const u64 new[2])
{
    gpa_t code_gpa;
    u8 *host = mmu_host_write(cpu, gva, bytes, &code_gpa);
    bool equal;
    if (host && bytes == 8) {
        __asm__ volatile("lock cmpxchgq %[new], (%[host])"
                         : "=@ccz"(equal), "+a"(expected[0])
                         : [new] "r"(new[0]), [host] "r"(host)
                         : "memory");
    } else if (host) {
        __asm__ volatile("lock cmpxchg16b (%[host])"
                         : "=@ccz"(equal), "+a"(expected[0]), "+d"(expected[1])
                         : "b"(new[0]), "c"(new[1]), [host] "r"(host)
                         : "memory");
    } else {
        u64 old[2] = {0, 0};
        if (cpu->vector_live)
            simd_save(cpu);
        cpu_group_pause(cpu);
        cpu->exclusive = true;
        mmu_probe(cpu, gva, bytes, ACCESS_WRITE, cpu->privilege);
        for (unsigned i = 0; i < bytes / 8; i++)
            old[i] = mmu_read(cpu, gva + i * 8, 8);
        equal = old[0] == expected[0] && (bytes == 8 || old[1] == expected[1]);
        for (unsigned i = 0; i < bytes / 8; i++)
            mmu_write(cpu, gva + i * 8, 8, equal ? new[i] : old[i]);
        expected[0] = old[0];
        expected[1] = old[1];
        cpu->exclusive = false;
        cpu_group_resume(cpu);
    }
    if (code_gpa != MMU_NO_GPA)
        mmu_code_written(cpu, code_gpa, bytes);
    return equal;
}

void op_cmpxchg8b(struct cpu *cpu, const struct insn *insn)
{
    bool wide = insn->operand_bytes == 8;
    unsigned bytes = wide ? 16 : 8;
    gva_t gva = insn_linear(cpu, insn, bytes, ACCESS_WRITE);
    u64 *gpr = cpu->gpr;
    u64 expected[2] = {gpr[X86_RAX], gpr[X86_RDX]}, new[2] = {gpr[X86_RBX], gpr[X86_RCX]};
    if (!wide) {
        expected[0] = (u32)gpr[X86_RAX] | gpr[X86_RDX] << 32;
        new[0] = (u32)gpr[X86_RBX] | gpr[X86_RCX] << 32;
    } else if (gva & 15) {
        cpu_raise_error(cpu, X86_GP, 0);
    }
    bool equal = wide_exchange(cpu, gva, bytes, expected, new);
    if (!equal && wide) {
        gpr[X86_RAX] = expected[0];
        gpr[X86_RDX] = expected[1];
    } else if (!equal) {
        gpr[X86_RAX] = (u32)expected[0];
        gpr[X86_RDX] = expected[0] >> 32;
    }
    cpu->rflags = (cpu->rflags & ~(u64)X86_ZF) | (equal ? X86_ZF : 0);
}
