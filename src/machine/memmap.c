/*
 * machine/memmap.c - lays out RAM around the holes that a PC has below 1 MiB and below 4 GiB.
 *
 * Spec   ACPI 6.4, 15 "System Address Map Interfaces" for the E820 types.
 * Runs   while the machine is built.
 * Trust  the RAM size comes from a user and is checked here.
 */
#include "machine/memmap.h"

#include "base/bits.h"
#include "base/errno.h"

#define EBDA_BASE 0x9fc00ull
#define ONE_MIB 0x100000ull

static void e820_add(struct memmap *map, gpa_t base, gpa_t end, enum memmap_type type)
{
    if (base >= end)
        return;
    map->e820[map->e820_count++] = (struct memmap_range){
        .base = base, .bytes = end - base, .type = type};
}

static void ram_add(struct memmap *map, unsigned index, gpa_t base, u64 bytes, u64 ram_offset)
{
    map->ram[index] = (struct memmap_range){
        .base = base, .bytes = bytes, .ram_offset = ram_offset, .type = MEMMAP_RAM};
}

int memmap_init(struct memmap *ret_map, u64 ram_bytes, bool has_firmware, struct err *err)
{
    struct memmap map = {.ram_bytes = ram_bytes};

    if (ram_bytes < MEMMAP_RAM_MIN_BYTES || ram_bytes > MEMMAP_RAM_MAX_BYTES)
        return err_set(err, -EINVAL, "memory of %lu MiB: must be between 4 MiB and 1 TiB",
                       (unsigned long)(ram_bytes / ONE_MIB));
    if (ram_bytes % ONE_MIB != 0)
        return err_set(err, -EINVAL, "memory of %lu bytes: must be a multiple of 1 MiB",
                       (unsigned long)ram_bytes);

    map.low_bytes = min_u64(ram_bytes, has_firmware ? MEMMAP_LOW_END_FIRMWARE : MEMMAP_LOW_END);
    map.high_bytes = ram_bytes - map.low_bytes;
    map.physical_bits = has_firmware ? MEMMAP_FIRMWARE_BITS_MIN : 0;
    map.pci64_base = align_up(MEMMAP_HIGH_BASE + map.high_bytes, MEMMAP_PCI64_BYTES);

    while (has_firmware && BIT(map.physical_bits) < map.pci64_base + 2 * MEMMAP_PCI64_BYTES)
        map.physical_bits++;

    ram_add(&map, 0, 0, MEMMAP_VGA_BASE, 0);
    ram_add(&map, 1, MEMMAP_SHADOW_BASE, map.low_bytes - MEMMAP_SHADOW_BASE, MEMMAP_SHADOW_BASE);
    ram_add(&map, 2, MEMMAP_HIGH_BASE, map.high_bytes, map.low_bytes);

    e820_add(&map, 0, EBDA_BASE, MEMMAP_RAM);
    e820_add(&map, EBDA_BASE, MEMMAP_VGA_BASE, MEMMAP_RESERVED);
    e820_add(&map, MEMMAP_TABLES_BASE, MEMMAP_TABLES_BASE + MEMMAP_TABLES_BYTES, MEMMAP_RESERVED);
    e820_add(&map, ONE_MIB, map.low_bytes, MEMMAP_RAM);
    e820_add(&map, MEMMAP_ECAM_BASE, MEMMAP_ECAM_BASE + MEMMAP_ECAM_BYTES, MEMMAP_RESERVED);
    e820_add(&map, MEMMAP_HIGH_BASE, MEMMAP_HIGH_BASE + map.high_bytes, MEMMAP_RAM);

    *ret_map = map;
    return 0;
}
