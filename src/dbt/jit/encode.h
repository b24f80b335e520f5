/*
 * dbt/jit/encode.h - a guest instruction again, with other registers or another memory operand.
 */
#ifndef DBT_JIT_ENCODE_H
#define DBT_JIT_ENCODE_H

#include "dbt/jit/emit.h"
#include "x86/decode.h"

/* What stands in the fields of the new encoding; all are host register numbers. */
struct encoding {
    u8 reg;  /* ModRM.reg, or the register in the opcode */
    u8 rm;   /* ModRM.rm, when !has_memory */
    u8 vvvv; /* VEX.vvvv */
    bool has_memory;
    struct host_mem mem;
};

/* Appends INSN, whose guest encoding is BYTES, as ENCODING says: prefixes in canonical order,
 * without segment and address-size overrides. False, with nothing written, where no encoding
 * exists: AH to BH together with a register that needs REX. */
bool encode_possible(const struct insn *insn, const struct encoding *encoding);
bool encode_insn(struct emitter *out, const u8 *bytes, const struct insn *insn,
                 const struct encoding *encoding);

#endif
