/*
 * machine/pc.c - the wiring diagram: every device of the PC, where it is, and which line goes
 * where.
 *
 * Runs   while no vCPU runs, but for the few functions that lines and messages pass through.
 * Trust  the configuration comes from a user and is checked here.
 *
 *   line      source              PIC   I/O APIC
 *   IRQ 0     PIT (or HPET 0)     0     2
 *   IRQ 1     keyboard            1     1
 *   IRQ 4     first serial port   4     4
 *   IRQ 8     RTC (or HPET 1)     8     8
 *   IRQ 9     ACPI (SCI), level   9     9
 *   IRQ 12    mouse               12    12
 *   INTA-D    PCI, level          machine_pci_irq   16 to 19
 *
 *   PCI slot  device
 *   0         host bridge
 *   1         virtio-rng
 *   2         virtio-console with the named ports
 *   3 to 10   virtio-net adapters
 *   11 to 26  virtio-blk disks
 *   27        VGA
 *   28, 29    virtio keyboard and tablet
 *   31        LPC bridge, with firmware (pc_firmware.c)
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/errno.h"
#include "dev/debugcon.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/lapic.h"
#include "dev/pci/mch.h"
#include "dev/pci/pci_bus.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/console.h"
#include "dev/virtio/net.h"
#include "dev/virtio/pci.h"
#include "dev/virtio/rng.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"
#include "vcpu/vcpu.h"
#include "x86/cpuid.h"

enum { SLOT_RNG = 1, SLOT_CONSOLE = 2, SLOT_VGA = 27 };

enum { IRQ_KEYBOARD = 1, IRQ_COM1 = 4, IRQ_MOUSE = 12, IOAPIC_ID = 0 };

const u8 machine_pci_irq[4] = {10, 11, 5, 7};

/* ---- what passes through the machine -----------------------------------------------------------
 */

static void kick(void *ctx, unsigned cpu)
{
    struct machine *machine = ctx;
    const struct machine_host *host = &machine->config.host;

    if (machine->cpus[cpu].vcpu)
        vcpu_kick(machine->cpus[cpu].vcpu);
    host->wake(host->ctx, cpu);
}

static void eoi(void *ctx, u8 vector)
{
    struct machine *machine = ctx;
    irqchip_eoi(&machine->irqchip, vector);
}

static int extint_ack(void *ctx)
{
    struct machine *machine = ctx;
    return irqchip_ack(&machine->irqchip);
}

static u64 guest_tsc(void *ctx, unsigned cpu)
{
    struct machine *machine = ctx;
    struct vcpu *vcpu = machine->cpus[cpu].vcpu;
    return clock_tsc() + (vcpu ? vcpu->tsc_offset : 0);
}

static void deliver_msi(void *ctx, u64 address, u32 data)
{
    struct machine *machine = ctx;

    if (machine_has_kernel_lapic(machine))
        machine->engine->ops->msi(machine->engine, address, data);
    else
        apic_bus_msi(machine->apic_bus, address, data);
}

/* The PIC's INTR: to the local APICs, or straight to vCPU 0 when the engine keeps those. */
static void drive_intr(void *ctx, unsigned pin, bool level)
{
    struct machine *machine = ctx;

    if (!machine_has_kernel_lapic(machine))
        apic_bus_intr(machine->apic_bus, pin, level);
    else if (level)
        kick(machine, 0);
}

static void ask_power(void *ctx, enum power_request what)
{
    struct machine *machine = ctx;
    const struct machine_host *host = &machine->config.host;
    host->end(host->ctx, what == POWER_OFF ? MACHINE_POWER_OFF : MACHINE_RESET, 0);
}

static void ask_reset(void *ctx)
{
    ask_power(ctx, POWER_RESET);
}

static void test_exit(void *ctx, unsigned status)
{
    struct machine *machine = ctx;
    const struct machine_host *host = &machine->config.host;
    host->end(host->ctx, MACHINE_TEST_EXIT, status);
}

/* ---- devices -----------------------------------------------------------------------------------
 */

struct machine_device *machine_slot_next(struct machine *machine)
{
    struct machine_device *slot = &machine->devices[machine->device_count];
    slot->lock = &slot->own_lock;
    return slot;
}

int machine_slot_fill(struct machine *machine, const struct device_ops *ops, void *device, u64 base,
                      struct err *err)
{
    struct machine_device *slot = &machine->devices[machine->device_count];

    if (!device)
        return err_set(err, -ENOMEM, "no memory for the machine's %s", ops->name);
    slot->ops = ops;
    slot->device = device;
    slot->base = base;
    machine->device_count++;
    return device_map(ops, device, &machine->bus, base, slot->lock, err);
}

