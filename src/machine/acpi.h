/*
 * machine/acpi.h - the ACPI tables: what the guest is told of processors, interrupt routing, power
 * management and PCI.
 *
 * One image holds them all: RSDP first, then FACS, DSDT, FADT, MADT, MCFG, HPET, and the RSDT and
 * XSDT that list them. Without firmware the caller copies it to MEMMAP_TABLES_BASE; firmware places
 * it itself, by the commands that acpi_loader_build() makes of the image's links.
 */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include "base/err.h"
#include "base/types.h"

struct aml;
struct memmap;

enum { ACPI_WINDOWS_MAX = 3, ACPI_POINTERS_MAX = 40, ACPI_TABLES_MAX = 16 };
enum { ACPI_RSDP_BYTES = 36, ACPI_LOADER_MAX_BYTES = 8192 };

/* Memory that the PCI root passes on to its devices; LAST is inclusive. */
struct acpi_window {
    u64 first, last;
    bool is_64_bit;
};

/* What must change in an image that was built for address 0 when it is placed. */
struct acpi_links {
    struct {
        u32 offset;
        u8 bytes; /* 4 or 8 */
    } pointers[ACPI_POINTERS_MAX];
    unsigned pointer_count;
    struct {
        u32 offset, bytes;
    } tables[ACPI_TABLES_MAX]; /* whose checksum, at byte 9, is 0 */
    unsigned table_count;
    u32 rsdt, xsdt; /* offsets: what the RSDP must point to */
};

struct acpi_config {
    const struct memmap *map; /* borrowed */
    unsigned cpu_count;       /* APIC ids 0 to count - 1 */
    bool has_vga; /* and a keyboard and a mouse */
    u32 hpet_id; /* the HPET's capability register, low half; 0: guests are not told of it */
    u8 ioapic_id;
    u8 pci_gsi_base;      /* INTA of device 0; device and pin are swizzled over four inputs */
    u8 pci_legacy_irq[4]; /* the same four lines seen by a guest that uses the PIC */
    gpa_t ecam_base;
    u64 ecam_bytes; /* reserved there; guests use bus 0's share, the first MiB */
    struct acpi_window windows[ACPI_WINDOWS_MAX];
    unsigned window_count;
    struct acpi_links *links; /* not NULL: the image is for address 0, and these are filled */
};

/* Writes the tables to TO as they will stand at guest address BASE (16-byte aligned). Returns 0 and
 * the bytes used, or -ENOSPC when CAPACITY does not suffice. */
MUST_CHECK int acpi_build(const struct acpi_config *config, gpa_t base, u8 *to, size_t capacity,
                          size_t *ret_bytes, struct err *err);

/* The firmware configuration files of an image with links. The tables' file is the image; its RSDP,
 * the first ACPI_RSDP_BYTES, is a file of its own as well. */
#define ACPI_TABLES_FILE "etc/acpi/tables"
#define ACPI_RSDP_FILE "etc/acpi/rsdp"
#define ACPI_LOADER_FILE "etc/table-loader"
/* Makes the firmware's commands for these files. -ENOSPC when CAPACITY (ACPI_LOADER_MAX_BYTES
 * suffices) is too small. */
MUST_CHECK int acpi_loader_build(const struct acpi_links *links, u8 *to, size_t capacity,
                                 size_t *ret_bytes);

/* The DSDT's definition block (acpi_dsdt.c). */
void acpi_dsdt_body(const struct acpi_config *config, struct aml *aml);

#endif
