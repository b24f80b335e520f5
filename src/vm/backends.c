/*
 * vm/backends.c - opens disks, networks and consoles, and tells the machine of them.
 *
 * Runs   on the loop's thread, before vCPUs start and after they have stopped.
 * Trust  paths are the user's own.
 */
#include "vm/backends.h"

#include <errno.h>
#include <string.h>

#include "back/blk.h"
#include "back/blk/qcow2.h"
#include "back/blk/raw.h"
#include "back/chr.h"
#include "back/chr/null.h"
#include "back/chr/stdio.h"
#include "back/chr/unix.h"
#include "back/display.h"
#include "back/display/vnc.h"
#include "back/entropy/getrandom.h"
#include "back/img/img.h"
#include "back/net.h"
#include "back/net/mac.h"
#include "back/net/none.h"
#include "back/net/tap.h"
#include "back/net/user.h"
#include "base/fmt.h"
#include "vm/config.h"

static int open_console(struct backends *backends, const struct config *config, struct loop *loop,
                        const struct backends_escape *escape, struct err *err)
{
    if (config->has_console) {
        backends->console = chr_stdio_new(loop, escape->leave, escape->ctx, err);
        return backends->console ? 0 : -EIO;
    }
    backends->console = chr_null_new();
    return backends->console ? 0 : err_set(err, -ENOMEM, "no memory for the console");
}

static int open_ports(struct backends *backends, const struct config *config, struct loop *loop,
                      struct machine_config *machine, struct err *err)
{
    for (unsigned i = 0; i < config->port_count; i++) {
        struct chr *chr = chr_unix_take(loop, config->ports[i].fd, err);
        if (!chr)
            return -EIO;
        backends->ports[backends->port_count++] = chr;
        machine->ports[machine->port_count++] = (struct machine_port){.name = config->ports[i].name,
                                                                      .chr = chr};
    }
    return 0;
}

static struct blk *open_disk(const struct config_disk *disk, struct loop *loop, struct err *err)
{
    const char *const folders[] = {disk->backing, NULL};
    const struct blk_raw_options raw = {.path = disk->path,
                                        .read_only = disk->read_only,
                                        .snapshot = disk->snapshot,
                                        .direct = disk->direct};
    const struct blk_qcow2_options qcow2 = {.path = disk->path,
                                            .read_only = disk->read_only,
                                            .snapshot = disk->snapshot,
                                            .direct = disk->direct,
                                            .data_path = disk->data,
                                            .folders = folders};
    static const enum img_format formats[] = {
        [CONFIG_FORMAT_RAW] = IMG_RAW,
        [CONFIG_FORMAT_QCOW2] = IMG_QCOW2,
        [CONFIG_FORMAT_AUTO] = IMG_BY_NAME,
    };
    enum img_format format;
    if (img_format_of(disk->path, formats[disk->format], &format, err) != 0)
        return NULL;
    return format == IMG_QCOW2 ? blk_qcow2_new(loop, &qcow2, err) : blk_raw_new(loop, &raw, err);
}

static int open_disks(struct backends *backends, const struct config *config, struct loop *loop,
                      struct machine_config *machine, struct err *err)
{
    for (unsigned i = 0; i < config->disk_count; i++) {
        struct blk *blk = open_disk(&config->disks[i], loop, err);
        if (!blk)
            return -EIO;
        backends->disks[backends->disk_count++] = blk;
        machine->disks[machine->disk_count++] = blk;
    }
    return 0;
}

static struct net *open_user_net(const struct config_net *net, struct loop *loop, struct err *err)
{
    struct net_forward forwards[VM_CONFIG_FORWARDS_MAX];

    for (unsigned i = 0; i < net->forward_count; i++) {
        const struct config_forward *from = &net->forwards[i];
        forwards[i] = (struct net_forward){
            .is_udp = from->is_udp, .host_port = from->host_port, .guest_port = from->guest_port};
        if (fmt_text(forwards[i].host_address, sizeof(forwards[i].host_address), "%s",
                     from->host_address) >= sizeof(forwards[i].host_address)) {
            err_set(err, -EINVAL, "network: '%.64s' is no IPv4 address", from->host_address);
            return NULL;
        }
    }
    return net_user_new(loop, forwards, net->forward_count, err);
}

