/*
 * agent/port.c - frames through the virtio-console port that leads to the host.
 *
 * The port is found by its name in sysfs, so that the agent needs no udev rule to have run.
 * Runs   on the agent's only thread.
 */
#include "agent/port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/vm_config.h"

enum { RETRY_US = 100000 };

#define PORTS_FOLDER "/sys/class/virtio-ports"

/* True when the port DEVICE ("vport0p1") has our name. */
static bool has_our_name(const char *device)
{
    char path[300], name[64] = "";
    snprintf(path, sizeof(path), PORTS_FOLDER "/%.64s/name", device);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, name, sizeof(name) - 1);
    close(fd);
    size_t length = strlen(VM_CONFIG_AGENT_PORT);
    return got >= (ssize_t)length && strncmp(name, VM_CONFIG_AGENT_PORT, length) == 0 &&
           (name[length] == '\n' || name[length] == '\0');
}

static int try_open(void)
{
    int fd = -1;
    struct dirent *entry;
    DIR *folder = opendir(PORTS_FOLDER);
    if (folder == NULL)
        return -1;
    while (fd < 0 && (entry = readdir(folder)) != NULL) {
        char path[300];
        if (entry->d_name[0] == '.' || !has_our_name(entry->d_name))
            continue;
        snprintf(path, sizeof(path), "/dev/%.64s", entry->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    closedir(folder);
    return fd;
}

void port_open(struct port *port)
{
    while ((port->fd = try_open()) < 0)
        usleep(RETRY_US);
    port->in_bytes = port->out_bytes = 0;
}

void port_close(struct port *port)
{
    close(port->fd);
    port->fd = -1;
}

bool port_has_room(const struct port *port)
{
    return sizeof(port->out) - port->out_bytes >= AGENT_HEADER_BYTES + AGENT_PAYLOAD_MAX;
}

void port_put(struct port *port, enum agent_type type, const void *payload, u32 bytes)
{
    agent_header(port->out + port->out_bytes, type, bytes);
    if (bytes > 0)
        memcpy(port->out + port->out_bytes + AGENT_HEADER_BYTES, payload, bytes);
    port->out_bytes += AGENT_HEADER_BYTES + bytes;
}

bool port_send(struct port *port)
{
    while (port->out_bytes > 0) {
        ssize_t put = write(port->fd, port->out, port->out_bytes);
        if (put < 0)
            return errno == EAGAIN || errno == EINTR;
        port->out_bytes -= (size_t)put;
        memmove(port->out, port->out + put, port->out_bytes);
    }
    return true;
}

bool port_receive(struct port *port)
{
    if (port->in_bytes == sizeof(port->in))
        return true;
    ssize_t got = read(port->fd, port->in + port->in_bytes, sizeof(port->in) - port->in_bytes);
    if (got > 0)
        port->in_bytes += (size_t)got;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

int port_take(struct port *port, struct port_frame *ret_frame)
{
    if (port->in_bytes < AGENT_HEADER_BYTES)
        return 0;
    u32 bytes = load_le32(port->in + 4);
    if (bytes > AGENT_PAYLOAD_MAX || load_le16(port->in + 2) != 0)
        return -1;
    if (port->in_bytes < AGENT_HEADER_BYTES + bytes)
        return 0;
    *ret_frame = (struct port_frame){(enum agent_type)load_le16(port->in),
                                     port->in + AGENT_HEADER_BYTES, bytes};
    return 1;
}

void port_drop(struct port *port)
{
    size_t frame_bytes = AGENT_HEADER_BYTES + load_le32(port->in + 4);
    port->in_bytes -= frame_bytes;
    memmove(port->in, port->in + frame_bytes, port->in_bytes);
}
