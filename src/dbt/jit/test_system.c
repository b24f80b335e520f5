/*
 * dbt/jit/test_system.c - system instructions in jit_test's random sequences: which, and in what
 * state of the processor.
 */
#include "dbt/jit/test_system.h"

#include "base/bits.h"

static bool is_system(const struct insn_desc *desc, unsigned code_bytes)
{
    switch (desc->op) {
    case OP_CLI:
    case OP_STI:
    case OP_PUSHF:
    case OP_POPF:
    case OP_CLTS:
    case OP_STAC:
    case OP_CLAC:
    case OP_MOV_FROM_CR:
    case OP_RDPID:
        return true;
    case OP_SWAPGS:
    case OP_RDFSBASE:
    case OP_RDGSBASE:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
    case OP_SYSCALL:
    case OP_SYSRET:
        return code_bytes == 8;
    default:
        return false;
    }
}

bool test_system_usable(const struct insn_desc *desc, unsigned code_bytes)
{
    if (is_system(desc, code_bytes))
        return true;
    u32 other_size = code_bytes == 8 ? ATTR_NO64 : ATTR_ONLY64;
    if (desc->attr & (ATTR_PRIVILEGED | ATTR_IOPL | other_size))
        return false;
    switch (desc->op) {
    case OP_RDTSC:
    case OP_RDTSCP:
    case OP_RDRAND:
    case OP_RDSEED:
    case OP_CPUID:
    case OP_XSAVE ... OP_XRSTORS:
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_FLDENV ... OP_FSAVE:
    case OP_X87:
    case OP_SYSCALL ... OP_SYSEXIT:
    case OP_RDPID:
    case OP_INT:
    case OP_INT1:
    case OP_INT3:
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE:
        return false;
    default:
        return !(desc->attr & ATTR_BRANCH) || desc->op == OP_JCC || desc->op == OP_JMP ||
               desc->op == OP_CALL || desc->op == OP_RET || desc->op == OP_JCXZ ||
               desc->op == OP_CALL_IND || desc->op == OP_JMP_IND;
    }
}

void test_system_state(struct x86_state *state, u64 (*random)(void), u64 entry)
{
    static const u32 masks[] = {0x47700, 0x257fd5, 0, X86_IF, X86_AC, X86_ARITH_FLAGS};
    u64 bits = random();
    state->cr4 |= bits & 1 ? X86_CR4_FSGSBASE : 0;
    state->cr4 |= (bits & 0xe) == 0 ? X86_CR4_SMAP : 0;
    state->msr.efer &= (bits & 0x70) == 0 ? ~(u64)X86_EFER_SCE : ~0ull;
    state->rflags |= bits & (X86_IF | X86_ID);
    state->rflags |= (bits & 0x30000000) == 0 ? X86_AC : 0;
    state->rflags |= (bits & 0xc0000000) == 0 ? X86_DF : 0;
    state->msr.star = 0x0023001000000000ull + (random() & 0xfff8000000000000ull);
    state->msr.lstar = entry;
    state->msr.sfmask = masks[random() % ARRAY_LEN(masks)];
    state->msr.kernel_gs_base = state->seg[X86_GS].base + (random() & 0x1f8);
    state->msr.tsc_aux = (u32)random();
    if (random() % 4 == 0)
        state->gpr[X86_RCX] = random() & 1 ? entry : random();
    if (random() % 2 == 0)
        state->gpr[X86_R11] = random();
}

bool test_system_same(const struct x86_state *a, const struct x86_state *b)
{
    return __builtin_memcmp(a->gpr, b->gpr, sizeof(a->gpr)) == 0 &&
           __builtin_memcmp(a->seg, b->seg, sizeof(a->seg)) == 0 &&
           a->msr.kernel_gs_base == b->msr.kernel_gs_base && a->cr0 == b->cr0 &&
           a->interrupt_shadow == b->interrupt_shadow;
}
