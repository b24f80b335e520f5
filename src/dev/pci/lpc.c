/*
 * dev/pci/lpc.c - ICH9's LPC bridge, as far as firmware programs it.
 *
 * Spec   Intel I/O Controller Hub 9, 13.1: PMBASE, ACPI_CNTL, PIRQ routing, RCBA.
 * Runs   on vCPU threads, under the function's lock; routes are read by who drives a line.
 * Trust  the guest routes a line to any interrupt; numbers that the PIC does not take are ignored.
 *
 *   0x40  PMBASE (fixed)  0x44  ACPI_CNTL    0x60  PIRQA to D   0x68  PIRQE to H
 *   0xf0  RCBA, kept: nothing answers behind it
 *
 * PIRQ: 7 not routed | 3:0 ISA interrupt. The lines of all slots are PIRQA to D.
 */
#include "dev/pci/lpc.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/function.h"
#include "dev/pci/pci_bus.h"

enum { PMBASE = 0x40, ACPI_CNTL = 0x44, PIRQA = 0x60, PIRQE = 0x68, RCBA = 0xf0, PIRQ_COUNT = 4 };
enum { PIRQ_WRITABLE = 0x8f, PIRQ_OFF = 0x80, ACPI_CNTL_WRITABLE = 0x87 };
enum { IRQS_TAKEN = 0xdef8 }; /* 3 to 7, 9 to 12, 14, 15: what a PIRQ may be */
#define RCBA_WRITABLE 0xffffc001u

struct lpc {
    struct pci_function function;
    struct lock lock;
};

unsigned lpc_route(const struct pci_function *function, unsigned line)
{
    u8 value = __atomic_load_n(&function->config[PIRQA + line % PIRQ_COUNT], __ATOMIC_RELAXED);

    if ((value & PIRQ_OFF) || !(IRQS_TAKEN >> (value & 15) & 1))
        return LPC_NO_IRQ;
    return value & 15;
}

static void lpc_config_access(struct pci_function *function, unsigned offset, unsigned bytes,
                              bool is_write)
{
    if (is_write && offset < PIRQA + PIRQ_COUNT && offset + bytes > PIRQA)
        pci_bus_intx_again(function->bus);
}

static void lpc_reset(struct pci_function *function)
{
    __builtin_memset(function->config + PIRQA, PIRQ_OFF, PIRQ_COUNT);
    __builtin_memset(function->config + PIRQE, PIRQ_OFF, PIRQ_COUNT);
    pci_bus_intx_again(function->bus);
}

static int lpc_load(struct pci_function *function, struct state_reader *reader, struct err *err)
{
    pci_bus_intx_again(function->bus);
    return 0;
}

static void lpc_free(struct pci_function *function)
{
    alloc_free(container_of(function, struct lpc, function));
}

static const struct pci_ops lpc_ops = {
    .config_access = lpc_config_access, .reset = lpc_reset, .load = lpc_load, .free = lpc_free};

struct pci_function *lpc_new(u16 pm_base)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x2918,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x060100,
                                       .revision = 2};
    struct lpc *lpc = new0(struct lpc);

    if (lpc == NULL)
        return NULL;
    pci_function_init(&lpc->function, &lpc_ops, &ids, &lpc->lock);
    lpc->function.name = "ich9-lpc";
    u8 *mask = lpc->function.write_mask;
    store_le32(lpc->function.config + PMBASE, pm_base | PCI_BAR_IS_IO);
    mask[ACPI_CNTL] = ACPI_CNTL_WRITABLE;
    __builtin_memset(mask + PIRQA, PIRQ_WRITABLE, PIRQ_COUNT);
    __builtin_memset(mask + PIRQE, PIRQ_WRITABLE, PIRQ_COUNT);
    store_le32(mask + RCBA, RCBA_WRITABLE);
    return &lpc->function;
}
