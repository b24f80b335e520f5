/*
 * vm/engine.h - chooses what executes guest code, and makes it. The one place that names engines.
 */
#ifndef VM_ENGINE_H
#define VM_ENGINE_H

#include "base/err.h"
#include "vm/config.h"

struct engine;
struct mem;
struct jit_tracer;

enum { ENGINE_REASON_BYTES = 160 };

enum engine_kind { ENGINE_KVM, ENGINE_DBT };

/* Decides by what the host offers; RET_REASON gets one line that says which and why. -ENODEV and
 * ERR when WANTED cannot be had here. */
MUST_CHECK int engine_choose(enum config_engine wanted, enum engine_kind *ret_kind,
                             char ret_reason[ENGINE_REASON_BYTES], struct err *err);

/* Makes it over MEM for CPU_COUNT vCPUs, which show at most
 * PHYSICAL_BITS of address (0: no matter); NULL and ERR when that fails. */
struct engine *engine_make(enum engine_kind kind, struct mem *mem, unsigned cpu_count,
                           unsigned physical_bits, struct err *err);

/* Has the translated code of ENGINE's vCPUs checked; nothing where it does not translate. */
void engine_lockstep(enum engine_kind kind, struct engine *engine, u32 first, u32 every);
/* Has TRACER hear of what ENGINE's vCPUs translate; nothing where it does not translate. */
void engine_trace(enum engine_kind kind, struct engine *engine, const struct jit_tracer *tracer);

#endif
