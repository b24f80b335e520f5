/*
 * machine/acpi.c - writes the fixed ACPI tables and the lists that lead to them.
 *
 * Spec   ACPI 6.4, 5.2 "ACPI System Description Tables"; PCI Firmware 3.2, 4.1.2 MCFG; IA-PC
 * HPET 1.0a, 3.2.4 HPET table. Runs   while the machine is built. Trust  all input is our own.
 */
#include "machine/acpi.h"

#include "base/bits.h"
#include "base/errno.h"
#include "dev/pm.h"
#include "machine/aml.h"
#include "machine/memmap.h"

enum {
    HEADER_BYTES = 36,
    RSDP_BYTES = ACPI_RSDP_BYTES,
    FACS_BYTES = 64,
    FADT_BYTES = 276,
    LIST_MAX = 8
};
enum { XAPIC_IDS = 255 }; /* local APIC entries hold ids below this; others need x2APIC entries */

/* The image being written; `out` doubles as the writer of every table. */
struct image {
    struct aml out;
    gpa_t base;
    gpa_t listed[LIST_MAX]; /* what RSDT and XSDT point to */
    unsigned listed_count;
    struct acpi_links *links; /* borrowed; NULL: addresses are final */
};

static void put(struct image *image, u64 value, unsigned bytes)
{
    u8 le[8];
    store_le64(le, value);
    aml_bytes(&image->out, le, bytes);
}

/* A table's address, which moves with the image. */
static void put_pointer(struct image *image, gpa_t table, unsigned bytes)
{
    struct acpi_links *links = image->links;

    if (links && links->pointer_count < ACPI_POINTERS_MAX) {
        links->pointers[links->pointer_count].offset = (u32)image->out.bytes;
        links->pointers[links->pointer_count++].bytes = (u8)bytes;
    }
    put(image, table, bytes);
}

static void put_zeroes(struct image *image, size_t bytes)
{
    while (bytes-- > 0)
        aml_byte(&image->out, 0);
}

static void align_image(struct image *image, size_t align)
{
    put_zeroes(image, align_up(image->out.bytes, align) - image->out.bytes);
}

static u8 checksum(const u8 *data, size_t bytes)
{
    u8 sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (u8)(sum + data[i]);
    return (u8)(0 - sum);
}

static size_t table_begin(struct image *image, const char *signature, u8 revision)
{
    align_image(image, 16);
    size_t start = image->out.bytes;
    aml_bytes(&image->out, signature, 4);
    put(image, 0, 4); /* length, set by table_end */
    put(image, revision, 1);
    put(image, 0, 1); /* checksum */
    aml_bytes(&image->out, "ATOLL ", 6);
    aml_bytes(&image->out, "ATOLLPC ", 8);
    put(image, 1, 4);
    aml_bytes(&image->out, "ATOL", 4);
    put(image, 1, 4);
    return start;
}

/* Closes the table and returns its guest address. */
static gpa_t table_end(struct image *image, size_t start)
{
    if (!image->out.full) {
        u8 *table = image->out.data + start;
        size_t bytes = image->out.bytes - start;
        store_le32(table + 4, (u32)bytes);
        table[9] = 0;
        if (image->links == NULL)
            table[9] = checksum(table, bytes);
        else if (image->links->table_count < ACPI_TABLES_MAX) {
            image->links->tables[image->links->table_count].offset = (u32)start;
            image->links->tables[image->links->table_count++].bytes = (u32)bytes;
        }
    }
    return image->base + start;
}

static void list(struct image *image, gpa_t table)
{
    image->listed[image->listed_count++] = table;
}

static gpa_t put_facs(struct image *image)
{
    align_image(image, 64);
    gpa_t facs = image->base + image->out.bytes;
    aml_bytes(&image->out, "FACS", 4);
    put(image, FACS_BYTES, 4);
    put_zeroes(image, 24);
    put(image, 2, 1); /* version */
    put_zeroes(image, FACS_BYTES - 33);
    return facs;
}

static gpa_t put_dsdt(struct image *image, const struct acpi_config *config)
{
    size_t start = table_begin(image, "DSDT", 2);
    acpi_dsdt_body(config, &image->out);
    return table_end(image, start);
}

/* A Generic Address Structure for WIDTH bits of port space; port 0 stands for "not there". */
static void put_port_address(struct image *image, u16 port, unsigned bits)
{
    put(image, port ? 1 : 0, 1); /* system I/O */
    put(image, port ? bits : 0, 1);
    put(image, 0, 1);
    put(image, port == 0 ? 0 : bits == 8 ? 1 : bits == 16 ? 2 : 3, 1); /* access size */
    put(image, port, 8);
}