static int add_interrupt_controllers(struct machine *machine, struct err *err)
{
    const struct apic_host host = {.kick = kick,
                                   .eoi = eoi,
                                   .extint_ack = extint_ack,
                                   .guest_tsc = guest_tsc,
                                   .tsc_hz = clock_tsc_hz(),
                                   .mem = &machine->mem,
                                   .ctx = machine};
    const struct irq_line intr = {.set = drive_intr, .ctx = machine};
    const struct msi_sink sink = {.deliver = deliver_msi, .ctx = machine};

    machine->apic_bus = apic_bus_new(&machine->clock, &host, machine->config.cpu_count);
    if (!machine->apic_bus)
        return err_set(err, -ENOMEM, "no memory for the machine's local APICs");
    machine->pic = pic_new(&intr);
    machine_slot_next(machine)->lock = &machine->irqchip.lock;
    int r = machine_slot_fill(machine, &pic_device, machine->pic, 0, err);
    if (r < 0)
        return r;
    machine->ioapic = ioapic_new(&sink, IOAPIC_ID);
    machine_slot_next(machine)->lock = &machine->irqchip.lock;
    r = machine_slot_fill(machine, &ioapic_device, machine->ioapic, 0, err);
    if (r < 0)
        return r;
    irqchip_init(&machine->irqchip, machine->pic, machine->ioapic);
    machine_slot_next(machine)->lock = &machine->irqchip.lock;
    return machine_slot_fill(machine, &irqchip_device, &machine->irqchip, 0, err);
}

static int add_hpet(struct machine *machine, struct err *err)
{
    struct hpet_wires wires = {.legacy_0 = irqchip_line(&machine->irqchip, IRQCHIP_HPET_0),
                               .legacy_8 = irqchip_line(&machine->irqchip, IRQCHIP_HPET_8),
                               .legacy_on = irqchip_line(&machine->irqchip, IRQCHIP_HPET_LEGACY),
                               .msi = {.deliver = deliver_msi, .ctx = machine}};

    for (unsigned i = 0; i < ARRAY_LEN(wires.pins); i++)
        wires.pins[i] = irqchip_line(&machine->irqchip, i);
    struct lock *lock = machine_slot_next(machine)->lock;
    return machine_slot_fill(machine, &hpet_device, hpet_new(&machine->clock, lock, &wires), 0,
                             err);
}

static int add_timers(struct machine *machine, struct err *err)
{
    const struct irq_line pit = irqchip_line(&machine->irqchip, IRQCHIP_PIT);
    const struct irq_line rtc = irqchip_line(&machine->irqchip, IRQCHIP_RTC);
    const struct memmap *map = &machine->map;

    struct lock *lock = machine_slot_next(machine)->lock;
    int r = machine_slot_fill(machine, &pit_device, pit_new(&machine->clock, lock, &pit), 0, err);
    if (r < 0)
        return r;
    lock = machine_slot_next(machine)->lock;
    r = machine_slot_fill(machine, &rtc_device,
                          rtc_new(&machine->clock, lock, &rtc, map->low_bytes, map->high_bytes), 0,
                          err);
    if (r < 0)
        return r;
    return add_hpet(machine, err);
}

static int add_power(struct machine *machine, struct err *err)
{
    const struct irq_line sci = irqchip_line(&machine->irqchip, PM_SCI_IRQ);
    const struct irq_line keyboard = irqchip_line(&machine->irqchip, IRQ_KEYBOARD);
    const struct irq_line mouse = irqchip_line(&machine->irqchip, IRQ_MOUSE);
    const struct power_sink power = {.request = ask_power, .ctx = machine};

    machine->pm_lock = machine_slot_next(machine)->lock;
    machine->pm = pm_new(&machine->clock, machine->pm_lock, &sci, &power);
    int r = machine_slot_fill(machine, &pm_device, machine->pm, 0, err);
    if (r < 0)
        return r;
    /* UEFI firmware waits for seconds for a keyboard that does not answer, but not for a controller
     * that is not there. */
    if (machine_has_firmware(machine) && !machine->config.display)
        return 0;
    machine->i8042_lock = machine_slot_next(machine)->lock;
    machine->i8042 = i8042_new(&keyboard, &mouse, &power);
    return machine_slot_fill(machine, &i8042_device, machine->i8042, 0, err);
}

static int add_serial(struct machine *machine, struct err *err)
{
    const struct irq_line com1 = irqchip_line(&machine->irqchip, IRQ_COM1);

    struct lock *lock = machine_slot_next(machine)->lock;
    int r = machine_slot_fill(machine, &uart_device,
                              uart_new(&machine->clock, lock, &com1, machine->config.console),
                              UART_COM1, err);
    if (r < 0 || !machine->config.debug)
        return r;
    machine_slot_next(machine);
    return machine_slot_fill(machine, &debugcon_device, debugcon_new(machine->config.debug),
                             DEBUGCON_BOCHS_PORT, err);
}

