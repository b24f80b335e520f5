/*
 * dbt/interp/int_priv.h - what the handlers of integer instructions share: operands by number,
 * read-modify-write, and flags as the host computes them.
 *
 * Flags travel as AX holds them after LAHF and SETO AL: AH is the low byte of RFLAGS, AL is OF. The
 * host's own instruction computes them, so that even the flags that manuals leave undefined are
 * those of a real processor.
 */
#ifndef DBT_INTERP_INT_PRIV_H
#define DBT_INTERP_INT_PRIV_H

#include "dbt/interp/interp_priv.h"
#include "dbt/tlb.h"

/* Operand I of INSN, zero-extended; of its own width. */
u64 int_read(struct cpu *cpu, const struct insn *insn, unsigned i);
void int_write(struct cpu *cpu, const struct insn *insn, unsigned i, u64 value);

/* One read-modify-write: compute() gives the new value from the old one, and may run more than
 * once. */
struct int_modify {
    u64 (*compute)(struct int_modify *modify, u64 old);
    u64 operand;
    u64 operand2;
    u32 flags_before; /* as AX */
    u32 flags;        /* out */
    unsigned bytes;
    u64 old, new; /* out: what was there, what is there now */
};
/* Does it to operand I, atomically between vCPUs when LOCKED and it is in memory. */
void int_modify(struct cpu *cpu, const struct insn *insn, unsigned i, bool locked,
                struct int_modify *modify);
void int_modify_at(struct cpu *cpu, gva_t gva, unsigned bytes, bool locked,
                   struct int_modify *modify);

static inline bool insn_locked(const struct insn *insn)
{
    return (insn->prefixes & INSN_LOCK) != 0;
}

static inline u32 int_flags(const struct cpu *cpu)
{
    return (u32)((cpu->rflags & 0xff) << 8 | (cpu->rflags >> 11 & 1));
}

static inline void int_set_flags(struct cpu *cpu, u32 ax)
{
    cpu->rflags = (cpu->rflags & ~(u64)X86_ARITH_FLAGS) | (ax >> 8 & 0xd5) | X86_FLAG_FIXED |
                  (u64)(ax & 1) << 11;
}

/* Condition number CC (0 to 15) of RFLAGS. */
static inline bool int_condition(u64 rflags, unsigned cc)
{
    bool less = ((rflags & X86_SF) != 0) != ((rflags & X86_OF) != 0);
    bool result;
    switch (cc >> 1) {
    case 0:
        result = (rflags & X86_OF) != 0;
        break;
    case 1:
        result = (rflags & X86_CF) != 0;
        break;
    case 2:
        result = (rflags & X86_ZF) != 0;
        break;
    case 3:
        result = (rflags & (X86_CF | X86_ZF)) != 0;
        break;
    case 4:
        result = (rflags & X86_SF) != 0;
        break;
    case 5:
        result = (rflags & X86_PF) != 0;
        break;
    case 6:
        result = less;
        break;
    default:
        result = less || (rflags & X86_ZF) != 0;
        break;
    }
    return result != (cc & 1);
}

/* Assembly around an instruction: flags from AX, flags to AX. */
#define FLAGS_FROM_AX "addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_TO_AX "\n\tlahf\n\tseto %%al"

