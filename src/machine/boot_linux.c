/*
 * machine/boot_linux.c - loads a Linux bzImage by the 64-bit boot protocol, or by the 32-bit one
 * when it has no 64-bit entry.
 *
 * Spec   Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", "32-bit Boot
 *        Protocol" and "64-bit Boot Protocol"; zero-page.rst.
 * Runs   while no vCPU runs.
 * Trust  the header is hostile: it is read once into a struct, checked, and only then used.
 */
#include "base/bits.h"
#include "base/errno.h"
#include "machine/boot_priv.h"
#include "machine/memmap.h"
#include "x86/regs.h"

/* Offsets in the file and in boot_params alike. */
enum {
    AT_VIDEO_TYPE = 0x00f,
    AT_LFB_WIDTH = 0x012,
    AT_LFB_HEIGHT = 0x014,
    AT_LFB_DEPTH = 0x016,
    AT_LFB_BASE = 0x018,
    AT_LFB_SIZE = 0x01c, /* in units of 64 KiB */
    AT_LFB_LINE_BYTES = 0x024,
    AT_LFB_COLORS = 0x026, /* size and position of red, green, blue, reserved */
    AT_EXT_RAMDISK_IMAGE = 0x0c0,
    AT_EXT_RAMDISK_SIZE = 0x0c4,
    AT_EXT_CMD_LINE = 0x0c8,
    AT_ACPI_RSDP = 0x070,
    AT_E820_COUNT = 0x1e8,
    AT_SETUP_SECTS = 0x1f1,
    AT_SYSSIZE = 0x1f4,
    AT_BOOT_FLAG = 0x1fe,
    AT_JUMP = 0x200,
    AT_HEADER = 0x202,
    AT_VERSION = 0x206,
    AT_TYPE_OF_LOADER = 0x210,
    AT_LOADFLAGS = 0x211,
    AT_RAMDISK_IMAGE = 0x218,
    AT_RAMDISK_SIZE = 0x21c,
    AT_CMD_LINE_PTR = 0x228,
    AT_INITRD_ADDR_MAX = 0x22c,
    AT_XLOADFLAGS = 0x236,
    AT_CMDLINE_SIZE = 0x238,
    AT_SETUP_DATA = 0x250,
    AT_PREF_ADDRESS = 0x258,
    AT_INIT_SIZE = 0x260,
    AT_HEADER_END = 0x268,
    AT_E820_TABLE = 0x2d0,
    BOOT_PARAMS_BYTES = 4096
};

enum { SECTOR_BYTES = 512, SETUP_SECTS_DEFAULT = 4, PARAGRAPH_BYTES = 16, E820_ENTRY_BYTES = 20 };
enum { BOOT_FLAG = 0xaa55, HEADER_MAGIC = 0x53726448, VERSION_MIN = 0x020c };
enum { XLF_KERNEL_64 = 1, XLF_CAN_BE_LOADED_ABOVE_4G = 2 };
enum { LOADER_UNDEFINED = 0xff, LOADED_HIGH = 1, SETUP_RNG_SEED = 9 };
enum { VIDEO_TYPE_LINEAR = 0x23, LFB_SIZE_UNIT_BYTES = 0x10000 };
enum { ENTRY_64_OFFSET = 0x200, SETUP_DATA_HEADER_BYTES = 16 };

struct header {
    u64 setup_bytes;   /* the real-mode part of the file */
    u64 payload_bytes; /* the part that is loaded */
    u64 image_bytes;   /* memory that the kernel needs at its place */
    gpa_t load;
    u64 initrd_max; /* the first address that the initrd may not reach */
    u64 cmdline_bytes;
    u16 xloadflags;
};

bool boot_linux_is(const struct boot_blob *kernel)
{
    return kernel->bytes >= AT_VERSION && load_le16(kernel->data + AT_BOOT_FLAG) == BOOT_FLAG &&
           load_le32(kernel->data + AT_HEADER) == HEADER_MAGIC;
}

/* The kernel goes where it prefers to be. It could be loaded elsewhere if it is relocatable, but it
 * never unpacks itself below that address, so that a lower place would save no memory. */
