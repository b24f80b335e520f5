/*
 * dev/fwcfg.c - the firmware configuration device: selector, data port, transfers to guest memory.
 *
 * Spec   QEMU, docs/specs/fw_cfg: selector and data ports, the file directory, the DMA interface.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  selector, transfer address and length come from the guest. A descriptor is copied once and
 *        its copy is used; lengths are bounded before anything is copied.
 *
 *   port   bytes  meaning
 *   0x510  2      selector
 *   0x511  1      the selected item's next byte; zero beyond its end
 *   0x514  4      transfer descriptor's address, bits 63 to 32, big-endian; reads "QEMU"
 *   0x518  4      bits 31 to 0: starts the transfer; reads " CFG"
 *
 *   descriptor, big-endian: u32 control, u32 bytes, u64 address
 *   control: 31:16 selector | 4 write | 3 select | 2 skip | 1 read | 0 failed
 */
#include "dev/fwcfg.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "core/mem.h"

enum { PORT_SELECTOR = 0x510, PORT_DMA = 0x514, OFFSET_DATA = 1, DMA_LOW = 4 };
enum { ID_PORTS = 1, ID_DMA = 2 };
enum { DMA_FAILED = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
enum { DESCRIPTOR_BYTES = 16, CHUNK_BYTES = 4096, ENTRY_BYTES = 64, ENTRY_NAME = 8 };

struct item {
    u16 key;
    bool is_live;
    char name[FWCFG_NAME_BYTES]; /* empty: no file */
    u8 *data;                    /* owned */
    u32 bytes;
};

struct fwcfg {
    struct mem *mem; /* borrowed */
    void (*refresh)(void *ctx);
    void *refresh_ctx; /* borrowed */
    struct item items[FWCFG_ITEMS_MAX];
    unsigned item_count;
    u16 next_file;
    u16 selector;
    u32 position; /* in the selected item */
    u32 dma_high; /* as written: the upper half of the next descriptor's address */
};

static struct item *item_find(struct fwcfg *fwcfg, u16 key)
{
    for (unsigned i = 0; i < fwcfg->item_count; i++)
        if (fwcfg->items[i].key == key)
            return &fwcfg->items[i];
    return NULL;
}

static struct item *item_add(struct fwcfg *fwcfg, u16 key)
{
    if (fwcfg->item_count == FWCFG_ITEMS_MAX)
        return NULL;
    struct item *item = &fwcfg->items[fwcfg->item_count++];
    *item = (struct item){.key = key};
    return item;
}

static int item_fill(struct item *item, const void *data, size_t bytes)
{
    u8 *copy = alloc_zero(bytes ? bytes : 1);

    if (copy == NULL)
        return -ENOMEM;
    __builtin_memcpy(copy, data, bytes);
    alloc_free(item->data);
    item->data = copy;
    item->bytes = (u32)bytes;
    return 0;
}

/* The directory: u32 count, then per file u32 bytes, u16 key, u16 0, the name; big-endian. */
static int directory_write(struct fwcfg *fwcfg)
{
    static const u8 none[4];
    struct item *directory = item_find(fwcfg, FWCFG_DIRECTORY);
    u32 count = 0;

    if (directory == NULL)
        directory = item_add(fwcfg, FWCFG_DIRECTORY);
    if (directory == NULL)
        return -ENOSPC;
    for (unsigned i = 0; i < fwcfg->item_count; i++)
        count += fwcfg->items[i].name[0] != 0;
    u8 *data = alloc_zero(sizeof(none) + count * ENTRY_BYTES);
    if (data == NULL)
        return -ENOMEM;
    store_le32(data, __builtin_bswap32(count));
    u8 *entry = data + sizeof(none);
    for (unsigned i = 0; i < fwcfg->item_count; i++) {
        const struct item *item = &fwcfg->items[i];
        if (item->name[0] == 0)
            continue;
        store_le32(entry, __builtin_bswap32(item->bytes));
        store_le16(entry + 4, __builtin_bswap16(item->key));
        __builtin_memcpy(entry + ENTRY_NAME, item->name, FWCFG_NAME_BYTES);
        entry += ENTRY_BYTES;
    }
    alloc_free(directory->data);
    directory->data = data;
    directory->bytes = (u32)(entry - data);
    return 0;
}

int fwcfg_put(struct fwcfg *fwcfg, u16 key, const void *data, size_t bytes)
{
    struct item *item = item_find(fwcfg, key);

    if (item == NULL)
        item = item_add(fwcfg, key);
    if (item == NULL)
        return -ENOSPC;
    return item_fill(item, data, bytes);
}

int fwcfg_put_number(struct fwcfg *fwcfg, u16 key, u64 value, unsigned bytes)
{
    u8 data[8];

    store_le64(data, value);
    return fwcfg_put(fwcfg, key, data, bytes);
}

static struct item *file_find(struct fwcfg *fwcfg, const char *name)
{
    for (unsigned i = 0; i < fwcfg->item_count; i++)
        if (__builtin_strcmp(fwcfg->items[i].name, name) == 0)
            return &fwcfg->items[i];
    return NULL;
}

int fwcfg_put_file(struct fwcfg *fwcfg, const char *name, const void *data, size_t bytes,
                   bool is_live)
{
    size_t name_bytes = __builtin_strlen(name);

    if (name_bytes == 0 || name_bytes >= FWCFG_NAME_BYTES)
        return -EINVAL;
    struct item *item = file_find(fwcfg, name);
    bool is_listed = item && item->bytes == bytes;
    if (item == NULL) {
        item = item_add(fwcfg, fwcfg->next_file);
        if (item == NULL)
            return -ENOSPC;
        fwcfg->next_file++;
        __builtin_memcpy(item->name, name, name_bytes);
    }
    item->is_live = is_live;
    int r = item_fill(item, data, bytes);
    return r < 0 || is_listed ? r : directory_write(fwcfg);
}

void fwcfg_on_refresh(struct fwcfg *fwcfg, void (*refresh)(void *ctx), void *ctx)
{
    fwcfg->refresh = refresh;
    fwcfg->refresh_ctx = ctx;
}

/* ---- the guest's side ---- */

static void select_item(struct fwcfg *fwcfg, u16 key)
{
    const struct item *item = item_find(fwcfg, key);

    fwcfg->selector = key;
    fwcfg->position = 0;
    if (item && item->is_live && fwcfg->refresh)
        fwcfg->refresh(fwcfg->refresh_ctx);
}

/* Copies up to BYTES of the selected item and moves on; what is beyond its end reads as zeroes. */
static void take_bytes(struct fwcfg *fwcfg, u8 *to, u32 bytes)
{
    const struct item *item = item_find(fwcfg, fwcfg->selector);
    u32 left = item && fwcfg->position < item->bytes ? item->bytes - fwcfg->position : 0;
    u32 part = left < bytes ? left : bytes;

    if (part > 0)
        __builtin_memcpy(to, item->data + fwcfg->position, part);
    __builtin_memset(to + part, 0, bytes - part);
    fwcfg->position += part;
}

static int transfer_read(struct fwcfg *fwcfg, gpa_t address, u32 bytes)
{
    u8 chunk[CHUNK_BYTES];

    while (bytes > 0) {
        u32 part = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        take_bytes(fwcfg, chunk, part);
        if (address + part < address || mem_write(fwcfg->mem, address, chunk, part) < 0)
            return -EFAULT;
        address += part;
        bytes -= part;
    }
    return 0;
}

static void skip(struct fwcfg *fwcfg, u32 bytes)
{
    const struct item *item = item_find(fwcfg, fwcfg->selector);
    u32 left = item && fwcfg->position < item->bytes ? item->bytes - fwcfg->position : 0;

    fwcfg->position += left < bytes ? left : bytes;
}

/* Nothing here can be written by the guest, so a write transfer fails. */
static void transfer(struct fwcfg *fwcfg, gpa_t descriptor)
{
    u8 raw[DESCRIPTOR_BYTES];
    u32 answer = 0;

    if (mem_read(fwcfg->mem, descriptor, raw, sizeof(raw)) < 0)
        return;
    u32 control = __builtin_bswap32(load_le32(raw));
    u32 bytes = __builtin_bswap32(load_le32(raw + 4));
    gpa_t address = __builtin_bswap64(load_le64(raw + 8));
    if (control & DMA_SELECT)
        select_item(fwcfg, (u16)(control >> 16));
    if (control & DMA_READ) {
        if (bytes > FWCFG_DMA_MAX_BYTES || transfer_read(fwcfg, address, bytes) < 0)
            answer = DMA_FAILED;
    } else if (control & DMA_WRITE) {
        answer = DMA_FAILED;
    } else if (control & DMA_SKIP) {
        skip(fwcfg, bytes);
    }
    store_le32(raw, __builtin_bswap32(answer));
    (void)!mem_write(fwcfg->mem, descriptor, raw, 4);
}

static u64 port_read(void *device, u64 offset, unsigned bytes)
{
    struct fwcfg *fwcfg = device;
    u8 byte = 0;

    if (bytes != 1)
        return 0;
    take_bytes(fwcfg, &byte, 1);
    return byte;
}

static void port_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    if (offset == 0 && bytes == 2)
        select_item(device, (u16)value);
}

