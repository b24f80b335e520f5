/*
 * dbt/code.h - how a physical page of code is found in the group's tables (dbt/cpu.h).
 */
#ifndef DBT_CODE_H
#define DBT_CODE_H

#include "dbt/cpu.h"

static inline unsigned code_hash(gpa_t gpa)
{
    u64 page = gpa >> 12;
    return (unsigned)(page ^ (page >> 16)) & (CPU_CODE_HASH - 1);
}

#endif