enum fadt_flag {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_SLP_BUTTON = 1 << 5, /* set: no fixed sleep button */
    FADT_FIX_RTC = 1 << 6,    /* set: no fixed RTC wake */
    FADT_TMR_VAL_EXT = 1 << 8,
    FADT_RESET_REG_SUP = 1 << 10
};

enum fadt_boot_arch {
    FADT_LEGACY_DEVICES = 1 << 0,
    FADT_8042 = 1 << 1,
    FADT_VGA_NOT_PRESENT = 1 << 2
};

/* PM block addresses of ACPI 1.0 (offsets 56 to 91) and the lengths that go with both forms. */
static void put_fadt_blocks(struct image *image)
{
    put(image, PM_BASE + PM_EVENT_OFFSET, 4);
    put(image, 0, 4);
    put(image, PM_BASE + PM_CONTROL_OFFSET, 4);
    put(image, 0, 8); /* PM1b control, PM2 control */
    put(image, PM_BASE + PM_TIMER_OFFSET, 4);
    put(image, PM_BASE + PM_GPE0_OFFSET, 4);
    put(image, 0, 4); /* GPE1 */
    put(image, 4, 1); /* PM1 event length */
    put(image, 2, 1); /* PM1 control length */
    put(image, 0, 1); /* PM2 */
    put(image, 4, 1); /* PM timer length */
    put(image, PM_GPE0_BYTES, 1);
    put(image, 0, 2); /* GPE1 length and base */
    put(image, 0, 1); /* CST_CNT */
}

