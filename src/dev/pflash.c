/*
 * dev/pflash.c - a NOR flash chip's command machine.
 *
 * Spec   Intel 28F640 data sheet, "Basic Command Set": read array, read and clear status, program
 *        (bytes), block erase. Programs and erasures are done at once, so a guest that polls the
 *        status finds the chip ready.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  the guest writes any command anywhere; the bus keeps accesses inside the chip.
 *
 *             ff, others                70                  10, 40              20
 *   any ──────────────────▶ ARRAY  ───────▶ STATUS  ARRAY ──────▶ PROGRAM  ARRAY ──▶ ERASE
 *   PROGRAM ── any write: bits cleared ──▶ STATUS        ERASE ── d0: a block of ones ──▶ STATUS
 *                                                              └─ other: command error ──▶ STATUS
 */
#include "dev/pflash.h"

#include "base/alloc.h"
#include "base/errno.h"

enum pflash_mode { ARRAY, STATUS, PROGRAM, ERASE, MODE_COUNT };
enum command {
    COMMAND_PROGRAM = 0x10,
    COMMAND_ERASE = 0x20,
    COMMAND_PROGRAM_ALSO = 0x40,
    COMMAND_CLEAR_STATUS = 0x50,
    COMMAND_READ_STATUS = 0x70,
    COMMAND_ERASE_CONFIRM = 0xd0,
};
enum { STATUS_READY = 0x80, STATUS_ERASE_ERROR = 0x20, STATUS_PROGRAM_ERROR = 0x10 };

struct pflash {
    u8 *data; /* borrowed */
    u64 bytes;
    u8 mode; /* enum pflash_mode */
    u8 status;
};

static u64 pflash_read(void *device, u64 offset, unsigned bytes)
{
    const struct pflash *pflash = device;
    u64 value = 0;

    if (pflash->mode != ARRAY)
        return pflash->status * 0x0101010101010101ull;
    __builtin_memcpy(&value, pflash->data + offset, bytes);
    return value;
}

static void program(struct pflash *pflash, u64 offset, unsigned bytes, u64 value)
{
    for (unsigned i = 0; i < bytes; i++)
        pflash->data[offset + i] &= (u8)(value >> (8 * i));
    pflash->status |= STATUS_READY;
}

static void erase(struct pflash *pflash, u64 offset, u8 confirmation)
{
    u64 block = offset & ~(u64)(PFLASH_BLOCK_BYTES - 1);

    pflash->status |= STATUS_READY;
    if (confirmation != COMMAND_ERASE_CONFIRM) {
        pflash->status |= STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR;
        return;
    }
    __builtin_memset(pflash->data + block, 0xff, PFLASH_BLOCK_BYTES);
}

static void take_command(struct pflash *pflash, u8 command)
{
    pflash->mode = ARRAY;
    if (command == COMMAND_PROGRAM || command == COMMAND_PROGRAM_ALSO)
        pflash->mode = PROGRAM;
    else if (command == COMMAND_ERASE)
        pflash->mode = ERASE;
    else if (command == COMMAND_READ_STATUS)
        pflash->mode = STATUS;
    else if (command == COMMAND_CLEAR_STATUS)
        pflash->status = 0;
}

static void pflash_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pflash *pflash = device;

    if (pflash->mode == PROGRAM) {
        program(pflash, offset, bytes, value);
        pflash->mode = STATUS;
    } else if (pflash->mode == ERASE) {
        erase(pflash, offset, (u8)value);
        pflash->mode = STATUS;
    } else {
        take_command(pflash, (u8)value);
    }
}

static void pflash_reset(void *device)
{
    struct pflash *pflash = device;

    pflash->mode = ARRAY;
    pflash->status = STATUS_READY;
}

static int pflash_loaded(void *device, struct err *err)
{
    const struct pflash *pflash = device;

    if (pflash->mode >= MODE_COUNT)
        return err_set(err, -EINVAL, "the flash chip has no mode %u", pflash->mode);
    return 0;
}

static void pflash_free(void *device)
{
    alloc_free(device);
}

struct pflash *pflash_new(u8 *data, u64 bytes)
{
    struct pflash *pflash = new0(struct pflash);

    if (pflash == NULL)
        return NULL;
    *pflash = (struct pflash){.data = data, .bytes = bytes};
    pflash_reset(pflash);
    return pflash;
}

const struct bus_ops pflash_bus_ops = {.read = pflash_read, .write = pflash_write};
static const struct field pflash_fields[] = {
    FIELD(struct pflash, mode),
    FIELD(struct pflash, status),
    FIELD_END,
};

const struct device_ops pflash_device = {
    .name = "pflash",
    .fields = pflash_fields,
    .reset = pflash_reset,
    .loaded = pflash_loaded,
    .free = pflash_free,
};
