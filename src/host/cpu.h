/*
 * host/cpu.h - the processor that this program runs on.
 */
#ifndef HOST_CPU_H
#define HOST_CPU_H

#include "base/types.h"

/* The host's CPUID: EAX, EBX, ECX, EDX for LEAF (EAX) and SUBLEAF (ECX). */
void cpu_cpuid(u32 leaf, u32 subleaf, u32 ret[4]);

#endif