static void put_fadt(struct image *image, const struct acpi_config *config, gpa_t facs, gpa_t dsdt)
{
    size_t start = table_begin(image, "FACP", 6);
    put_pointer(image, facs, 4);
    put_pointer(image, dsdt, 4);
    put(image, 0, 1); /* reserved (interrupt model of ACPI 1.0) */
    put(image, 0, 1); /* preferred profile: unspecified */
    put(image, PM_SCI_IRQ, 2);
    put(image, PM_SMI_PORT, 4);
    put(image, PM_ACPI_ENABLE, 1);
    put(image, PM_ACPI_DISABLE, 1);
    put(image, 0, 2); /* S4BIOS, P-state control */
    put_fadt_blocks(image);
    put(image, 0xfff, 2); /* C2 and C3 latencies: not there */
    put(image, 0xfff, 2);
    put(image, 0, 4);    /* flush size and stride: WBINVD serves */
    put(image, 0, 2);    /* duty cycle */
    put(image, 0, 2);    /* RTC alarm registers */
    put(image, 0x32, 1); /* RTC century register */
    put(image, FADT_LEGACY_DEVICES | (config->has_vga ? FADT_8042 : FADT_VGA_NOT_PRESENT), 2);
    put(image, 0, 1);
    put(image,
        FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
            FADT_RESET_REG_SUP,
        4);
    put_port_address(image, PM_RESET_PORT, 8);
    put(image, PM_RESET_VALUE, 1);
    put(image, 0, 2); /* ARM boot flags */
    put(image, 4, 1); /* minor version: 6.4 */
    put(image, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field is used */
    put_pointer(image, dsdt, 8);
    put_port_address(image, PM_BASE + PM_EVENT_OFFSET, 32);
    put_port_address(image, 0, 0);
    put_port_address(image, PM_BASE + PM_CONTROL_OFFSET, 16);
    put_port_address(image, 0, 0);
    put_port_address(image, 0, 0);
    put_port_address(image, PM_BASE + PM_TIMER_OFFSET, 32);
    put_port_address(image, PM_BASE + PM_GPE0_OFFSET, PM_GPE0_BYTES * 8);
    put_port_address(image, 0, 0); /* GPE1 */
    put_port_address(image, 0, 0); /* sleep control and status: not hardware-reduced */
    put_port_address(image, 0, 0);
    put(image, 0, 8); /* hypervisor vendor identity */
    list(image, table_end(image, start));
}

enum madt_flags { MADT_ACTIVE_HIGH = 1, MADT_EDGE = 1 << 2, MADT_LEVEL = 3 << 2 };

static void put_override(struct image *image, u8 irq, u32 gsi, u16 flags)
{
    put(image, 2, 1);
    put(image, 10, 1);
    put(image, 0, 1); /* ISA bus */
    put(image, irq, 1);
    put(image, gsi, 4);
    put(image, flags, 2);
}

static void put_madt_processor(struct image *image, unsigned id)
{
    if (id < XAPIC_IDS) {
        put(image, 0, 1);
        put(image, 8, 1);
        put(image, id, 1); /* processor uid */
        put(image, id, 1); /* APIC id */
        put(image, 1, 4);  /* enabled */
        return;
    }
    put(image, 9, 1); /* x2APIC */
    put(image, 16, 1);
    put(image, 0, 2);
    put(image, id, 4);
    put(image, 1, 4);
    put(image, id, 4);
}

static void put_madt(struct image *image, const struct acpi_config *config)
{
    size_t start = table_begin(image, "APIC", 5);
    put(image, MEMMAP_LAPIC_BASE, 4);
    put(image, 1, 4); /* a PIC is there too */
    for (unsigned id = 0; id < config->cpu_count; id++)
        put_madt_processor(image, id);
    put(image, 1, 1); /* I/O APIC */
    put(image, 12, 1);
    put(image, config->ioapic_id, 1);
    put(image, 0, 1);
    put(image, MEMMAP_IOAPIC_BASE, 4);
    put(image, 0, 4);             /* first GSI */
    put_override(image, 0, 2, 0); /* the PIT is on input 2 */
    put_override(image, PM_SCI_IRQ, PM_SCI_IRQ, MADT_ACTIVE_HIGH | MADT_LEVEL);
    put(image, 4, 1); /* NMI: LINT1 of every processor */
    put(image, 6, 1);
    put(image, 0xff, 1);
    put(image, 0, 2);
    put(image, 1, 1);
    if (config->cpu_count > XAPIC_IDS) {
        put(image, 10, 1); /* the same for x2APIC ids */
        put(image, 12, 1);
        put(image, 0, 2);
        put(image, UINT32_MAX, 4);
        put(image, 1, 1);
        put(image, 0, 3);
    }
    list(image, table_end(image, start));
}

static void put_mcfg(struct image *image, const struct acpi_config *config)
{
    size_t start = table_begin(image, "MCFG", 1);
    put(image, 0, 8);
    put(image, config->ecam_base, 8);
    put(image, 0, 2); /* segment */
    put(image, 0, 1); /* first bus */
    put(image, 0, 1); /* last bus */
    put(image, 0, 4);
    list(image, table_end(image, start));
}

static void put_hpet(struct image *image, const struct acpi_config *config)
{
    size_t start = table_begin(image, "HPET", 1);
    put(image, config->hpet_id, 4);
    put(image, 0, 1);  /* memory space */
    put(image, 64, 1); /* bits */
    put(image, 0, 2);
    put(image, MEMMAP_HPET_BASE, 8);
    put(image, 0, 1);   /* sequence number */
    put(image, 100, 2); /* fewest ticks in periodic mode */
    put(image, 0, 1);   /* page protection */
    list(image, table_end(image, start));
}

/* RSDT (4-byte entries) or XSDT (8-byte entries). */
static gpa_t put_list(struct image *image, const char *signature, unsigned entry_bytes)
{
    size_t start = table_begin(image, signature, 1);
    for (unsigned i = 0; i < image->listed_count; i++)
        put_pointer(image, image->listed[i], entry_bytes);
    return table_end(image, start);
}

static void fill_rsdp(u8 *rsdp, gpa_t rsdt, gpa_t xsdt)
{
    __builtin_memcpy(rsdp, "RSD PTR ", 8);
    __builtin_memcpy(rsdp + 9, "ATOLL ", 6);
    rsdp[15] = 2;
    store_le32(rsdp + 16, (u32)rsdt);
    store_le32(rsdp + 20, RSDP_BYTES);
    store_le64(rsdp + 24, xsdt);
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, RSDP_BYTES);
}

int acpi_build(const struct acpi_config *config, gpa_t base, u8 *to, size_t capacity,
               size_t *ret_bytes, struct err *err)
{
    struct image image = {.base = base, .links = config->links};

    aml_init(&image.out, to, capacity);
    put_zeroes(&image, RSDP_BYTES);
    gpa_t facs = put_facs(&image);
    gpa_t dsdt = put_dsdt(&image, config);
    put_fadt(&image, config, facs, dsdt);
    put_madt(&image, config);
    put_mcfg(&image, config);
    if (config->hpet_id != 0)
        put_hpet(&image, config);
    gpa_t rsdt = put_list(&image, "RSDT", 4);
    gpa_t xsdt = put_list(&image, "XSDT", 8);
    if (image.out.full)
        return err_set(err, -ENOSPC, "ACPI tables for %u CPUs do not fit in %zu bytes",
                       config->cpu_count, capacity);
    fill_rsdp(to, rsdt, xsdt);
    if (config->links) {
        to[8] = to[32] = 0;
        config->links->rsdt = (u32)rsdt;
        config->links->xsdt = (u32)xsdt;
    }
    *ret_bytes = image.out.bytes;
    return 0;
}
