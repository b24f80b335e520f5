/*
 * dbt/interp/int_bits.c - handlers: bit scans and counts, BMI1, BMI2, ADX, CRC32, byte swaps.
 *
 * Spec   Intel SDM vol. 2, the instructions' own pages.
 * Runs   on the vCPU's thread, inside an instruction. None needs the host to have the extension,
 * but CRC32, which is there wherever SSE4.2 is.
 */
#include "dbt/interp/int_priv.h"

static void flags_replace(struct cpu *cpu, u64 mask, u64 value)
{
    cpu->rflags = (cpu->rflags & ~mask) | value;
}

static u64 sign_and_zero(u64 result, unsigned bytes)
{
    return (result == 0 ? X86_ZF : 0) | (result >> (bytes * 8 - 1) & 1 ? X86_SF : 0);
}

/* A source of 0 leaves the destination as it was. */
static void bit_scan(struct cpu *cpu, const struct insn *insn, bool reverse)
{
    u64 source = int_read(cpu, insn, 1);
    flags_replace(cpu, X86_ZF, source == 0 ? X86_ZF : 0);
    if (source != 0)
        int_write(cpu, insn, 0,
                  (u64)(reverse ? 63 - __builtin_clzll(source) : __builtin_ctzll(source)));
}

void op_bsf(struct cpu *cpu, const struct insn *insn)
{
    bit_scan(cpu, insn, false);
}

void op_bsr(struct cpu *cpu, const struct insn *insn)
{
    bit_scan(cpu, insn, true);
}

static void count_zeros(struct cpu *cpu, const struct insn *insn, bool leading)
{
    unsigned bits = insn_operand_bytes(insn, 0) * 8;
    u64 source = int_read(cpu, insn, 1);
    u64 count = bits;
    if (source != 0)
        count = leading ? (u64)__builtin_clzll(source) - (64 - bits) : (u64)__builtin_ctzll(source);
    flags_replace(cpu, X86_CF | X86_ZF, (count == bits ? X86_CF : 0) | (count == 0 ? X86_ZF : 0));
    int_write(cpu, insn, 0, count);
}

void op_tzcnt(struct cpu *cpu, const struct insn *insn)
{
    count_zeros(cpu, insn, false);
}

void op_lzcnt(struct cpu *cpu, const struct insn *insn)
{
    count_zeros(cpu, insn, true);
}

void op_popcnt(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    u64 count = source - (source >> 1 & 0x5555555555555555ull);
    count = (count & 0x3333333333333333ull) + (count >> 2 & 0x3333333333333333ull);
    count = ((count + (count >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull >> 56;
    flags_replace(cpu, X86_ARITH_FLAGS, source == 0 ? X86_ZF : 0);
    int_write(cpu, insn, 0, count);
}

void op_crc32(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    u64 crc = (u32)int_read(cpu, insn, 0);
    switch (insn_operand_bytes(insn, 1)) {
    case 1:
        __asm__("crc32b %b[s], %k[d]" : [d] "+r"(crc) : [s] "q"(source));
        break;
    case 2:
        __asm__("crc32w %w[s], %k[d]" : [d] "+r"(crc) : [s] "r"(source));
        break;
    case 4:
        __asm__("crc32l %k[s], %k[d]" : [d] "+r"(crc) : [s] "r"(source));
        break;
    default:
        __asm__("crc32q %[s], %[d]" : [d] "+r"(crc) : [s] "r"(source));
        break;
    }
    int_write(cpu, insn, 0, crc);
}

/* Adds with the carry in FLAG alone. */
static void add_with(struct cpu *cpu, const struct insn *insn, u64 flag)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    u64 left = int_read(cpu, insn, 0), right = int_read(cpu, insn, 1);
    u64 sum = left + right, carry = sum < left;
    sum += (cpu->rflags & flag) != 0;
    carry |= (cpu->rflags & flag) && sum == 0;
    if (bytes == 4)
        carry = sum >> 32 & 1;
    flags_replace(cpu, flag, carry ? flag : 0);
    int_write(cpu, insn, 0, sum);
}

void op_adcx(struct cpu *cpu, const struct insn *insn)
{
    add_with(cpu, insn, X86_CF);
}

void op_adox(struct cpu *cpu, const struct insn *insn)
{
    add_with(cpu, insn, X86_OF);
}

/* ---- BMI1 and BMI2: AF and PF are left undefined by the manuals; they come out clear
 * ------------------ */

static void bmi_result(struct cpu *cpu, const struct insn *insn, u64 result, bool carry)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    result &= bytes_mask(bytes);
    flags_replace(cpu, X86_ARITH_FLAGS, sign_and_zero(result, bytes) | (carry ? X86_CF : 0));
    int_write(cpu, insn, 0, result);
}

void op_andn(struct cpu *cpu, const struct insn *insn)
{
    bmi_result(cpu, insn, ~int_read(cpu, insn, 1) & int_read(cpu, insn, 2), false);
}

void op_bextr(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1), control = int_read(cpu, insn, 2);
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    u64 result = start < 64 ? source >> start : 0;
    if (length < 64)
        result &= BIT(length) - 1;
    flags_replace(cpu, X86_ARITH_FLAGS, result == 0 ? X86_ZF : 0);
    int_write(cpu, insn, 0, result);
}