static struct net *open_net(const struct config_net *net, struct loop *loop, struct err *err)
{
    struct net *none;

    switch (net->kind) {
    case CONFIG_NET_USER:
        return open_user_net(net, loop, err);
    case CONFIG_NET_TAP:
        return net_tap_new(loop, net->tap, err);
    case CONFIG_NET_NONE:
        break;
    }
    none = net_none_new();
    if (!none)
        err_set(err, -ENOMEM, "no memory for the network");
    return none;
}

static int open_nets(struct backends *backends, const struct config *config, struct loop *loop,
                     struct machine_config *machine, struct err *err)
{
    for (unsigned i = 0; i < config->net_count; i++) {
        struct net *net = open_net(&config->nets[i], loop, err);
        if (!net)
            return -EIO;
        if (config->nets[i].has_mac)
            memcpy(net->mac, config->nets[i].mac, sizeof(net->mac));
        else
            mac_derive(config->name, i, net->mac);
        backends->nets[backends->net_count++] = net;
        machine->nets[machine->net_count++] = net;
    }
    return 0;
}

static int open_display(struct backends *backends, const struct config *config,
                        struct machine_config *machine, struct err *err)
{
    const struct vnc_options options = {.name = config->name,
                                        .addresses = config->vnc,
                                        .address_count = config->vnc_count,
                                        .password = config->vnc_password};

    if (!config->has_display)
        return 0;
    backends->display = vnc_new(&options, err);
    machine->display = backends->display;
    return backends->display ? 0 : -EIO;
}

int backends_open(struct backends *ret_backends, const struct config *config, struct loop *loop,
                  const struct backends_escape *escape, struct machine_config *machine,
                  struct err *err)
{
    struct backends backends = {.firmware = {.store_fd = -1}};

    for (unsigned i = 0; i < config->boot_count; i++)
        machine->boot[machine->boot_count++] = (struct machine_boot_device){
            .is_net = config->boot[i].is_net, .index = config->boot[i].index};
    int r = open_disks(&backends, config, loop, machine, err);
    if (r == 0)
        r = open_ports(&backends, config, loop, machine, err);
    if (r == 0)
        r = open_nets(&backends, config, loop, machine, err);
    if (r == 0)
        r = firmware_open(&backends.firmware, config, machine, err);
    if (r == 0)
        r = open_display(&backends, config, machine, err);
    /* The console comes last: from here on messages would meet a terminal in raw mode. */
    if (r == 0)
        r = open_console(&backends, config, loop, escape, err);
    if (r < 0) {
        backends_close(&backends);
        return r;
    }
    machine->console = backends.console;
    machine->entropy = entropy_getrandom();
    *ret_backends = backends;
    return 0;
}

int backends_start(struct backends *backends, struct err *err)
{
    return backends->display ? backends->display->ops->start(backends->display, err) : 0;
}

void backends_stop(struct backends *backends)
{
    if (backends->display)
        backends->display->ops->stop(backends->display);
}

void backends_drain(struct backends *backends)
{
    for (unsigned i = 0; i < backends->disk_count; i++)
        backends->disks[i]->ops->drain(backends->disks[i]);
}

void backends_close(struct backends *backends)
{
    for (unsigned i = 0; i < backends->net_count; i++)
        backends->nets[i]->ops->free(backends->nets[i]);
    for (unsigned i = 0; i < backends->disk_count; i++)
        backends->disks[i]->ops->free(backends->disks[i]);
    for (unsigned i = 0; i < backends->port_count; i++)
        backends->ports[i]->ops->free(backends->ports[i]);
    if (backends->display)
        backends->display->ops->free(backends->display);
    if (backends->console)
        backends->console->ops->free(backends->console);
    firmware_close(&backends->firmware);
    *backends = (struct backends){.firmware = {.store_fd = -1}};
}
