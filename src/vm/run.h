/*
 * vm/run.h - runs one VM from start to end: a thread for each vCPU, the device loop on the
 * caller's.
 */
#ifndef VM_RUN_H
#define VM_RUN_H

#include "base/err.h"

struct config;

/* Builds the machine, boots it, and runs it until the guest or a signal ends it. Returns the
 * process's exit status (api/exit_status.h); ERR holds a message when it was not the guest's own
 * will. */
int run(const struct config *config, struct err *err);

#endif
