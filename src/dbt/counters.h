/*
 * dbt/counters.h - what a vCPU of the translator has done so far, as names and values.
 */
#ifndef DBT_COUNTERS_H
#define DBT_COUNTERS_H

struct cpu;
struct counter_sink;

/* Tells all counters of CPU; those per instruction or exit kind only where they are not 0. Any
 * thread. */
void cpu_counters_tell(const struct cpu *cpu, const struct counter_sink *sink);

#endif
