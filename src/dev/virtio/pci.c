/*
 * dev/virtio/pci.c - the modern virtio-pci transport.
 *
 * Spec   virtio 1.2, section 4.1 "Virtio Over PCI Bus".
 * Runs   on vCPU threads under the device's lock, which is also the PCI function's.
 * Trust  all offsets and values come from the guest.
 *
 *   BAR 0, 16 KiB   0x0000 common configuration | 0x1000 ISR status | 0x2000 device configuration |
 *                   0x3000 notifications, 4 bytes a queue
 *   BAR 1, 4 KiB    MSI-X table and pending bits (dev/pci/msix.c)
 */
#include "dev/virtio/pci.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/function.h"
#include "dev/virtio/virtio.h"

enum { BAR_REGISTERS = 0, BAR_MSIX = 1, BAR_BYTES = 0x4000, PAGE_BYTES = 0x1000 };
enum { AT_COMMON = 0x0000, AT_ISR = 0x1000, AT_DEVICE = 0x2000, AT_NOTIFY = 0x3000 };
enum { NOTIFY_MULTIPLIER = 4, ISR_QUEUE = 1, ISR_CONFIG = 2 };

enum capability_type { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
enum capability_field { /* offsets in struct virtio_pci_cap */
                        CAP_LENGTH = 2,
                        CAP_TYPE = 3,
                        CAP_BAR = 4,
                        CAP_AT = 8,
                        CAP_BYTES = 12,
                        CAP_BODY = 16, /* notify multiplier, or the PCI access window's data */
};

enum common_register {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    COMMON_BYTES = 0x38,
};

struct virtio_pci {
    struct pci_function function;
    struct virtio_dev *vdev; /* owned */
    u32 device_feature_select, driver_feature_select;
    u16 config_msix_vector;
    u16 queue_select;
    u8 isr;
    u8 window_capability; /* where the PCI access window is in configuration space */
};

static const struct field virtio_pci_state[] = {
    FIELD(struct virtio_pci, device_feature_select),
    FIELD(struct virtio_pci, driver_feature_select),
    FIELD(struct virtio_pci, config_msix_vector),
    FIELD(struct virtio_pci, queue_select),
    FIELD(struct virtio_pci, isr),
    FIELD_END,
};

/* ---- interrupts ---- */

static void interrupt(struct virtio_pci *pci, u16 vector, u8 isr_bit)
{
    if (pci_msix_enabled(&pci->function)) {
        if (vector != VIRTQ_NO_VECTOR)
            pci_msix_send(&pci->function, vector);
        return;
    }
    pci->isr |= isr_bit;
    pci_intx_set(&pci->function, true);
}

static void queue_interrupt(void *ctx, const struct virtq *vq)
{
    interrupt(ctx, vq->msix_vector, ISR_QUEUE);
}

static void config_interrupt(void *ctx)
{
    struct virtio_pci *pci = ctx;
    interrupt(pci, pci->config_msix_vector, ISR_CONFIG);
}

static const struct virtio_transport transport = {.queue_interrupt = queue_interrupt,
                                                  .config_interrupt = config_interrupt};

/* ---- common configuration ---- */

static struct virtq *selected(const struct virtio_pci *pci)
{
    return pci->queue_select < pci->vdev->queue_count ? pci->vdev->queues[pci->queue_select] : NULL;
}

/* The address register that contains OFFSET, or NULL. */
static u64 *queue_address(struct virtq *vq, u64 offset)
{
    switch (offset & ~7ull) {
    case QUEUE_DESC:
        return &vq->desc_gpa;
    case QUEUE_DRIVER:
        return &vq->avail_gpa;
    case QUEUE_DEVICE:
        return &vq->used_gpa;
    default:
        return NULL;
    }
}

static u64 queue_read(struct virtq *vq, u64 offset)
{
    switch (offset) {
    case QUEUE_SIZE:
        return vq->size;
    case QUEUE_MSIX_VECTOR:
        return vq->msix_vector;
    case QUEUE_ENABLE:
        return vq->enabled;
    case QUEUE_NOTIFY_OFF:
        return vq->index;
    default:
        break;
    }
    u64 *address = queue_address(vq, offset);
    return address ? *address >> (8 * (offset & 7)) : 0;
}

static u64 common_read(struct virtio_pci *pci, u64 offset)
{
    struct virtio_dev *vdev = pci->vdev;
    struct virtq *vq = selected(pci);
    u32 select;
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        return pci->device_feature_select;
    case DEVICE_FEATURE:
        select = pci->device_feature_select;
        return select < 2 ? (u32)(virtio_offered_features(vdev) >> (32 * select)) : 0;
    case DRIVER_FEATURE_SELECT:
        return pci->driver_feature_select;
    case DRIVER_FEATURE:
        select = pci->driver_feature_select;
        return select < 2 ? (u32)(vdev->driver_features >> (32 * select)) : 0;
    case CONFIG_MSIX_VECTOR:
        return pci->config_msix_vector;
    case NUM_QUEUES:
        return vdev->queue_count;
    case DEVICE_STATUS:
        return virtio_status_read(vdev);
    case CONFIG_GENERATION:
        return vdev->config_generation;
    case QUEUE_SELECT:
        return pci->queue_select;
    default:
        return vq ? queue_read(vq, offset) : 0;
    }
}

