/*
 * vm/firmware.c - the firmware's ROM, its variables, and its log.
 *
 * Runs   on the loop's thread, before vCPUs start and after they have stopped.
 * Trust  paths are the user's own. The variables' file is the guest's to write; it is mapped, so
 *        that what the guest wrote survives this process.
 */
#include "vm/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back/chr.h"
#include "back/chr/file.h"
#include "base/fmt.h"
#include "host/fd.h"
#include "machine/machine.h"
#include "vm/config.h"
#include "vm/kernel.h"

#define BIOS_ROM "/usr/share/seabios/bios-256k.bin"
#define VIDEO_ROM "/usr/share/seabios/vgabios-stdvga.bin"
#define NET_ROM "/usr/lib/ipxe/qemu/pxe-virtio.rom"
#define UEFI_ROM "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define UEFI_VARIABLES "/usr/share/OVMF/OVMF_VARS_4M.fd"

enum { PATH_BYTES = 4096 };

/* ---- variables ---------------------------------------------------------------------------------
 */

static int make_folders(const char *path, struct err *err)
{
    char folder[PATH_BYTES];

    if (fmt_text(folder, sizeof(folder), "%s", path) >= sizeof(folder))
        return err_set(err, -ENAMETOOLONG, "firmware variables '%.64s...': too long", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            return err_set(err, -errno, "folder '%s': %s", folder, strerror(errno));
        *slash = '/';
    }
    return 0;
}

/* Fills a new store from the template. */
static int fill_store(int fd, const struct map *template, u64 bytes, const char *path,
                      struct err *err)
{
    ssize_t n = pwrite(fd, template->base, bytes, 0);

    if (n != (ssize_t)bytes || fsync(fd) < 0)
        return err_set(err, n < 0 ? -errno : -ENOSPC, "firmware variables '%s': %s", path,
                       strerror(n < 0 ? errno : ENOSPC));
    return 0;
}

static int lock_store(struct firmware *firmware, const char *path, struct err *err)
{
    firmware->store_fd = fd_open(path, O_RDWR | O_CREAT, 0600);
    if (firmware->store_fd < 0)
        return err_set(err, firmware->store_fd, "firmware variables '%s': %s", path,
                       strerror(-firmware->store_fd));
    if (flock(firmware->store_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, -EBUSY,
                       "firmware variables '%s': another VM uses them; give this one a --name or "
                       "--firmware-vars of its own",
                       path);
    return 0;
}

static int open_store(struct firmware *firmware, const char *path, const struct map *template,
                      u64 bytes, struct err *err)
{
    struct stat status;

    int r = make_folders(path, err);
    if (r == 0)
        r = lock_store(firmware, path, err);
    if (r < 0)
        return r;
    if (fstat(firmware->store_fd, &status) < 0 || !S_ISREG(status.st_mode))
        return err_set(err, -EINVAL, "firmware variables '%s': is not a regular file", path);
    if (status.st_size == 0)
        r = fill_store(firmware->store_fd, template, bytes, path, err);
    else if ((u64)status.st_size != bytes)
        r = err_set(err, -EINVAL,
                    "firmware variables '%s': %lld bytes, the firmware has %llu; remove the file "
                    "to begin with none",
                    path, (long long)status.st_size, (unsigned long long)bytes);
    if (r < 0)
        return r;
    void *store = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, firmware->store_fd, 0);
    if (store == MAP_FAILED)
        return err_set(err, -errno, "firmware variables '%s': %s", path, strerror(errno));
    firmware->store = store;
    firmware->store_bytes = bytes;
    return 0;
}

/* The variables begin as the template is; a store keeps them, memory does not. */
static int open_variables(struct firmware *firmware, const struct config *config,
                          struct machine_config *machine, struct err *err)
{
    u64 bytes = 0;

    int r = kernel_file_read(UEFI_VARIABLES, "firmware variables", &firmware->variables, &bytes,
                             err);
    if (r == 0 && config->firmware_variables)
        r = open_store(firmware, config->firmware_variables, &firmware->variables, bytes, err);
    if (r < 0)
        return r;
    machine->firmware.variables = firmware->store ? firmware->store : firmware->variables.base;
    machine->firmware.variables_bytes = bytes;
    return 0;
}

/* ---- the choice --------------------------------------------------------------------------------
 */

/* The disk that comes first in the boot order. */
static struct blk *first_disk(const struct machine_config *machine)
{
    for (unsigned i = 0; i < machine->boot_count; i++)
        if (!machine->boot[i].is_net)
            return machine->disks[machine->boot[i].index];
    return machine->disk_count > 0 ? machine->disks[0] : NULL;
}

static int choose(const struct config *config, const struct machine_config *machine,
                  enum firmware_kind *ret_kind, const char **ret_reason, struct err *err)
{
    const char *name = config->firmware;
    struct blk *disk = first_disk(machine);

