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
};

extern const struct field host_bridge_state[];

/* Puts the bridge on config->bus. */
MUST_CHECK int host_bridge_init(struct host_bridge *bridge, struct pci_bus *bus,
                                const struct pci_bus_config *config, struct err *err);
void host_bridge_reset(struct host_bridge *bridge);
/* The function that stands for the bridge in configuration space; NULL when memory is exhausted. */
struct pci_function *host_bridge_function_new(void);

#endif
