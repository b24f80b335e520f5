/*
 * machine/machine.c - starts, resets, saves and loads a machine that pc.c has built.
 *
 * Spec   Intel SDM vol. 3A 11.11 (MTRRs), 11.5.1 (LVT); MultiProcessor Specification 1.4, 3.6.2.2
 *        (virtual wire mode).
 * Runs   while no vCPU runs and the loop is idle.
 * Trust  a saved state is hostile: every device checks its own section.
 *
 * A saved machine is a row of sections, in the order in which pc.c makes the devices:
 *   u16 bytes of the name, the name, u64 bytes of the contents, the contents.
 */
#include "machine/machine.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/errno.h"
#include "core/state.h"
#include "dev/hpet.h"
#include "dev/lapic.h"
#include "dev/pci/pci_bus.h"
#include "dev/pm.h"
#include "machine/acpi.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"
#include "vcpu/vcpu.h"
#include "x86/regs.h"

enum { LAPIC_SVR = 0x0f0, LAPIC_LVT_LINT0 = 0x350, LAPIC_LVT_LINT1 = 0x360 };
enum { SVR_ENABLED_SPURIOUS_255 = 0x1ff, LVT_EXTINT = 0x700, LVT_NMI = 0x400 };
enum { MTRR_ENABLED_WRITE_BACK = 0x806 };
enum { PCI_IO_BASE = 0xc000, PCI_IO_END = 0x10000, NAME_MAX_BYTES = 32 };

struct mem *machine_mem(struct machine *machine)
{
    return &machine->mem;
}

unsigned machine_physical_bits(const struct machine *machine)
{
    return machine->map.physical_bits;
}

struct vm_clock *machine_clock(struct machine *machine)
{
    return &machine->clock;
}

void machine_clock_start(struct machine *machine)
{
    vm_clock_start(&machine->clock);
    kvmclock_rebase(&machine->kvmclock);
    paravirt_rebase(&machine->paravirt);
}

void machine_clock_stop(struct machine *machine)
{
    vm_clock_stop(&machine->clock);
}

void machine_press_power_button(struct machine *machine)
{
    lock_acquire(machine->pm_lock);
    pm_press_power_button(machine->pm);
    lock_release(machine->pm_lock);
}

static void reset_devices(struct machine *machine)
{
    for (unsigned i = 0; i < machine->device_count; i++) {
        struct machine_device *slot = &machine->devices[i];
        lock_acquire(slot->lock);
        slot->ops->reset(slot->device);
        lock_release(slot->lock);
    }
    pci_bus_reset(machine->pci_bus);
    for (unsigned i = 0; i < machine->config.cpu_count; i++)
        lapic_reset(apic_bus_lapic(machine->apic_bus, i), false);
    kvmclock_reset(&machine->kvmclock);
    paravirt_reset(&machine->paravirt);
}

static int lapic_to_engine(struct machine *machine, unsigned index, struct err *err)
{
    struct vcpu *vcpu = machine->cpus[index].vcpu;
    u8 page[LAPIC_PAGE_BYTES];

    if (!machine_has_kernel_lapic(machine))
        return 0;
    lapic_page_get(apic_bus_lapic(machine->apic_bus, index), page);
    int r = vcpu->ops->lapic(vcpu, page, true);
    return r < 0 ? err_set(err, r, "the engine refuses the local APIC of vCPU %u", index) : 0;
}

/* What firmware leaves behind: the PIC reaches the boot processor through LINT0. */
static void set_virtual_wire(struct machine *machine)
{
    struct lapic *lapic = apic_bus_lapic(machine->apic_bus, 0);

    lapic_write(lapic, LAPIC_SVR, 4, SVR_ENABLED_SPURIOUS_255);
    lapic_write(lapic, LAPIC_LVT_LINT0, 4, LVT_EXTINT);
    lapic_write(lapic, LAPIC_LVT_LINT1, 4, LVT_NMI);
}

/* Linux sees that the TSC and the local APIC's timer are all it needs, but calibrates an HPET all
 * the same, by thousands of accesses. So guests are told of it only where that was asked for. */
u32 machine_hpet_id(struct machine *machine)
{
    return machine->config.has_hpet ? (u32)bus_read(&machine->bus, BUS_MMIO, HPET_BASE, 4) : 0;
}

