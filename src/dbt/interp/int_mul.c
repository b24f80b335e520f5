/*
 * dbt/interp/int_mul.c - handlers: multiplication, division, decimal adjustment.
 *
 * Spec   Intel SDM vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction.
 * Trust  divisors and dividends are the guest's: quotients that do not fit raise #DE here, and the
 *        host's own DIV runs only where it cannot fault.
 */
#include "dbt/interp/int_priv.h"

/* Sets CF and OF to OVERFLOW; the other flags of a multiplication are the host's for the same
 * operands. */
static u64 multiply(u64 left, u64 right, unsigned bytes, bool is_signed, u64 *ret_high,
                    u32 *ret_flags)
{
    u64 low, high;
    u32 ax;
    if (bytes == 8 && is_signed) {
        __asm__("imulq %[s]\n\tmovq %%rax, %[low]" FLAGS_TO_AX
                : [low] "=&r"(low), "=&d"(high), "=&a"(ax)
                : [s] "r"(right), "2"(left)
                : "cc");
    } else if (bytes == 8) {
        __asm__("mulq %[s]\n\tmovq %%rax, %[low]" FLAGS_TO_AX
                : [low] "=&r"(low), "=&d"(high), "=&a"(ax)
                : [s] "r"(right), "2"(left)
                : "cc");
    } else {
        unsigned bits = bytes * 8;
        u64 wide = is_signed ? sign_extend(left, bytes) * sign_extend(right, bytes) : left * right;
        low = wide & bytes_mask(bytes);
        high = wide >> bits & bytes_mask(bytes);
        bool overflow = is_signed ? sign_extend(low, bytes) != wide : high != 0;
        bool parity = !__builtin_parity((unsigned)(low & 0xff));
        ax = (overflow ? 0x101 : 0) | (parity ? X86_PF << 8 : 0) |
             (low >> (bits - 1) & 1 ? X86_SF << 8 : 0);
    }
    *ret_high = high;
    *ret_flags = ax;
    return low;
}

static void multiply_accumulator(struct cpu *cpu, const struct insn *insn, bool is_signed)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    u64 high;
    u32 flags;
    u64 left = cpu->gpr[X86_RAX] & bytes_mask(bytes);
    u64 low = multiply(left, int_read(cpu, insn, 0), bytes, is_signed, &high, &flags);
    if (bytes == 1) {
        gpr_set(cpu, X86_RAX, 2, low | high << 8);
    } else {
        gpr_set(cpu, X86_RAX, bytes, low);
        gpr_set(cpu, X86_RDX, bytes, high);
    }
    int_set_flags(cpu, flags);
}

void op_mul(struct cpu *cpu, const struct insn *insn)
{
    multiply_accumulator(cpu, insn, false);
}

void op_imul1(struct cpu *cpu, const struct insn *insn)
{
    multiply_accumulator(cpu, insn, true);
}

void op_imul(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    unsigned count = insn->desc->operand_count;
    u64 high;
    u32 flags;
    u64 right = int_read(cpu, insn, count - 1);
    u64 left = int_read(cpu, insn, count - 2);
    u64 low = multiply(left, right & bytes_mask(bytes), bytes, true, &high, &flags);
    int_write(cpu, insn, 0, low);
    int_set_flags(cpu, flags);
}

/* HIGH:LOW / DIVISOR, unsigned, of BYTES each; false when the quotient does not fit. */
static bool divide(u64 high, u64 low, u64 divisor, unsigned bytes, u64 *ret_quotient,
                   u64 *ret_remainder)
{
    if (high >= divisor)
        return false;
    if (bytes == 8) {
        __asm__("divq %[divisor]"
                : "=a"(*ret_quotient), "=d"(*ret_remainder)
                : [divisor] "r"(divisor), "0"(low), "1"(high)
                : "cc");
    } else {
        u64 dividend = high << (bytes * 8) | low;
        *ret_quotient = dividend / divisor;
        *ret_remainder = dividend % divisor;
    }
    return true;
}

static void dividend_get(struct cpu *cpu, unsigned bytes, u64 *ret_high, u64 *ret_low)
{
    u64 rax = cpu->gpr[X86_RAX];
    *ret_low = rax & bytes_mask(bytes);
    *ret_high = bytes == 1 ? rax >> 8 & 0xff : cpu->gpr[X86_RDX] & bytes_mask(bytes);
}

static void quotient_set(struct cpu *cpu, unsigned bytes, u64 quotient, u64 remainder)
{
    if (bytes == 1) {
        gpr_set(cpu, X86_RAX, 2, (quotient & 0xff) | (remainder & 0xff) << 8);
        return;
    }
    gpr_set(cpu, X86_RAX, bytes, quotient);
    gpr_set(cpu, X86_RDX, bytes, remainder);
}

