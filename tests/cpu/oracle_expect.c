/*
 * tests/cpu/oracle_expect.c - where this processor and the interpreter may differ, and why.
 *
 * Some rules leave a case out before it runs; the others let one field differ.
 */
#include "oracle_make.h"

#include <string.h>

#include "base/bits.h"

/* Instructions that cannot run in user mode beside a host kernel, or whose answer is another one.
 */
static const struct {
    enum x86_op op;
    const char *why;
} excluded[] = {
    {OP_SYSCALL, "enters the host's kernel"},
    {OP_SYSENTER, "enters the host's kernel"},
    {OP_SGDT, "the host's kernel answers in place of UMIP's #GP"},
    {OP_SIDT, "the host's kernel answers in place of UMIP's #GP"},
    {OP_SMSW, "the host's kernel answers in place of UMIP's #GP"},
    {OP_SLDT, "the host's kernel answers in place of UMIP's #GP"},
    {OP_STR, "the host's kernel answers in place of UMIP's #GP"},
    {OP_CPUID, "the guest's answer is another one by intent"},
    {OP_XGETBV, "the guest's answer is another one by intent"},
    {OP_RDTSC, "every answer differs"},
    {OP_RDTSCP, "every answer differs"},
    {OP_RDPID, "the answer is the host's CPU number"},
    {OP_SERIALIZE, "guests have it whatever the host has"},
    {OP_RDRAND, "every answer differs"},
    {OP_RDSEED, "every answer differs"},
    {OP_VMCALL, "goes to whatever runs below the host"},
    {OP_VMMCALL, "goes to whatever runs below the host"},
    {OP_SVM, "guests have no SVM; the host may"},
    {OP_XSAVES, "guests have no XSAVES; the host may"},
    {OP_XRSTORS, "guests have no XSAVES; the host may"},
    {OP_INT1, "a hypervisor below the host makes a fault of this trap"},
};

const char *oracle_excluded(const struct insn_desc *desc)
{
    for (unsigned i = 0; i < ARRAY_LEN(excluded); i++)
        if (excluded[i].op == desc->op)
            return excluded[i].why;
    if (strcmp(desc->mnemonic, "nop") == 0 && desc->pattern.map == 1 &&
        desc->pattern.opcode == 0x0d)
        return "0F 0D with a register is #UD on AMD, a NOP on Intel and here";
    if (desc->op == OP_VMX && desc->pattern.opcode == 0x78)
        return "AMD takes 0F 78 for a longer instruction, which may fault before #UD";
    return NULL;
}

const char *oracle_excluded_insn(const struct insn *insn)
{
    const char *why = oracle_excluded(insn->desc);
    bool is_64 = insn->code_bytes == 8;

    if (why != NULL)
        return why;
    if (insn->op == OP_INT && insn->imm == 0x80)
        return "enters the host's kernel";
    if (insn->op == OP_BSWAP && insn->operand_bytes == 2)
        return "the result is undefined";
    if ((insn->op == OP_SHLD || insn->op == OP_SHRD) && insn->operand_bytes == 2)
        return "the result is undefined for counts above 16";
    if (is_64 && (insn->desc->attr & ATTR_FORCE64) && (insn->prefixes & INSN_66) &&
        !(insn->rex & REX_W))
        return "66 makes a near branch 16 bits wide on AMD, and does nothing on Intel and here";
    if ((insn->op == OP_LOOPE || insn->op == OP_LOOPNE) &&
        (insn->prefixes & (INSN_REP | INSN_REPNE)))
        return "F2 and F3 turn the condition round on some processors";
    bool far = insn->op == OP_CALL_FAR || insn->op == OP_JMP_FAR || insn->op == OP_LSS ||
               insn->op == OP_LFS || insn->op == OP_LGS;
    if (is_64 && far && insn->operand_bytes == 8)
        return "REX.W makes a far pointer of 10 bytes on Intel and here, and does nothing on AMD";
    return NULL;
}

/* The instruction reads or writes memory in several steps, in an order of its own. */
static bool has_steps(enum x86_op op)
{
    switch (op) {
    case OP_IRET:
    case OP_RETF:
    case OP_POPA:
    case OP_PUSHA:
    case OP_ENTER:
    case OP_CALL_FAR:
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_XSAVE:
    case OP_XSAVEC:
    case OP_XSAVEOPT:
    case OP_XRSTOR:
    case OP_FSAVE:
    case OP_FRSTOR:
    case OP_FLDENV:
    case OP_FSTENV:
    case OP_MASKMOV:
        return true;
    default:
        return false;
    }
}

static bool is_memory_fault(u8 vector)
{
    return vector == X86_SS_FAULT || vector == X86_GP || vector == X86_PF_FAULT ||
           vector == X86_AC_FAULT;
}

/* Whether ADDRESS is where a segment of 4 GiB, the canonical range, or the address space ends. */
static bool is_boundary(u64 address)
{
    return address + 1024 < 2048 || address - 0xffffffff + 1024 < 2048 ||
           address - 0x800000000000 + 1024 < 2048;
}

