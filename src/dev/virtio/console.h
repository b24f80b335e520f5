/*
 * dev/virtio/console.h - the virtio console: a terminal (/dev/hvc0) and named byte channels.
 *
 * Port 0 is the console. Further ports have a name ("org.atoll.agent") by which the guest finds
 * them
 * (/dev/virtio-ports/NAME). The guest sees the console as always connected; a named port is
 * connected while its back end says so (chr_client.connected). What the host sends to a port that
 * the guest has not opened waits in the back end.
 *
 * Threads: virtio_console_new before vCPUs run; virtio_console_resize under the device's lock.
 * Ownership: back ends are borrowed, attached here, and freed after the device. Names are borrowed.
 */
#ifndef DEV_VIRTIO_CONSOLE_H
#define DEV_VIRTIO_CONSOLE_H

#include "base/types.h"

struct chr;
struct virtio_dev;

enum { VIRTIO_CONSOLE_PORTS_MAX = 8, VIRTIO_CONSOLE_NAME_MAX_BYTES = 64 };

struct virtio_console_port {
    const char *name; /* NULL for port 0 */
    struct chr *chr;  /* NULL: output is dropped */
};

/* A console with PORT_COUNT ports (1 to 8). NULL when memory is exhausted. */
struct virtio_dev *virtio_console_new(const struct virtio_console_port *ports, unsigned port_count);
/* The host's terminal has COLS columns and ROWS rows now. */
void virtio_console_resize(struct virtio_dev *vdev, u16 cols, u16 rows);

#endif
