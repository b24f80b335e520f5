/*
 * machine/ram_bars.c - PCI memory that guests use as RAM: a slot of guest memory wherever the guest
 * has put its BAR.
 *
 * Slots change only while no vCPU runs and nobody gives input. So a guest that moves such a BAR
 * makes the machine ask for a pause (machine_host.remap), and machine_remap() does the rest in it.
 *
 * Runs   the callback on vCPU threads; machine_remap while no vCPU runs and the loop is idle.
 * Trust  the guest puts BARs anywhere. One that lies across RAM gets no slot: RAM wins there, and
 * elsewhere the device answers access by access.
 */
#include "core/mem.h"
#include "dev/pci/pci_bus.h"
#include "machine/machine_priv.h"
#include "vcpu/vcpu.h"

/* True when a BAR lies elsewhere than its slot was made for. */
static bool is_stale(struct machine *machine)
{
    const struct pci_bar *bar;
    u64 base;

    for (unsigned i = 0; i < MACHINE_RAM_BARS_MAX && pci_bus_ram(machine->pci_bus, i, &bar, &base);
         i++)
        if (machine->ram_bars[i].asked != base)
            return true;
    return false;
}

void machine_ram_moved(void *ctx)
{
    struct machine *machine = ctx;
    const struct machine_host *host = &machine->config.host;

    if (!machine->is_standing && is_stale(machine))
        host->remap(host->ctx);
}

/* Returns whether a slot has come or gone. */
static bool slots_follow(struct machine *machine)
{
    const struct pci_bar *bar;
    bool has_changed = false;
    u64 base;

    for (unsigned i = 0; i < MACHINE_RAM_BARS_MAX && pci_bus_ram(machine->pci_bus, i, &bar, &base);
         i++) {
        struct machine_ram_bar *slot = &machine->ram_bars[i];
        if (slot->asked == base)
            continue;
        if (slot->is_placed && mem_remove(&machine->mem, slot->asked) == 0)
            has_changed = true;
        slot->is_placed = false;
        slot->asked = PCI_BAR_NOWHERE;
    }
    for (unsigned i = 0; i < MACHINE_RAM_BARS_MAX && pci_bus_ram(machine->pci_bus, i, &bar, &base);
         i++) {
        struct machine_ram_bar *slot = &machine->ram_bars[i];
        if (slot->asked == base)
            continue;
        slot->asked = base;
        slot->is_placed = mem_add(&machine->mem, base, bar->bytes, bar->ram, false) == 0;
        has_changed = has_changed || slot->is_placed;
    }
    return has_changed;
}

int machine_remap(struct machine *machine, struct err *err)
{
    if (!is_stale(machine))
        return 0;
    lock_acquire(&machine->input_lock);
    bool has_changed = slots_follow(machine);
    lock_release(&machine->input_lock);
    if (!has_changed || machine->engine == NULL)
        return 0;
    return machine->engine->ops->memory_changed(machine->engine, err);
}

void machine_ram_bars_init(struct machine *machine)
{
    for (unsigned i = 0; i < MACHINE_RAM_BARS_MAX; i++)
        machine->ram_bars[i].asked = PCI_BAR_NOWHERE;
}
