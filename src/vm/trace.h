/*
 * vm/trace.h - the translator's blocks as a text file: guest code, host code, and facts.
 */
#ifndef VM_TRACE_H
#define VM_TRACE_H

#include "base/err.h"
#include "dbt/trace.h"

struct trace;

/* Opens what OPTION says, FILE[,rip=FIRST[-LAST]] with hexadecimal addresses: only blocks that
 * begin there are shown. NULL and ERR when it cannot. */
struct trace *trace_open(const char *option, struct err *err);
/* After all vCPUs are gone. */
void trace_close(struct trace *trace);
const struct jit_tracer *trace_tracer(const struct trace *trace);

#endif
