/*
 * dev/pci/function.c - a function's configuration space: header, capabilities, masked writes.
 *
 * Spec   PCI Local Bus Specification 3.0, sections 6.1, 6.2 and 6.7.
 * Runs   on vCPU threads, under the function's lock.
 * Trust  the guest writes any value to any register; the write mask decides which bits change.
 */
#include "dev/pci/function.h"

#include "base/bits.h"
#include "base/errno.h"
#include "dev/pci/function_priv.h"
#include "dev/pci/pci_bus.h"

enum {
    COMMAND_WRITABLE = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER |
                       PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
};

const struct field pci_function_state[] = {
    FIELD(struct pci_function, config),
    FIELD(struct pci_function, intx_level),
    FIELD(struct pci_function, msix.table),
    FIELD(struct pci_function, msix.pending),
    FIELD_END,
};

void pci_function_init(struct pci_function *function, const struct pci_ops *ops,
                       const struct pci_ids *ids, struct lock *lock)
{
    *function = (struct pci_function){.ops = ops, .lock = lock, .name = "pci"};
    u8 *config = function->config;
    store_le16(config + PCI_VENDOR_ID, ids->vendor);
    store_le16(config + PCI_DEVICE_ID, ids->device);
    store_le16(config + PCI_SUBSYSTEM_VENDOR_ID, ids->subsystem_vendor);
    store_le16(config + PCI_SUBSYSTEM_ID, ids->subsystem);
    config[PCI_REVISION_ID] = ids->revision;
    config[PCI_CLASS_CODE] = (u8)ids->class_code;
    store_le16(config + PCI_CLASS_CODE + 1, (u16)(ids->class_code >> 8));
    store_le16(function->write_mask + PCI_COMMAND, COMMAND_WRITABLE);
    function->write_mask[PCI_INTERRUPT_LINE] = 0xff;
    function->config_used_bytes = PCI_FIRST_CAPABILITY;
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
        function->bars[i] = (struct pci_bar){.function = function,
                                             .index = i,
                                             .wanted_base = PCI_BAR_NOWHERE,
                                             .mapped_base = PCI_BAR_NOWHERE};
}

u8 pci_capability_add(struct pci_function *function, enum pci_capability id, unsigned bytes)
{
    unsigned at = function->config_used_bytes;
    if (at + bytes > PCI_CONFIG_BYTES)
        return 0;
    u8 *config = function->config;
    config[at] = (u8)id;
    config[function->last_capability ? function->last_capability + 1 : PCI_CAPABILITIES_POINTER] =
        (u8)at;
    config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    function->last_capability = (u8)at;
    function->config_used_bytes = (u16)align_up(at + bytes, 4);
    return (u8)at;
}

bool pci_command_has(const struct pci_function *function, u16 bits)
{
    return (load_le16(function->config + PCI_COMMAND) & bits) == bits;
}

void pci_intx_update(struct pci_function *function)
{
    bool level = function->intx_level && function->config[PCI_INTERRUPT_PIN] != 0 &&
                 !pci_command_has(function, PCI_COMMAND_INTX_DISABLE);
    if (level == function->intx_driven || function->bus == NULL)
        return;
    function->intx_driven = level;
    pci_bus_intx(function->bus, function, level);
}

void pci_intx_set(struct pci_function *function, bool level)
{
    function->intx_level = level;
    pci_intx_update(function);
}

/* True when the access OFFSET, BYTES meets the register of REGISTER_BYTES at AT. */
static bool touches(unsigned offset, unsigned bytes, unsigned at, unsigned register_bytes)
{
    return offset < at + register_bytes && at < offset + bytes;
}

u32 pci_config_read(struct pci_function *function, unsigned offset, unsigned bytes)
{
    if (function->ops->config_access)
        function->ops->config_access(function, offset, bytes, false);
    u32 value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        u8 byte = function->config[offset + i];
        if (offset + i == PCI_STATUS && function->intx_level)
            byte |= PCI_STATUS_INTERRUPT;
        value |= (u32)byte << (8 * i);
    }
    return value;
}

void pci_config_write(struct pci_function *function, unsigned offset, unsigned bytes, u32 value)
{
    for (unsigned i = 0; i < bytes; i++) {
        u8 mask = function->write_mask[offset + i];
        u8 *byte = &function->config[offset + i];
        *byte = (u8)((*byte & ~mask) | ((value >> (8 * i)) & mask));
    }
    bool command = touches(offset, bytes, PCI_COMMAND, 2);
    if (command || touches(offset, bytes, PCI_BAR0, 4 * PCI_BAR_COUNT))
        pci_bus_remap(function->bus, function);
    if (command)
        pci_intx_update(function);
    u8 msix = function->msix.capability;
    if (command || (msix && touches(offset, bytes, msix + MSIX_CONTROL, 2)))
        pci_msix_flush(function);
    if (function->ops->config_access)
        function->ops->config_access(function, offset, bytes, true);
}

void pci_function_reset(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++)
        function->config[i] &= (u8)~function->write_mask[i];
    pci_msix_reset(function);
    pci_intx_set(function, false);
    pci_bus_remap(function->bus, function);
    if (function->ops->reset)
        function->ops->reset(function);
}

void pci_function_save(struct pci_function *function, struct state_writer *writer)
{
    state_save(writer, pci_function_state, function);
    if (function->ops->save)
        function->ops->save(function, writer);
}

int pci_function_load(struct pci_function *function, struct state_reader *reader, struct err *err)
{
    u8 before[PCI_CONFIG_BYTES];
    __builtin_memcpy(before, function->config, sizeof(before));
    int result = state_load(reader, pci_function_state, function, err);
    if (result < 0)
        return result;
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++) {
        if ((before[i] ^ function->config[i]) & ~function->write_mask[i]) {
            __builtin_memcpy(function->config, before, sizeof(before));
            return err_set(
                err, -EPROTO,
                "%s: the saved PCI configuration differs at byte 0x%x: it was saved from "
                "another device",
                function->name, i);
        }
    }
    unsigned vector_count = function->msix.vector_count;
    if (vector_count < MSIX_VECTORS_MAX)
        function->msix.pending &= BIT(vector_count) - 1;
    function->intx_level = function->intx_level != 0;
    pci_intx_update(function);
    pci_bus_remap(function->bus, function);
    return function->ops->load ? function->ops->load(function, reader, err) : 0;
}
