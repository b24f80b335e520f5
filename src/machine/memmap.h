/*
 * machine/memmap.h - the guest-physical memory map: where RAM, devices and PCI windows are.
 *
 *   0x00000000  RAM, 640 KiB (the last KiB is reserved, as an extended BIOS data area would be)
 *   0x000a0000  nothing (a VGA frame buffer's place)
 *   0x000c0000  RAM; ACPI tables in 0xe0000 to 0xfffff
 *   0x00100000  RAM up to its size, or to 3 GiB
 *   0xc0000000  PCI window for 32-bit BARs
 *   0xe0000000  PCI configuration space (ECAM) of bus 0, the only one: guests look for devices on
 *               all buses that they are told of, one access after the other
 *   0xfec00000  I/O APIC      0xfed00000  HPET      0xfee00000  local APIC
 *   0x100000000 RAM beyond 3 GiB
 *   then        PCI window for 64-bit BARs, at the next multiple of its size
 *
 * With firmware, RAM below 4 GiB ends at 2 GiB, and the firmware places what is between there and
 * 4 GiB: ECAM (256 MiB at 0xb0000000 or 0xe0000000) and the BARs around it. Its own ROM ends at
 * 4 GiB, with the variable store below it, and a copy of the ROM's last 128 KiB is at 0xe0000.
 *
 * Everything here is a value computed from the RAM size and from whether there is firmware, so boot
 * and restore agree.
 */
#ifndef MACHINE_MEMMAP_H
#define MACHINE_MEMMAP_H

#include "base/err.h"
#include "base/types.h"

#define MEMMAP_LOW_END 0xc0000000ull /* RAM below 4 GiB ends here at the latest */
#define MEMMAP_LOW_END_FIRMWARE 0x80000000ull
#define MEMMAP_HIGH_BASE 0x100000000ull
#define MEMMAP_VGA_BASE 0xa0000ull
#define MEMMAP_SHADOW_BASE 0xc0000ull
#define MEMMAP_TABLES_BASE 0xe0000ull /* ACPI and other tables: up to 1 MiB */
#define MEMMAP_TABLES_BYTES 0x20000ull
#define MEMMAP_PCI32_BASE 0xc0000000ull
#define MEMMAP_PCI32_BYTES 0x20000000ull
#define MEMMAP_ECAM_BASE 0xe0000000ull
#define MEMMAP_ECAM_BYTES 0x100000ull /* 1 MiB for each bus */
#define MEMMAP_IOAPIC_BASE 0xfec00000ull
#define MEMMAP_HPET_BASE 0xfed00000ull
#define MEMMAP_LAPIC_BASE 0xfee00000ull
#define MEMMAP_LAPIC_BYTES 0x1000ull
#define MEMMAP_FIRMWARE_COPY_BYTES 0x20000ull    /* below 1 MiB */
#define MEMMAP_FIRMWARE_ECAM_BYTES 0x10000000ull /* what firmware makes of ECAM: 256 buses */
#define MEMMAP_FIRMWARE_MAX_BYTES 0x800000ull    /* ROM and variable store: the last 8 MiB */
#define MEMMAP_PCI64_BYTES 0x800000000ull        /* 32 GiB, also its alignment */

#define MEMMAP_RAM_MIN_BYTES 0x400000ull      /* 4 MiB */
#define MEMMAP_RAM_MAX_BYTES 0x10000000000ull /* 1 TiB */

enum memmap_type { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 }; /* numbers of E820 */

enum { MEMMAP_RAM_COUNT = 3, MEMMAP_E820_MAX = 8 };

struct memmap_range {
    gpa_t base;
    u64 bytes;
    u64 ram_offset; /* where in the machine's RAM the range begins; RAM ranges only */
    enum memmap_type type;
};

struct memmap {
    u64 ram_bytes;
    u64 low_bytes;  /* RAM below 4 GiB counted from 0, the VGA hole included */
    u64 high_bytes; /* RAM from 4 GiB */
    gpa_t pci64_base;
    unsigned physical_bits; /* of addresses, that the processor should show; 0: no matter */
    struct memmap_range ram[MEMMAP_RAM_COUNT]; /* memory slots; an unused one has bytes 0 */
    struct memmap_range e820[MEMMAP_E820_MAX]; /* what the guest is told; sorted, disjoint */
    unsigned e820_count;
};

/* Firmware maps all of the address space that the processor shows before it does anything else, by
 * pages of 2 MiB. Where there is firmware, the processor shows no more than what there is. */
enum { MEMMAP_FIRMWARE_BITS_MIN = 37 };

/* Lays out RAM_BYTES of RAM for a machine with or without firmware. -EINVAL with a message when the
 * size is below 4 MiB, above 1 TiB, or not a multiple of 1 MiB. The VGA hole takes nothing away:
 * its 128 KiB of backing are simply never mapped. */
MUST_CHECK int memmap_init(struct memmap *ret_map, u64 ram_bytes, bool has_firmware,
                           struct err *err);

#endif
