/*
 * dev/pci/regs.h - the registers of PCI configuration space that this machine has.
 *
 * Spec   PCI Local Bus Specification 3.0, chapter 6 (type 0 header, capabilities, MSI-X);
 *        PCI Firmware Specification 3.0, chapter 4 (ECAM).
 */
#ifndef DEV_PCI_REGS_H
#define DEV_PCI_REGS_H

enum { PCI_CONFIG_BYTES = 256, PCI_BAR_COUNT = 6, PCI_SLOT_COUNT = 32, PCI_FUNCTION_COUNT = 8 };

enum pci_register {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS_CODE = 0x09, /* three bytes: interface, sub-class, base class */
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_CAPABILITIES_POINTER = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_FIRST_CAPABILITY = 0x40, /* where the header ends */
};

enum pci_command_bit {
    PCI_COMMAND_IO = 1 << 0,
    PCI_COMMAND_MEMORY = 1 << 1,
    PCI_COMMAND_BUS_MASTER = 1 << 2,
    PCI_COMMAND_PARITY = 1 << 6,
    PCI_COMMAND_SERR = 1 << 8,
    PCI_COMMAND_INTX_DISABLE = 1 << 10,
};

enum pci_status_bit { PCI_STATUS_INTERRUPT = 1 << 3, PCI_STATUS_CAPABILITIES = 1 << 4 };

enum { PCI_HEADER_MULTI_FUNCTION = 0x80 };

enum pci_bar_bit {
    PCI_BAR_IS_IO = 1,
    PCI_BAR_IS_64BIT = 4,
    PCI_BAR_IS_PREFETCHABLE = 8,
    PCI_BAR_FLAGS_IO = 3,
    PCI_BAR_FLAGS_MEMORY = 15
};

enum pci_capability { PCI_CAPABILITY_VENDOR = 0x09, PCI_CAPABILITY_MSIX = 0x11 };

enum msix_register {
    MSIX_CONTROL = 2, /* offsets from the start of the capability */
    MSIX_TABLE = 4,
    MSIX_PBA = 8,
    MSIX_CAPABILITY_BYTES = 12,
};

enum msix_control_bit { MSIX_CONTROL_MASK_ALL = 1 << 14, MSIX_CONTROL_ENABLE = 1 << 15 };

#endif
