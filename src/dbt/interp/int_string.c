/*
 * dbt/interp/int_string.c - handlers: string instructions, repeated or not.
 *
 * Spec   Intel SDM vol. 1 7.3.9; vol. 2, the instructions' own pages and REP.
 * Runs   on the vCPU's thread, inside an instruction.
 *
 * Each element commits before the next begins, so that a fault, an interrupt or a device access
 * leaves a state from which the instruction resumes. MOVS and STOS go a page at a time where
 * nothing can happen within it: 64-bit or flat code, upwards, RAM on both sides.
 */
#include "dbt/interp/int_priv.h"
#include "dbt/interp/sys_priv.h"

enum { STRING_SLICE = 65536 }; /* elements before the run loop gets a look */

struct string {
    struct cpu *cpu;
    const struct insn *insn;
    unsigned bytes;
    u64 mask;  /* of the address size */
    u64 count; /* elements still to do */
    u64 step;  /* +bytes or -bytes */
    bool repeats;
    bool bulk; /* page-wise runs are allowed */
};

static struct string string_begin(struct cpu *cpu, const struct insn *insn, unsigned bytes)
{
    struct string string = {.cpu = cpu, .insn = insn, .bytes = bytes};
    string.mask = bytes_mask(insn->address_bytes);
    string.repeats = insn_repeats(insn);
    string.count = string.repeats ? cpu->gpr[X86_RCX] & string.mask : 1;
    bool down = (cpu->rflags & X86_DF) != 0;
    string.step = down ? -(u64)bytes : bytes;
    bool plain = cpu->code_bytes == 8
                     ? insn->address_bytes == 8 && insn->segment < X86_FS
                     : cpu->flat && insn->address_bytes == 4 && insn->segment < X86_FS;
    string.bulk = plain && string.repeats && !down && !cpu->align_check &&
                  !(cpu->special & SPECIAL_STEP) && insn->segment != X86_CS;
    return string;
}

static u64 string_register(const struct string *string, unsigned reg)
{
    return string->cpu->gpr[reg] & string->mask;
}

static gva_t string_source(const struct string *string)
{
    return seg_linear(string->cpu, string->insn->segment, string_register(string, X86_RSI),
                      string->bytes, ACCESS_READ);
}

static gva_t string_target(const struct string *string, enum cpu_access access)
{
    return seg_linear(string->cpu, X86_ES, string_register(string, X86_RDI), string->bytes, access);
}

static void string_advance(const struct string *string, unsigned reg, u64 elements)
{
    gpr_set(string->cpu, reg, string->insn->address_bytes,
            string->cpu->gpr[reg] + string->step * elements);
}

/* ELEMENTS are done: counts them, and says whether there is more to do now. */
static bool string_next(struct string *string, u64 elements, u64 *slice)
{
    struct cpu *cpu = string->cpu;
    cpu->replay.done = 0;
    cpu->replay.next = 0;
    if (!string->repeats)
        return false;
    string->count -= elements;
    gpr_set(cpu, X86_RCX, string->insn->address_bytes, string->count);
    if (string->count == 0)
        return false;
    *slice += elements;
    if (*slice >= STRING_SLICE || cpu->leave_block || (cpu->special & SPECIAL_STEP) ||
        __atomic_load_n(&cpu->attention, __ATOMIC_RELAXED)) {
        cpu->next_rip = cpu->rip;
        return false;
    }
    return true;
}

/* How many elements at GVA lie in its page, COUNT at most. */
static u64 page_elements(const struct string *string, gva_t gva, u64 count)
{
    return min_u64(count, (4096 - (gva & 4095)) / string->bytes);
}