static u16 vector_checked(const struct virtio_pci *pci, u64 value)
{
    return value < pci->function.msix.vector_count ? (u16)value : VIRTQ_NO_VECTOR;
}

static void queue_write(struct virtio_pci *pci, struct virtq *vq, u64 offset, unsigned bytes,
                        u64 value)
{
    if (offset == QUEUE_MSIX_VECTOR) {
        vq->msix_vector = vector_checked(pci, value);
        return;
    }
    if (vq->enabled)
        return; /* the rest is fixed until the device is reset */
    if (offset == QUEUE_SIZE)
        vq->size = (u16)value;
    else if (offset == QUEUE_ENABLE && value == 1)
        virtio_queue_enable(pci->vdev, vq->index);
    u64 *address = queue_address(vq, offset);
    if (address && (offset & 3) == 0 && bytes >= 4) {
        unsigned shift = 8 * (offset & 7);
        u64 mask = bytes_mask(bytes) << shift;
        *address = (*address & ~mask) | ((value << shift) & mask);
    }
}

static void driver_feature_write(struct virtio_pci *pci, u32 value)
{
    struct virtio_dev *vdev = pci->vdev;
    unsigned shift = 32 * pci->driver_feature_select;
    if (pci->driver_feature_select > 1 || (vdev->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    vdev->driver_features = (vdev->driver_features & ~((u64)UINT32_MAX << shift)) |
                            ((u64)value << shift);
}

static void status_write(struct virtio_pci *pci, u8 value)
{
    virtio_status_write(pci->vdev, value);
    if (value != 0)
        return;
    pci->config_msix_vector = VIRTQ_NO_VECTOR;
    pci->device_feature_select = pci->driver_feature_select = 0;
    pci->queue_select = 0;
    pci->isr = 0;
    pci_intx_set(&pci->function, false);
}

static void common_write(struct virtio_pci *pci, u64 offset, unsigned bytes, u64 value)
{
    struct virtq *vq = selected(pci);
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        pci->device_feature_select = (u32)value;
        break;
    case DRIVER_FEATURE_SELECT:
        pci->driver_feature_select = (u32)value;
        break;
    case DRIVER_FEATURE:
        driver_feature_write(pci, (u32)value);
        break;
    case CONFIG_MSIX_VECTOR:
        pci->config_msix_vector = vector_checked(pci, value);
        break;
    case DEVICE_STATUS:
        status_write(pci, (u8)value);
        break;
    case QUEUE_SELECT:
        pci->queue_select = (u16)value;
        break;
    default:
        if (vq)
            queue_write(pci, vq, offset, bytes, value);
        break;
    }
}

/* ---- BAR 0 ---- */

static struct virtio_pci *pci_of(struct pci_function *function)
{
    return container_of(function, struct virtio_pci, function);
}

/* Reading takes the interrupt back. */
static u8 isr_read(struct virtio_pci *pci)
{
    u8 isr = pci->isr;
    pci->isr = 0;
    pci_intx_set(&pci->function, false);
    return isr;
}

static u64 registers_read(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes)
{
    struct virtio_pci *pci = pci_of(function);
    u64 at = offset % PAGE_BYTES;
    switch (offset - at) {
    case AT_COMMON:
        return at + bytes <= COMMON_BYTES ? common_read(pci, at) & bytes_mask(bytes) : 0;
    case AT_DEVICE:
        return virtio_config_read(pci->vdev, at, bytes);
    case AT_ISR:
        return at == 0 ? isr_read(pci) : 0;
    default:
        return 0;
    }
}

static void registers_write(struct pci_function *function, unsigned bar, u64 offset, unsigned bytes,
                            u64 value)
{
    struct virtio_pci *pci = pci_of(function);
    u64 at = offset % PAGE_BYTES;
    value &= bytes_mask(bytes);
    switch (offset - at) {
    case AT_COMMON:
        if (at + bytes <= COMMON_BYTES)
            common_write(pci, at, bytes, value);
        break;
    case AT_DEVICE:
        virtio_config_write(pci->vdev, at, bytes, value);
        break;
    case AT_NOTIFY:
        virtio_notify(pci->vdev, (unsigned)(at / NOTIFY_MULTIPLIER));
        break;
    default:
        break;
    }
}

/* ---- the window in configuration space, for software that has mapped no BAR ---- */

static void window_access(struct pci_function *function, unsigned offset, unsigned bytes,
                          bool is_write)
{
    struct virtio_pci *pci = pci_of(function);
    u8 *window = function->config + pci->window_capability;
    unsigned data = pci->window_capability + CAP_BODY;
    if (offset >= data + 4 || offset + bytes <= data || window[CAP_BAR] != BAR_REGISTERS)
        return;
    u32 at = load_le32(window + CAP_AT), length = load_le32(window + CAP_BYTES);
    if ((length != 1 && length != 2 && length != 4) || at % length != 0 || at >= BAR_BYTES)
        return;
    if (is_write)
        registers_write(function, BAR_REGISTERS, at, length, load_le32(window + CAP_BODY));
    else
        store_le32(window + CAP_BODY, (u32)registers_read(function, BAR_REGISTERS, at, length));
}

static void config_access(struct pci_function *function, unsigned offset, unsigned bytes,
                          bool is_write)
{
    if (is_write && offset < PCI_COMMAND + 2 && offset + bytes > PCI_COMMAND)
        virtio_bus_master(pci_of(function)->vdev,
                          pci_command_has(function, PCI_COMMAND_BUS_MASTER));
    window_access(function, offset, bytes, is_write);
}

/* ---- life ---- */

static void function_reset(struct pci_function *function)
{
    virtio_bus_master(pci_of(function)->vdev, false);
    status_write(pci_of(function), 0);
}

static void function_save(struct pci_function *function, struct state_writer *writer)
{
    struct virtio_pci *pci = pci_of(function);
    state_save(writer, virtio_pci_state, pci);
    virtio_save(pci->vdev, writer);
}

static int function_load(struct pci_function *function, struct state_reader *reader,
                         struct err *err)
{
    struct virtio_pci *pci = pci_of(function);
    int result = state_load(reader, virtio_pci_state, pci, err);
    if (result == 0)
        result = virtio_load(pci->vdev, reader, err);
    virtio_bus_master(pci->vdev, pci_command_has(function, PCI_COMMAND_BUS_MASTER));
    pci->config_msix_vector = vector_checked(pci, pci->config_msix_vector);
    for (unsigned i = 0; i < pci->vdev->queue_count; i++)
        pci->vdev->queues[i]->msix_vector = vector_checked(pci, pci->vdev->queues[i]->msix_vector);
    return result;
}

static void function_free(struct pci_function *function)
{
    struct virtio_pci *pci = pci_of(function);
    virtio_free(pci->vdev);
    alloc_free(pci);
}

static const struct pci_ops function_ops = {
    .bar_read = registers_read,
    .bar_write = registers_write,
    .config_access = config_access,
    .reset = function_reset,
    .save = function_save,
    .load = function_load,
    .free = function_free,
};

static u8 capability_add(struct pci_function *function, enum capability_type type, u32 at,
                         u32 bytes)
{
    unsigned body = type == CAP_NOTIFY || type == CAP_PCI ? 4 : 0;
    u8 capability = pci_capability_add(function, PCI_CAPABILITY_VENDOR, CAP_BODY + body);
    u8 *config = function->config + capability;
    config[CAP_LENGTH] = (u8)(CAP_BODY + body);
    config[CAP_TYPE] = (u8)type;
    config[CAP_BAR] = BAR_REGISTERS;
    store_le32(config + CAP_AT, at);
    store_le32(config + CAP_BYTES, bytes);
    return capability;
}

static void capabilities_add(struct virtio_pci *pci)
{
    struct pci_function *function = &pci->function;
    capability_add(function, CAP_COMMON, AT_COMMON, COMMON_BYTES);
    capability_add(function, CAP_ISR, AT_ISR, 1);
    if (pci->vdev->config_bytes > 0)
        capability_add(function, CAP_DEVICE, AT_DEVICE, pci->vdev->config_bytes);
    u8 notify = capability_add(function, CAP_NOTIFY, AT_NOTIFY,
                               (u32)pci->vdev->queue_count * NOTIFY_MULTIPLIER);
    store_le32(function->config + notify + CAP_BODY, NOTIFY_MULTIPLIER);
    u8 window = capability_add(function, CAP_PCI, 0, 0);
    pci->window_capability = window;
    function->write_mask[window + CAP_BAR] = 0xff;
    __builtin_memset(function->write_mask + window + CAP_AT, 0xff, CAP_BODY + 4 - CAP_AT);
}

static u32 class_code(enum virtio_device_id id)
{
    switch (id) {
    case VIRTIO_ID_NET:
        return 0x020000; /* Ethernet controller */
    case VIRTIO_ID_BLK:
        return 0x010000; /* SCSI storage, as other virtio machines say */
    case VIRTIO_ID_CONSOLE:
        return 0x078000; /* communication controller, other */
    case VIRTIO_ID_INPUT:
        return 0x098000; /* input device, other */
    default:
        return 0x00ff00; /* unclassified */
    }
}

struct pci_function *virtio_pci_new(struct virtio_dev *vdev, struct mem *mem,
                                    struct vm_clock *clock)
{
    if (vdev == NULL)
        return NULL;
    struct virtio_pci *pci = new0(struct virtio_pci);
    if (pci == NULL) {
        virtio_free(vdev);
        return NULL;
    }
    struct pci_ids ids = {.vendor = 0x1af4,
                          .device = (u16)(0x1040 + vdev->ops->device_id),
                          .subsystem_vendor = 0x1af4,
                          .subsystem = (u16)(0x1040 + vdev->ops->device_id),
                          .class_code = class_code(vdev->ops->device_id),
                          .revision = 1};
    pci_function_init(&pci->function, &function_ops, &ids, &vdev->lock);
    pci->function.name = vdev->ops->name;
    pci->vdev = vdev;
    pci->config_msix_vector = VIRTQ_NO_VECTOR;
    struct virtio_wiring wiring = {mem, clock, &transport, pci};
    if (virtio_attach(vdev, &wiring) < 0)
        goto fail;
    pci->function.config[PCI_INTERRUPT_PIN] = 1;
    pci_bar_define(&pci->function, BAR_REGISTERS, PCI_BAR_MEMORY32, BAR_BYTES);
    unsigned vector_count = (unsigned)min_u64(vdev->queue_count + 1u, MSIX_VECTORS_MAX);
    if (pci_msix_define(&pci->function, BAR_MSIX, vector_count) < 0)
        goto fail;
    capabilities_add(pci);
    return &pci->function;
fail:
    function_free(&pci->function);
    return NULL;
}
