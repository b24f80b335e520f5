/*
 * x86/cpuid_priv.h - how the parts that build a CPUID model share it.
 */
#ifndef X86_CPUID_PRIV_H
#define X86_CPUID_PRIV_H

#include "x86/cpuid.h"

enum cpuid_word { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* The host's entry, or one of zeros. */
const struct cpuid_entry *cpuid_host_entry(const struct cpuid_config *config, u32 leaf,
                                           u32 subleaf);
/* A new entry of zeros at the end of the table. */
struct cpuid_entry *cpuid_add(struct cpuid_model *model, u32 leaf, u32 subleaf, bool indexed);

/* The leaves, without the feature words, which are filled afterwards. */
void cpuid_add_basic(struct cpuid_model *model, const struct cpuid_config *config);
void cpuid_add_xsave(struct cpuid_model *model);
void cpuid_add_topology(struct cpuid_model *model, const struct cpuid_config *config);
void cpuid_add_hypervisor(struct cpuid_model *model, const struct cpuid_config *config);
void cpuid_add_extended(struct cpuid_model *model, const struct cpuid_config *config);
/* Takes AVX state out of leaf 0xD when the model has no AVX, everything when it has no XSAVE. */
void cpuid_trim_xsave(struct cpuid_entry *leaf_d, struct cpuid_model *model);

#endif
