/*
 * dev/pci/host_bridge.h - the way to configuration space: ports 0xCF8 to 0xCFF and the ECAM window.
 *
 * Threads: vCPU threads; the ports under the bridge's lock, ECAM under the function's only.
 */
#ifndef DEV_PCI_HOST_BRIDGE_H
#define DEV_PCI_HOST_BRIDGE_H

#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"
#include "core/state.h"

struct bus;
struct pci_bus;
struct pci_bus_config;
struct pci_function;

struct host_bridge {
    struct lock lock;    /* of the port registers */
    struct pci_bus *bus; /* borrowed */
    void (*reset)(void *ctx);
    void *reset_ctx; /* borrowed */
    u32 address;     /* CONFIG_ADDRESS, port 0xCF8 */
    u8 reset_control;
    struct bus *memory; /* borrowed: where the ECAM window goes */
    gpa_t ecam_base;    /* 0: there is none */
};

extern const struct field host_bridge_state[];

/* Puts the bridge on config->bus. */
MUST_CHECK int host_bridge_init(struct host_bridge *bridge, struct pci_bus *bus,
                                const struct pci_bus_config *config, struct err *err);
void host_bridge_reset(struct host_bridge *bridge);
/* Puts the ECAM window of BUS_COUNT buses to BASE, or takes it away (BASE 0). -EINVAL for a count
 * beyond 256, -EBUSY when the place is taken: then there is no window. */
MUST_CHECK int host_bridge_move_ecam(struct host_bridge *bridge, gpa_t base, unsigned bus_count);
/* The function that stands for the bridge in configuration space; NULL when memory is exhausted. */
struct pci_function *host_bridge_function_new(void);

#endif