static u64 dma_read(void *device, u64 offset, unsigned bytes)
{
    static const u8 signature[8] = "QEMU CFG";
    u64 value = 0;

    __builtin_memcpy(&value, signature + offset, bytes);
    return value;
}

static void dma_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct fwcfg *fwcfg = device;
    u32 half = __builtin_bswap32((u32)value);

    if (bytes != 4)
        return;
    if (offset == 0)
        fwcfg->dma_high = half;
    if (offset != DMA_LOW)
        return;
    gpa_t descriptor = (u64)fwcfg->dma_high << 32 | half;
    fwcfg->dma_high = 0;
    transfer(fwcfg, descriptor);
}

/* ---- life ---- */

static void fwcfg_reset(void *device)
{
    struct fwcfg *fwcfg = device;

    fwcfg->selector = 0;
    fwcfg->position = 0;
    fwcfg->dma_high = 0;
}

static void fwcfg_free(void *device)
{
    struct fwcfg *fwcfg = device;

    for (unsigned i = 0; fwcfg && i < fwcfg->item_count; i++)
        alloc_free(fwcfg->items[i].data);
    alloc_free(fwcfg);
}

struct fwcfg *fwcfg_new(struct mem *mem)
{
    struct fwcfg *fwcfg = new0(struct fwcfg);