/* Every handler of interp_integer_handlers. */
#define INT_HANDLER(name) void name(struct cpu *cpu, const struct insn *insn)
INT_HANDLER(op_add);
INT_HANDLER(op_or);
INT_HANDLER(op_adc);
INT_HANDLER(op_sbb);
INT_HANDLER(op_and);
INT_HANDLER(op_sub);
INT_HANDLER(op_xor);
INT_HANDLER(op_cmp);
INT_HANDLER(op_test);
INT_HANDLER(op_inc);
INT_HANDLER(op_dec);
INT_HANDLER(op_neg);
INT_HANDLER(op_not);
INT_HANDLER(op_mul);
INT_HANDLER(op_imul1);
INT_HANDLER(op_imul);
INT_HANDLER(op_div);
INT_HANDLER(op_idiv);
INT_HANDLER(op_rol);
INT_HANDLER(op_ror);
INT_HANDLER(op_rcl);
INT_HANDLER(op_rcr);
INT_HANDLER(op_shl);
INT_HANDLER(op_shr);
INT_HANDLER(op_sar);
INT_HANDLER(op_shld);
INT_HANDLER(op_shrd);
INT_HANDLER(op_bt);
INT_HANDLER(op_bts);
INT_HANDLER(op_btr);
INT_HANDLER(op_btc);
INT_HANDLER(op_bsf);
INT_HANDLER(op_bsr);
INT_HANDLER(op_tzcnt);
INT_HANDLER(op_lzcnt);
INT_HANDLER(op_popcnt);
INT_HANDLER(op_mov);
INT_HANDLER(op_movzx);
INT_HANDLER(op_movsx);
INT_HANDLER(op_lea);
INT_HANDLER(op_xchg);
INT_HANDLER(op_xadd);
INT_HANDLER(op_cmpxchg);
INT_HANDLER(op_cmpxchg8b);
INT_HANDLER(op_bswap);
INT_HANDLER(op_movbe);
INT_HANDLER(op_cmovcc);
INT_HANDLER(op_setcc);
INT_HANDLER(op_cbw);
INT_HANDLER(op_cwd);
INT_HANDLER(op_xlat);
INT_HANDLER(op_lahf);
INT_HANDLER(op_sahf);
INT_HANDLER(op_salc);
INT_HANDLER(op_aaa);
INT_HANDLER(op_aas);
INT_HANDLER(op_daa);
INT_HANDLER(op_das);
INT_HANDLER(op_aam);
INT_HANDLER(op_aad);
INT_HANDLER(op_crc32);
INT_HANDLER(op_adcx);
INT_HANDLER(op_adox);
INT_HANDLER(op_andn);
INT_HANDLER(op_bextr);
INT_HANDLER(op_blsi);
INT_HANDLER(op_blsmsk);
INT_HANDLER(op_blsr);
INT_HANDLER(op_bzhi);
INT_HANDLER(op_mulx);
INT_HANDLER(op_pdep);
INT_HANDLER(op_pext);
INT_HANDLER(op_rorx);
INT_HANDLER(op_sarx);
INT_HANDLER(op_shlx);
INT_HANDLER(op_shrx);
INT_HANDLER(op_clc);
INT_HANDLER(op_stc);
INT_HANDLER(op_cmc);
INT_HANDLER(op_cld);
INT_HANDLER(op_std);
INT_HANDLER(op_push);
INT_HANDLER(op_pop);
INT_HANDLER(op_pusha);
INT_HANDLER(op_popa);
INT_HANDLER(op_pushf);
INT_HANDLER(op_popf);
INT_HANDLER(op_enter);
INT_HANDLER(op_leave_frame);
INT_HANDLER(op_jcc);
INT_HANDLER(op_jcxz);
INT_HANDLER(op_loop);
INT_HANDLER(op_jmp);
INT_HANDLER(op_jmp_ind);
INT_HANDLER(op_call);
INT_HANDLER(op_call_ind);
INT_HANDLER(op_ret);
INT_HANDLER(op_movs);
INT_HANDLER(op_cmps);
INT_HANDLER(op_stos);
INT_HANDLER(op_lods);
INT_HANDLER(op_scas);
INT_HANDLER(op_ins);
INT_HANDLER(op_outs);
INT_HANDLER(op_in);
INT_HANDLER(op_out);
INT_HANDLER(op_hlt);
INT_HANDLER(op_nop);
INT_HANDLER(op_pause);
INT_HANDLER(op_rdtsc);
INT_HANDLER(op_rdtscp);
INT_HANDLER(op_rdrand);
INT_HANDLER(op_rdseed);
INT_HANDLER(op_mfence);
INT_HANDLER(op_cache_line);

#endif