    *ret_reason = "as asked for";
    if (strcmp(name, "bios") == 0)
        *ret_kind = FIRMWARE_BIOS;
    else if (strcmp(name, "uefi") == 0)
        *ret_kind = FIRMWARE_UEFI;
    else if (strcmp(name, "auto") != 0)
        *ret_kind = FIRMWARE_FILE;
    else if (disk)
        return firmware_probe(disk, ret_kind, ret_reason, err);
    else
        return err_set(err, -EINVAL,
                       "nothing to start: no kernel, no disk; choose a firmware with --firmware "
                       "bios or uefi to see what it does by itself");
    return 0;
}

static int open_rom(struct firmware *firmware, const struct config *config, enum firmware_kind kind,
                    struct machine_config *machine, struct err *err)
{
    const char *path = kind == FIRMWARE_BIOS   ? BIOS_ROM
                       : kind == FIRMWARE_UEFI ? UEFI_ROM
                                               : config->firmware;
    u64 bytes = 0;

    if (access(path, R_OK) < 0 && kind != FIRMWARE_FILE)
        return err_set(err, -errno, "firmware '%s': %s; install it: apt-get install %s", path,
                       strerror(errno), kind == FIRMWARE_BIOS ? "seabios" : "ovmf");
    int r = kernel_file_read(path, "firmware", &firmware->rom, &bytes, err);
    if (r < 0)
        return r;
    if (bytes == 0)
        return err_set(err, -EINVAL, "firmware '%s': the file is empty", path);
    machine->firmware.rom = firmware->rom.base;
    machine->firmware.rom_bytes = bytes;
    return 0;
}

/* What a BIOS runs for devices that it has no driver for. It draws on the screen by code that comes
 * with the adapter; the network's is only missed by who wants to start from there. */
static int open_option_roms(struct firmware *firmware, const struct config *config,
                            struct machine_config *machine, struct err *err)
{
    const struct {
        bool is_wanted;
        const char *file, *path;
    } roms[] = {
        {config->has_display, "pci1234,1111.rom", VIDEO_ROM},
        {machine->net_count > 0, "pci1af4,1041.rom", NET_ROM},
    };
    u64 bytes = 0;

    if (config->has_display && access(VIDEO_ROM, R_OK) < 0)
        return err_set(err, -errno,
                       "the screen's BIOS '%s': %s; install it: apt-get install seabios", VIDEO_ROM,
                       strerror(errno));
    for (unsigned i = 0; i < sizeof(roms) / sizeof(roms[0]); i++) {
        struct map *map = &firmware->roms[firmware->rom_count];
        if (!roms[i].is_wanted || access(roms[i].path, R_OK) < 0)
            continue;
        int r = kernel_file_read(roms[i].path, "option ROM", map, &bytes, err);
        if (r < 0)
            return r;
        firmware->rom_count++;
        machine->firmware.roms[machine->firmware.rom_count++] = (struct machine_rom){
            .file = roms[i].file, .data = map->base, .bytes = bytes};
    }
    return 0;
}

int firmware_open(struct firmware *ret_firmware, const struct config *config,
                  struct machine_config *machine, struct err *err)
{
    struct firmware firmware = {.rom = {.fd = -1}, .variables = {.fd = -1}, .store_fd = -1};
    enum firmware_kind kind;
    const char *reason;

    *ret_firmware = firmware;
    if (!config->firmware)
        return 0;
    int r = choose(config, machine, &kind, &reason, err);
    if (r < 0)
        return r;
    fprintf(stderr, "atoll-vm: firmware %s: %s\n",
            kind == FIRMWARE_BIOS   ? "bios"
            : kind == FIRMWARE_UEFI ? "uefi"
                                    : config->firmware,
            reason);
    r = open_rom(&firmware, config, kind, machine, err);
    if (r == 0 && (kind == FIRMWARE_UEFI || (kind == FIRMWARE_FILE && config->firmware_variables)))
        r = open_variables(&firmware, config, machine, err);
    if (r == 0 && kind != FIRMWARE_UEFI)
        r = open_option_roms(&firmware, config, machine, err);
    if (r == 0 && config->firmware_log) {
        firmware.log = chr_file_new(config->firmware_log, err);
        machine->firmware.log = firmware.log;
        if (!firmware.log)
            r = -EIO;
    }
    if (r < 0)
        firmware_close(&firmware);
    *ret_firmware = firmware;
    return r;
}

void firmware_close(struct firmware *firmware)
{
    if (firmware->log)
        firmware->log->ops->free(firmware->log);
    if (firmware->store) {
        msync(firmware->store, firmware->store_bytes, MS_SYNC);
        munmap(firmware->store, firmware->store_bytes);
    }
    fd_close(&firmware->store_fd);
    for (unsigned i = 0; i < firmware->rom_count; i++)
        map_fini(&firmware->roms[i]);
    map_fini(&firmware->rom);
    map_fini(&firmware->variables);
    *firmware = (struct firmware){.rom = {.fd = -1}, .variables = {.fd = -1}, .store_fd = -1};
}
