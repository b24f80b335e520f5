/*
 * host/alloc.c - base/alloc.h on the C library's heap.
 *
 * Runs   on any thread.
 */
#include "base/alloc.h"

#include <stdlib.h>

#include "host/fault.h"

void *alloc_zero(size_t bytes)
{
    return alloc_array(1, bytes);
}

void *alloc_array(size_t count, size_t bytes)
{
    size_t total_bytes;
    /* Asked here and not left to calloc: a sanitizer's own ends the process on an overflow. */
    if (__builtin_mul_overflow(count, bytes, &total_bytes) || host_fault(FAULT_MEMORY) != 0)
        return NULL;
    /* A size of zero gives a block of its own, so that NULL always means exhausted. */
    return calloc(count != 0 ? count : 1, bytes != 0 ? bytes : 1);
}

void alloc_free(void *memory)
{
    free(memory);
}