void op_blsi(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    bmi_result(cpu, insn, source & -source, source != 0);
}

void op_blsmsk(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    bmi_result(cpu, insn, source ^ (source - 1), source == 0);
}

void op_blsr(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    bmi_result(cpu, insn, source & (source - 1), source == 0);
}

void op_bzhi(struct cpu *cpu, const struct insn *insn)
{
    unsigned bits = insn_operand_bytes(insn, 0) * 8;
    u64 source = int_read(cpu, insn, 1);
    unsigned index = int_read(cpu, insn, 2) & 0xff;
    bool keeps_all = index >= bits;
    bmi_result(cpu, insn, keeps_all ? source : source & (BIT(index) - 1), keeps_all);
}

void op_mulx(struct cpu *cpu, const struct insn *insn)
{
    u64 left = cpu->gpr[X86_RDX], right = int_read(cpu, insn, 2);
    u64 low, high;
    if (insn_operand_bytes(insn, 0) == 8) {
        __asm__("mulq %[s]" : "=a"(low), "=d"(high) : [s] "r"(right), "0"(left) : "cc");
    } else {
        low = (u32)left * right;
        high = low >> 32;
    }
    int_write(cpu, insn, 1, low);
    int_write(cpu, insn, 0, high);
}

void op_pdep(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1), mask = int_read(cpu, insn, 2), result = 0;
    for (; mask != 0; mask &= mask - 1, source >>= 1)
        result |= source & 1 ? mask & -mask : 0;
    int_write(cpu, insn, 0, result);
}

void op_pext(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1), mask = int_read(cpu, insn, 2), result = 0;
    for (unsigned at = 0; mask != 0; mask &= mask - 1, at++)
        result |= source & mask & -mask ? BIT(at) : 0;
    int_write(cpu, insn, 0, result);
}

void op_rorx(struct cpu *cpu, const struct insn *insn)
{
    unsigned bits = insn_operand_bytes(insn, 0) * 8;
    u64 source = int_read(cpu, insn, 1);
    unsigned count = insn->imm & (bits - 1);
    int_write(cpu, insn, 0, count == 0 ? source : source >> count | source << (bits - count));
}

static unsigned shift_count(struct cpu *cpu, const struct insn *insn)
{
    return int_read(cpu, insn, 2) & (insn_operand_bytes(insn, 0) * 8 - 1);
}

void op_sarx(struct cpu *cpu, const struct insn *insn)
{
    u64 source = sign_extend(int_read(cpu, insn, 1), insn_operand_bytes(insn, 0));
    int_write(cpu, insn, 0, (u64)((s64)source >> shift_count(cpu, insn)));
}

void op_shlx(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    int_write(cpu, insn, 0, source << shift_count(cpu, insn));
}

void op_shrx(struct cpu *cpu, const struct insn *insn)
{
    u64 source = int_read(cpu, insn, 1);
    int_write(cpu, insn, 0, source >> shift_count(cpu, insn));
}

/* ---- byte swaps
 * ------------------------------------------------------------------------------------- */

static u64 swap(u64 value, unsigned bytes)
{
    return __builtin_bswap64(value) >> (64 - bytes * 8);
}

/* With 16 bits the manuals leave the result undefined; processors give 0. */
void op_bswap(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    int_write(cpu, insn, 0, bytes == 2 ? 0 : swap(int_read(cpu, insn, 0), bytes));
}

void op_movbe(struct cpu *cpu, const struct insn *insn)
{
    int_write(cpu, insn, 0, swap(int_read(cpu, insn, 1), insn_operand_bytes(insn, 0)));
}
