/*
 * dev/pci/bar.c - base address registers: their shape, where the guest put them, accesses through
 * them.
 *
 * Spec   PCI Local Bus Specification 3.0, section 6.2.5. Sizing needs no code of its own: the
 * address bits below the size are not writable, so that a guest that writes ones reads the size
 * back. Runs   on vCPU threads, under the function's lock (the bus dispatcher takes it for BAR
 * accesses). Trust  the guest chooses every address.
 */
#include "base/bits.h"
#include "dev/pci/function_priv.h"

static u8 *bar_register(struct pci_function *function, unsigned bar)
{
    return function->config + PCI_BAR0 + 4 * bar;
}

void pci_bar_define(struct pci_function *function, unsigned bar, enum pci_bar_kind kind, u64 bytes)
{
    function->bars[bar].kind = kind;
    function->bars[bar].bytes = bytes;
    u8 *mask = function->write_mask + PCI_BAR0 + 4 * bar;
    u64 address_bits = ~(bytes - 1);
    store_le32(mask, (u32)address_bits);
    u32 flags = 0;
    if (kind == PCI_BAR_IO) {
        flags = PCI_BAR_IS_IO;
        store_le32(mask, (u32)address_bits & 0xffff);
    }
    if (kind == PCI_BAR_MEMORY64) {
        flags = PCI_BAR_IS_64BIT;
        store_le32(mask + 4, (u32)(address_bits >> 32));
    }
    store_le32(bar_register(function, bar), flags);
}

u64 pci_bar_wanted(const struct pci_function *function, const struct pci_bar *bar)
{
    const u8 *at = function->config + PCI_BAR0 + 4 * bar->index;
    u64 base = load_le32(at);
    if (bar->kind == PCI_BAR_NONE)
        return PCI_BAR_NOWHERE;
    if (!pci_command_has(function, bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY))
        return PCI_BAR_NOWHERE;
    if (bar->kind == PCI_BAR_MEMORY64)
        base |= (u64)load_le32(at + 4) << 32;
    base &= ~(u64)(bar->kind == PCI_BAR_IO ? PCI_BAR_FLAGS_IO : PCI_BAR_FLAGS_MEMORY);
    /* Address 0 is what an unassigned BAR holds; no machine of ours decodes a BAR there. */
    return base == 0 || base + (bar->bytes - 1) < base ? PCI_BAR_NOWHERE : base;
}

static u64 bar_read(void *device, u64 offset, unsigned bytes)
{
    struct pci_bar *bar = device;
    struct pci_function *function = bar->function;
    if (function->msix.capability && function->msix.bar == bar->index)
        return pci_msix_read(function, offset, bytes);
    return function->ops->bar_read(function, bar->index, offset, bytes);
}

static void bar_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pci_bar *bar = device;
    struct pci_function *function = bar->function;
    if (function->msix.capability && function->msix.bar == bar->index)
        pci_msix_write(function, offset, bytes, value);
    else
        function->ops->bar_write(function, bar->index, offset, bytes, value);
}

const struct bus_ops pci_bar_bus_ops = {.read = bar_read, .write = bar_write};
