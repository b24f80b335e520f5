/*
 * back/chr/stdio.h - the process's standard input and output as a console.
 *
 * On a terminal, input is raw and ^] leaves: ESCAPE is called instead of the byte reaching the
 * guest. On a pipe or a file, bytes pass as they are and the end of input means nothing to the
 * guest.
 */
#ifndef BACK_CHR_STDIO_H
#define BACK_CHR_STDIO_H

#include "back/chr.h"
#include "base/err.h"

struct loop;

/* ESCAPE runs on the loop and must not free the console at once; at most one console per process.
 */
struct chr *chr_stdio_new(struct loop *loop, void (*escape)(void *ctx), void *ctx, struct err *err);

#endif
