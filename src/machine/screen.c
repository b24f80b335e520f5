/*
 * machine/screen.c - the screen of the machine, and where what is typed at it goes.
 *
 * Runs   building and starting while no vCPU runs; input on the display's thread.
 */
#include "base/errno.h"
#include "dev/pci/pci_bus.h"
#include "dev/ps2_keyboard.h"
#include "dev/ps2_mouse.h"
#include "dev/vga/vga.h"
#include "dev/virtio/input.h"
#include "dev/virtio/virtio.h"
#include "machine/machine_priv.h"

/* What a kernel without firmware finds: every viewer has room for it. */
enum { START_WIDTH = 1280, START_HEIGHT = 800 };

/* ---- input: to the virtio devices where the guest drives them, else to those on PS/2
 * ------------------------------------------------
 */

static void key_give(struct machine *machine, u16 code, bool is_down)
{
    struct virtio_dev *vdev = machine->virtio_keyboard;

    lock_acquire(&vdev->lock);
    bool is_taken = virtio_running(vdev);
    if (is_taken)
        virtio_input_key(vdev, code, is_down);
    lock_release(&vdev->lock);
    if (is_taken)
        return;
    lock_acquire(machine->i8042_lock);
    ps2_keyboard_key(machine->keyboard, code, is_down);
    lock_release(machine->i8042_lock);
}

static void key(void *ctx, u16 code, bool is_down)
{
    struct machine *machine = ctx;

    lock_acquire(&machine->input_lock);
    key_give(machine, code, is_down);
    lock_release(&machine->input_lock);
}

static void pointer_give(struct machine *machine, const struct display_pointer *pointer)
{
    struct virtio_dev *vdev = machine->virtio_tablet;

    lock_acquire(&vdev->lock);
    bool is_taken = virtio_running(vdev);
    if (is_taken)
        virtio_input_point(vdev, pointer);
    lock_release(&vdev->lock);
    if (is_taken)
        return;
    lock_acquire(machine->i8042_lock);
    ps2_mouse_move(machine->mouse, pointer->dx, pointer->dy, pointer->wheel, pointer->buttons);
    lock_release(machine->i8042_lock);
}

static void point(void *ctx, const struct display_pointer *pointer)
{
    struct machine *machine = ctx;

    lock_acquire(&machine->input_lock);
    pointer_give(machine, pointer);
    lock_release(&machine->input_lock);
}

/* ---- the devices -------------------------------------------------------------------------------
 */

static int add_ps2(struct machine *machine, struct err *err)
{
    machine_slot_next(machine)->lock = machine->i8042_lock;
    machine->keyboard = ps2_keyboard_new(&machine->clock, machine->i8042_lock, machine->i8042);
    int r = machine_slot_fill(machine, &ps2_keyboard_device, machine->keyboard, 0, err);
    if (r < 0)
        return r;
    machine_slot_next(machine)->lock = machine->i8042_lock;
    machine->mouse = ps2_mouse_new(machine->i8042);
    return machine_slot_fill(machine, &ps2_mouse_device, machine->mouse, 0, err);
}

static int add_vga(struct machine *machine, unsigned slot, struct err *err)
{
    struct vga *vga = vga_new(&machine->clock);

    if (!vga)
        return err_set(err, -ENOMEM, "no memory for the VGA adapter");
    int r = pci_bus_add(machine->pci_bus, vga_function(vga), slot, 0, err);
    if (r < 0)
        return r;
    machine->vga = vga;
    return vga_map(vga, &machine->bus, err);
}

int machine_add_screen(struct machine *machine, unsigned slot, struct err *err)
{
    const struct display_input input = {.key = key, .pointer = point, .ctx = machine};

    int r = add_vga(machine, slot, err);
    if (r == 0)
        r = add_ps2(machine, err);
    if (r < 0)
        return r;
    machine->virtio_keyboard = virtio_input_new(VIRTIO_INPUT_KEYBOARD);
    r = machine_add_virtio(machine, machine->virtio_keyboard, slot + 1, err);
    if (r < 0)
        return r;
    machine->virtio_tablet = virtio_input_new(VIRTIO_INPUT_TABLET);
    r = machine_add_virtio(machine, machine->virtio_tablet, slot + 2, err);
    if (r < 0)
        return r;
    const struct display_source source = vga_source(machine->vga);
    display_attach(machine->config.display, &source, &input);
    return 0;
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
