/*
 * dev/pci/host_bridge.c - turns port and ECAM accesses into configuration accesses.
 *
 * Spec   PCI Local Bus Specification 3.0, section 3.2.2.3.2 (CONFIG_ADDRESS and CONFIG_DATA);
 *        PCI Firmware Specification 3.0, section 4.1 (ECAM); the reset control register at 0xCF9 as
 *        Intel chip sets have it (bit 1: hard, bit 2: reset now).
 * Runs   on vCPU threads.
 * Trust  the guest names any bus, slot, function and register. What is not there reads as ones.
 *
 *   CONFIG_ADDRESS  31 enable | 30:24 0 | 23:16 bus | 15:11 slot | 10:8 function | 7:2 register | 0
 *   ECAM offset     27:20 bus | 19:15 slot | 14:12 function | 11:0 register
 */
#include "dev/pci/host_bridge.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "core/bus.h"
#include "dev/pci/pci_bus.h"

enum { PORT_ADDRESS = 0xcf8, PORT_BYTES = 8, OFFSET_RESET = 1, OFFSET_DATA = 4 };
enum { ADDRESS_WRITABLE = 0x00fffffc, RESET_NOW = 4, RESET_WRITABLE = 0x0e };
enum { ECAM_BUS_BYTES = 1 << 20, ECAM_FUNCTION_BYTES = 4096 };
#define ADDRESS_ENABLE 0x80000000u

const struct field host_bridge_state[] = {
    FIELD(struct host_bridge, address),
    FIELD(struct host_bridge, reset_control),
    FIELD_END,
};

static u32 function_read(struct pci_function *function, unsigned offset, unsigned bytes)
{
    /* Extended configuration space (above byte 255) belongs to PCI Express functions only. */
    if (function == NULL || offset + bytes > PCI_CONFIG_BYTES)
        return UINT32_MAX;
    lock_acquire(function->lock);
    u32 value = pci_config_read(function, offset, bytes);
    lock_release(function->lock);
    return value;
}

static void function_write(struct pci_function *function, unsigned offset, unsigned bytes,
                           u32 value)
{
    if (function == NULL || offset + bytes > PCI_CONFIG_BYTES)
        return;
    lock_acquire(function->lock);
    pci_config_write(function, offset, bytes, value);
    lock_release(function->lock);
}

/* The function that CONFIG_ADDRESS selects. */
static struct pci_function *port_target(struct host_bridge *bridge)
{
    u32 address = bridge->address;
    if (!(address & ADDRESS_ENABLE) || bits_get(address, 16, 8) != 0)
        return NULL;
    return pci_bus_find(bridge->bus, (unsigned)bits_get(address, 11, 5),
                        (unsigned)bits_get(address, 8, 3));
}

static u64 port_read(void *device, u64 offset, unsigned bytes)
{
    struct host_bridge *bridge = device;
    if (offset >= OFFSET_DATA && offset + bytes <= PORT_BYTES)
        return function_read(port_target(bridge),
                             (bridge->address & 0xfc) + (unsigned)(offset - OFFSET_DATA), bytes);
    if (offset == 0 && bytes == 4)
        return bridge->address;
    if (offset == OFFSET_RESET && bytes == 1)
        return bridge->reset_control;
    return UINT64_MAX;
}

static void port_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct host_bridge *bridge = device;
    if (offset >= OFFSET_DATA && offset + bytes <= PORT_BYTES) {
        function_write(port_target(bridge),
                       (bridge->address & 0xfc) + (unsigned)(offset - OFFSET_DATA), bytes,
                       (u32)value);
    } else if (offset == 0 && bytes == 4) {
        bridge->address = (u32)value & (ADDRESS_ENABLE | ADDRESS_WRITABLE);
    } else if (offset == OFFSET_RESET && bytes == 1) {
        bridge->reset_control = (u8)value & RESET_WRITABLE;
        if ((value & RESET_NOW) && bridge->reset)
            bridge->reset(bridge->reset_ctx);
    }
}

