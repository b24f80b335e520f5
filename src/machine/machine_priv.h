/*
 * machine/machine_priv.h - the parts of a machine, for the files that build, run, boot and save it.
 */
#ifndef MACHINE_MACHINE_PRIV_H
#define MACHINE_MACHINE_PRIV_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/mem.h"
#include "dev/device.h"
#include "dev/irqchip.h"
#include "machine/kvmclock.h"
#include "machine/machine.h"
#include "machine/memmap.h"
#include "machine/paravirt.h"

struct apic_bus;
struct fwcfg;
struct i8042;
struct ioapic;
struct pci_bus;
struct pci_function;
struct pic;
struct pm;
struct ps2_keyboard;
struct ps2_mouse;
struct vga;
struct virtio_dev;

enum { MACHINE_DEVICES_MAX = 24, MACHINE_RAM_BARS_MAX = 4 };
enum { MACHINE_PCI_GSI = 16 }; /* I/O APIC input of PCI line 0; the others follow */

/* PCI slots: a device keeps its slot whatever else is configured. */
enum { MACHINE_SLOT_FIRST_NET = 3, MACHINE_SLOT_FIRST_DISK = 11 };

extern const u8 machine_pci_irq[4]; /* ISA interrupts of the same lines, for guests on the PIC */

/* A chipset device on its place. */
struct machine_device {
    const struct device_ops *ops;
    void *device;      /* owned */
    struct lock *lock; /* own_lock, or the irq chip's */
    struct lock own_lock;
    u64 base;
};

/* PCI memory that is RAM, and its slot. */
struct machine_ram_bar {
    gpa_t asked;    /* where the BAR was when its slot was made or refused */
    bool is_placed; /* a slot of guest memory is there */
};

/* What the vCPU's thread knows of its vCPU between runs. */
struct machine_cpu {
    struct vcpu *vcpu; /* borrowed */
    bool waits_for_sipi;
    bool halted;
    bool nmi_only; /* halted with interrupts off */
};

struct machine {
    struct machine_config config;
    struct memmap map;
    struct mem mem;
    struct bus bus;
    struct vm_clock clock;
    struct kvmclock kvmclock;
    struct paravirt paravirt;
    u32 kvm_features;          /* CPUID 0x40000001, EAX: what guests are offered */
    struct apic_bus *apic_bus; /* owned */
    struct irqchip irqchip;
    struct pic *pic; /* owned through devices[], as the two below */
    struct ioapic *ioapic;
    struct pm *pm;
    struct i8042 *i8042;
    struct lock *i8042_lock;       /* borrowed: of i8042's slot; keyboard and mouse have it too */
    struct ps2_keyboard *keyboard; /* NULL without a display, as the four below */
    struct ps2_mouse *mouse;
    struct virtio_dev *virtio_keyboard, *virtio_tablet; /* borrowed: the PCI bus owns them */
    struct lock *pm_lock;                               /* borrowed: of pm's slot */
    struct pci_bus *pci_bus;                            /* owned */
    u8 intx_levels;           /* PCI lines that are asserted; under the PCI bus's lock */
    u16 intx_isa;             /* ISA interrupts that they assert; under the same */
    struct fwcfg *fwcfg;      /* owned through devices[]; NULL without firmware, as the next */
    struct pci_function *lpc; /* owned by pci_bus */
    struct machine_device devices[MACHINE_DEVICES_MAX];
    unsigned device_count;
    struct vga *vga; /* borrowed: the bus owns it; NULL: no screen */
    struct machine_ram_bar ram_bars[MACHINE_RAM_BARS_MAX]; /* in the order of pci_bus_ram */
    /* Held while the display's thread gives input to devices, which may look at guest memory, and
     * while the slots of guest memory change. Comes before every device's lock. */
    struct lock input_lock;
    bool is_standing;      /* no vCPU runs: BARs may move without a pause */
    struct engine *engine; /* borrowed; of the attached vCPUs */
    struct machine_cpu cpus[MACHINE_CPUS_MAX];
};

/* True when the engine keeps the local APICs: then it also wakes, starts and interrupts vCPUs. */
bool machine_has_kernel_lapic(const struct machine *machine);
/* True when firmware starts the machine, not a kernel. */
static inline bool machine_has_firmware(const struct machine *machine)
{
    return machine->config.firmware.rom != NULL;
}
/* pc.c: a place for the next device, whose lock is needed to make it; then the device (NULL: it
 * could not be made) goes there and is mapped. */
struct machine_device *machine_slot_next(struct machine *machine);
MUST_CHECK int machine_slot_fill(struct machine *machine, const struct device_ops *ops,
                                 void *device, u64 base, struct err *err);
/* pc_firmware.c: what a machine with firmware has on its buses, and on the PCI bus. */
MUST_CHECK int machine_add_firmware(struct machine *machine, struct err *err);
/* A PCI line's level has changed; CTX is the machine. */
void machine_drive_intx(void *ctx, unsigned pin, bool level);
MUST_CHECK int machine_add_lpc(struct machine *machine, struct err *err);
/* The HPET's capability register when guests are to be told of it, else 0. */
u32 machine_hpet_id(struct machine *machine);
/* hypercall.c: what VCPU's EXIT_HYPERCALL answers. */
u64 machine_hypercall(struct machine *machine, const struct vcpu *vcpu);
/* ram_bars.c: before PCI devices are made, and where the PCI bus tells of moves. */
void machine_ram_bars_init(struct machine *machine);
void machine_ram_moved(void *ctx);
/* pc.c */
MUST_CHECK int machine_add_virtio(struct machine *machine, struct virtio_dev *vdev, unsigned slot,
                                  struct err *err);
/* screen.c: the display's devices, from SLOT on; and the screen as firmware would leave it, told to
 * a kernel that is started without any. */
MUST_CHECK int machine_add_screen(struct machine *machine, unsigned slot, struct err *err);
void machine_screen_start(struct machine *machine, struct boot_request *request);
/* Puts STATE into the vCPU and notes what it will do next. */
MUST_CHECK int machine_cpu_set(struct machine *machine, unsigned cpu, const struct x86_state *state,
                               struct err *err);

#endif