static int add_testdev(struct machine *machine, struct err *err)
{
    struct testdev_wires wires = {.exit = test_exit, .ctx = machine};

    for (unsigned i = 0; i < ARRAY_LEN(wires.pins); i++)
        wires.pins[i] = irqchip_line(&machine->irqchip, i);
    machine_slot_next(machine);
    return machine_slot_fill(machine, &testdev_device, testdev_new(&wires), 0, err);
}

static int add_pci(struct machine *machine, struct err *err)
{
    struct pci_bus_config config = {.bus = &machine->bus,
                                    .msi = {.deliver = deliver_msi, .ctx = machine},
                                    .ecam_base = MEMMAP_ECAM_BASE,
                                    .ecam_bus_count = MEMMAP_ECAM_BYTES >> 20,
                                    .reset = ask_reset,
                                    .reset_ctx = machine,
                                    .ram_moved = machine_ram_moved,
                                    .ram_moved_ctx = machine};

    for (unsigned i = 0; i < PCI_INTX_COUNT; i++) {
        config.intx[i] = (struct irq_line){.set = machine_drive_intx, .ctx = machine, .pin = i};
        config.intx_irq[i] = machine_pci_irq[i];
    }
    if (machine_has_firmware(machine)) {
        config.ecam_base = 0; /* firmware places it */
        config.host = mch_new();
        if (!config.host)
            return err_set(err, -ENOMEM, "no memory for the PCI host bridge");
    }
    machine->pci_bus = pci_bus_new(&config, err);
    if (!machine->pci_bus)
        return -ENOMEM;
    return machine_has_firmware(machine) ? machine_add_lpc(machine, err) : 0;
}

/* ---- PCI devices -------------------------------------------------------------------------------
 */

int machine_add_virtio(struct machine *machine, struct virtio_dev *vdev, unsigned slot,
                       struct err *err)
{
    struct pci_function *function = virtio_pci_new(vdev, &machine->mem, &machine->clock);

    if (!function)
        return err_set(err, -ENOMEM, "no memory for the PCI device in slot %u", slot);
    return pci_bus_add(machine->pci_bus, function, slot, 0, err);
}

static unsigned queue_count(const struct machine *machine)
{
    unsigned cpu_count = machine->config.cpu_count;
    return cpu_count < VIRTIO_BLK_QUEUES_MAX ? cpu_count : VIRTIO_BLK_QUEUES_MAX;
}

/* The console device carries the named ports; its own terminal (port 0) is not connected, the first
 * serial port is the console. */
static int add_ports(struct machine *machine, struct err *err)
{
    const struct machine_config *config = &machine->config;
    struct virtio_console_port ports[VIRTIO_CONSOLE_PORTS_MAX] = {0};

    if (config->port_count >= VIRTIO_CONSOLE_PORTS_MAX)
        return err_set(err, -EINVAL, "%u ports: at most %u", config->port_count,
                       VIRTIO_CONSOLE_PORTS_MAX - 1);
    for (unsigned i = 0; i < config->port_count; i++)
        ports[1 + i] = (struct virtio_console_port){.name = config->ports[i].name,
                                                    .chr = config->ports[i].chr};
    return machine_add_virtio(machine, virtio_console_new(ports, 1 + config->port_count),
                              SLOT_CONSOLE, err);
}

static int add_virtio(struct machine *machine, struct err *err)
{
    const struct machine_config *config = &machine->config;

    int r = machine_add_virtio(machine, virtio_rng_new(config->entropy), SLOT_RNG, err);
    if (r == 0 && config->port_count > 0)
        r = add_ports(machine, err);
    for (unsigned i = 0; r == 0 && i < config->net_count; i++)
        r = machine_add_virtio(machine, virtio_net_new(config->nets[i]), MACHINE_SLOT_FIRST_NET + i,
                               err);
    for (unsigned i = 0; r == 0 && i < config->disk_count; i++)
        r = machine_add_virtio(machine, virtio_blk_new(config->disks[i], queue_count(machine)),
                               MACHINE_SLOT_FIRST_DISK + i, err);
    return r;
}

/* ---- the machine -------------------------------------------------------------------------------
 */

