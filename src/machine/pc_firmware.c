/*
 * machine/pc_firmware.c - the wiring diagram, continued: what a machine with firmware has beyond
 * one that starts a kernel itself.
 *
 * Runs   while no vCPU runs; machine_drive_intx wherever a device drives its PCI line.
 * Trust  sizes come from files that a user named and are checked here.
 *
 *   0x402           the firmware's log
 *   0x510           the firmware configuration device
 *   PCI 00.0, 1f.0  Q35's host bridge and LPC bridge (pc.c puts the first on its bus)
 *   4 GiB           the ROM's end; the variable store's end is the ROM's start
 */
#include "base/bits.h"
#include "base/errno.h"
#include "dev/debugcon.h"
#include "dev/fwcfg.h"
#include "dev/pci/lpc.h"
#include "dev/pci/pci_bus.h"
#include "dev/pflash.h"
#include "dev/pm.h"
#include "machine/machine_priv.h"

static int check_sizes(const struct machine_firmware *firmware, struct err *err)
{
    u64 rom = firmware->rom_bytes, variables = firmware->variables_bytes;

    if (rom < MEM_PAGE_BYTES || rom % MEM_PAGE_BYTES != 0 || rom > MEMMAP_FIRMWARE_MAX_BYTES)
        return err_set(err, -EINVAL,
                       "firmware of %lu bytes: must be a multiple of 4096, at most 8 MiB",
                       (unsigned long)rom);
    if (variables % PFLASH_BLOCK_BYTES != 0 || variables > MEMMAP_FIRMWARE_MAX_BYTES - rom)
        return err_set(err, -EINVAL,
                       "firmware variables of %lu bytes: must be a multiple of 4096, and at most "
                       "8 MiB with the firmware",
                       (unsigned long)variables);
    return 0;
}

static int add_variables(struct machine *machine, struct err *err)
{
    const struct machine_firmware *firmware = &machine->config.firmware;

    struct lock *lock = machine_slot_next(machine)->lock;
    struct pflash *pflash = pflash_new(firmware->variables, firmware->variables_bytes);
    int r = machine_slot_fill(machine, &pflash_device, pflash, 0, err);
    if (r < 0)
        return r;
    const struct bus_range range = {.base = MEMMAP_HIGH_BASE - firmware->rom_bytes -
                                            firmware->variables_bytes,
                                    .bytes = firmware->variables_bytes,
                                    .ops = &pflash_bus_ops,
                                    .device = pflash,
                                    .lock = lock,
                                    .name = "pflash"};
    r = bus_add(&machine->bus, BUS_MMIO, &range);
    return r < 0 ? err_set(err, r, "no place for the firmware's variables") : 0;
}

int machine_add_firmware(struct machine *machine, struct err *err)
{
    const struct machine_firmware *firmware = &machine->config.firmware;

    int r = check_sizes(firmware, err);
    if (r < 0)
        return r;
    r = mem_add(&machine->mem, MEMMAP_HIGH_BASE - firmware->rom_bytes, firmware->rom_bytes,
                firmware->rom, true);
    if (r < 0)
        return err_set(err, r, "cannot add the firmware's ROM below 4 GiB");
    machine_slot_next(machine);
    machine->fwcfg = fwcfg_new(&machine->mem);
    r = machine_slot_fill(machine, &fwcfg_device, machine->fwcfg, 0, err);
    if (r == 0 && firmware->log) {
        machine_slot_next(machine);
        r = machine_slot_fill(machine, &debugcon_device, debugcon_new(firmware->log),
                              DEBUGCON_FIRMWARE_PORT, err);
    }
    if (r == 0 && firmware->variables)
        r = add_variables(machine, err);
    return r;
}

int machine_add_lpc(struct machine *machine, struct err *err)
{
    struct pci_function *lpc = lpc_new(PM_BASE);

    if (!lpc)
        return err_set(err, -ENOMEM, "no memory for the LPC bridge");
    int r = pci_bus_add(machine->pci_bus, lpc, LPC_SLOT, 0, err);
    if (r == 0)
        machine->lpc = lpc;
    return r;
}

static unsigned isa_irq_of(const struct machine *machine, unsigned pin)
{
    return machine->lpc ? lpc_route(machine->lpc, pin) : machine_pci_irq[pin];
}

/* A PCI line is an I/O APIC input and, for guests that use the PIC, an ISA interrupt, which it may
 * share with other lines. Called under the PCI bus's lock for lines. */
void machine_drive_intx(void *ctx, unsigned pin, bool level)
{
    struct machine *machine = ctx;
    struct irq_line gsi = irqchip_line(&machine->irqchip, MACHINE_PCI_GSI + pin);
    u16 isa = 0;

    irq_set(&gsi, level);
    machine->intx_levels = (u8)((machine->intx_levels & ~BIT(pin)) | (u64)level << pin);
    for (unsigned i = 0; i < PCI_INTX_COUNT; i++)
        if ((machine->intx_levels >> i & 1) && isa_irq_of(machine, i) != LPC_NO_IRQ)
            isa |= (u16)BIT(isa_irq_of(machine, i));
    for (unsigned irq = 0; irq < 16; irq++) {
        struct irq_line line = irqchip_line(&machine->irqchip, irq);
        if ((isa ^ machine->intx_isa) >> irq & 1)
            irq_set(&line, isa >> irq & 1);
    }
    machine->intx_isa = isa;
}