static void host_move(u8 *to, const u8 *from, u64 count, unsigned bytes)
{
    if (bytes == 1)
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else if (bytes == 2)
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else if (bytes == 4)
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void host_fill(u8 *to, u64 value, u64 count, unsigned bytes)
{
    if (bytes == 1)
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (bytes == 2)
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (bytes == 4)
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

/* One page's run of MOVS; returns the elements done, 0 when it must go one by one. */
static u64 move_bulk(const struct string *string)
{
    struct cpu *cpu = string->cpu;
    gva_t source = string_source(string);
    if (cpu->code_bytes == 8 && !address_is_canonical(string_register(string, X86_RDI)))
        return 0; /* what is wrong with the source comes first */
    gva_t target = string_target(string, ACCESS_WRITE);
    u64 count = page_elements(string, target, page_elements(string, source, string->count));
    if (count == 0)
        return 0;
    const u8 *from = mmu_host(cpu, source, count * string->bytes, ACCESS_READ);
    u8 *to = from ? mmu_host(cpu, target, count * string->bytes, ACCESS_WRITE) : NULL;
    if (to == NULL)
        return 0;
    host_move(to, from, count, string->bytes);
    return count;
}

void op_movs(struct cpu *cpu, const struct insn *insn)
{
    struct string string = string_begin(cpu, insn, insn_operand_bytes(insn, 0));
    u64 elements, slice = 0;
    if (string.count == 0)
        return;
    do {
        elements = string.bulk ? move_bulk(&string) : 0;
        if (elements == 0) {
            u64 value = mmu_read(cpu, string_source(&string), string.bytes);
            mmu_write(cpu, string_target(&string, ACCESS_WRITE), string.bytes, value);
            elements = 1;
        }
        string_advance(&string, X86_RSI, elements);
        string_advance(&string, X86_RDI, elements);
    } while (string_next(&string, elements, &slice));
}

void op_stos(struct cpu *cpu, const struct insn *insn)
{
    struct string string = string_begin(cpu, insn, insn_operand_bytes(insn, 0));
    u64 elements, slice = 0;
    if (string.count == 0)
        return;
    do {
        gva_t target = string_target(&string, ACCESS_WRITE);
        u8 *to = NULL;
        elements = string.bulk ? page_elements(&string, target, string.count) : 0;
        if (elements > 0)
            to = mmu_host(cpu, target, elements * string.bytes, ACCESS_WRITE);
        if (to) {
            host_fill(to, cpu->gpr[X86_RAX], elements, string.bytes);
        } else {
            mmu_write(cpu, target, string.bytes, cpu->gpr[X86_RAX]);
            elements = 1;
        }
        string_advance(&string, X86_RDI, elements);
    } while (string_next(&string, elements, &slice));
}

void op_lods(struct cpu *cpu, const struct insn *insn)
{
    struct string string = string_begin(cpu, insn, insn_operand_bytes(insn, 1));
    u64 slice = 0;
    if (string.count == 0)
        return;
    do {
        u64 value = mmu_read(cpu, string_source(&string), string.bytes);
        gpr_set(cpu, X86_RAX, string.bytes, value);
        string_advance(&string, X86_RSI, 1);
    } while (string_next(&string, 1, &slice));
}

/* Sets the flags of LEFT - RIGHT; returns whether a REPE or REPNE goes on. */
static bool string_compare(const struct string *string, u64 left, u64 right)
{
    struct cpu *cpu = string->cpu;
    unsigned shift = 64 - string->bytes * 8;
    u32 ax;
    left <<= shift; /* the flags of a narrow subtraction are those of the same bits on top... */
    right <<= shift;
    __asm__("cmpq %[right], %[left]" FLAGS_TO_AX
            : "=&a"(ax)
            : [left] "r"(left), [right] "r"(right)
            : "cc");
    /* ...but for AF and PF, which look at the low bits. */
    u64 low = (left >> shift) - (right >> shift);
    bool adjust = ((left >> shift) ^ (right >> shift) ^ low) & 0x10;
    int_set_flags(cpu, ax);
    cpu->rflags &= ~(u64)(X86_AF | X86_PF);
    cpu->rflags |= (adjust ? X86_AF : 0) | (__builtin_parity(low & 0xff) ? 0 : X86_PF);
    return (left == right) == ((string->insn->prefixes & INSN_REP) != 0);
}

void op_cmps(struct cpu *cpu, const struct insn *insn)
{
    struct string string = string_begin(cpu, insn, insn_operand_bytes(insn, 0));
    u64 slice = 0;
    if (string.count == 0)
        return;
    bool more;
    do {
        u64 left = mmu_read(cpu, string_source(&string), string.bytes);
        u64 right = mmu_read(cpu, string_target(&string, ACCESS_READ), string.bytes);
        more = string_compare(&string, left, right);
        string_advance(&string, X86_RSI, 1);
        string_advance(&string, X86_RDI, 1);
        if (string_next(&string, 1, &slice) == false)
            break;
    } while (more);
    if (!more)
        cpu->next_rip = cpu->rip + insn->length;
}

void op_scas(struct cpu *cpu, const struct insn *insn)
{
    struct string string = string_begin(cpu, insn, insn_operand_bytes(insn, 0));
    u64 slice = 0;
    if (string.count == 0)
        return;
    bool more;
    do {
        u64 right = mmu_read(cpu, string_target(&string, ACCESS_READ), string.bytes);
        more = string_compare(&string, cpu->gpr[X86_RAX] & bytes_mask(string.bytes), right);
        string_advance(&string, X86_RDI, 1);
        if (string_next(&string, 1, &slice) == false)
            break;
    } while (more);
    if (!more)
        cpu->next_rip = cpu->rip + insn->length;
}

void op_ins(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    struct string string = string_begin(cpu, insn, bytes);
    u16 port = (u16)cpu->gpr[X86_RDX];
    u64 slice = 0;
    sys_check_port(cpu, port, bytes);
    if (string.count == 0)
        return;
    do {
        gva_t target = string_target(&string, ACCESS_WRITE);
        mmu_probe(cpu, target, bytes, ACCESS_WRITE, cpu->privilege);
        u64 value = cpu_device_access(cpu, EXIT_PORT_READ, port, bytes, 0);
        mmu_write(cpu, target, bytes, value);
        string_advance(&string, X86_RDI, 1);
    } while (string_next(&string, 1, &slice));
}

void op_outs(struct cpu *cpu, const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 1);
    struct string string = string_begin(cpu, insn, bytes);
    u16 port = (u16)cpu->gpr[X86_RDX];
    u64 slice = 0;
    sys_check_port(cpu, port, bytes);
    if (string.count == 0)
        return;
    do {
        u64 value = mmu_read(cpu, string_source(&string), bytes);
        cpu_device_access(cpu, EXIT_PORT_WRITE, port, bytes, value);
        string_advance(&string, X86_RSI, 1);
    } while (string_next(&string, 1, &slice));
}
