/*
 * machine/acpi_dsdt.c - the DSDT's contents: the PCI root, its interrupt routing, legacy devices,
 * and the soft-off state.
 *
 * Spec   ACPI 6.4, 6.2.13 _PRT, 6.2.2 _CRS, 7.4.2.6 _S5, 5.8.1 _PIC; PCI Firmware 3.2, 4.1.2 (the
 *        ECAM region is reserved by a motherboard device).
 * Runs   while the machine is built.
 * Trust  all input is our own.
 *
 * The power button is a fixed feature (FADT), so it needs no object here.
 */
#include "dev/pm.h"
#include "machine/acpi.h"
#include "machine/aml.h"
#include "machine/memmap.h"

enum { PCI_DEVICE_COUNT = 32, PCI_PIN_COUNT = 4 };

/* One _PRT table: device and pin to a GSI (APIC mode) or to an ISA interrupt (PIC mode). */
static void add_routing(struct aml *aml, const char *name, const struct acpi_config *config,
                        bool is_apic)
{
    aml_name(aml, name);
    size_t table = aml_begin_package(aml, PCI_DEVICE_COUNT * PCI_PIN_COUNT);
    for (unsigned device = 0; device < PCI_DEVICE_COUNT; device++) {
        for (unsigned pin = 0; pin < PCI_PIN_COUNT; pin++) {
            unsigned line = (device + pin) % PCI_PIN_COUNT;
            size_t entry = aml_begin_package(aml, 4);
            aml_integer(aml, (u64)device << 16 | 0xffff); /* any function */
            aml_integer(aml, pin);
            aml_integer(aml, 0); /* no link device: the next number is the interrupt itself */
            aml_integer(aml, is_apic ? config->pci_gsi_base + line : config->pci_legacy_irq[line]);
            aml_end(aml, entry);
        }
    }
    aml_end(aml, table);
}

static void add_pci_windows(struct aml *aml, const struct acpi_config *config)
{
    aml_name(aml, "_CRS");
    size_t resources = aml_begin_resources(aml);
    aml_resource_bus(aml, 0, 0);
    aml_resource_io(aml, 0xcf8, 8);
    aml_resource_port_window(aml, 0x0000, 0x0cf7);
    aml_resource_port_window(aml, 0x0d00, 0xffff);
    aml_resource_memory_window(aml, MEMMAP_VGA_BASE, MEMMAP_SHADOW_BASE - 1, false);
    for (unsigned i = 0; i < config->window_count; i++)
        aml_resource_memory_window(aml, config->windows[i].first, config->windows[i].last,
                                   config->windows[i].is_64_bit);
    aml_end_resources(aml, resources);
}

static void add_pci_root(struct aml *aml, const struct acpi_config *config)
{
    size_t root = aml_begin_device(aml, "PCI0");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0A08");
    aml_name(aml, "_CID");
    aml_eisa_id(aml, "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    aml_name_integer(aml, "_CCA", 1);
    add_pci_windows(aml, config);
    add_routing(aml, "PRTA", config, true);
    add_routing(aml, "PRTP", config, false);

    size_t method = aml_begin_method(aml, "_PRT", 0);
    size_t branch = aml_begin_block(aml, AML_IF);
    aml_path(aml, "\\PICF");
    aml_byte(aml, AML_RETURN);
    aml_path(aml, "PRTA");
    aml_end(aml, branch);
    aml_byte(aml, AML_RETURN);
    aml_path(aml, "PRTP");
    aml_end(aml, method);
    aml_end(aml, root);
}

struct legacy_device {
    const char *name;
    const char *id;
    u16 port;
    u8 port_count; /* 0: none of its own */
    u16 port_2;    /* a second range, of one port; 0: none */
    u8 irq;
};

static void add_legacy_device(struct aml *aml, const struct legacy_device *legacy)
{
    size_t device = aml_begin_device(aml, legacy->name);
    aml_name(aml, "_HID");
    aml_eisa_id(aml, legacy->id);
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_STA", 0xf);
    aml_name(aml, "_CRS");
    size_t resources = aml_begin_resources(aml);
    if (legacy->port_count)
        aml_resource_io(aml, legacy->port, legacy->port_count);
    if (legacy->port_2)
        aml_resource_io(aml, legacy->port_2, 1);
    aml_resource_irq(aml, legacy->irq);
    aml_end_resources(aml, resources);
    aml_end(aml, device);
}

/* Says that nobody else may use the configuration space window. */
static void add_motherboard(struct aml *aml, const struct acpi_config *config)
{
    size_t device = aml_begin_device(aml, "MBRD");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0C02");
    aml_name_integer(aml, "_UID", 1);
    aml_name(aml, "_CRS");
    size_t resources = aml_begin_resources(aml);
    aml_resource_memory32(aml, (u32)config->ecam_base, (u32)config->ecam_bytes);
    aml_end_resources(aml, resources);
    aml_end(aml, device);
}

static void add_hpet(struct aml *aml)
{
    size_t device = aml_begin_device(aml, "HPET");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0103");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    size_t resources = aml_begin_resources(aml);
    aml_resource_memory32(aml, (u32)MEMMAP_HPET_BASE, 0x400);
    aml_end_resources(aml, resources);
    aml_end(aml, device);
}

/* The guest calls _PIC(1) when it uses the I/O APIC; _PRT answers accordingly. */
static void add_interrupt_model(struct aml *aml)
{
    aml_name_integer(aml, "\\PICF", 0);
    size_t method = aml_begin_method(aml, "\\_PIC", 1);
    aml_byte(aml, AML_STORE);
    aml_byte(aml, AML_ARG0);
    aml_path(aml, "\\PICF");
    aml_end(aml, method);
}

static void add_soft_off(struct aml *aml)
{
    aml_name(aml, "\\_S5_");
    size_t package = aml_begin_package(aml, 4);
    aml_integer(aml, PM_S5_TYPE); /* PM1a */
    aml_integer(aml, 0);          /* PM1b: there is none */
    aml_integer(aml, 0);
    aml_integer(aml, 0);
    aml_end(aml, package);
}

void acpi_dsdt_body(const struct acpi_config *config, struct aml *aml)
{
    static const struct legacy_device com1 = {"COM1", "PNP0501", 0x3f8, 8, 0, 4};
    static const struct legacy_device rtc = {"RTC_", "PNP0B00", 0x70, 2, 0, 8};
    static const struct legacy_device keyboard = {"KBD_", "PNP0303", 0x60, 1, 0x64, 1};
    static const struct legacy_device mouse = {"MOU_", "PNP0F13", 0, 0, 0, 12};

    add_interrupt_model(aml);
    size_t scope = aml_begin_scope(aml, "\\_SB_");
    add_pci_root(aml, config);
    add_legacy_device(aml, &com1);
    add_legacy_device(aml, &rtc);
    if (config->has_vga) {
        add_legacy_device(aml, &keyboard);
        add_legacy_device(aml, &mouse);
    }
    add_motherboard(aml, config);
    if (config->hpet_id != 0)
        add_hpet(aml);
    aml_end(aml, scope);
    add_soft_off(aml);
}
