/*
 * machine/acpi_test.c - table checksums and links, and a round through iasl where it is installed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/errno.h"
#include "machine/acpi.h"
#include "machine/memmap.h"
#include "machine/smbios.h"

enum { CAPACITY = MEMMAP_TABLES_BYTES };

static u8 image[CAPACITY];
static size_t image_bytes;

static bool has_hpet = true;

static int build(unsigned cpu_count, size_t capacity, struct err *err)
{
    struct memmap map;
    assert_int_equal(memmap_init(&map, 512ull << 20, false, NULL), 0);
    struct acpi_config config = {.map = &map,
                                 .cpu_count = cpu_count,
                                 .hpet_id = has_hpet ? 0x8086a201 : 0,
                                 .ioapic_id = 0,
                                 .pci_gsi_base = 16,
                                 .pci_legacy_irq = {10, 10, 11, 11},
                                 .ecam_base = MEMMAP_ECAM_BASE,
                                 .ecam_bytes = MEMMAP_ECAM_BYTES,
                                 .windows = {{MEMMAP_PCI32_BASE, MEMMAP_ECAM_BASE - 1, false},
                                             {map.pci64_base, map.pci64_base + 0xfff, true}},
                                 .window_count = 2};
    memset(image, 0xcc, sizeof(image));
    return acpi_build(&config, MEMMAP_TABLES_BASE, image, capacity, &image_bytes, err);
}

static u8 sum(const u8 *data, size_t bytes)
{
    u8 total = 0;
    while (bytes-- > 0)
        total = (u8)(total + *data++);
    return total;
}

/* The table at guest address GPA, whose checksum must be right. */
static const u8 *table_at(u64 gpa)
{
    assert_in_range(gpa, MEMMAP_TABLES_BASE, MEMMAP_TABLES_BASE + image_bytes - 36);
    const u8 *table = image + (gpa - MEMMAP_TABLES_BASE);
    u32 bytes = load_le32(table + 4);
    assert_in_range(bytes, 36, image_bytes - (size_t)(table - image));
    assert_int_equal(sum(table, bytes), 0);
    return table;
}

/* The table named SIGNATURE in the XSDT. */
static const u8 *find(const char *signature)
{
    const u8 *xsdt = table_at(load_le64(image + 24));
    unsigned count = (load_le32(xsdt + 4) - 36) / 8;
    for (unsigned i = 0; i < count; i++) {
        const u8 *table = table_at(load_le64(xsdt + 36 + 8 * i));
        if (memcmp(table, signature, 4) == 0)
            return table;
    }
    fail_msg("no table %s", signature);
    return NULL;
}

static bool is_listed(const char *signature)
{
    const u8 *xsdt = table_at(load_le64(image + 24));
    unsigned count = (load_le32(xsdt + 4) - 36) / 8;
    for (unsigned i = 0; i < count; i++)
        if (memcmp(table_at(load_le64(xsdt + 36 + 8 * i)), signature, 4) == 0)
            return true;
    return false;
}

/* Guests are told of an HPET only where there is to be one. */
static void test_without_hpet(void **state)
{
    has_hpet = false;
    assert_int_equal(build(1, CAPACITY, NULL), 0);
    has_hpet = true;
    assert_false(is_listed("HPET"));
    assert_true(is_listed("MCFG"));
    assert_null(memmem(image, image_bytes, "HPET", 4));
    assert_int_equal(build(1, CAPACITY, NULL), 0);
    assert_true(is_listed("HPET"));
    assert_non_null(memmem(table_at(load_le32(find("FACP") + 40)), 256, "DSDT", 4));
}

static void test_links(void **state)
{
    assert_int_equal(build(3, CAPACITY, NULL), 0);
    assert_memory_equal(image, "RSD PTR ", 8);
    assert_int_equal(sum(image, 20), 0);
    assert_int_equal(sum(image, 36), 0);
    const u8 *rsdt = table_at(load_le32(image + 16));
    const u8 *xsdt = table_at(load_le64(image + 24));
    assert_int_equal((load_le32(rsdt + 4) - 36) / 4, (load_le32(xsdt + 4) - 36) / 8);
    for (unsigned i = 0; i < (load_le32(rsdt + 4) - 36) / 4; i++)
        assert_int_equal(load_le32(rsdt + 36 + 4 * i), load_le64(xsdt + 36 + 8 * i));

    const u8 *fadt = find("FACP");
    assert_int_equal(load_le32(fadt + 4), 276);
    assert_memory_equal(table_at(load_le32(fadt + 40)), "DSDT", 4);
    assert_int_equal(load_le64(fadt + 140), load_le32(fadt + 40));
    assert_int_equal(load_le32(fadt + 36) % 64, 0);
    assert_memory_equal(image + (load_le32(fadt + 36) - MEMMAP_TABLES_BASE), "FACS", 4);
    assert_int_equal(load_le64(fadt + 116 + 4), 0xcf9);                /* RESET_REG's address */
    assert_int_equal(load_le64(fadt + 208 + 4), load_le32(fadt + 76)); /* X_PM_TMR and PM_TMR */
    assert_int_equal(load_le64(find("MCFG") + 44), MEMMAP_ECAM_BASE);
    assert_int_equal(load_le32(find("HPET") + 36), 0x8086a201);
}

