/*
 * machine/aml.c - encodes AML terms, package lengths and resource descriptors.
 *
 * Spec   ACPI 6.4, 20.2 "AML Grammar Definition"; 6.4 "Resource Data Types for ACPI".
 * Runs   while the machine is built.
 * Trust  all input is our own.
 */
#include "machine/aml.h"

#include "base/bits.h"

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2e,
    OP_MULTI_NAME = 0x2f,
    OP_EXTENDED = 0x5b,
    OP_EXTENDED_DEVICE = 0x82
};

enum { NAME_SEGMENT_BYTES = 4, BUFFER_SIZE_BYTES = 3 };

void aml_init(struct aml *aml, void *to, size_t capacity)
{
    *aml = (struct aml){.data = to, .capacity = capacity};
}

void aml_byte(struct aml *aml, u8 value)
{
    if (aml->bytes >= aml->capacity) {
        aml->full = true;
        return;
    }
    aml->data[aml->bytes++] = value;
}

void aml_bytes(struct aml *aml, const void *from, size_t bytes)
{
    const u8 *source = from;
    for (size_t i = 0; i < bytes; i++)
        aml_byte(aml, source[i]);
}

static void put_le(struct aml *aml, u64 value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        aml_byte(aml, (u8)(value >> (8 * i)));
}

void aml_path(struct aml *aml, const char *path)
{
    while (*path == '\\' || *path == '^')
        aml_byte(aml, (u8)*path++);

    size_t length = __builtin_strlen(path);
    unsigned segment_count = (unsigned)((length + 1) / (NAME_SEGMENT_BYTES + 1));

    if (segment_count == 0)
        aml_byte(aml, 0); /* NullName: the root itself */
    else if (segment_count == 2)
        aml_byte(aml, OP_DUAL_NAME);
    else if (segment_count > 2) {
        aml_byte(aml, OP_MULTI_NAME);
        aml_byte(aml, (u8)segment_count);
    }
    for (; *path; path++)
        if (*path != '.')
            aml_byte(aml, (u8)*path);
}

void aml_integer(struct aml *aml, u64 value)
{
    if (value <= 1) {
        aml_byte(aml, value ? OP_ONE : OP_ZERO);
        return;
    }
    unsigned bytes = value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
    aml_byte(aml, bytes == 1 ? OP_BYTE : bytes == 2 ? OP_WORD : bytes == 4 ? OP_DWORD : OP_QWORD);
    put_le(aml, value, bytes);
}