static int choose_place(const struct boot_request *request, struct header *header, struct err *err)
{
    u64 low_bytes = request->map->low_bytes;

    header->load = load_le64(request->kernel.data + AT_PREF_ADDRESS);
    if (header->load < BOOT_KERNEL_MIN || header->load >= MEMMAP_LOW_END)
        return err_set(err, -ENOEXEC, "the kernel's header is damaged: preferred address 0x%lx",
                       (unsigned long)header->load);
    if (header->load > low_bytes || header->image_bytes > low_bytes - header->load)
        return err_set(
            err, -ENOSPC,
            "the kernel needs %lu MiB of memory to unpack itself; give more with --memory",
            (unsigned long)((header->load + header->image_bytes) >> 20) + 1);
    return 0;
}

static int parse_header(const struct boot_request *request, struct header *header, struct err *err)
{
    const struct boot_blob *kernel = &request->kernel;
    const u8 *data = kernel->data;

    if (kernel->bytes < AT_HEADER_END)
        return err_set(err, -ENOEXEC, "the kernel file is truncated: it ends inside its header");
    u16 version = load_le16(data + AT_VERSION);
    header->xloadflags = load_le16(data + AT_XLOADFLAGS);
    if (version < VERSION_MIN)
        return err_set(err, -ENOEXEC,
                       "the kernel is too old (boot protocol %u.%02u): need Linux 3.8 or later",
                       version >> 8, version & 0xff);
    unsigned sectors = data[AT_SETUP_SECTS] ? data[AT_SETUP_SECTS] : SETUP_SECTS_DEFAULT;
    header->setup_bytes = (u64)(sectors + 1) * SECTOR_BYTES;
    header->payload_bytes = (u64)load_le32(data + AT_SYSSIZE) * PARAGRAPH_BYTES;
    if (header->setup_bytes >= kernel->bytes || header->payload_bytes == 0 ||
        header->payload_bytes > kernel->bytes - header->setup_bytes)
        return err_set(err, -ENOEXEC,
                       "the kernel file is truncated: it has %lu bytes, its header speaks of %lu",
                       (unsigned long)kernel->bytes,
                       (unsigned long)(header->setup_bytes + header->payload_bytes));
    header->image_bytes = max_u64(load_le32(data + AT_INIT_SIZE), header->payload_bytes);
    header->initrd_max = (u64)load_le32(data + AT_INITRD_ADDR_MAX) + 1;
    header->cmdline_bytes = (u64)load_le32(data + AT_CMDLINE_SIZE) + 1;
    return choose_place(request, header, err);
}

/* As high as possible below 4 GiB and the kernel's own limit; else at the top of high memory. */
static int place_initrd(const struct boot_request *request, const struct header *header,
                        gpa_t *ret_gpa, struct err *err)
{
    const struct memmap *map = request->map;
    u64 bytes = request->initrd.bytes;
    u64 end = min_u64(header->initrd_max, map->low_bytes);
    u64 kernel_end = header->load + header->image_bytes;

    if (end >= kernel_end && align_down(end - kernel_end, 4096) >= align_up(bytes, 4096)) {
        *ret_gpa = align_down(end - bytes, 4096);
        return 0;
    }
    if ((header->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) && map->high_bytes >= bytes) {
        *ret_gpa = align_down(MEMMAP_HIGH_BASE + map->high_bytes - bytes, 4096);
        return 0;
    }
    return err_set(err, -ENOSPC,
                   "the initrd (%lu MiB) does not fit in guest memory beside the kernel; give more "
                   "with --memory",
                   (unsigned long)(bytes >> 20) + 1);
}

static void put_e820(u8 *params, const struct memmap *map)
{
    params[AT_E820_COUNT] = (u8)map->e820_count;
    for (unsigned i = 0; i < map->e820_count; i++) {
        u8 *entry = params + AT_E820_TABLE + i * E820_ENTRY_BYTES;
        store_le64(entry, map->e820[i].base);
        store_le64(entry + 8, map->e820[i].bytes);
        store_le32(entry + 16, map->e820[i].type);
    }
}

/* The screen as a boot loader would leave it that has set a VESA mode. */
static void put_screen(u8 *params, const struct boot_screen *screen)
{
    static const u8 colors[8] = {8, 16, 8, 8, 8, 0, 8, 24};

    if (screen->bytes == 0 || screen->base > 0xffffffff)
        return;
    params[AT_VIDEO_TYPE] = VIDEO_TYPE_LINEAR;
    store_le16(params + AT_LFB_WIDTH, screen->width);
    store_le16(params + AT_LFB_HEIGHT, screen->height);
    store_le16(params + AT_LFB_DEPTH, 32);
    store_le32(params + AT_LFB_BASE, (u32)screen->base);
    store_le32(params + AT_LFB_SIZE, (u32)(screen->bytes / LFB_SIZE_UNIT_BYTES));
    store_le16(params + AT_LFB_LINE_BYTES, (u16)(screen->width * 4));
    __builtin_memcpy(params + AT_LFB_COLORS, colors, sizeof(colors));
}

