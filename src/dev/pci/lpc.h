/*
 * dev/pci/lpc.h - the bridge to the legacy devices that PC firmware knows: ICH9's function 1f.0.
 *
 * Its PIRQ registers say which ISA interrupt each PCI line is for a guest that uses the PIC. The
 * power management block is where the machine has it, at the port
 * given, and cannot be moved.
 * Threads: lpc_route from any; the rest under the function's own lock.
 */
#ifndef DEV_PCI_LPC_H
#define DEV_PCI_LPC_H

#include "base/types.h"

struct pci_function;

enum { LPC_SLOT = 31, LPC_NO_IRQ = 0xff };

/* PM_BASE is the port of the power management block. NULL when memory is exhausted. */
struct pci_function *lpc_new(u16 pm_base);
/* The ISA interrupt that LINE (0 to 3) goes to, or LPC_NO_IRQ. */
unsigned lpc_route(const struct pci_function *function, unsigned line);

#endif
