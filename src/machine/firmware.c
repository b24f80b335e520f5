/*
 * machine/firmware.c - the firmware configuration files of this machine, and the firmware's start.
 *
 * Spec   QEMU, docs/specs/fw_cfg, and the files that SeaBIOS (docs/Runtime_config.md) and OVMF
 *        read; IEEE 1275 PCI binding for the paths of "bootorder".
 * Runs   while no vCPU runs, but for firmware_refresh: a vCPU's thread, fwcfg's lock held.
 * Trust  what the guest has programmed (ECAM, BARs, routes) goes into its own tables only.
 */
#include "machine/firmware.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "base/fmt.h"
#include "dev/fwcfg.h"
#include "dev/pci/lpc.h"
#include "dev/pci/pci_bus.h"
#include "dev/pm.h"
#include "dev/uart.h"
#include "machine/acpi.h"
#include "machine/machine_priv.h"
#include "machine/smbios.h"
#include "x86/regs.h"

enum { IRQ0_OVERRIDE = 0x8002 }; /* item: the PIT is on I/O APIC input 2 */
enum { E820_ENTRY_BYTES = 20, SLEEP_STATES = 6, BOOT_PATH_BYTES = 64, TABLES_ALIGN = 4096 };
enum { PCI_MMIO_END = 0xfec00000 };
#define ECAM_DEFAULT 0xb0000000ull

static int no_memory(struct err *err)
{
    return err_set(err, -ENOMEM, "no memory for the firmware's configuration");
}

/* ---- ACPI tables -------------------------------------------------------------------------------
 */

static void add_window(struct acpi_config *config, u64 first, u64 end, bool is_64_bit)
{
    if (first < end)
        config->windows[config->window_count++] = (struct acpi_window){
            .first = first, .last = end - 1, .is_64_bit = is_64_bit};
}

/* BARs below 4 GiB are before and after ECAM; above, around where firmware has put them, or where
 * it would put them if there were any. The number of windows does not depend on what the guest
 * does, so that the files keep their sizes. */
static void describe_pci(struct machine *machine, struct acpi_config *config)
{
    u64 low = machine->map.low_bytes, base, end;

    gpa_t ecam = pci_bus_ecam(machine->pci_bus);
    if (ecam < low || ecam > PCI_MMIO_END - 2 * MEMMAP_FIRMWARE_ECAM_BYTES)
        ecam = ECAM_DEFAULT;
    config->ecam_base = ecam;
    config->ecam_bytes = MEMMAP_FIRMWARE_ECAM_BYTES;
    add_window(config, low, ecam, false);
    add_window(config, ecam + MEMMAP_FIRMWARE_ECAM_BYTES, PCI_MMIO_END, false);
    if (pci_bus_high_bars(machine->pci_bus, &base, &end)) {
        base &= ~(MEMMAP_PCI64_BYTES - 1);
        end = align_up(end, MEMMAP_PCI64_BYTES);
    } else {
        base = machine->map.pci64_base;
        end = base + MEMMAP_PCI64_BYTES;
    }
    add_window(config, base, end, true);
}

static int put_tables(struct machine *machine, struct err *err)
{
    struct acpi_links links = {0};
    struct acpi_config config = {.map = &machine->map,
                                 .cpu_count = machine->config.cpu_count,
                                 .has_vga = machine->vga != NULL,
                                 .hpet_id = machine_hpet_id(machine),
                                 .pci_gsi_base = MACHINE_PCI_GSI,
                                 .pci_legacy_irq = {10, 10, 11, 11}, /* what firmware programs */
                                 .links = &links};
    u8 rsdp[ACPI_RSDP_BYTES];
    size_t bytes = 0, loader_bytes = 0;

    for (unsigned i = 0; i < 4; i++)
        if (lpc_route(machine->lpc, i) != LPC_NO_IRQ)
            config.pci_legacy_irq[i] = (u8)lpc_route(machine->lpc, i);
    describe_pci(machine, &config);
    u8 *image = alloc_zero(MEMMAP_TABLES_BYTES + ACPI_LOADER_MAX_BYTES);
    if (!image)
        return no_memory(err);
    u8 *loader = image + MEMMAP_TABLES_BYTES;
    int r = acpi_build(&config, 0, image, MEMMAP_TABLES_BYTES, &bytes, err);
    if (r == 0 && acpi_loader_build(&links, loader, ACPI_LOADER_MAX_BYTES, &loader_bytes) < 0)
        r = err_set(err, -ENOSPC, "the ACPI tables have too many links");
    if (r == 0) {
        __builtin_memcpy(rsdp, image, sizeof(rsdp));
        __builtin_memset(image, 0, sizeof(rsdp));
        /* Padded, so that an integer which takes more bytes than last time changes no size. */
        bytes = min_u64(align_up(bytes + TABLES_ALIGN / 4, TABLES_ALIGN), MEMMAP_TABLES_BYTES);
        if (fwcfg_put_file(machine->fwcfg, ACPI_TABLES_FILE, image, bytes, true) < 0 ||
            fwcfg_put_file(machine->fwcfg, ACPI_RSDP_FILE, rsdp, sizeof(rsdp), true) < 0 ||
            fwcfg_put_file(machine->fwcfg, ACPI_LOADER_FILE, loader, loader_bytes, true) < 0)
            r = no_memory(err);
    }
    alloc_free(image);
    return r;
}