/* A setup_data node with random bytes, so that the guest's pool is ready at once. */
static int put_seed(const struct boot_request *request, u8 *params, struct err *err)
{
    u8 node[SETUP_DATA_HEADER_BYTES + BOOT_SEED_MAX_BYTES] = {0};
    u64 bytes = min_u64(request->seed.bytes, BOOT_SEED_MAX_BYTES);

    if (bytes == 0)
        return 0;
    store_le32(node + 8, SETUP_RNG_SEED);
    store_le32(node + 12, (u32)bytes);
    __builtin_memcpy(node + SETUP_DATA_HEADER_BYTES, request->seed.data, bytes);
    store_le64(params + AT_SETUP_DATA, BOOT_SETUP_DATA);
    return boot_write(request, BOOT_SETUP_DATA, node, SETUP_DATA_HEADER_BYTES + bytes, "seed", err);
}

static int load_initrd(const struct boot_request *request, const struct header *header, u8 *params,
                       struct err *err)
{
    u64 bytes = request->initrd.bytes;
    gpa_t gpa = 0;

    if (bytes == 0)
        return 0;
    int r = place_initrd(request, header, &gpa, err);
    if (r < 0)
        return r;
    store_le32(params + AT_RAMDISK_IMAGE, (u32)gpa);
    store_le32(params + AT_EXT_RAMDISK_IMAGE, (u32)(gpa >> 32));
    store_le32(params + AT_RAMDISK_SIZE, (u32)bytes);
    store_le32(params + AT_EXT_RAMDISK_SIZE, (u32)(bytes >> 32));
    return boot_write(request, gpa, request->initrd.data, bytes, "initrd", err);
}

/* The zero page: the file's own setup header, and around it what the loader must tell. */
static int write_params(const struct boot_request *request, const struct header *header,
                        struct err *err)
{
    u8 params[BOOT_PARAMS_BYTES] = {0};
    const u8 *data = request->kernel.data;
    /* The header's length is told by the jump over it. */
    u64 header_end = min_u64((u64)AT_HEADER + data[AT_JUMP + 1], request->kernel.bytes);

    header_end = min_u64(header_end, AT_E820_TABLE);
    __builtin_memcpy(params + AT_SETUP_SECTS, data + AT_SETUP_SECTS, header_end - AT_SETUP_SECTS);
    params[AT_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    params[AT_LOADFLAGS] |= LOADED_HIGH;
    store_le32(params + AT_CMD_LINE_PTR, (u32)BOOT_COMMAND_LINE);
    store_le32(params + AT_EXT_CMD_LINE, 0);
    store_le64(params + AT_ACPI_RSDP, request->rsdp);
    store_le32(params + AT_RAMDISK_IMAGE, 0);
    store_le32(params + AT_RAMDISK_SIZE, 0);
    store_le64(params + AT_SETUP_DATA, 0);
    put_e820(params, request->map);
    put_screen(params, &request->screen);
    int r = load_initrd(request, header, params, err);
    if (r == 0)
        r = put_seed(request, params, err);
    if (r == 0)
        r = boot_write(request, BOOT_INFO, params, sizeof(params), "boot parameters", err);
    return r;
}

int boot_linux_load(const struct boot_request *request, struct x86_state *ret_state,
                    struct err *err)
{
    struct header header = {0};

    int r = parse_header(request, &header, err);
    if (r == 0)
        r = boot_write(request, header.load, request->kernel.data + header.setup_bytes,
                       header.payload_bytes, "kernel", err);
    if (r == 0)
        r = boot_write_command_line(request, "", header.cmdline_bytes, err);
    if (r == 0)
        r = write_params(request, &header, err);
    if (r == 0 && (header.xloadflags & XLF_KERNEL_64))
        r = boot_state_long(request, header.load + ENTRY_64_OFFSET, ret_state, err);
    else if (r == 0)
        r = boot_state_protected(request, (u32)header.load, ret_state, err);
    if (r == 0)
        ret_state->gpr[X86_RSI] = BOOT_INFO;
    return r;
}
