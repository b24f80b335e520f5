/*
 * vm/dump.h - prints a vCPU's registers for a person, when the guest has crashed.
 */
#ifndef VM_DUMP_H
#define VM_DUMP_H

#include "x86/regs.h"

/* To standard error, lines ended so that they read well on a terminal in raw mode too. */
void dump_registers(unsigned cpu, const struct x86_state *state);

#endif
