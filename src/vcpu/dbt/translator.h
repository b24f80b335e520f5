/*
 * vcpu/dbt/translator.h - the host memory that translators need (dbt/jit.h): for a group of vCPUs,
 * and for each of them.
 */
#ifndef VCPU_DBT_TRANSLATOR_H
#define VCPU_DBT_TRANSLATOR_H

#include "base/codemem.h"
#include "base/types.h"

struct cpu;
struct cpu_group;
struct jit;

/* What the vCPUs of a group share; all zero when it was never made. */
struct translator_cache {
    struct codemem code;
    struct jit *jit; /* owned */
};

struct translator {
    struct translator_cache own; /* where none is shared */
    u8 *stacks;                  /* owned: three return stacks, a page without access below each */
};

/* Makes a code cache of CODE_BYTES for GROUP. -ENOMEM, or another -errno from the host; -ENOTSUP on
 * a host without BMI2: vCPUs are then interpreted. */
MUST_CHECK int translator_cache_init(struct translator_cache *cache, struct cpu_group *group,
                                     size_t code_bytes);
/* After translator_fini of all vCPUs. */
void translator_cache_fini(struct translator_cache *cache);

/* Gives CPU a translator that uses CACHE, or one with a cache of its own. Errors as above. */
MUST_CHECK int translator_share(struct translator *translator, struct cpu *cpu,
                                struct translator_cache *cache);
MUST_CHECK int translator_init(struct translator *translator, struct cpu *cpu, size_t code_bytes);
/* Takes it away again; also from one that was never initialized (all zero). */
void translator_fini(struct translator *translator, struct cpu *cpu);

#endif
