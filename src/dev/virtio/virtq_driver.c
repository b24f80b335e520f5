/*
 * dev/virtio/virtq_driver.c - plays a guest's virtio driver, for tests, fuzzers and benchmarks.
 *
 * Spec   virtio 1.2, sections 2.7, 3.1 and 4.1, the driver's side.
 * Runs   on one thread.
 */
#include "dev/virtio/virtq_driver.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/pci.h"
#include "dev/virtio/virtio.h"

enum { SLOT = 2, WINDOW = 0xc0000000, ECAM = 0xe0000000, MESSAGE_ADDRESS = 0xfee00000 };
enum { CAP_TYPE = 3, CAP_BAR = 4, CAP_AT = 8, CAP_MULTIPLIER = 16 };
enum { DESC_BYTES = 16, DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum common_register {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

static void on_message(void *ctx, u64 address, u32 data)
{
    struct driver *driver = ctx;
    if (address == MESSAGE_ADDRESS && data <= DRIVER_QUEUES_MAX)
        driver->interrupts[data]++;
}

static void on_intx(void *ctx, unsigned pin, bool level)
{
    ((struct driver *)ctx)->intx = level;
}

u64 driver_read(struct driver *driver, gpa_t at, unsigned bytes)
{
    return bus_read(&driver->bus, BUS_MMIO, at, bytes);
}

void driver_write(struct driver *driver, gpa_t at, unsigned bytes, u64 value)
{
    bus_write(&driver->bus, BUS_MMIO, at, bytes, value);
}

u32 driver_pci_read(struct driver *driver, unsigned offset, unsigned bytes)
{
    return (u32)driver_read(driver, ECAM + (SLOT << 15) + offset, bytes);
}

void driver_pci_write(struct driver *driver, unsigned offset, unsigned bytes, u32 value)
{
    driver_write(driver, ECAM + (SLOT << 15) + offset, bytes, value);
}

void *driver_at(struct driver *driver, gpa_t gpa)
{
    return driver->ram + gpa;
}

gpa_t driver_alloc(struct driver *driver, size_t bytes)
{
    gpa_t at = align_up(driver->next_free, 16);
    driver->next_free = at + bytes;
    if (driver->next_free > DRIVER_RAM_BYTES)
        __builtin_trap();
    return at;
}

/* ---- the machine ---- */

static gpa_t bar_base(struct driver *driver, unsigned bar)
{
    return driver_pci_read(driver, PCI_BAR0 + 4 * bar, 4) & ~(u32)PCI_BAR_FLAGS_MEMORY;
}

static void msix_start(struct driver *driver, unsigned capability)
{
    gpa_t table = bar_base(driver, driver_pci_read(driver, capability + MSIX_TABLE, 4) & 7);
    for (unsigned i = 0; i <= driver->vdev->queue_count && i < MSIX_VECTORS_MAX; i++) {
        driver_write(driver, table + 16 * i, 8, MESSAGE_ADDRESS);
        driver_write(driver, table + 16 * i + 8, 4, i);
        driver_write(driver, table + 16 * i + 12, 4, 0);
    }
    driver_pci_write(driver, capability + MSIX_CONTROL, 2, MSIX_CONTROL_ENABLE);
}

static void capability_use(struct driver *driver, unsigned capability)
{
    gpa_t at = bar_base(driver, driver_pci_read(driver, capability + CAP_BAR, 1)) +
               driver_pci_read(driver, capability + CAP_AT, 4);
    switch (driver_pci_read(driver, capability + CAP_TYPE, 1)) {
    case 1:
        driver->common = at;
        break;
    case 2:
        driver->notify = at;
        driver->notify_multiplier = driver_pci_read(driver, capability + CAP_MULTIPLIER, 4);
        break;
    case 3:
        driver->isr = at;
        break;
    case 4:
        driver->device = at;
        break;
    default:
        break;
    }
}

static void capabilities_walk(struct driver *driver)
{
    unsigned at = driver_pci_read(driver, PCI_CAPABILITIES_POINTER, 1);
    for (; at != 0; at = driver_pci_read(driver, at + 1, 1)) {
        unsigned id = driver_pci_read(driver, at, 1);
        if (id == PCI_CAPABILITY_VENDOR)
            capability_use(driver, at);
        else if (id == PCI_CAPABILITY_MSIX)
            msix_start(driver, at);
    }
}

bool driver_init(struct driver *driver, struct virtio_dev *vdev)
{
    return driver_init_at(driver, vdev, NULL);
}

bool driver_init_at(struct driver *driver, struct virtio_dev *vdev, void *ram)
{
    *driver = (struct driver){.vdev = vdev, .ram = ram, .owns_ram = ram == NULL};
    if (driver->owns_ram)
        driver->ram = alloc_zero(DRIVER_RAM_BYTES);
    mem_init(&driver->mem);
    bus_init(&driver->bus);
    vm_clock_init(&driver->clock);
    struct pci_bus_config config = {
        .bus = &driver->bus, .msi = {on_message, driver}, .ecam_base = ECAM, .ecam_bus_count = 1};
    for (unsigned i = 0; i < PCI_INTX_COUNT; i++)
        config.intx[i] = (struct irq_line){on_intx, driver, i};
    struct pci_windows windows = {.memory32_base = WINDOW, .memory32_end = WINDOW + 0x100000};
    driver->pci = pci_bus_new(&config, NULL);
    driver->function = virtio_pci_new(vdev, &driver->mem, &driver->clock);
    if (driver->ram == NULL || driver->pci == NULL || driver->function == NULL ||
        mem_add(&driver->mem, 0, DRIVER_RAM_BYTES, driver->ram, false) < 0 ||
        pci_bus_add(driver->pci, driver->function, SLOT, 0, NULL) < 0 ||
        pci_bus_assign(driver->pci, &windows, NULL) < 0)
        return false;
    vm_clock_start(&driver->clock);
    driver_pci_write(driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    capabilities_walk(driver);
    driver->next_free = DRIVER_RINGS_GPA;
    return true;
}

void driver_fini(struct driver *driver)
{
    pci_bus_free(driver->pci);
    mem_fini(&driver->mem);
    if (driver->owns_ram)
        alloc_free(driver->ram);
}

/* ---- starting the device ---- */

u64 driver_offered(struct driver *driver)
{
    driver_write(driver, driver->common + DEVICE_FEATURE_SELECT, 4, 1);
    u64 features = driver_read(driver, driver->common + DEVICE_FEATURE, 4) << 32;
    driver_write(driver, driver->common + DEVICE_FEATURE_SELECT, 4, 0);
    return features | driver_read(driver, driver->common + DEVICE_FEATURE, 4);
}

void driver_status_write(struct driver *driver, u8 status)
{
    driver_write(driver, driver->common + DEVICE_STATUS, 1, status);
}

u8 driver_status(struct driver *driver)
{
    return (u8)driver_read(driver, driver->common + DEVICE_STATUS, 1);
}

static void ring_start(struct driver *driver, unsigned queue, u16 ring_size)
{
    struct driver_ring *ring = &driver->rings[queue];
    gpa_t common = driver->common;
    driver_write(driver, common + QUEUE_SELECT, 2, queue);
    u16 size = (u16)driver_read(driver, common + QUEUE_SIZE, 2);
    *ring = (struct driver_ring){.queue = (u16)queue, .size = size < ring_size ? size : ring_size};
    ring->desc = driver_alloc(driver, (size_t)DESC_BYTES * ring->size);
    ring->avail = driver_alloc(driver, 6 + 2ul * ring->size);
    ring->used = driver_alloc(driver, 6 + 8ul * ring->size);
    __builtin_memset(driver_at(driver, ring->avail), 0, 6 + 2ul * ring->size);
    __builtin_memset(driver_at(driver, ring->used), 0, 6 + 8ul * ring->size);
    driver_write(driver, common + QUEUE_SIZE, 2, ring->size);
    driver_write(driver, common + QUEUE_MSIX_VECTOR, 2, queue + 1);
    driver_write(driver, common + QUEUE_DESC, 8, ring->desc);
    driver_write(driver, common + QUEUE_DRIVER, 4, ring->avail);
    driver_write(driver, common + QUEUE_DRIVER + 4, 4, ring->avail >> 32);
    driver_write(driver, common + QUEUE_DEVICE, 8, ring->used);
    ring->notify = driver->notify +
                   driver_read(driver, common + QUEUE_NOTIFY_OFF, 2) * driver->notify_multiplier;
    driver_write(driver, common + QUEUE_ENABLE, 2, 1);
}

u8 driver_start(struct driver *driver, u64 features, u16 ring_size)
{
    gpa_t common = driver->common;
    driver_status_write(driver, 0);
    if (driver_status(driver) != 0)
        return driver_status(driver);
    driver->next_free = DRIVER_RINGS_GPA;
    driver_status_write(driver, VIRTIO_STATUS_ACKNOWLEDGE);
    driver_status_write(driver, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        driver_write(driver, common + DRIVER_FEATURE_SELECT, 4, i);
        driver_write(driver, common + DRIVER_FEATURE, 4, (u32)(features >> (32 * i)));
    }
    u8 status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK;
    driver_status_write(driver, status);
    if (driver_status(driver) != status)
        return driver_status(driver);
    driver_write(driver, common + CONFIG_MSIX_VECTOR, 2, 0);
    driver->ring_count = (unsigned)driver_read(driver, common + NUM_QUEUES, 2);
    for (unsigned i = 0; i < driver->ring_count; i++)
        ring_start(driver, i, ring_size);
    driver_status_write(driver, status | VIRTIO_STATUS_DRIVER_OK);
    return driver_status(driver);
}

/* ---- rings ---- */

void driver_desc(struct driver *driver, gpa_t table, unsigned index,
                 const struct driver_segment *segment, u16 flags, u16 next)
{
    u8 *desc = (u8 *)driver_at(driver, table) + (size_t)index * DESC_BYTES;
    store_le64(desc, segment->gpa);
    store_le32(desc + 8, segment->bytes);
    store_le16(desc + 12, flags | (segment->writable ? DESC_WRITE : 0));
    store_le16(desc + 14, next);
}

void driver_expose(struct driver *driver, unsigned queue, u16 head)
{
    struct driver_ring *ring = &driver->rings[queue];
    u8 *avail = driver_at(driver, ring->avail);
    store_le16(avail + 4 + 2u * (ring->next_avail % ring->size), head);
    ring->next_avail++;
    __atomic_store_n((u16 *)(void *)(avail + 2), ring->next_avail, __ATOMIC_RELEASE);
}

u16 driver_post(struct driver *driver, unsigned queue, const struct driver_segment *segments,
                unsigned count)
{
    struct driver_ring *ring = &driver->rings[queue];
    u16 head = ring->next_desc % ring->size;
    for (unsigned i = 0; i < count; i++) {
        u16 at = ring->next_desc++ % ring->size;
        driver_desc(driver, ring->desc, at, &segments[i], i + 1 < count ? DESC_NEXT : 0,
                    ring->next_desc % ring->size);
    }
    driver_expose(driver, queue, head);
    return head;
}

u16 driver_post_table(struct driver *driver, unsigned queue, const struct driver_segment *segments,
                      unsigned count, gpa_t table)
{
    struct driver_ring *ring = &driver->rings[queue];
    struct driver_segment whole = {table, count * DESC_BYTES, false};
    for (unsigned i = 0; i < count; i++)
        driver_desc(driver, table, i, &segments[i], i + 1 < count ? DESC_NEXT : 0, (u16)(i + 1));
    u16 head = ring->next_desc++ % ring->size;
    driver_desc(driver, ring->desc, head, &whole, DESC_INDIRECT, 0);
    driver_expose(driver, queue, head);
    return head;
}

u16 driver_post_indirect(struct driver *driver, unsigned queue,
                         const struct driver_segment *segments, unsigned count)
{
    return driver_post_table(driver, queue, segments, count,
                             driver_alloc(driver, (size_t)count * DESC_BYTES));
}

void driver_kick(struct driver *driver, unsigned queue)
{
    driver_write(driver, driver->rings[queue].notify, 2, queue);
}

bool driver_take_used(struct driver *driver, unsigned queue, u32 *ret_head, u32 *ret_bytes)
{
    struct driver_ring *ring = &driver->rings[queue];
    const u8 *used = driver_at(driver, ring->used);
    if (__atomic_load_n((const u16 *)(const void *)(used + 2), __ATOMIC_ACQUIRE) == ring->last_used)
        return false;
    const u8 *entry = used + 4 + 8u * (ring->last_used++ % ring->size);
    *ret_head = load_le32(entry);
    *ret_bytes = load_le32(entry + 4);
    return true;
}
