/*
 * dev/pci/function_priv.h - what the files of this folder share about a function.
 */
#ifndef DEV_PCI_FUNCTION_PRIV_H
#define DEV_PCI_FUNCTION_PRIV_H

#include "core/bus.h"
#include "core/state.h"
#include "dev/pci/function.h"

extern const struct bus_ops pci_bar_bus_ops; /* the device is a struct pci_bar */
extern const struct field pci_function_state[];

/* Where the guest wants BAR by command register and BAR register; PCI_BAR_NOWHERE: not decoded. */
u64 pci_bar_wanted(const struct pci_function *function, const struct pci_bar *bar);
/* Brings INTx to what the device and the command register ask for. */
void pci_intx_update(struct pci_function *function);

u64 pci_msix_read(struct pci_function *function, u64 offset, unsigned bytes);
void pci_msix_write(struct pci_function *function, u64 offset, unsigned bytes, u64 value);
/* Sends every pending message that nothing masks any longer. */
void pci_msix_flush(struct pci_function *function);
void pci_msix_reset(struct pci_function *function);

/* The state after power-on: every writable bit 0. */
void pci_function_reset(struct pci_function *function);
void pci_function_save(struct pci_function *function, struct state_writer *writer);
MUST_CHECK int pci_function_load(struct pci_function *function, struct state_reader *reader,
                                 struct err *err);

#endif
