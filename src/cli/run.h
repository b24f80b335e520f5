/*
 * cli/run.h - `atoll run`.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "base/err.h"

/* ARGV starts after "run". The exit status for our process; ERR holds a message, or none. Replaces
 * this process by the VM's when all is well and no command is to be run. */
int run_main(const char *const *argv, struct err *err);

#endif
