/*
 * vm/backends.h - opens what the config names outside the VM: disks, networks, consoles, firmware.
 *
 * The one place that names the constructors of back ends. Runs on the loop's thread.
 */
#ifndef VM_BACKENDS_H
#define VM_BACKENDS_H

#include "base/err.h"
#include "machine/machine.h"
#include "vm/firmware.h"

struct config;
struct loop;

struct backends {
    struct chr *console; /* owned, as all below; NULL: none */
    struct chr *ports[MACHINE_PORTS_MAX];
    struct blk *disks[MACHINE_DISKS_MAX];
    struct net *nets[MACHINE_NETS_MAX];
    struct display *display; /* NULL: none */
    unsigned port_count, disk_count, net_count;
    struct firmware firmware;
};

/* What `^]` on the console does. */
struct backends_escape {
    void (*leave)(void *ctx);
    void *ctx; /* borrowed */
};

/* Opens everything and names it in MACHINE; on failure everything is closed again. */
MUST_CHECK int backends_open(struct backends *ret_backends, const struct config *config,
                             struct loop *loop, const struct backends_escape *escape,
                             struct machine_config *machine, struct err *err);
/* Lets viewers of the screen in; the machine is built. */
MUST_CHECK int backends_start(struct backends *backends, struct err *err);
/* Nobody looks at the machine any more: before it is freed. */
void backends_stop(struct backends *backends);
/* Returns when no request is in flight. */
void backends_drain(struct backends *backends);
void backends_close(struct backends *backends);

#endif
