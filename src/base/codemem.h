/*
 * base/codemem.h - memory for generated code, seen twice: writable at one address, executable at
 * another, never both at one; bound at link (host/codemem.c in hosted programs).
 *
 * Threads: making and freeing from any thread; who writes and who executes what is the owner's
 * affair.
 */
#ifndef BASE_CODEMEM_H
#define BASE_CODEMEM_H

#include "base/types.h"

struct codemem {
    u8 *write;         /* owned: readable and writable */
    const u8 *execute; /* owned: the same bytes, readable and executable */
    size_t bytes;
    unsigned large_refused; /* how often the host had no large page */
};

/* Makes BYTES (rounded up to pages) of zeroed code memory. -ENOMEM, or what the host said. */
MUST_CHECK int codemem_init(struct codemem *ret_codemem, size_t bytes);
/* The large page at offset FROM, a multiple of its size, is about to be filled: asks the host for
 * one in both views, so that its code costs one entry of the processor's address caches and one
 * fault of the host. What is in it stays. Nothing happens where the host has none, or where there
 * is not a whole one at FROM. */
enum { CODEMEM_LARGE_BYTES = 2 << 20 };
void codemem_large(struct codemem *codemem, size_t from);
/* Unmaps both views; an all-zero object is allowed. */
void codemem_fini(struct codemem *codemem);

#endif