/* An operand that deserves two faults gets one: whether it may be either. */
static bool is_order_free(const struct oracle_case *c, const struct insn_desc *desc,
                          const struct oracle_outcome *native, const struct oracle_outcome *guest)
{
    if (!is_memory_fault(native->vector) || !is_memory_fault(guest->vector))
        return false;
    if (native->vector == X86_AC_FAULT || guest->vector == X86_AC_FAULT)
        return (c->before.rflags & X86_AC) != 0;
    if (has_steps((enum x86_op)desc->op))
        return true;
    /* A call to where no code can be, with a stack that cannot be written. */
    if (desc->op == OP_CALL_IND || desc->op == OP_CALL)
        return true;
    /* Ten bytes of the x87 and far pointers are two accesses. */
    for (unsigned i = 0; i < desc->operand_count; i++)
        if (i == desc->memory &&
            (desc->operand[i].size == SIZE_T || desc->operand[i].size == SIZE_P))
            return true;
    /* Misaligned, and outside the canonical range. */
    if (native->vector != X86_PF_FAULT && guest->vector != X86_PF_FAULT)
        return (desc->attr & ATTR_ALIGNED) || desc->op == OP_CMPXCHG8B;
    /* Across the end: the part before it, or that the operand does not fit. In 32-bit code we let a
     * flat segment wrap. */
    return is_boundary(guest->vector == X86_PF_FAULT ? guest->cr2 : native->cr2);
}

static bool is_canonical(u64 address)
{
    return (u64)((s64)(address << 16) >> 16) == address;
}

/* The descriptor of the instruction at RIP, which ended the case. */
static const struct insn_desc *desc_at(const struct oracle_case *c, u64 rip)
{
    u64 at = rip - c->before.rip;
    struct insn insn;
    if (c->insn_count > 1 && at < c->code_count &&
        decode(c->code + at, (unsigned)(c->code_count - at), c->code_bytes, &insn) == DECODE_OK)
        return insn.desc;
    return c->desc[c->insn_count - 1];
}

bool oracle_tolerated(const struct oracle_case *c, const struct oracle_outcome *native,
                      const struct oracle_outcome *guest, enum oracle_field field)
{
    const struct insn_desc *desc = desc_at(c, native->after.rip);

    /* SSE4A, MONITORX, CLZERO and others that the host has and guests have not. */
    if (c->desc[0] == &insn_descs[0] && guest->vector == X86_UD && native->vector != X86_UD)
        return true;
    /* Vendors fetch more or less of what is undefined whatever follows (LOCK UD0): at the end of
     * the code's page. */
    if (c->desc[0] == &insn_descs[0] && native->vector == X86_UD && guest->vector == X86_PF_FAULT &&
        (guest->error & X86_PF_I) && (guest->cr2 & 4095) < ORACLE_CODE_BYTES)
        return true;
    /* The translator does not compute flags that the code after overwrites, were it to get there.
     */
    if (oracle_engine.translate && !oracle_engine.exact && field == FIELD_FLAGS &&
        guest->vector != X86_BP &&
        (native->vector == guest->vector || is_order_free(c, desc, native, guest)))
        return ((native->after.rflags ^ guest->after.rflags) & ~(u64)X86_ARITH_FLAGS) == 0;
    /* Translated code learns at the target of an indirect branch that there can be no code. */
    if (oracle_engine.translate && native->vector == X86_GP && guest->vector == X86_GP &&
        !is_canonical(guest->after.rip) &&
        (desc->op == OP_JMP_IND || desc->op == OP_CALL_IND || desc->op == OP_RET))
        return field == FIELD_RIP || field == FIELD_GPR || field == FIELD_MEMORY;
    /* The processor has MXCSR.MM, the guest has not. */
    if ((load_le32(native->after.xsave + 24) & 0x20000) && desc->op == OP_LDMXCSR)
        return true;
    if ((field == FIELD_VECTOR || field == FIELD_ERROR) && is_order_free(c, desc, native, guest) &&
        (field == FIELD_VECTOR || has_steps((enum x86_op)desc->op)))
        return true;
    if (c->insn_count != 1 || !has_steps((enum x86_op)desc->op) || native->vector == X86_BP ||
        guest->vector == X86_BP)
        return false;
    switch (field) {
    case FIELD_CR2: /* another byte of the same operand; with 16-bit addresses, after a wrap */
        return ((native->cr2 - guest->cr2 + 1024) & 0xffff) < 2048;
    case FIELD_GPR: /* POPA has loaded some registers */
        return desc->op == OP_POPA;
    case FIELD_X87: /* MASKMOVQ has entered MMX mode */
        return desc->op == OP_MASKMOV;
    case FIELD_MEMORY: /* what was stored before the fault stays */
        return true;
    default:
        return false;
    }
}
