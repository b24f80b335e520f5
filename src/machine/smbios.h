/*
 * machine/smbios.h - the SMBIOS tables, which say what machine this is: for firmware to place.
 */
#ifndef MACHINE_SMBIOS_H
#define MACHINE_SMBIOS_H

#include "base/types.h"

#define SMBIOS_ANCHOR_FILE "etc/smbios/smbios-anchor"
#define SMBIOS_TABLES_FILE "etc/smbios/smbios-tables"

enum { SMBIOS_ANCHOR_BYTES = 31, SMBIOS_TABLES_MAX_BYTES = 1024, SMBIOS_UUID_BYTES = 16 };

struct smbios_config {
    u64 ram_bytes;
    unsigned cpu_count;
    u8 uuid[SMBIOS_UUID_BYTES]; /* as RFC 4122 prints it; all zeroes: not given */
};

/* Writes the tables to TO, of SMBIOS_TABLES_MAX_BYTES, and the entry point, whose address and
 * checksums the firmware fills in; returns the tables' bytes. */
size_t smbios_build(const struct smbios_config *config, u8 *to, u8 *anchor);

#endif