void op_div(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    u64 high, low, quotient, remainder;
    u64 divisor = int_read(cpu, insn, 0);
    dividend_get(cpu, bytes, &high, &low);
    if (!divide(high, low, divisor, bytes, &quotient, &remainder))
        cpu_raise(cpu, X86_DE);
    quotient_set(cpu, bytes, quotient, remainder);
}

void op_idiv(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    u64 mask = bytes_mask(bytes), sign = BIT(bytes * 8 - 1);
    u64 high, low, quotient, remainder;
    u64 divisor = int_read(cpu, insn, 0);
    dividend_get(cpu, bytes, &high, &low);
    bool negative = (high & sign) != 0, negative_divisor = (divisor & sign) != 0;
    if (negative) { /* the magnitude of HIGH:LOW */
        low = -low & mask;
        high = (~high + (low == 0)) & mask;
    }
    if (negative_divisor)
        divisor = -divisor & mask;
    if (!divide(high, low, divisor, bytes, &quotient, &remainder))
        cpu_raise(cpu, X86_DE);
    bool negative_quotient = negative != negative_divisor;
    if (quotient > (negative_quotient ? sign : sign - 1))
        cpu_raise(cpu, X86_DE);
    quotient_set(cpu, bytes, negative_quotient ? -quotient : quotient,
                 negative ? -remainder : remainder);
}

/* ---- decimal adjustment (not in 64-bit code)
 * ------------------------------------------------------- */

static void result_flags(struct cpu *cpu, u8 al, bool carry, bool adjust)
{
    u64 flags = carry ? X86_CF : 0;
    flags |= adjust ? X86_AF : 0;
    flags |= al == 0 ? X86_ZF : 0;
    flags |= al & 0x80 ? X86_SF : 0;
    flags |= __builtin_parity(al) ? 0 : X86_PF;
    cpu->rflags = (cpu->rflags & ~(u64)X86_ARITH_FLAGS) | flags;
}

static void ascii_adjust(struct cpu *cpu, u16 step)
{
    u16 ax = (u16)cpu->gpr[X86_RAX];
    bool adjust = (ax & 15) > 9 || (cpu->rflags & X86_AF);
    if (adjust)
        ax = (u16)(ax + step);
    result_flags(cpu, (u8)ax & 15, adjust, adjust);
    gpr_set(cpu, X86_RAX, 2, ax & 0xff0f);
}

void op_aaa(struct cpu *cpu, const struct insn *insn)
{
    ascii_adjust(cpu, 0x106);
}

void op_aas(struct cpu *cpu, const struct insn *insn)
{
    ascii_adjust(cpu, (u16)-0x106);
}

static void decimal_adjust(struct cpu *cpu, bool subtract)
{
    u8 old = (u8)cpu->gpr[X86_RAX], al = old;
    bool old_carry = (cpu->rflags & X86_CF) != 0, carry = false;
    bool adjust = (al & 15) > 9 || (cpu->rflags & X86_AF);
    if (adjust) {
        carry = old_carry || (subtract ? al < 6 : al > 0xf9);
        al = (u8)(subtract ? al - 6 : al + 6);
    }
    if (old > 0x99 || old_carry) {
        al = (u8)(subtract ? al - 0x60 : al + 0x60);
        carry = true;
    } else if (!subtract) {
        carry = false;
    }
    result_flags(cpu, al, carry, adjust);
    gpr_set(cpu, X86_RAX, 1, al);
}

void op_daa(struct cpu *cpu, const struct insn *insn)
{
    decimal_adjust(cpu, false);
}

void op_das(struct cpu *cpu, const struct insn *insn)
{
    decimal_adjust(cpu, true);
}

void op_aam(struct cpu *cpu, const struct insn *insn)
{
    u8 base = (u8)insn->imm, al = (u8)cpu->gpr[X86_RAX];
    if (base == 0)
        cpu_raise(cpu, X86_DE);
    u8 low = al % base;
    gpr_set(cpu, X86_RAX, 2, (u64)(al / base) << 8 | low);
    result_flags(cpu, low, false, false);
}

void op_aad(struct cpu *cpu, const struct insn *insn)
{
    u16 ax = (u16)cpu->gpr[X86_RAX];
    u8 al = (u8)(ax + (ax >> 8) * (u8)insn->imm);
    gpr_set(cpu, X86_RAX, 2, al);
    result_flags(cpu, al, false, false);
}