static unsigned madt_count(u8 type)
{
    const u8 *madt = find("APIC");
    unsigned count = 0;
    for (u32 at = 44; at < load_le32(madt + 4); at += madt[at + 1]) {
        assert_true(madt[at + 1] >= 2);
        count += madt[at] == type;
    }
    return count;
}

static void test_madt_lists_processors(void **state)
{
    assert_int_equal(build(4, CAPACITY, NULL), 0);
    assert_int_equal(madt_count(0), 4);
    assert_int_equal(madt_count(9), 0);
    assert_int_equal(madt_count(1), 1);
    assert_int_equal(build(300, CAPACITY, NULL), 0);
    assert_int_equal(madt_count(0), 255);
    assert_int_equal(madt_count(9), 45);
    assert_int_equal(madt_count(10), 1);
}

static void test_no_room(void **state)
{
    struct err err;
    assert_int_equal(build(4, CAPACITY, NULL), 0);
    size_t whole = image_bytes;
    assert_int_equal(build(4, whole, NULL), 0);
    for (size_t capacity = 0; capacity < whole; capacity += 37) {
        assert_true(build(4, capacity, &err) < 0);
        if (capacity < sizeof(image))
            assert_int_equal(image[capacity], 0xcc); /* nothing written past the end */
    }
}

/* Disassembles every table; the DSDT's text is compiled again, which checks its grammar and names.
 */
static void test_iasl(void **state)
{
    char directory[] = "/tmp/acpi_test.XXXXXX";
    char command[512];

    if (system("iasl -v >/dev/null 2>&1") != 0)
        skip();
    assert_int_equal(build(2, CAPACITY, NULL), 0);
    assert_non_null(mkdtemp(directory));
    static const char *const signatures[] = {"FACP", "APIC", "MCFG", "HPET", "DSDT"};
    int failed = 0;
    for (unsigned i = 0; i < ARRAY_LEN(signatures); i++) {
        const u8 *table = strcmp(signatures[i], "DSDT") == 0
                              ? table_at(load_le32(find("FACP") + 40))
                              : find(signatures[i]);
        char path[128];
        snprintf(path, sizeof(path), "%s/%s.aml", directory, signatures[i]);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(table, load_le32(table + 4), 1, file), 1);
        fclose(file);
        snprintf(command, sizeof(command),
                 "cd %s && iasl -d %s.aml >out 2>&1 && ! grep -qiE 'error|warning|invalid' out "
                 "%s.dsl && iasl -we %s.dsl >out 2>&1 && grep -q ' 0 Errors, 0 Warnings' out || "
                 "{ cat out; grep -iE 'error|warning|invalid' %s.dsl; false; }",
                 directory, signatures[i], signatures[i], signatures[i], signatures[i]);
        failed |= system(command);
    }
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
    assert_int_equal(failed, 0);
}

/* Carries out the loader's commands as firmware does, with the tables at MEMMAP_TABLES_BASE, and
 * checks what comes out against the tables that are made for that address at once. */