/* The tables say where firmware has put ECAM and BARs, so they are made when it reads them. */
static void firmware_refresh(void *ctx)
{
    struct err err;
    (void)!put_tables(ctx, &err); /* without memory, the tables stay as they were */
}

/* ---- the other files ---------------------------------------------------------------------------
 */

static int put_memory(struct machine *machine)
{
    const struct memmap *map = &machine->map;
    u8 entries[2 * E820_ENTRY_BYTES];
    u8 end[8];

    store_le64(entries, 0);
    store_le64(entries + 8, map->low_bytes);
    store_le32(entries + 16, MEMMAP_RAM);
    store_le64(entries + 20, MEMMAP_HIGH_BASE);
    store_le64(entries + 28, map->high_bytes);
    store_le32(entries + 36, MEMMAP_RAM);
    store_le64(end, MEMMAP_HIGH_BASE + map->high_bytes);
    int r = fwcfg_put_file(machine->fwcfg, "etc/e820", entries,
                           (map->high_bytes ? 2 : 1) * E820_ENTRY_BYTES, false);
    if (r == 0)
        r = fwcfg_put_file(machine->fwcfg, "etc/reserved-memory-end", end, sizeof(end), false);
    return r < 0 ? r : fwcfg_put_number(machine->fwcfg, FWCFG_RAM_BYTES, map->ram_bytes, 8);
}

static int put_smbios(struct machine *machine)
{
    const struct smbios_config config = {.ram_bytes = machine->map.ram_bytes,
                                         .cpu_count = machine->config.cpu_count};
    u8 tables[SMBIOS_TABLES_MAX_BYTES], anchor[SMBIOS_ANCHOR_BYTES];

    size_t bytes = smbios_build(&config, tables, anchor);
    int r = fwcfg_put_file(machine->fwcfg, SMBIOS_TABLES_FILE, tables, bytes, false);
    return r < 0
               ? r
               : fwcfg_put_file(machine->fwcfg, SMBIOS_ANCHOR_FILE, anchor, sizeof(anchor), false);
}

/* Which sleep states there are: one byte each for S0 to S5, bit 7 set where there is one. Only S0
 * and S5 are, whose type the low bits give. */
static int put_sleep_states(struct machine *machine)
{
    static const u8 states[SLEEP_STATES] = {0x80, 0, 0, 0, 0, 0x80 | PM_S5_TYPE};
    return fwcfg_put_file(machine->fwcfg, "etc/system-states", states, sizeof(states), false);
}

/* One device path per line; a device that is not listed comes after all that are. */
static int put_boot_order(struct machine *machine)
{
    const struct machine_config *config = &machine->config;
    char text[MACHINE_BOOT_MAX * BOOT_PATH_BYTES];
    size_t used = 0;

    for (unsigned i = 0; i < config->boot_count; i++) {
        const struct machine_boot_device *boot = &config->boot[i];
        unsigned slot = (boot->is_net ? MACHINE_SLOT_FIRST_NET : MACHINE_SLOT_FIRST_DISK) +
                        boot->index;
        used += fmt_text(text + used, BOOT_PATH_BYTES,
                         boot->is_net ? "/pci@i0cf8/ethernet@%x/ethernet-phy@0\n"
                                      : "/pci@i0cf8/scsi@%x/disk@0,0\n",
                         slot);
    }
    text[used ? used - 1 : 0] = 0;
    return fwcfg_put_file(machine->fwcfg, "bootorder", text, used ? used : 1, false);
}

static int put_roms(struct machine *machine)
{
    const struct machine_firmware *firmware = &machine->config.firmware;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < firmware->rom_count; i++)
        r = fwcfg_put_file(machine->fwcfg, firmware->roms[i].file, firmware->roms[i].data,
                           firmware->roms[i].bytes, false);
    return r;
}

int firmware_publish(struct machine *machine, struct err *err)
{
    struct fwcfg *fwcfg = machine->fwcfg;
    unsigned cpu_count = machine->config.cpu_count;
    u8 port[2];

    store_le16(port, UART_COM1);
    fwcfg_on_refresh(fwcfg, firmware_refresh, machine);
    int r = put_tables(machine, err);
    if (r < 0)
        return r;
    if (put_memory(machine) < 0 || put_smbios(machine) < 0 || put_sleep_states(machine) < 0 ||
        put_boot_order(machine) < 0 || put_roms(machine) < 0 ||
        fwcfg_put_number(fwcfg, FWCFG_CPU_COUNT, cpu_count, 2) < 0 ||
        fwcfg_put_number(fwcfg, FWCFG_CPUS_MAX, cpu_count, 2) < 0 ||
        fwcfg_put_number(fwcfg, FWCFG_BOOT_MENU, 0, 2) < 0 ||
        fwcfg_put_number(fwcfg, IRQ0_OVERRIDE, 1, 1) < 0 ||
        fwcfg_put_file(fwcfg, "etc/sercon-port", port, sizeof(port), false) < 0)
        return no_memory(err);
    return 0;
}

int firmware_start(struct machine *machine, struct x86_state *ret_state, struct err *err)
{
    const struct machine_firmware *firmware = &machine->config.firmware;
    u64 bytes = min_u64(firmware->rom_bytes, MEMMAP_FIRMWARE_COPY_BYTES);
    gpa_t to = 0x100000 - bytes;

    if (mem_write(&machine->mem, to, firmware->rom + firmware->rom_bytes - bytes, bytes) < 0)
        return err_set(err, -EFAULT, "no RAM for the firmware's copy below 1 MiB");
    x86_state_reset(ret_state, true);
    return 0;
}
