/*
 * cli/vm_start.h - from what the user asked for to a running atoll-vm.
 */
#ifndef CLI_VM_START_H
#define CLI_VM_START_H

#include <sys/types.h>

#include "base/err.h"
#include "cli/run_args.h"

struct vm_plan {
    const char *name; /* borrowed, as all texts here */
    const char *kernel, *initrd;
    const char *append;
    const char *firmware_variables;   /* NULL: they vanish with the VM */
    const struct run_disk *root_disk; /* comes before the others; NULL when there is none */
    const struct run_args *args;
    bool has_console;
    int agent_fd; /* our program's end is elsewhere: this one goes to the VM; -1: no agent */
};

/* Replaces this process by atoll-vm; returns only when it cannot. */
MUST_CHECK int vm_exec(const struct vm_plan *plan, struct err *err);
/* Starts atoll-vm as a child that ends with us, without a terminal; its process id or an error. */
MUST_CHECK pid_t vm_spawn(const struct vm_plan *plan, struct err *err);

#endif