static struct pci_function *ecam_target(struct host_bridge *bridge, u64 offset)
{
    if (offset >= ECAM_BUS_BYTES)
        return NULL;
    return pci_bus_find(bridge->bus, (unsigned)bits_get(offset, 15, 5),
                        (unsigned)bits_get(offset, 12, 3));
}

static u64 ecam_read(void *device, u64 offset, unsigned bytes)
{
    struct pci_function *function = ecam_target(device, offset);
    unsigned at = offset % ECAM_FUNCTION_BYTES;
    if (bytes == 8)
        return function_read(function, at, 4) | (u64)function_read(function, at + 4, 4) << 32;
    return function_read(function, at, bytes);
}

static void ecam_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct pci_function *function = ecam_target(device, offset);
    unsigned at = offset % ECAM_FUNCTION_BYTES;
    function_write(function, at, bytes == 8 ? 4 : bytes, (u32)value);
    if (bytes == 8)
        function_write(function, at + 4, 4, (u32)(value >> 32));
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};

int host_bridge_init(struct host_bridge *bridge, struct pci_bus *bus,
                     const struct pci_bus_config *config, struct err *err)
{
    *bridge = (struct host_bridge){
        .bus = bus, .reset = config->reset, .reset_ctx = config->reset_ctx, .memory = config->bus};
    struct bus_range ports = {PORT_ADDRESS, PORT_BYTES,    &port_ops,
                              bridge,       &bridge->lock, "pci-config"};
    int result = bus_add(config->bus, BUS_PORT, &ports);
    if (result < 0)
        return err_set(err, result, "PCI host bridge: ports 0xcf8 to 0xcff are taken");
    if (config->ecam_base == 0)
        return 0;
    result = host_bridge_move_ecam(bridge, config->ecam_base, config->ecam_bus_count);
    if (result == -EINVAL)
        return err_set(err, -EINVAL, "PCI host bridge: %u buses asked for; 1 to 256 are possible",
                       config->ecam_bus_count);
    if (result < 0)
        return err_set(err, result, "PCI host bridge: the ECAM window at 0x%llx is taken",
                       (unsigned long long)config->ecam_base);
    return 0;
}

int host_bridge_move_ecam(struct host_bridge *bridge, gpa_t base, unsigned bus_count)
{
    if (bridge->ecam_base != 0)
        bus_remove(bridge->memory, BUS_MMIO, bridge->ecam_base, bridge);
    bridge->ecam_base = 0;
    if (base == 0)
        return 0;
    if (bus_count == 0 || bus_count > 256)
        return -EINVAL;
    struct bus_range ecam = {base,      (u64)bus_count * ECAM_BUS_BYTES, &ecam_ops, bridge, NULL,
                             "pci-ecam"};
    int result = bus_add(bridge->memory, BUS_MMIO, &ecam);
    if (result == 0)
        bridge->ecam_base = base;
    return result;
}

void host_bridge_reset(struct host_bridge *bridge)
{
    bridge->address = 0;
    bridge->reset_control = 0;
}

/* ---- the bridge's own function, 00.0 ---- */

struct bridge_function {
    struct pci_function function;
    struct lock lock;
};

static void function_free(struct pci_function *function)
{
    alloc_free(container_of(function, struct bridge_function, function));
}

static const struct pci_ops function_ops = {.free = function_free};

struct pci_function *host_bridge_function_new(void)
{
    /* Red Hat's generic PCI host bridge: an identity that guests have no quirks for. */
    static const struct pci_ids ids = {.vendor = 0x1b36,
                                       .device = 0x0008,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x060000};
    struct bridge_function *bridge = new0(struct bridge_function);
    if (bridge == NULL)
        return NULL;
    pci_function_init(&bridge->function, &function_ops, &ids, &bridge->lock);
    bridge->function.name = "pci-host-bridge";
    return &bridge->function;
}
