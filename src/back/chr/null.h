/*
 * back/chr/null.h - a stream that takes everything and never gives anything.
 */
#ifndef BACK_CHR_NULL_H
#define BACK_CHR_NULL_H

#include "back/chr.h"

/* NULL when memory is exhausted. */
struct chr *chr_null_new(void);

#endif