static int write_tables(struct machine *machine, struct err *err)
{
    struct acpi_config config = {.map = &machine->map,
                                 .cpu_count = machine->config.cpu_count,
                                 .has_vga = machine->vga != NULL,
                                 .hpet_id = machine_hpet_id(machine),
                                 .pci_gsi_base = MACHINE_PCI_GSI,
                                 .ecam_base = MEMMAP_ECAM_BASE,
                                 .ecam_bytes = MEMMAP_ECAM_BYTES,
                                 .window_count = 2};
    u8 *image = alloc_zero(MEMMAP_TABLES_BYTES);
    size_t bytes = 0;

    config.windows[0] = (struct acpi_window){MEMMAP_PCI32_BASE,
                                             MEMMAP_PCI32_BASE + MEMMAP_PCI32_BYTES - 1, false};
    config.windows[1] = (struct acpi_window){
        machine->map.pci64_base, machine->map.pci64_base + MEMMAP_PCI64_BYTES - 1, true};

    if (!image)
        return err_set(err, -ENOMEM, "no memory for the ACPI tables");
    __builtin_memcpy(config.pci_legacy_irq, machine_pci_irq, sizeof(config.pci_legacy_irq));
    int r = acpi_build(&config, MEMMAP_TABLES_BASE, image, MEMMAP_TABLES_BYTES, &bytes, err);
    if (r == 0 && mem_write(&machine->mem, MEMMAP_TABLES_BASE, image, bytes) < 0)
        r = err_set(err, -EFAULT, "no RAM for the ACPI tables");
    alloc_free(image);
    return r;
}

static int assign_pci(struct machine *machine, struct err *err)
{
    const struct pci_windows windows = {.memory32_base = MEMMAP_PCI32_BASE,
                                        .memory32_end = MEMMAP_PCI32_BASE + MEMMAP_PCI32_BYTES,
                                        .memory64_base = machine->map.pci64_base,
                                        .memory64_end = machine->map.pci64_base +
                                                        MEMMAP_PCI64_BYTES,
                                        .io_base = PCI_IO_BASE,
                                        .io_end = PCI_IO_END};

    return pci_bus_assign(machine->pci_bus, &windows, err);
}

