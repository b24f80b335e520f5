/*
 * machine/screen.c - the screen of the machine, and where what is typed at it goes.
 *
 * Runs   building and starting while no vCPU runs; input on the display's thread.
 */
#include "base/errno.h"
#include "dev/pci/pci_bus.h"
#include "dev/vga/vga.h"
#include "machine/machine_priv.h"

/* What a kernel without firmware finds: every viewer has room for it. */
enum { START_WIDTH = 1280, START_HEIGHT = 800 };

int machine_add_screen(struct machine *machine, unsigned slot, struct err *err)
{
    struct vga *vga = vga_new(&machine->clock);

    if (!vga)
        return err_set(err, -ENOMEM, "no memory for the VGA adapter");
    int r = pci_bus_add(machine->pci_bus, vga_function(vga), slot, 0, err);
    if (r < 0)
        return r;
    machine->vga = vga;
    const struct display_source source = vga_source(vga);
    const struct display_input input = {0};
    display_attach(machine->config.display, &source, &input);
    return vga_map(vga, &machine->bus, err);
}

void machine_screen_start(struct machine *machine, struct boot_request *request)
{
    struct pci_function *function;

    if (!machine->vga)
        return;
    function = vga_function(machine->vga);
    u64 base = function->bars[VGA_BAR_MEMORY].mapped_base;
    if (base == PCI_BAR_NOWHERE)
        return;
    lock_acquire(function->lock);
    vga_set_linear(machine->vga, START_WIDTH, START_HEIGHT);
    lock_release(function->lock);
    request->screen = (struct boot_screen){
        .base = base, .bytes = VGA_MEMORY_BYTES, .width = START_WIDTH, .height = START_HEIGHT};
}
