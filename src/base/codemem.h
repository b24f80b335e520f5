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
};

/* Makes BYTES (rounded up to pages) of zeroed code memory. -ENOMEM, or what the host said. */
MUST_CHECK int codemem_init(struct codemem *ret_codemem, size_t bytes);
/* Unmaps both views; an all-zero object is allowed. */
void codemem_fini(struct codemem *codemem);

#endif
