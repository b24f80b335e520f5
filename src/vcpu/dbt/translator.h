/*
 * vcpu/dbt/translator.h - the host memory that a vCPU's translator needs (dbt/jit.h).
 */
#ifndef VCPU_DBT_TRANSLATOR_H
#define VCPU_DBT_TRANSLATOR_H

#include "base/codemem.h"
#include "base/types.h"

struct cpu;

struct translator {
    struct codemem code;
    u8 *stacks; /* owned: three return stacks, a page without access below each */
};

/* Gives CPU a translator with CODE_BYTES of code memory. -ENOMEM, or another -errno from the host;
 * -ENOTSUP on a host without BMI2: the vCPU is then interpreted. */
MUST_CHECK int translator_init(struct translator *translator, struct cpu *cpu, size_t code_bytes);
/* Takes it away again; also from one that was never initialized (all zero). */
void translator_fini(struct translator *translator, struct cpu *cpu);

#endif