void aml_string(struct aml *aml, const char *text)
{
    aml_byte(aml, OP_STRING);
    aml_bytes(aml, text, __builtin_strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
}

void aml_eisa_id(struct aml *aml, const char *id)
{
    /* Three letters of five bits and four hexadecimal digits, stored big-endian. */
    u32 packed = (u32)(id[0] - 'A' + 1) << 26 | (u32)(id[1] - 'A' + 1) << 21 |
                 (u32)(id[2] - 'A' + 1) << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
                 hex_digit(id[5]) << 4 | hex_digit(id[6]);
    aml_byte(aml, OP_DWORD);
    put_le(aml, __builtin_bswap32(packed), 4);
}

void aml_name(struct aml *aml, const char *path)
{
    aml_byte(aml, OP_NAME);
    aml_path(aml, path);
}

void aml_name_integer(struct aml *aml, const char *path, u64 value)
{
    aml_name(aml, path);
    aml_integer(aml, value);
}

size_t aml_begin_scope(struct aml *aml, const char *path)
{
    aml_byte(aml, OP_SCOPE);
    size_t mark = aml->bytes;
    aml_path(aml, path);
    return mark;
}

size_t aml_begin_device(struct aml *aml, const char *path)
{
    aml_byte(aml, OP_EXTENDED);
    aml_byte(aml, OP_EXTENDED_DEVICE);
    size_t mark = aml->bytes;
    aml_path(aml, path);
    return mark;
}

size_t aml_begin_method(struct aml *aml, const char *path, unsigned arg_count)
{
    aml_byte(aml, OP_METHOD);
    size_t mark = aml->bytes;
    aml_path(aml, path);
    aml_byte(aml, (u8)arg_count);
    return mark;
}

size_t aml_begin_package(struct aml *aml, u8 element_count)
{
    aml_byte(aml, OP_PACKAGE);
    size_t mark = aml->bytes;
    aml_byte(aml, element_count);
    return mark;
}

size_t aml_begin_block(struct aml *aml, enum aml_op op)
{
    aml_byte(aml, (u8)op);
    return aml->bytes;
}

/* The PkgLength counts itself, so its own size is found first, and the body makes room for it. */
void aml_end(struct aml *aml, size_t mark)
{
    size_t body_bytes = aml->bytes - mark;
    unsigned length_bytes = body_bytes + 1 < 0x40 ? 1 : body_bytes + 2 < 0x1000 ? 2 : 3;
    size_t length = body_bytes + length_bytes;

    if (aml->full || aml->capacity - aml->bytes < length_bytes) {
        aml->full = true;
        return;
    }
    __builtin_memmove(aml->data + mark + length_bytes, aml->data + mark, body_bytes);
    aml->bytes += length_bytes;
    if (length_bytes == 1) {
        aml->data[mark] = (u8)length;
        return;
    }
    aml->data[mark] = (u8)((length_bytes - 1) << 6 | (length & 0xf));
    for (unsigned i = 1; i < length_bytes; i++)
        aml->data[mark + i] = (u8)(length >> (4 + 8 * (i - 1)));
}

size_t aml_begin_resources(struct aml *aml)
{
    aml_byte(aml, OP_BUFFER);
    size_t mark = aml->bytes;
    aml_byte(aml, OP_WORD); /* BufferSize, known at the end */
    put_le(aml, 0, 2);
    return mark;
}

void aml_end_resources(struct aml *aml, size_t mark)
{
    put_le(aml, 0x0079, 2); /* end tag; a checksum of 0 says "not used" */
    if (!aml->full)
        store_le16(aml->data + mark + 1, (u16)(aml->bytes - mark - BUFFER_SIZE_BYTES));
    aml_end(aml, mark);
}

void aml_resource_io(struct aml *aml, u16 port, u8 port_count)
{
    aml_byte(aml, 0x47); /* I/O port descriptor, 7 bytes */
    aml_byte(aml, 1);    /* decodes 16 bits */
    put_le(aml, port, 2);
    put_le(aml, port, 2);
    aml_byte(aml, 1); /* alignment */
    aml_byte(aml, port_count);
}

void aml_resource_irq(struct aml *aml, unsigned irq)
{
    aml_byte(aml, 0x22); /* IRQ descriptor without flags: edge, active high */
    put_le(aml, BIT(irq), 2);
}

void aml_resource_memory32(struct aml *aml, u32 base, u32 bytes)
{
    aml_byte(aml, 0x86); /* 32-bit fixed memory range */
    put_le(aml, 9, 2);
    aml_byte(aml, 1); /* read-write */
    put_le(aml, base, 4);
    put_le(aml, bytes, 4);
}

enum { WINDOW_MEMORY = 0, WINDOW_PORT = 1, WINDOW_BUS = 2 };

/* Address space descriptor with fields of FIELD_BYTES: a window that the bridge passes on. */
static void resource_window(struct aml *aml, unsigned type, u64 first, u64 last,
                            unsigned field_bytes)
{
    aml_byte(aml, field_bytes == 2 ? 0x88 : field_bytes == 4 ? 0x87 : 0x8a);
    put_le(aml, 3 + 5 * field_bytes, 2);
    aml_byte(aml, (u8)type);
    aml_byte(aml, 0x0c); /* minimum and maximum are fixed, positive decode, produced */
    aml_byte(aml, type == WINDOW_MEMORY ? 0x01 : type == WINDOW_PORT ? 0x03 : 0x00);
    put_le(aml, 0, field_bytes); /* granularity */
    put_le(aml, first, field_bytes);
    put_le(aml, last, field_bytes);
    put_le(aml, 0, field_bytes); /* translation */
    put_le(aml, last - first + 1, field_bytes);
}

void aml_resource_bus(struct aml *aml, u16 first, u16 last)
{
    resource_window(aml, WINDOW_BUS, first, last, 2);
}

void aml_resource_port_window(struct aml *aml, u16 first, u16 last)
{
    resource_window(aml, WINDOW_PORT, first, last, 2);
}

void aml_resource_memory_window(struct aml *aml, u64 first, u64 last, bool is_64_bit)
{
    resource_window(aml, WINDOW_MEMORY, first, last, is_64_bit ? 8 : 4);
}
