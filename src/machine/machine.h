/*
 * machine/machine.h - the PC as one object: RAM, devices, interrupt controllers, and what its
 * vCPUs' exits do.
 *
 * Life: machine_build() makes the devices over back ends that are already open; the caller makes an
 * engine over machine_mem(), its vCPUs, and hands each to machine_attach(); machine_boot() loads a
 * kernel; then every vCPU's thread loops over machine_enter(), vcpu_run(), machine_dispatch().
 *
 * Threads: machine_enter and machine_dispatch on the vCPU's thread, machine_press_power_button from
 * any; everything else while no vCPU runs and the loop is idle. Ownership: the caller owns back
 * ends, RAM, engine and vCPUs, and frees them after the machine.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "base/err.h"
#include "base/types.h"
#include "machine/boot.h"

struct blk;
struct chr;
struct display;
struct engine;
struct entropy;
struct machine;
struct mem;
struct net;
struct state_reader;
struct state_writer;
struct vcpu;
struct vm_clock;

enum { MACHINE_CPUS_MAX = 64, MACHINE_DISKS_MAX = 16, MACHINE_NETS_MAX = 8, MACHINE_PORTS_MAX = 8 };
enum { MACHINE_BOOT_MAX = 8, MACHINE_ROMS_MAX = 4 };

/* How a guest ends a run of the machine. */
enum machine_end {
    MACHINE_POWER_OFF,
    MACHINE_RESET,
    MACHINE_TEST_EXIT, /* a test program wrote its status to the debug exit port */
    MACHINE_CRASHED    /* triple fault */
};

/* What the machine asks of the program around it. None may be NULL; none may block. */
struct machine_host {
    /* Any vCPU thread, device locks held. STATUS is for MACHINE_TEST_EXIT only. */
    void (*end)(void *ctx, enum machine_end how, unsigned status);
    /* A halted vCPU has something to do: wake its thread. Any thread. */
    void (*wake)(void *ctx, unsigned cpu);
    /* The calling vCPU's thread lets others have its processor: it waits for another vCPU. */
    void (*yield)(void *ctx);
    /* The guest moved memory that PCI devices have. The calling vCPU runs no guest code before
     * every vCPU stands still and machine_remap() has been called. Device locks held. */
    void (*remap)(void *ctx);
    void *ctx; /* borrowed */
};

/* A named port of the virtio console, and what is behind it. */
struct machine_port {
    const char *name; /* borrowed */
    struct chr *chr;  /* borrowed */
};

/* An option ROM: what a BIOS runs for a PCI device in order to show a screen or to start from a
 * network. UEFI firmware has drivers of its own. */
struct machine_rom {
    const char *file; /* borrowed: "pci1234,1111.rom" for a device's vendor and device id */
    const u8 *data;   /* borrowed */
    u64 bytes;
};

/* Firmware, which then loads what the machine runs: a ROM that ends at 4 GiB. */
struct machine_firmware {
    u8 *rom;       /* borrowed, page aligned; NULL: a kernel is started instead */
    u64 rom_bytes; /* a multiple of 4096 */
    u8 *variables; /* borrowed: a flash chip's contents, below the ROM; NULL: there is none */
    u64 variables_bytes;
    struct chr *log; /* borrowed: port 0x402; NULL: there is none */
    struct machine_rom roms[MACHINE_ROMS_MAX];
    unsigned rom_count;
};

/* What firmware tries to start from: a disk or a network by its index. */
struct machine_boot_device {
    bool is_net;
    unsigned index;
};

struct machine_config {
    u64 ram_bytes;
    u8 *ram; /* borrowed: ram_bytes of zeroed memory, page aligned */
    unsigned cpu_count;
    struct chr *console;                  /* borrowed: the first serial port; may be NULL */
    struct chr *debug;                    /* borrowed: the debug console at port 0xe9; NULL: none */
    struct entropy *entropy;              /* borrowed */
    struct blk *disks[MACHINE_DISKS_MAX]; /* borrowed */
    unsigned disk_count;
    struct net *nets[MACHINE_NETS_MAX]; /* borrowed */
    unsigned net_count;
    struct machine_port ports[MACHINE_PORTS_MAX];
    unsigned port_count;
    struct machine_firmware firmware;
    struct machine_boot_device boot[MACHINE_BOOT_MAX]; /* first things first; firmware only */
    unsigned boot_count;
    struct display *display; /* borrowed: a screen, keyboard and pointer; NULL: there are none */
    bool has_hpet;           /* guests are told of the HPET, which is there in any case */
    bool has_testdev;        /* the ports of bare-metal test programs */
    struct machine_host host;
};

/* NULL and ERR when the configuration makes no machine or memory is exhausted. */
struct machine *machine_build(const struct machine_config *config, struct err *err);
void machine_free(struct machine *machine);

struct mem *machine_mem(struct machine *machine);
/* How many bits of physical address the vCPUs should show at most; 0: no matter. */
unsigned machine_physical_bits(const struct machine *machine);
struct vm_clock *machine_clock(struct machine *machine);
/* VM time runs from here on, or stands still. */
void machine_clock_start(struct machine *machine);
void machine_clock_stop(struct machine *machine);

/* Connects VCPU with its local APIC; its index is the APIC id. All vCPUs share one engine. */
void machine_attach(struct machine *machine, struct vcpu *vcpu);

/* Resets every device and vCPU, places PCI BARs, writes ACPI tables and loads the kernel; or, with
 * firmware, puts vCPU 0 to its reset vector and leaves all of that to it (KERNEL is not looked at).
 * Serves the first start and every later guest reset; RAM is not cleared. KERNEL.mem, .map and
 * .rsdp are filled here. */
MUST_CHECK int machine_boot(struct machine *machine, const struct boot_request *kernel,
                            struct err *err);

/* Takes events that are due (INIT, SIPI, NMI) to VCPU. True: it has guest code to run, or an
 * interrupt to wake up for; false: it halts or waits for its start, until machine_host.wake or
 * machine_deadline_ns(). */
bool machine_enter(struct machine *machine, struct vcpu *vcpu);
/* VM time at which a halted VCPU wakes by its own timer; UINT64_MAX: never. */
u64 machine_deadline_ns(struct machine *machine, const struct vcpu *vcpu);
/* Does what VCPU's exit asks for. Exits that end the machine call machine_host.end. False for
 * EXIT_FAILED, of which only the caller knows what to do. */
bool machine_dispatch(struct machine *machine, struct vcpu *vcpu);

/* Makes guest memory what the guest's PCI BARs say. While no vCPU runs and the loop is idle. */
MUST_CHECK int machine_remap(struct machine *machine, struct err *err);

void machine_press_power_button(struct machine *machine);

/* Saves or loads all devices and vCPUs, one section each; RAM is not included. */
MUST_CHECK int machine_save(struct machine *machine, struct state_writer *writer, struct err *err);
MUST_CHECK int machine_load(struct machine *machine, struct state_reader *reader, struct err *err);

#endif
