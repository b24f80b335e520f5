/*
 * dev/pci/pci_bus.h - PCI bus 0: its functions, the host bridge in front of it, and its interrupts.
 *
 * The machine makes one bus, puts functions on it, and after every reset lets it place the BARs as
 * firmware would (pci_bus_assign). Configuration accesses come through ports 0xCF8 to 0xCFF and the
 * ECAM window; a write to port 0xCF9 that asks for a reset calls config.reset.
 *
 * The INTx pin of the function at SLOT is wired to line pci_bus_intx_line(slot): the machine's _PRT
 * must say the same.
 *
 * Threads: pci_bus_new, _add, _assign, _reset, _save, _load and _free while no vCPU runs; the rest
 * is for this folder. Lock order: bridge, function (device), the bus's own two, irq chip.
 */
#ifndef DEV_PCI_PCI_BUS_H
#define DEV_PCI_PCI_BUS_H

#include "base/err.h"
#include "core/irq.h"
#include "dev/pci/function.h"

struct bus;
struct pci_bus;

enum { PCI_INTX_COUNT = 4 };

struct pci_bus_config {
    struct bus *bus;     /* borrowed: where ports, ECAM and BARs go */
    struct msi_sink msi; /* where messages go */
    struct irq_line intx[PCI_INTX_COUNT];
    u8 intx_irq[PCI_INTX_COUNT]; /* what the guest finds in Interrupt Line */
    struct pci_function *host;   /* function 00.0, owned from the call on; NULL: a generic bridge */
    gpa_t ecam_base;             /* 1 MiB for each bus; 0: no ECAM until the bridge places it */
    unsigned ecam_bus_count;     /* 1 to 256; buses above 0 are empty */
    void (*reset)(void *ctx);    /* any vCPU thread, bridge lock held; may be NULL */
    void *reset_ctx;             /* borrowed */
    /* A BAR that is RAM has another place. Any vCPU thread, the function's lock held; pci_bus_ram
     * tells where. May be NULL. */
    void (*ram_moved)(void *ctx);
    void *ram_moved_ctx; /* borrowed */
};

/* The address space that BARs may be placed in; an end is one past the last byte. */
struct pci_windows {
    u64 memory32_base, memory32_end;
    u64 memory64_base, memory64_end; /* both 0: 64-bit BARs go below 4 GiB too */
    u64 io_base, io_end;
};

/* A bus with its host bridge at 00.0; NULL and ERR when memory or the address space is taken. */
struct pci_bus *pci_bus_new(const struct pci_bus_config *config, struct err *err);
/* Frees the bus and every function on it; NULL is allowed. */
void pci_bus_free(struct pci_bus *bus);

/* Puts FUNCTION at SLOT.NUMBER and owns it from now on, also when this fails: then it is freed. */
MUST_CHECK int pci_bus_add(struct pci_bus *bus, struct pci_function *function, unsigned slot,
                           unsigned number, struct err *err);
/* Resets every function. Back ends must have been drained. */
void pci_bus_reset(struct pci_bus *bus);
/* Places and enables every BAR, largest first; -ENOSPC when a window is full. */
MUST_CHECK int pci_bus_assign(struct pci_bus *bus, const struct pci_windows *windows,
                              struct err *err);
void pci_bus_save(struct pci_bus *bus, struct state_writer *writer);
MUST_CHECK int pci_bus_load(struct pci_bus *bus, struct state_reader *reader, struct err *err);

/* The INTx line (0 to 3) that INTA of the functions at SLOT drives. */
static inline unsigned pci_bus_intx_line(unsigned slot)
{
    return slot % PCI_INTX_COUNT;
}

/* The INDEX-th BAR that is RAM, in an order that never changes, and where it lies
 * (PCI_BAR_NOWHERE: nowhere). False: there are fewer. */
bool pci_bus_ram(struct pci_bus *bus, unsigned index, const struct pci_bar **ret_bar,
                 u64 *ret_base);

/* The function at SLOT.NUMBER, or NULL. */
struct pci_function *pci_bus_find(struct pci_bus *bus, unsigned slot, unsigned number);

/* For function.c and msix.c: a line's level, a message, and BARs moved by FUNCTION's guest. */
void pci_bus_intx(struct pci_bus *bus, const struct pci_function *function, bool level);
void pci_bus_msi(struct pci_bus *bus, u64 address, u32 data);
void pci_bus_remap(struct pci_bus *bus, struct pci_function *function);
/* For bridges: moves the ECAM window (0: takes it away), and drives all lines anew after their
 * routing has changed. */
void pci_bus_move_ecam(struct pci_bus *bus, gpa_t base, unsigned bus_count);
void pci_bus_intx_again(struct pci_bus *bus);
/* Where the ECAM window is; 0: nowhere. */
gpa_t pci_bus_ecam(struct pci_bus *bus);
/* The lowest and the end of the highest BAR at or above 4 GiB; false when there is none. */
bool pci_bus_high_bars(struct pci_bus *bus, u64 *ret_base, u64 *ret_end);

#endif