static void test_loader_gives_the_same_tables(void **state)
{
    static struct acpi_links found;
    static u8 script[ACPI_LOADER_MAX_BYTES], placed[CAPACITY];
    u8 rsdp[ACPI_RSDP_BYTES];
    size_t bytes = 0, script_bytes = 0;
    unsigned pointers = 0, checksums = 0, files = 0;

    struct err err;
    struct memmap map;
    assert_int_equal(memmap_init(&map, 512ull << 20, true, &err), 0);
    struct acpi_config config = {.map = &map, .cpu_count = 3, .links = &found};
    assert_int_equal(acpi_build(&config, 0, placed, CAPACITY, &bytes, &err), 0);
    assert_int_equal(acpi_loader_build(&found, script, 128, &script_bytes), -ENOSPC);
    assert_int_equal(acpi_loader_build(&found, script, sizeof(script), &script_bytes), 0);
    memcpy(rsdp, placed, sizeof(rsdp));
    memset(placed, 0, sizeof(rsdp));
    for (const u8 *entry = script; entry < script + script_bytes; entry += 128) {
        bool is_rsdp = strcmp((const char *)entry + 4, ACPI_RSDP_FILE) == 0;
        u8 *file = is_rsdp ? rsdp : placed;
        size_t size = is_rsdp ? sizeof(rsdp) : bytes;
        assert_string_equal((const char *)entry + 4, is_rsdp ? ACPI_RSDP_FILE : ACPI_TABLES_FILE);
        if (load_le32(entry) == 1) {
            files++;
        } else if (load_le32(entry) == 2) {
            u32 at = load_le32(entry + 116);
            assert_in_range(at, 0, size - entry[120]);
            assert_true(load_le32(file + at) > 0 && load_le32(file + at) < bytes);
            store_le32(file + at, load_le32(file + at) + MEMMAP_TABLES_BASE);
            pointers++;
        } else {
            assert_int_equal(load_le32(entry), 3);
            u32 at = load_le32(entry + 60), start = load_le32(entry + 64);
            assert_in_range(start + load_le32(entry + 68), 1, size);
            assert_int_equal(file[at], 0);
            file[at] = (u8)-sum(file + start, load_le32(entry + 68));
            checksums++;
        }
    }
    assert_int_equal(files, 2);
    assert_true(pointers > 8 && checksums > 6);
    config.links = NULL;
    assert_int_equal(acpi_build(&config, MEMMAP_TABLES_BASE, image, CAPACITY, &image_bytes, &err),
                     0);
    assert_int_equal(image_bytes, bytes);
    assert_memory_equal(rsdp, image, sizeof(rsdp));
    assert_memory_equal(placed + sizeof(rsdp), image + sizeof(rsdp), bytes - sizeof(rsdp));
}

/* Every structure is where its length says, and the entry point counts them. */
static void test_smbios_structures(void **state)
{
    u8 tables[SMBIOS_TABLES_MAX_BYTES], anchor[SMBIOS_ANCHOR_BYTES];
    struct smbios_config config = {.ram_bytes = 5ull << 40, .cpu_count = 300};
    unsigned count = 0;
    u8 type = 0;

    config.uuid[0] = 0x12;
    size_t bytes = smbios_build(&config, tables, anchor);
    assert_in_range(bytes, 100, sizeof(tables));
    for (size_t at = 0; at < bytes; count++) {
        type = tables[at];
        if (type == 1)
            assert_int_equal(tables[at + 8 + 3], 0x12);
        if (type == 17)
            assert_int_equal(load_le32(tables + at + 28), 5 << 20); /* MiB */
        at += tables[at + 1];
        while (tables[at] != 0 || tables[at + 1] != 0)
            assert_true(++at < bytes);
        at += 2;
    }
    assert_int_equal(type, 127);
    assert_int_equal(load_le16(anchor + 22), bytes);
    assert_int_equal(load_le16(anchor + 28), count);
}

static void test_memmap(void **state)
{
    struct memmap map;
    struct err err;
    assert_true(memmap_init(&map, 1 << 20, false, &err) < 0);
    assert_true(memmap_init(&map, (64 << 20) + 4096, false, &err) < 0);
    assert_true(memmap_init(&map, MEMMAP_RAM_MAX_BYTES * 2, false, &err) < 0);
    static const u64 sizes_mib[] = {4, 64, 3071, 3072, 3073, 4096, 65536, 1 << 20};
    for (unsigned i = 0; i < ARRAY_LEN(sizes_mib); i++) {
        u64 bytes = sizes_mib[i] << 20, end = 0, told = 0;
        assert_int_equal(memmap_init(&map, bytes, false, &err), 0);
        assert_int_equal(map.low_bytes + map.high_bytes, bytes);
        for (unsigned r = 0; r < MEMMAP_RAM_COUNT; r++)
            assert_true(map.ram[r].ram_offset + map.ram[r].bytes <= bytes);
        for (unsigned r = 0; r < map.e820_count; r++) {
            assert_true(map.e820[r].base >= end);
            end = map.e820[r].base + map.e820[r].bytes;
            if (map.e820[r].type == MEMMAP_RAM)
                told += map.e820[r].bytes;
        }
        assert_true(bytes - told < 1 << 20);
        assert_true(map.pci64_base >= MEMMAP_HIGH_BASE + map.high_bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_without_hpet),
        cmocka_unit_test(test_madt_lists_processors),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_iasl),
        cmocka_unit_test(test_loader_gives_the_same_tables),
        cmocka_unit_test(test_smbios_structures),
        cmocka_unit_test(test_memmap),
    };
    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
