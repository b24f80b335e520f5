/*
 * dev/pci/msix.c - MSI-X: the vector table and the pending bits of a function, and sending
 * messages.
 *
 * Spec   PCI Local Bus Specification 3.0, section 6.8.2.
 * Runs   under the function's lock: table accesses on vCPU threads, sends from anywhere.
 * Trust  the guest fills the table; addresses go to the machine's message sink, which checks them.
 *
 * The BAR's 4 KiB: offset 0x000 the table (16 bytes a vector), 0x800 the pending bits, rest zero.
 */
#include "base/bits.h"
#include "base/errno.h"
#include "core/irq.h"
#include "dev/pci/function_priv.h"
#include "dev/pci/pci_bus.h"

enum { BAR_BYTES = 4096, ENTRY_BYTES = 16, PBA_OFFSET = 0x800 };
enum { ADDRESS_LOW, ADDRESS_HIGH, DATA, CONTROL }; /* dwords of an entry */
enum { CONTROL_MASKED = 1 };

int pci_msix_define(struct pci_function *function, unsigned bar, unsigned vector_count)
{
    u8 at = pci_capability_add(function, PCI_CAPABILITY_MSIX, MSIX_CAPABILITY_BYTES);
    if (at == 0 || vector_count == 0 || vector_count > MSIX_VECTORS_MAX)
        return -ENOSPC;
    u8 *config = function->config + at;
    store_le16(config + MSIX_CONTROL, (u16)(vector_count - 1));
    store_le32(config + MSIX_TABLE, bar);
    store_le32(config + MSIX_PBA, PBA_OFFSET | bar);
    store_le16(function->write_mask + at + MSIX_CONTROL,
               MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL);
    function->msix.capability = at;
    function->msix.bar = (u8)bar;
    function->msix.vector_count = (u16)vector_count;
    pci_bar_define(function, bar, PCI_BAR_MEMORY32, BAR_BYTES);
    pci_msix_reset(function);
    return 0;
}

static u16 control(const struct pci_function *function)
{
    const struct msix *msix = &function->msix;
    return msix->capability ? load_le16(function->config + msix->capability + MSIX_CONTROL) : 0;
}

bool pci_msix_enabled(const struct pci_function *function)
{
    return (control(function) & MSIX_CONTROL_ENABLE) != 0;
}

/* A message is a write by the function, so it also needs bus mastering. */
static bool may_send(const struct pci_function *function)
{
    return (control(function) & (MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL)) ==
               MSIX_CONTROL_ENABLE &&
           pci_command_has(function, PCI_COMMAND_BUS_MASTER);
}

void pci_msix_send(struct pci_function *function, unsigned vector)
{
    struct msix *msix = &function->msix;
    if (vector >= msix->vector_count || !pci_msix_enabled(function) || function->bus == NULL)
        return;
    const u32 *entry = msix->table[vector];
    if (!may_send(function) || (entry[CONTROL] & CONTROL_MASKED)) {
        msix->pending |= BIT(vector);
        return;
    }
    msix->pending &= ~BIT(vector);
    pci_bus_msi(function->bus, (u64)entry[ADDRESS_HIGH] << 32 | entry[ADDRESS_LOW], entry[DATA]);
}

void pci_msix_flush(struct pci_function *function)
{
    struct msix *msix = &function->msix;
    if (msix->pending == 0 || !may_send(function))
        return;
    for (unsigned i = 0; i < msix->vector_count; i++)
        if (msix->pending & BIT(i))
            pci_msix_send(function, i);
}

static u32 register_read(const struct msix *msix, u64 offset)
{
    if (offset < (u64)msix->vector_count * ENTRY_BYTES)
        return msix->table[offset / ENTRY_BYTES][offset % ENTRY_BYTES / 4];
    if (offset == PBA_OFFSET || offset == PBA_OFFSET + 4)
        return (u32)(msix->pending >> (offset == PBA_OFFSET ? 0 : 32));
    return 0;
}

u64 pci_msix_read(struct pci_function *function, u64 offset, unsigned bytes)
{
    const struct msix *msix = &function->msix;
    u64 aligned = align_down(offset, 4);
    u64 value = register_read(msix, aligned) | (u64)register_read(msix, aligned + 4) << 32;
    return (value >> (8 * (offset - aligned))) & bytes_mask(bytes);
}

static void register_write(struct pci_function *function, u64 offset, u32 value)
{
    struct msix *msix = &function->msix;
    if (offset >= (u64)msix->vector_count * ENTRY_BYTES)
        return;
    unsigned vector = (unsigned)(offset / ENTRY_BYTES), dword = offset % ENTRY_BYTES / 4;
    msix->table[vector][dword] = dword == CONTROL ? value & CONTROL_MASKED : value;
    if (dword == CONTROL)
        pci_msix_flush(function);
}

void pci_msix_write(struct pci_function *function, u64 offset, unsigned bytes, u64 value)
{
    /* The specification allows aligned accesses of 4 and 8 bytes only; others have no effect. */
    if ((bytes != 4 && bytes != 8) || offset % bytes != 0)
        return;
    register_write(function, offset, (u32)value);
    if (bytes == 8)
        register_write(function, offset + 4, (u32)(value >> 32));
}

void pci_msix_reset(struct pci_function *function)
{
    struct msix *msix = &function->msix;
    __builtin_memset(msix->table, 0, sizeof(msix->table));
    for (unsigned i = 0; i < MSIX_VECTORS_MAX; i++)
        msix->table[i][CONTROL] = CONTROL_MASKED;
    msix->pending = 0;
}
