/*
 * base/alloc.h - heap memory for pure code; bound at link (host/alloc.c in hosted programs).
 *
 * Threads: any. Memory comes zeroed. A NULL return means exhausted and must be handled.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include "base/types.h"

/* BYTES zeroed bytes, aligned to 16; NULL when there are none. */
void *alloc_zero(size_t bytes);
/* COUNT times BYTES zeroed bytes; NULL on overflow or exhaustion. */
void *alloc_array(size_t count, size_t bytes);
/* Frees what alloc_* gave; NULL is allowed. */
void alloc_free(void *memory);

#define new0(type) ((type *)alloc_zero(sizeof(type)))
#define new0_array(type, count) ((type *)alloc_array((count), sizeof(type)))

#endif
