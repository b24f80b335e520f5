/*
 * dev/pci/function.h - one PCI function: configuration space, BARs and MSI-X, to embed in a device.
 *
 * A device embeds a struct pci_function, describes itself once (pci_function_init, pci_bar_define,
 * pci_capability_add, pci_msix_define), and is put on a bus with pci_bus_add. From then on the
 * function's register accesses reach the device through its ops, always with the function's lock
 * held.
 *
 * Threads: every call below is made with the function's lock held, or before vCPUs run.
 * Ownership: the bus that a function was put on frees it through ops->free.
 * Trust: the guest writes any value to any register; only bits in the write mask change.
 */
#ifndef DEV_PCI_FUNCTION_H
#define DEV_PCI_FUNCTION_H

#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"
#include "dev/pci/regs.h"

struct pci_bus;
struct pci_function;
struct state_reader;
struct state_writer;

enum { MSIX_VECTORS_MAX = 64 };

struct pci_ops {
    /* An access of 1, 2, 4 or 8 bytes that lies inside the BAR. Never blocks. */
    u64 (*bar_read)(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes);
    void (*bar_write)(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes,
                      u64 value);
    /* Runs before the guest reads and after it wrote BYTES of configuration space at OFFSET, so
     * that the device may refresh function->config or act on it. May be NULL. */
    void (*config_access)(struct pci_function *function, unsigned offset, unsigned bytes,
                          bool is_write);
    /* The machine's reset; configuration space has been reset already. May be NULL. */
    void (*reset)(struct pci_function *function);
    /* What the device has beyond configuration space and MSI-X. May be NULL. */
    void (*save)(struct pci_function *function, struct state_writer *writer);
    int (*load)(struct pci_function *function, struct state_reader *reader, struct err *err);
    void (*free)(struct pci_function *function);
};

struct pci_ids {
    u16 vendor, device, subsystem_vendor, subsystem;
    u32 class_code; /* base class, sub-class, interface: 0x010000 */
    u8 revision;
};

enum pci_bar_kind {
    PCI_BAR_NONE,
    PCI_BAR_IO,
    PCI_BAR_MEMORY32,
    PCI_BAR_MEMORY64, /* takes the next BAR for its upper half */
};

#define PCI_BAR_NOWHERE UINT64_MAX

struct pci_bar {
    enum pci_bar_kind kind;
    u64 bytes;                     /* a power of two */
    struct pci_function *function; /* borrowed: whose it is */
    unsigned index;
    /* Not NULL: the BAR is memory that guests use as RAM, of `bytes` at this place. The machine
     * makes it a slot of guest memory wherever the BAR lies; what comes past that reaches bar_read
     * and bar_write. Borrowed: the device's. */
    u8 *ram;
    /* Both under the bus's map lock: where the guest wants it, and where it is. */
    u64 wanted_base, mapped_base;
};

struct msix {
    u8 capability; /* its offset in configuration space; 0: the function has no MSI-X */
    u8 bar;
    u16 vector_count;
    u32 table[MSIX_VECTORS_MAX][4]; /* address low, address high, data, control */
    u64 pending;                    /* bit per vector */
};

struct pci_function {
    const struct pci_ops *ops;
    const char *name;    /* borrowed: for messages and inspection */
    struct lock *lock;   /* borrowed: the device's */
    struct pci_bus *bus; /* borrowed: NULL until pci_bus_add */
    u8 slot, number;
    u8 intx_level;    /* 1: the device asks for attention */
    bool intx_driven; /* what the line has from this function */
    u8 config[PCI_CONFIG_BYTES];
    u8 write_mask[PCI_CONFIG_BYTES]; /* bits that the guest may change */
    u16 config_used_bytes;           /* where the next capability goes */
    u8 last_capability;
    struct pci_bar bars[PCI_BAR_COUNT];
    struct msix msix;
};

void pci_function_init(struct pci_function *function, const struct pci_ops *ops,
                       const struct pci_ids *ids, struct lock *lock);
/* Makes BAR (0 to 5) answer for BYTES, a power of two and at least 16. */
void pci_bar_define(struct pci_function *function, unsigned bar, enum pci_bar_kind kind, u64 bytes);
/* Appends a capability of BYTES in all; returns its offset, or 0 when the space is full. Its body
 * is zero and read-only until the caller fills config and write_mask. */
u8 pci_capability_add(struct pci_function *function, enum pci_capability id, unsigned bytes);
/* Gives the function VECTOR_COUNT MSI-X vectors (1 to 64), whose table and pending bits fill BAR, a
 * 4 KiB memory BAR that this call defines. -ENOSPC when the capability does not fit. */
MUST_CHECK int pci_msix_define(struct pci_function *function, unsigned bar, unsigned vector_count);

/* BYTES (1, 2 or 4) of configuration space at OFFSET, both inside its 256 bytes. */
u32 pci_config_read(struct pci_function *function, unsigned offset, unsigned bytes);
void pci_config_write(struct pci_function *function, unsigned offset, unsigned bytes, u32 value);
/* True when every bit of BITS is set in the command register. */
bool pci_command_has(const struct pci_function *function, u16 bits);

/* Asserts or releases the function's INTx pin (INTA). */
void pci_intx_set(struct pci_function *function, bool level);
/* True when the guest has switched the function to MSI-X. */
bool pci_msix_enabled(const struct pci_function *function);
/* Sends VECTOR's message, or makes it pending while it is masked. A vector out of range is ignored.
 */
void pci_msix_send(struct pci_function *function, unsigned vector);

#endif
