/*
 * vm/firmware_probe.c - which firmware a disk wants, by its partition table.
 *
 * Spec   UEFI 2.9, 5.2.1 (legacy MBR) and 5.3 (GPT).
 * Runs   on the loop's thread, before the machine has the disk.
 * Trust  the disk's contents are hostile: every number is bounded before use.
 *
 *   MBR  0 boot code, 440 bytes | 446 four entries of 16 bytes, type at 4 | 510 0x55 0xaa
 *   GPT  block 1: 0 "EFI PART" | 72 first block of entries, u64 | 80 count, u32 | 84 size, u32
 */
#include <errno.h>
#include <string.h>

#include "back/blk.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "vm/firmware.h"

enum { CODE_BYTES = 440, ENTRIES = 446, ENTRY_BYTES = 16, ENTRY_TYPE = 4, SIGNATURE = 510 };
enum { TYPE_EFI_SYSTEM = 0xef, TYPE_GPT = 0xee };
enum { GPT_BLOCK = 72, GPT_COUNT = 80, GPT_SIZE = 84, GPT_ENTRIES_MAX = 128, GUID_BYTES = 16 };
enum { HEAD_BYTES = 8192, TABLE_BYTES = 16384 };

static const u8 guid_efi_system[GUID_BYTES] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                               0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};

struct answer {
    int result;
};

static void done(struct blk_req *req, int result)
{
    struct answer *answer = req->ctx;
    answer->result = result;
}

/* Reads BYTES at OFFSET, both multiples of 4096 unless the disk ends there. */
static int read_disk(struct blk *disk, u64 offset, void *to, u64 bytes)
{
    struct answer answer = {.result = -EIO};
    struct blk_segment segment = {.data = to, .bytes = bytes};
    struct blk_req req = {.op = BLK_READ,
                          .offset = offset,
                          .bytes = bytes,
                          .segments = &segment,
                          .segment_count = 1,
                          .done = done,
                          .ctx = &answer};

    if (offset > disk->size_bytes || bytes > disk->size_bytes - offset)
        return -ENODATA;
    blk_submit(disk, &req);
    disk->ops->drain(disk);
    return answer.result;
}

/* True when the GPT at SECTOR_BYTES in HEAD lists an EFI system partition. */
static bool gpt_has_efi(struct blk *disk, const u8 *head, u32 sector_bytes, u8 *table)
{
    const u8 *gpt = head + sector_bytes;

    if (memcmp(gpt, "EFI PART", 8) != 0)
        return false;
    u64 block = load_le64(gpt + GPT_BLOCK);
    u32 count = load_le32(gpt + GPT_COUNT), size = load_le32(gpt + GPT_SIZE);
    if (block > disk->size_bytes / sector_bytes || size < 128 || size > 4096)
        return false;
    if (count > GPT_ENTRIES_MAX)
        count = GPT_ENTRIES_MAX;
    if (count > TABLE_BYTES / size)
        count = TABLE_BYTES / size;
    if (read_disk(disk, block * sector_bytes, table, TABLE_BYTES) < 0)
        return false;
    for (u32 i = 0; i < count; i++)
        if (memcmp(table + i * size, guid_efi_system, GUID_BYTES) == 0)
            return true;
    return false;
}

static bool mbr_has_type(const u8 *head, u8 type)
{
    for (unsigned i = 0; i < 4; i++)
        if (head[ENTRIES + i * ENTRY_BYTES + ENTRY_TYPE] == type)
            return true;
    return false;
}

static bool mbr_has_code(const u8 *head)
{
    for (unsigned i = 0; i < CODE_BYTES; i++)
        if (head[i] != 0)
            return true;
    return false;
}

/* What the first blocks in BUFFER's head say. */
static int judge(struct blk *disk, u8 *buffer, enum firmware_kind *ret_kind,
                 const char **ret_reason)
{
    bool is_mbr = buffer[SIGNATURE] == 0x55 && buffer[SIGNATURE + 1] == 0xaa;

    if (gpt_has_efi(disk, buffer, 512, buffer + HEAD_BYTES) ||
        gpt_has_efi(disk, buffer, 4096, buffer + HEAD_BYTES)) {
        *ret_kind = FIRMWARE_UEFI;
        *ret_reason = "the disk has a GPT with an EFI system partition";
    } else if (is_mbr && mbr_has_code(buffer)) {
        *ret_kind = FIRMWARE_BIOS;
        *ret_reason = "the disk has boot code in its first sector";
    } else if (is_mbr && mbr_has_type(buffer, TYPE_EFI_SYSTEM)) {
        *ret_kind = FIRMWARE_UEFI;
        *ret_reason = "the disk has an EFI system partition and no boot code";
    } else {
        return -ENOEXEC;
    }
    return 0;
}

int firmware_probe(struct blk *disk, enum firmware_kind *ret_kind, const char **ret_reason,
                   struct err *err)
{
    struct lock lock = {0}; /* of completions, which nobody else waits for yet */

    u8 *buffer = alloc_zero(HEAD_BYTES + TABLE_BYTES);
    if (!buffer)
        return err_set(err, -ENOMEM, "no memory to look at the disk");
    blk_attach(disk, &lock);
    int r = read_disk(disk, 0, buffer, HEAD_BYTES);
    if (r < 0 && r != -ENODATA)
        r = err_set(err, r, "the disk cannot be read: %s", strerror(-r));
    else if (r == 0)
        r = judge(disk, buffer, ret_kind, ret_reason);
    if (r == -ENODATA || r == -ENOEXEC)
        r = err_set(err, -ENOEXEC,
                    "the first disk has neither boot code nor an EFI system partition; choose with "
                    "--firmware bios or uefi, or start a kernel with --kernel");
    blk_attach(disk, NULL);
    alloc_free(buffer);
    return r;
}
