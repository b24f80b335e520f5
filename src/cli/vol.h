/*
 * cli/vol.h - `atoll vol`: disk images made, looked at, checked and changed.
 */
#ifndef CLI_VOL_H
#define CLI_VOL_H

#include "base/err.h"

/* ARGV starts after "vol" and ends in NULL. Its exit status; ERR when it is not 0. */
int vol_main(const char *const *argv, struct err *err);

#endif