    if (fwcfg == NULL)
        return NULL;
    fwcfg->mem = mem;
    fwcfg->next_file = FWCFG_FIRST_FILE;
    if (fwcfg_put(fwcfg, FWCFG_SIGNATURE, "QEMU", 4) < 0 ||
        fwcfg_put_number(fwcfg, FWCFG_ID, ID_PORTS | ID_DMA, 4) < 0 || directory_write(fwcfg) < 0) {
        fwcfg_free(fwcfg);
        return NULL;
    }
    return fwcfg;
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
static const struct bus_ops dma_ops = {.read = dma_read, .write = dma_write};
static const struct device_region fwcfg_regions[] = {
    {BUS_PORT, PORT_SELECTOR, 2, &port_ops},
    {BUS_PORT, PORT_DMA, 8, &dma_ops},
};
static const struct field fwcfg_fields[] = {
    FIELD(struct fwcfg, selector),
    FIELD(struct fwcfg, position),
    FIELD(struct fwcfg, dma_high),
    FIELD_END,
};

const struct device_ops fwcfg_device = {
    .name = "fwcfg",
    .regions = fwcfg_regions,
    .region_count = ARRAY_LEN(fwcfg_regions),
    .fields = fwcfg_fields,
    .reset = fwcfg_reset,
    .free = fwcfg_free,
};
