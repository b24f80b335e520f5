/*
 * back/chr/file.h - a log file: lines with the time at which they began.
 */
#ifndef BACK_CHR_FILE_H
#define BACK_CHR_FILE_H

#include "back/chr.h"
#include "base/err.h"

/* Makes (or empties) the file at PATH; each line begins with the seconds since now. NULL and ERR
 * when it cannot be written. Bytes stay in a buffer until their line ends. */
struct chr *chr_file_new(const char *path, struct err *err);

#endif
