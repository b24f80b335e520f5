/*
 * dev/pci/mch.h - the host bridge that PC firmware knows: Q35's memory controller, function 00.0.
 *
 * Firmware places the ECAM window by PCIEXBAR, and switches memory between 0xC0000 and 0xFFFFF by
 * the PAM registers. Here that memory is always RAM, with the firmware's image copied into it at
 * reset: PAM keeps what is written and changes nothing. There is no SMRAM.
 * Threads: under the function's own lock.
 */
#ifndef DEV_PCI_MCH_H
#define DEV_PCI_MCH_H

struct pci_function;

/* To be given to pci_bus_new as its host bridge. NULL when memory is exhausted. */
struct pci_function *mch_new(void);

#endif