static int add_ram(struct machine *machine, struct err *err)
{
    for (unsigned i = 0; i < MEMMAP_RAM_COUNT; i++) {
        const struct memmap_range *range = &machine->map.ram[i];
        if (range->bytes == 0)
            continue;
        int r = mem_add(&machine->mem, range->base, range->bytes,
                        machine->config.ram + range->ram_offset, false);
        if (r < 0)
            return err_set(err, r, "cannot add guest RAM at 0x%lx", (unsigned long)range->base);
    }
    return 0;
}

static int build(struct machine *machine, struct err *err)
{
    int r = memmap_init(&machine->map, machine->config.ram_bytes, machine_has_firmware(machine),
                        err);

    if (r == 0)
        r = add_ram(machine, err);
    if (r == 0)
        r = add_interrupt_controllers(machine, err);
    if (r == 0)
        r = add_timers(machine, err);
    if (r == 0)
        r = add_power(machine, err);
    if (r == 0)
        r = add_serial(machine, err);
    if (r == 0 && machine->config.has_testdev)
        r = add_testdev(machine, err);
    if (r == 0 && machine_has_firmware(machine))
        r = machine_add_firmware(machine, err);
    if (r == 0)
        r = add_pci(machine, err);
    if (r == 0)
        r = add_virtio(machine, err);
    if (r == 0 && machine->config.display)
        r = machine_add_screen(machine, SLOT_VGA, err);
    if (r == 0 && machine_has_firmware(machine))
        r = firmware_publish(machine, err);
    return r;
}

struct machine *machine_build(const struct machine_config *config, struct err *err)
{
    if (config->boot_count > MACHINE_BOOT_MAX) {
        err_set(err, -EINVAL, "%u boot devices: at most %u", config->boot_count, MACHINE_BOOT_MAX);
        return NULL;
    }
    if (config->disk_count > MACHINE_DISKS_MAX || config->net_count > MACHINE_NETS_MAX) {
        err_set(err, -EINVAL, "%u disks and %u networks: at most %u and %u", config->disk_count,
                config->net_count, MACHINE_DISKS_MAX, MACHINE_NETS_MAX);
        return NULL;
    }
    if (config->cpu_count < 1 || config->cpu_count > MACHINE_CPUS_MAX) {
        err_set(err, -EINVAL, "%u CPUs: must be between 1 and %u", config->cpu_count,
                MACHINE_CPUS_MAX);
        return NULL;
    }
    struct machine *machine = new0(struct machine);
    if (!machine) {
        err_set(err, -ENOMEM, "no memory for the machine");
        return NULL;
    }
    machine->config = *config;
    mem_init(&machine->mem);
    bus_init(&machine->bus);
    machine_ram_bars_init(machine);
    machine->is_standing = true;
    vm_clock_init(&machine->clock);
    kvmclock_init(&machine->kvmclock, &machine->mem, &machine->clock, clock_tsc_hz());
    paravirt_init(&machine->paravirt, &machine->mem, clock_tsc_hz());
    if (build(machine, err) < 0) {
        machine_free(machine);
        return NULL;
    }
    return machine;
}

void machine_free(struct machine *machine)
{
    if (!machine)
        return;
    pci_bus_free(machine->pci_bus);
    while (machine->device_count > 0) {
        struct machine_device *slot = &machine->devices[--machine->device_count];
        slot->ops->free(slot->device);
    }
    apic_bus_free(machine->apic_bus);
    mem_fini(&machine->mem);
    alloc_free(machine);
}

static bool intr_pending(void *ctx)
{
    struct machine *machine = ctx;

    lock_acquire(&machine->irqchip.lock);
    bool pending = pic_intr(machine->pic);
    lock_release(&machine->irqchip.lock);
    return pending;
}

/* The paravirtual features that the engine's CPU model shows. */
static u32 kvm_features(const struct engine *engine)
{
    const struct cpuid_context context = {0};
    struct cpuid_result leaf;

    if (!engine->cpuid || !engine->cpuid->has_hypercalls)
        return 0;
    cpuid_lookup(engine->cpuid, CPUID_KVM_LEAF, 0, &context, &leaf);
    return leaf.eax;
}

void machine_attach(struct machine *machine, struct vcpu *vcpu)
{
    machine->engine = vcpu->engine;
    machine->kvm_features = kvm_features(vcpu->engine);
    machine->cpus[vcpu->index].vcpu = vcpu;
    if (!vcpu->engine->in_kernel_lapic) {
        struct lapic *lapic = apic_bus_lapic(machine->apic_bus, vcpu->index);
        vcpu->irq = (struct vcpu_irq){
            .pending = lapic_pending, .ack = lapic_ack, .ctx = lapic, .tpr = lapic_tpr(lapic)};
    } else if (vcpu->index == 0)
        vcpu->irq = (struct vcpu_irq){.pending = intr_pending, .ack = extint_ack, .ctx = machine};
}
