/*
 * vcpu/dbt/dbt.h - the engine that needs nothing but an x86-64 Linux process: the translator
 * library at work on this host.
 */
#ifndef VCPU_DBT_DBT_H
#define VCPU_DBT_DBT_H

#include "vcpu/vcpu.h"

struct jit_tracer;

/* An engine over MEM whose vCPUs look like CPUID; both are borrowed. It takes mem->code_written.
 * NULL and ERR when the host refuses. */
struct engine *dbt_engine_new(struct mem *mem, const struct cpuid_model *cpuid, struct err *err);

/* Has the translated code of vCPUs made from now on checked; see dbt/lockstep.h. */
void dbt_engine_lockstep(struct engine *engine, u32 first, u32 every);

/* Has TRACER (borrowed) hear of what vCPUs made from now on translate; see dbt/trace.h. */
void dbt_engine_trace(struct engine *engine, const struct jit_tracer *tracer);

#endif
