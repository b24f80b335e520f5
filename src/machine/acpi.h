/*
 * machine/acpi.h - the ACPI tables: what the guest is told of processors, interrupt routing, power
 * management and PCI.
 *
 * One image holds them all: RSDP first, then FACS, DSDT, FADT, MADT, MCFG, HPET, and the RSDT and
 * XSDT that list them. The caller copies it to MEMMAP_TABLES_BASE.
 */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "base/err.h"
#include "base/types.h"

struct aml;
struct memmap;

struct acpi_config {
    const struct memmap *map; /* borrowed */
    unsigned cpu_count;       /* APIC ids 0 to count - 1 */
    u32 hpet_id; /* the HPET's capability register, low half; 0: guests are not told of it */
    u8 ioapic_id;
    u8 pci_gsi_base;      /* INTA of device 0; device and pin are swizzled over four inputs */
    u8 pci_legacy_irq[4]; /* the same four lines seen by a guest that uses the PIC */
};

/* Writes the tables to TO as they will stand at guest address BASE (16-byte aligned). Returns 0 and
 * the bytes used, or -ENOSPC when CAPACITY does not suffice. */
MUST_CHECK int acpi_build(const struct acpi_config *config, gpa_t base, u8 *to, size_t capacity,
                          size_t *ret_bytes, struct err *err);

/* The DSDT's definition block (acpi_dsdt.c). */
void acpi_dsdt_body(const struct acpi_config *config, struct aml *aml);

#endif
