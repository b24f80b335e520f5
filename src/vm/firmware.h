/*
 * vm/firmware.h - the firmware's files, and which firmware a disk wants.
 *
 * Runs on the loop's thread, before vCPUs start and after they have stopped.
 */
#ifndef VM_FIRMWARE_H
#define VM_FIRMWARE_H

#include "base/err.h"
#include "host/map.h"
#include "machine/machine.h"

struct blk;
struct chr;
struct config;

struct firmware {
    struct map rom;
    struct map variables; /* in memory only: fd is -1 */
    u8 *store;            /* owned: a mapped file of variables; NULL: there is none */
    size_t store_bytes;
    int store_fd;                      /* owned, and locked; -1: none */
    struct map roms[MACHINE_ROMS_MAX]; /* option ROMs */
    unsigned rom_count;
    struct chr *log; /* owned; may be NULL */
};

enum firmware_kind { FIRMWARE_NONE, FIRMWARE_BIOS, FIRMWARE_UEFI, FIRMWARE_FILE };

/* What boots from DISK: UEFI when it has an EFI system partition, BIOS when its first sector has
 * boot code; else -ENOEXEC. *RET_REASON is a constant text. */
MUST_CHECK int firmware_probe(struct blk *disk, enum firmware_kind *ret_kind,
                              const char **ret_reason, struct err *err);

/* Reads what CONFIG asks for and names it in MACHINE, whose disks are open; says on standard error
 * which firmware it is, and why. No effect when there is a kernel. */
MUST_CHECK int firmware_open(struct firmware *ret_firmware, const struct config *config,
                             struct machine_config *machine, struct err *err);
void firmware_close(struct firmware *firmware);

#endif
