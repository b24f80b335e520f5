/*
 * machine/acpi_loader.c - the commands by which firmware places the ACPI tables in memory of its
 * own choosing.
 *
 * Spec   QEMU, include/hw/acpi/bios-linker-loader: the file "etc/table-loader", entries of 128
 *        bytes, numbers little-endian.
 * Runs   while the machine is built, and when the guest's firmware reads the tables.
 * Trust  all input is our own.
 *
 *   allocate (1)   0 command | 4 file | 60 align, u32 | 64 zone: 1 high memory, 2 0xf0000
 *   pointer (2)    0 command | 4 file | 60 file pointed into | 116 offset, u32 | 120 bytes, u8
 *   checksum (3)   0 command | 4 file | 60 offset, u32 | 64 start, u32 | 68 bytes, u32
 */
#include "base/bits.h"
#include "base/errno.h"
#include "machine/acpi.h"

enum { ENTRY_BYTES = 128, FILE_1 = 4, FILE_2 = 60, AFTER_FILE_1 = 60, AFTER_FILE_2 = 116 };
enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3, ZONE_HIGH = 1, ZONE_F_SEGMENT = 2 };
enum { TABLES_ALIGN = 64, RSDP_ALIGN = 16, TABLE_CHECKSUM = 9 };
enum { RSDP_CHECKSUM = 8, RSDP_RSDT = 16, RSDP_XSDT = 24, RSDP_EXTENDED_CHECKSUM = 32 };
enum { RSDP_FIRST_BYTES = 20 };

struct script {
    u8 *data;
    size_t bytes, capacity;
    bool full;
    u8 spare[ENTRY_BYTES];
};

/* A new entry, all zeroes but for its command and first file. Where there is no room, a spare one
 * takes what the caller writes. */
static u8 *entry_new(struct script *script, u32 command, const char *file)
{
    u8 *entry = script->spare;

    if (script->capacity - script->bytes < ENTRY_BYTES) {
        script->full = true;
        return entry;
    }
    entry = script->data + script->bytes;
    script->bytes += ENTRY_BYTES;
    __builtin_memset(entry, 0, ENTRY_BYTES);
    store_le32(entry, command);
    __builtin_memcpy(entry + FILE_1, file, __builtin_strlen(file));
    return entry;
}

static void allocate(struct script *script, const char *file, u32 align, u8 zone)
{
    u8 *entry = entry_new(script, ALLOCATE, file);

    store_le32(entry + AFTER_FILE_1, align);
    entry[AFTER_FILE_1 + 4] = zone;
}

/* The number at OFFSET of FILE points into the tables. */
static void add_pointer(struct script *script, const char *file, u32 offset, u8 bytes)
{
    u8 *entry = entry_new(script, ADD_POINTER, file);

    __builtin_memcpy(entry + FILE_2, ACPI_TABLES_FILE, sizeof(ACPI_TABLES_FILE));
    store_le32(entry + AFTER_FILE_2, offset);
    entry[AFTER_FILE_2 + 4] = bytes;
}

static void add_checksum(struct script *script, const char *file, u32 at, u32 start, u32 bytes)
{
    u8 *entry = entry_new(script, ADD_CHECKSUM, file);

    store_le32(entry + AFTER_FILE_1, at);
    store_le32(entry + AFTER_FILE_1 + 4, start);
    store_le32(entry + AFTER_FILE_1 + 8, bytes);
}

int acpi_loader_build(const struct acpi_links *links, u8 *to, size_t capacity, size_t *ret_bytes)
{
    struct script script = {.data = to, .capacity = capacity};

    allocate(&script, ACPI_RSDP_FILE, RSDP_ALIGN, ZONE_F_SEGMENT);
    allocate(&script, ACPI_TABLES_FILE, TABLES_ALIGN, ZONE_HIGH);
    for (unsigned i = 0; i < links->pointer_count; i++)
        add_pointer(&script, ACPI_TABLES_FILE, links->pointers[i].offset, links->pointers[i].bytes);
    for (unsigned i = 0; i < links->table_count; i++) {
        u32 start = links->tables[i].offset;
        add_checksum(&script, ACPI_TABLES_FILE, start + TABLE_CHECKSUM, start,
                     links->tables[i].bytes);
    }
    add_pointer(&script, ACPI_RSDP_FILE, RSDP_RSDT, 4);
    add_pointer(&script, ACPI_RSDP_FILE, RSDP_XSDT, 8);
    add_checksum(&script, ACPI_RSDP_FILE, RSDP_CHECKSUM, 0, RSDP_FIRST_BYTES);
    add_checksum(&script, ACPI_RSDP_FILE, RSDP_EXTENDED_CHECKSUM, 0, ACPI_RSDP_BYTES);
    if (script.full)
        return -ENOSPC;
    *ret_bytes = script.bytes;
    return 0;
}
