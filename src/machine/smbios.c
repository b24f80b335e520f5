/*
 * machine/smbios.c - the SMBIOS structures of the machine: system, chassis, processor, memory.
 *
 * Spec   SMBIOS 2.8: 5.2.1 entry point, 7.2 system, 7.4 chassis, 7.5 processor, 7.17 to 7.20
 *        memory, 7.33 boot information, 7.45 end of table. The BIOS's own structure (type 0) is the
 *        firmware's.
 * Runs   while the machine is built.
 * Trust  all input is our own.
 */
#include "machine/smbios.h"

#include "base/bits.h"

enum { SYSTEM = 1, CHASSIS = 3, PROCESSOR = 4, MEMORY_ARRAY = 16, MEMORY_DEVICE = 17 };
enum { MEMORY_MAP = 19, BOOT_INFORMATION = 32, END_OF_TABLE = 127 };
enum { HEADER_BYTES = 4, MIB = 1 << 20, MEMORY_ERROR_NONE = 0xfffe };
enum { SIZE_IN_EXTENDED = 0x7fff, CAPACITY_IN_EXTENDED = 0x80000000u };

struct writer {
    u8 *data;
    size_t bytes;
    u16 next_handle;
    u16 count;
    size_t largest, start;
};

/* Begins a structure of BODY bytes after its header, all zeroes; returns the body's place as the
 * specification counts it: with the header. */
static u8 *begin(struct writer *writer, u8 type, u8 bytes)
{
    u8 *at = writer->data + writer->bytes;

    writer->start = writer->bytes;
    __builtin_memset(at, 0, bytes);
    at[0] = type;
    at[1] = bytes;
    store_le16(at + 2, writer->next_handle++);
    writer->bytes += bytes;
    return at;
}

/* Closes it with its strings, a list that ends in an empty one. */
static void end(struct writer *writer, const char *strings)
{
    if (*strings == 0)
        writer->data[writer->bytes++] = 0;
    while (*strings) {
        size_t bytes = __builtin_strlen(strings) + 1;
        __builtin_memcpy(writer->data + writer->bytes, strings, bytes);
        writer->bytes += bytes;
        strings += bytes;
    }
    writer->data[writer->bytes++] = 0;
    writer->count++;
    if (writer->bytes - writer->start > writer->largest)
        writer->largest = writer->bytes - writer->start;
}

static void put_system(struct writer *writer, const struct smbios_config *config)
{
    u8 *at = begin(writer, SYSTEM, 27);

    at[4] = 1;
    at[5] = 2;
    /* The first three fields of a UUID are little-endian here. */
    static const u8 order[SMBIOS_UUID_BYTES] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < SMBIOS_UUID_BYTES; i++)
        at[8 + i] = config->uuid[order[i]];
    at[24] = 6; /* woken by the power switch */
    end(writer, "Atoll\0Atoll PC\0");

    at = begin(writer, CHASSIS, 22);
    at[4] = 1;
    at[5] = 1;           /* other */
    at[9] = at[10] = 3;  /* boot-up and power supply state: safe */
    at[11] = at[12] = 3; /* thermal state: safe; security: none */
    end(writer, "Atoll\0");
}

static void put_processor(struct writer *writer, const struct smbios_config *config)
{
    u8 *at = begin(writer, PROCESSOR, 42);
    u8 count = config->cpu_count > 255 ? 255 : (u8)config->cpu_count;

    at[4] = 1;
    at[5] = 3; /* central processor */
    at[6] = 1; /* family: other */
    at[7] = 2;
    at[24] = 0x41; /* populated, enabled */
    at[25] = 1;    /* upgrade: other */
    store_le16(at + 26, 0xffff);
    store_le16(at + 28, 0xffff);
    store_le16(at + 30, 0xffff); /* no cache structures */
    at[35] = at[36] = at[37] = count;
    store_le16(at + 38, 4); /* 64-bit capable */
    store_le16(at + 40, 1); /* family 2 */
    end(writer, "CPU 0\0Atoll\0");
}

static void put_memory(struct writer *writer, const struct smbios_config *config)
{
    u16 array = writer->next_handle;
    u64 kib = config->ram_bytes >> 10, mib = config->ram_bytes / MIB;
    u8 *at = begin(writer, MEMORY_ARRAY, 23);

    at[4] = 1; /* location: other */
    at[5] = 3; /* system memory */
    at[6] = 6; /* corrects errors of several bits */
    store_le32(at + 7, kib < CAPACITY_IN_EXTENDED ? (u32)kib : CAPACITY_IN_EXTENDED);
    store_le16(at + 11, MEMORY_ERROR_NONE);
    store_le16(at + 13, 1);
    store_le64(at + 15, kib < CAPACITY_IN_EXTENDED ? 0 : config->ram_bytes);
    end(writer, "");

    at = begin(writer, MEMORY_DEVICE, 40);
    store_le16(at + 4, array);
    store_le16(at + 6, MEMORY_ERROR_NONE);
    store_le16(at + 8, 0xffff);
    store_le16(at + 10, 0xffff); /* widths: unknown */
    store_le16(at + 12, mib < SIZE_IN_EXTENDED ? (u16)mib : SIZE_IN_EXTENDED);
    at[14] = 9; /* DIMM */
    at[16] = 1;
    at[18] = 7; /* RAM */
    store_le16(at + 19, 2);
    store_le32(at + 28, mib < SIZE_IN_EXTENDED ? 0 : (u32)mib);
    end(writer, "DIMM 0\0");

    at = begin(writer, MEMORY_MAP, 31);
    store_le32(at + 4, UINT32_MAX); /* the extended fields hold first and last byte */
    store_le32(at + 8, UINT32_MAX);
    store_le16(at + 12, array);
    at[14] = 1;
    store_le64(at + 23, config->ram_bytes - 1);
    end(writer, "");
}

size_t smbios_build(const struct smbios_config *config, u8 *to, u8 *anchor)
{
    struct writer writer = {.data = to, .next_handle = 0x100};

    put_system(&writer, config);
    put_processor(&writer, config);
    put_memory(&writer, config);
    begin(&writer, BOOT_INFORMATION, 11); /* no errors detected */
    end(&writer, "");
    begin(&writer, END_OF_TABLE, HEADER_BYTES);
    end(&writer, "");

    __builtin_memset(anchor, 0, SMBIOS_ANCHOR_BYTES);
    __builtin_memcpy(anchor, "_SM_", 4);
    anchor[5] = SMBIOS_ANCHOR_BYTES;
    anchor[6] = 2;
    anchor[7] = 8;
    store_le16(anchor + 8, (u16)writer.largest);
    __builtin_memcpy(anchor + 16, "_DMI_", 5);
    store_le16(anchor + 22, (u16)writer.bytes);
    store_le16(anchor + 28, writer.count);
    anchor[30] = 0x28;
    return writer.bytes;
}