/* All processors begin with the same TSC, 0 at this moment. */
static int start_cpus(struct machine *machine, struct x86_state *boot_state, struct err *err)
{
    u64 start_tsc = clock_tsc();
    struct x86_state state;

    for (unsigned i = 0; i < machine->config.cpu_count; i++) {
        x86_state_reset(&state, i == 0);
        struct x86_state *start = i == 0 ? boot_state : &state;
        if (!machine_has_firmware(machine))
            start->msr.mtrr_def_type = MTRR_ENABLED_WRITE_BACK;
        start->tsc = clock_tsc() - start_tsc;
        int r = machine_cpu_set(machine, i, start, err);
        if (r == 0)
            r = lapic_to_engine(machine, i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What firmware does for the kernel that it loads, and then the kernel. */
static int load_kernel(struct machine *machine, const struct boot_request *kernel,
                       struct x86_state *ret_state, struct err *err)
{
    struct boot_request request = *kernel;

    request.mem = &machine->mem;
    request.map = &machine->map;
    request.rsdp = MEMMAP_TABLES_BASE;
    set_virtual_wire(machine);
    int r = assign_pci(machine, err);
    if (r == 0)
        r = write_tables(machine, err);
    machine_screen_start(machine, &request);
    return r < 0 ? r : boot_load(&request, ret_state, err);
}

int machine_boot(struct machine *machine, const struct boot_request *kernel, struct err *err)
{
    struct x86_state state;

    machine->is_standing = true;
    reset_devices(machine);
    int r = machine_has_firmware(machine) ? firmware_start(machine, &state, err)
                                          : load_kernel(machine, kernel, &state, err);
    if (r == 0)
        r = machine_remap(machine, err);
    machine->is_standing = false;
    if (r == 0)
        r = start_cpus(machine, &state, err);
    return r;
}

/* ---- state -------------------------------------------------------------------------------------
 */

/* Opens a section; returns where its size must be written. */
static size_t section_begin(struct state_writer *writer, const char *name)
{
    u16 name_bytes = (u16)__builtin_strlen(name);
    u64 unknown = 0;

    state_put(writer, &name_bytes, sizeof(name_bytes));
    state_put(writer, name, name_bytes);
    state_put(writer, &unknown, sizeof(unknown));
    return writer->bytes - sizeof(unknown);
}

static void section_end(struct state_writer *writer, size_t mark)
{
    if (!writer->failed)
        store_le64(writer->data + mark, writer->bytes - mark - 8);
}

/* Opens the section NAME, which must come next; *RET_BODY sees its contents only. */
static int section_open(struct state_reader *reader, const char *name,
                        struct state_reader *ret_body, struct err *err)
{
    char found[NAME_MAX_BYTES];
    u16 name_bytes;
    u64 bytes;

    if (state_take(reader, &name_bytes, sizeof(name_bytes)) < 0 || name_bytes >= sizeof(found) ||
        state_take(reader, found, name_bytes) < 0 ||
        state_take(reader, &bytes, sizeof(bytes)) < 0 || bytes > reader->bytes - reader->position)
        return err_set(err, -EPROTO, "the saved state is damaged before section '%s'", name);
    found[name_bytes] = 0;
    if (__builtin_strcmp(found, name) != 0)
        return err_set(err, -EPROTO, "the saved state has section '%s' where '%s' must be", found,
                       name);
    *ret_body = (struct state_reader){.data = reader->data + reader->position, .bytes = bytes};
    reader->position += bytes;
    return 0;
}

static int section_close(const struct state_reader *body, const char *name, struct err *err)
{
    if (body->position != body->bytes)
        return err_set(err, -EPROTO, "section '%s' of the saved state is too long", name);
    return 0;
}

/* Where the engine keeps the local APICs, ours are their image: for saving, and to start from. */
static int lapic_from_engine(struct machine *machine, unsigned index, const struct x86_state *state)
{
    struct vcpu *vcpu = machine->cpus[index].vcpu;
    u8 page[LAPIC_PAGE_BYTES];

    if (!machine_has_kernel_lapic(machine))
        return 0;
    int r = vcpu->ops->lapic(vcpu, page, false);
    if (r == 0)
        lapic_page_put(apic_bus_lapic(machine->apic_bus, index), page, state->msr.apic_base,
                       state->msr.tsc_deadline);
    return r;
}

static void save_cpu(struct machine *machine, unsigned index, struct state_writer *writer)
{
    struct vcpu *vcpu = machine->cpus[index].vcpu;
    struct x86_state state;

    __builtin_memset(&state, 0, sizeof(state));
    vcpu->ops->get(vcpu, &state);
    if (lapic_from_engine(machine, index, &state) < 0)
        writer->failed = true;
    size_t mark = section_begin(writer, "vcpu");
    state_put(writer, &state, sizeof(state));
    section_end(writer, mark);
    mark = section_begin(writer, "lapic");
    lapic_save(apic_bus_lapic(machine->apic_bus, index), writer);
    section_end(writer, mark);
}

int machine_save(struct machine *machine, struct state_writer *writer, struct err *err)
{
    u64 now_ns = vm_clock_now(&machine->clock);

    size_t mark = section_begin(writer, "clock");
    state_put(writer, &now_ns, sizeof(now_ns));
    section_end(writer, mark);
    for (unsigned i = 0; i < machine->device_count; i++) {
        struct machine_device *slot = &machine->devices[i];
        mark = section_begin(writer, slot->ops->name);
        lock_acquire(slot->lock);
        device_save(slot->ops, slot->device, writer);
        lock_release(slot->lock);
        section_end(writer, mark);
    }
    mark = section_begin(writer, "kvmclock");
    state_save(writer, kvmclock_fields, &machine->kvmclock);
    section_end(writer, mark);
    mark = section_begin(writer, "paravirt");
    state_save(writer, paravirt_fields, &machine->paravirt);
    section_end(writer, mark);
    mark = section_begin(writer, "pci");
    pci_bus_save(machine->pci_bus, writer);
    section_end(writer, mark);
    for (unsigned i = 0; i < machine->config.cpu_count; i++)
        save_cpu(machine, i, writer);
    return writer->failed ? err_set(err, -ENOMEM, "no memory to save the machine's state") : 0;
}

static int load_clock(struct machine *machine, struct state_reader *reader, struct err *err)
{
    struct state_reader body;
    u64 now_ns;

    int r = section_open(reader, "clock", &body, err);
    if (r < 0)
        return r;
    if (state_take(&body, &now_ns, sizeof(now_ns)) < 0 || now_ns > INT64_MAX)
        return err_set(err, -EPROTO, "the saved state has no valid time");
    vm_clock_set(&machine->clock, now_ns);
    return section_close(&body, "clock", err);
}

static int load_devices(struct machine *machine, struct state_reader *reader, struct err *err)
{
    for (unsigned i = 0; i < machine->device_count; i++) {
        struct machine_device *slot = &machine->devices[i];
        struct state_reader body;
        int r = section_open(reader, slot->ops->name, &body, err);
        if (r < 0)
            return r;
        lock_acquire(slot->lock);
        r = device_load(slot->ops, slot->device, &body, err);
        lock_release(slot->lock);
        if (r == 0)
            r = section_close(&body, slot->ops->name, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int load_fields(struct state_reader *reader, const char *name, const struct field *fields,
                       void *object, struct err *err)
{
    struct state_reader body;

    int r = section_open(reader, name, &body, err);
    if (r == 0)
        r = state_load(&body, fields, object, err);
    return r < 0 ? r : section_close(&body, name, err);
}

/* A byte that is neither 0 nor 1 is no bool: reading it as one would be undefined. */
static bool bools_valid(const struct x86_state *state)
{
    const bool *const bools[] = {&state->event.pending, &state->event.has_error,
                                 &state->interrupt_shadow, &state->nmi_pending,
                                 &state->nmi_blocked};

    for (unsigned i = 0; i < ARRAY_LEN(bools); i++) {
        u8 byte;
        __builtin_memcpy(&byte, bools[i], sizeof(byte));
        if (byte > 1)
            return false;
    }
    return true;
}

static int load_cpu(struct machine *machine, unsigned index, struct state_reader *reader,
                    struct err *err)
{
    struct state_reader body;
    struct x86_state state;

    int r = section_open(reader, "vcpu", &body, err);
    if (r < 0)
        return r;
    if (state_take(&body, &state, sizeof(state)) < 0)
        return err_set(err, -EPROTO, "the saved state of vCPU %u is too short", index);
    if (!bools_valid(&state))
        return err_set(err, -EPROTO, "the saved state of vCPU %u is damaged", index);
    r = section_close(&body, "vcpu", err);
    if (r == 0)
        r = section_open(reader, "lapic", &body, err);
    if (r == 0)
        r = lapic_load(apic_bus_lapic(machine->apic_bus, index), &body, err);
    if (r == 0)
        r = section_close(&body, "lapic", err);
    if (r == 0)
        r = machine_cpu_set(machine, index, &state, err);
    return r < 0 ? r : lapic_to_engine(machine, index, err);
}

static int load_pci(struct machine *machine, struct state_reader *body, struct err *err)
{
    machine->is_standing = true;
    int r = pci_bus_load(machine->pci_bus, body, err);
    machine->is_standing = false;
    return r < 0 ? r : machine_remap(machine, err);
}

int machine_load(struct machine *machine, struct state_reader *reader, struct err *err)
{
    struct state_reader body;

    int r = load_clock(machine, reader, err);
    if (r == 0)
        r = load_devices(machine, reader, err);
    if (r == 0)
        r = load_fields(reader, "kvmclock", kvmclock_fields, &machine->kvmclock, err);
    if (r == 0)
        r = load_fields(reader, "paravirt", paravirt_fields, &machine->paravirt, err);
    if (r == 0)
        r = section_open(reader, "pci", &body, err);
    if (r == 0)
        r = load_pci(machine, &body, err);
    if (r == 0)
        r = section_close(&body, "pci", err);
    for (unsigned i = 0; r == 0 && i < machine->config.cpu_count; i++)
        r = load_cpu(machine, i, reader, err);
    if (r == 0 && reader->position != reader->bytes)
        r = err_set(err, -EPROTO, "the saved state goes on after its last section");
    return r;
}
