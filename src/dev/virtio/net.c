/*
 * dev/virtio/net.c - the network adapter: moves Ethernet frames between rings and a network back
 * end.
 *
 * Spec   virtio 1.2, section 5.1 "Network Device". One pair of queues and the control queue.
 * Runs   sends on vCPU threads or the loop, receives on the loop; under the device's lock.
 * Trust  frames, headers and control commands are the guest's; frames from the back end are bounded
 *        by NET_FRAME_MAX_BYTES and otherwise hostile.
 *
 * Frames are sent without a copy. When the guest has no receive buffer, frames wait in the host's
 * queue (rx_ready says no) until the guest notifies of new buffers.
 */
#include "dev/virtio/net.h"

#include "back/net.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/virtio/net_filter.h"
#include "dev/virtio/virtio.h"

enum { QUEUE_SIZE = 256, QUEUE_RX = 0, QUEUE_TX = 1, QUEUE_CONTROL = 2, QUEUE_COUNT = 3 };
enum { HEADER_BYTES = 12, HEADER_BUFFERS = 10, FRAME_MIN_BYTES = 14 };
enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_PAIRS = 8, CONFIG_MTU = 10, CONFIG_BYTES = 12 };
enum { STATUS_LINK_UP = 1, STATUS_ANNOUNCE = 2, MTU_MIN_BYTES = 68 };

enum net_feature { /* bit numbers */
                   F_CSUM = 0,
                   F_GUEST_CSUM = 1,
                   F_MTU = 3,
                   F_MAC = 5,
                   F_GUEST_TSO4 = 7,
                   F_GUEST_TSO6 = 8,
                   F_GUEST_ECN = 9,
                   F_HOST_TSO4 = 11,
                   F_HOST_TSO6 = 12,
                   F_HOST_ECN = 13,
                   F_MRG_RXBUF = 15,
                   F_STATUS = 16,
                   F_CTRL_VQ = 17,
                   F_CTRL_RX = 18,
                   F_CTRL_RX_EXTRA = 20,
                   F_GUEST_ANNOUNCE = 21,
                   F_CTRL_MAC_ADDR = 23,
};

enum control_class { CLASS_RX = 0, CLASS_MAC = 1, CLASS_ANNOUNCE = 3 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, ANNOUNCE_ACK = 0, CONTROL_OK = 0, CONTROL_ERR = 1 };

struct virtio_net {
    struct virtio_dev vdev;
    struct net *net; /* borrowed */
    struct net_filter filter;
    u8 mac_was_set; /* the guest chose filter.mac itself */
    u8 announce;    /* the guest was asked to announce itself and has not answered */
    bool link_down;
    bool rx_waiting; /* the back end waits for net_rx_resume */
    u64 dropped_count;
    /* Scratch, too large for the stack together. */
    struct chain first_chain, chain;
    struct net_segment segments[CHAIN_SEGMENTS_MAX + 1];
};

static const struct field net_state[] = {
    FIELD(struct virtio_net, filter),
    FIELD(struct virtio_net, mac_was_set),
    FIELD(struct virtio_net, announce),
    FIELD_END,
};

static struct virtio_net *nic_of(struct virtio_dev *vdev)
{
    return container_of(vdev, struct virtio_net, vdev);
}

/* ---- sending ---- */

/* What the driver did not negotiate, the back end does not get to see. */
static void header_clean(const struct virtio_dev *vdev, u8 *header)
{
    if (!virtio_has(vdev, F_CSUM))
        __builtin_memset(header, 0, HEADER_BUFFERS);
    store_le16(header + HEADER_BUFFERS, 0);
}

static void frame_send(struct virtio_net *nic, struct chain *chain)
{
    struct net *net = nic->net;
    u8 header[HEADER_BYTES];
    unsigned count = 0;
    if (chain_read(chain, header, HEADER_BYTES) != HEADER_BYTES) {
        virtio_broken(&nic->vdev, "a frame shorter than its header");
        return;
    }
    u64 frame_bytes = chain->readable_bytes;
    if (frame_bytes < FRAME_MIN_BYTES || frame_bytes > NET_FRAME_MAX_BYTES - HEADER_BYTES ||
        nic->link_down) {
        nic->dropped_count++;
        return;
    }
    if (net->vnet_header) {
        header_clean(&nic->vdev, header);
        nic->segments[count++] = (struct net_segment){header, HEADER_BYTES};
    }
    size_t part;
    const void *data;
    while ((data = chain_take_readable(chain, SIZE_MAX, &part)) != NULL)
        nic->segments[count++] = (struct net_segment){data, part};
    net->ops->send(net, nic->segments, count);
}

static void transmit(struct virtio_net *nic)
{
    struct virtq *vq = nic->vdev.queues[QUEUE_TX];
    while (virtq_pop(vq, &nic->chain)) {
        frame_send(nic, &nic->chain);
        virtq_push(vq, &nic->chain, 0);
    }
    virtq_interrupt(vq);
}

/* ---- receiving ---- */

static bool rx_ready(void *ctx)
{
    struct virtio_net *nic = ctx;
    nic->rx_waiting = !virtq_has_work(nic->vdev.queues[QUEUE_RX]);
    return !nic->rx_waiting;
}

/* Writes the header and remembers where the two bytes of num_buffers went. */
static bool header_write(struct chain *chain, const u8 *header, u8 *ret_buffers[2])
{
    size_t part;
    if (chain_write(chain, header, HEADER_BUFFERS) != HEADER_BUFFERS)
        return false;
    for (unsigned i = 0; i < 2; i++) {
        ret_buffers[i] = chain_take_writable(chain, 1, &part);
        if (ret_buffers[i] == NULL)
            return false;
        *ret_buffers[i] = 0;
    }
    return true;
}

/* Spreads FRAME over further buffers after the first; returns how many buffers there are in all, or
 * 0 when the guest has not given enough. The buffers are filled in, not yet shown. */
static unsigned frame_spread(struct virtio_net *nic, const u8 *frame, size_t bytes)
{
    struct virtq *vq = nic->vdev.queues[QUEUE_RX];
    size_t done = chain_write(&nic->first_chain, frame, bytes);
    unsigned count = 1;
    virtq_fill(vq, &nic->first_chain, (u32)(HEADER_BYTES + done), 0);
    while (done < bytes) {
        if (!virtio_has(&nic->vdev, F_MRG_RXBUF) || !virtq_pop(vq, &nic->chain)) {
            virtq_unpop(vq, count);
            return 0;
        }
        size_t part = chain_write(&nic->chain, frame + done, bytes - done);
        virtq_fill(vq, &nic->chain, (u32)part, count++);
        done += part;
        if (part == 0) {
            virtio_broken(&nic->vdev, "a receive buffer with no writable byte");
            return 0;
        }
    }
    return count;
}

static void rx(void *ctx, const void *data, size_t bytes)
{
    struct virtio_net *nic = ctx;
    struct virtq *vq = nic->vdev.queues[QUEUE_RX];
    static const u8 no_header[HEADER_BYTES];
    const u8 *header = no_header, *frame = data;
    u8 *buffers[2];
    if (nic->net->vnet_header) {
        if (bytes < HEADER_BYTES)
            return;
        header = frame;
        frame += HEADER_BYTES;
        bytes -= HEADER_BYTES;
    }
    if (bytes < FRAME_MIN_BYTES || nic->link_down ||
        (virtio_has(&nic->vdev, F_CTRL_RX) && !net_filter_accepts(&nic->filter, frame)))
        return;
    if (!virtq_pop(vq, &nic->first_chain)) {
        nic->dropped_count++;
        return;
    }
    if (!header_write(&nic->first_chain, header, buffers)) {
        virtio_broken(&nic->vdev, "a receive buffer shorter than the header");
        return;
    }
    unsigned count = frame_spread(nic, frame, bytes);
    if (count == 0) {
        nic->dropped_count++;
        return;
    }
    *buffers[0] = (u8)count;
    *buffers[1] = (u8)(count >> 8);
    virtq_publish(vq, count);
    virtq_interrupt(vq);
}

static void rx_resume(struct virtio_net *nic)
{
    if (!nic->rx_waiting)
        return;
    nic->rx_waiting = false;
    nic->net->ops->rx_resume(nic->net);
}

/* ---- control ---- */

static void config_fill(struct virtio_net *nic)
{
    u8 *config = nic->vdev.config;
    __builtin_memcpy(config + CONFIG_MAC, nic->filter.mac, sizeof(nic->filter.mac));
    store_le16(config + CONFIG_STATUS, (u16)((nic->link_down ? 0 : STATUS_LINK_UP) |
                                             (nic->announce ? STATUS_ANNOUNCE : 0)));
    store_le16(config + CONFIG_PAIRS, 1);
    store_le16(config + CONFIG_MTU, nic->net->mtu);
}

static u8 mac_command(struct virtio_net *nic, u8 command, struct chain *chain)
{
    u8 mac[6];
    if (command == MAC_TABLE_SET && virtio_has(&nic->vdev, F_CTRL_RX))
        return net_filter_table_set(&nic->filter, chain) ? CONTROL_OK : CONTROL_ERR;
    if (command != MAC_ADDR_SET || !virtio_has(&nic->vdev, F_CTRL_MAC_ADDR) ||
        chain_read(chain, mac, sizeof(mac)) != sizeof(mac))
        return CONTROL_ERR;
    __builtin_memcpy(nic->filter.mac, mac, sizeof(mac));
    nic->mac_was_set = 1;
    config_fill(nic);
    return CONTROL_OK;
}

static u8 control_command(struct virtio_net *nic, struct chain *chain)
{
    u8 command[2], flag;
    if (chain_read(chain, command, sizeof(command)) != sizeof(command))
        return CONTROL_ERR;
    switch (command[0]) {
    case CLASS_RX:
        if (!virtio_has(&nic->vdev, F_CTRL_RX) || chain_read(chain, &flag, 1) != 1 ||
            !net_filter_mode_set(&nic->filter, command[1], flag != 0))
            return CONTROL_ERR;
        return CONTROL_OK;
    case CLASS_MAC:
        return mac_command(nic, command[1], chain);
    case CLASS_ANNOUNCE:
        if (command[1] != ANNOUNCE_ACK || !virtio_has(&nic->vdev, F_GUEST_ANNOUNCE))
            return CONTROL_ERR;
        nic->announce = 0;
        config_fill(nic);
        return CONTROL_OK;
    default:
        return CONTROL_ERR;
    }
}

static void control(struct virtio_net *nic)
{
    struct virtq *vq = nic->vdev.queues[QUEUE_CONTROL];
    struct chain *chain = &nic->chain;
    while (virtq_pop(vq, chain)) {
        u8 status = control_command(nic, chain);
        if (chain_write(chain, &status, 1) != 1) {
            virtio_broken(&nic->vdev, "a control command with no room for its answer");
            return;
        }
        virtq_push(vq, chain, 1);
    }
    virtq_interrupt(vq);
}

static void net_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct virtio_net *nic = nic_of(vdev);
    if (queue == QUEUE_RX)
        rx_resume(nic);
    else if (queue == QUEUE_TX)
        transmit(nic);
    else
        control(nic);
}

void virtio_net_link(struct virtio_dev *vdev, bool is_up)
{
    struct virtio_net *nic = nic_of(vdev);
    nic->link_down = !is_up;
    config_fill(nic);
    virtio_config_changed(vdev);
}

void virtio_net_announce(struct virtio_dev *vdev)
{
    struct virtio_net *nic = nic_of(vdev);
    if (!virtio_has(vdev, F_GUEST_ANNOUNCE) || !virtio_running(vdev))
        return;
    nic->announce = 1;
    config_fill(nic);
    virtio_config_changed(vdev);
}

/* ---- life ---- */

static u32 offloads(const struct virtio_dev *vdev)
{
    return (virtio_has(vdev, F_GUEST_CSUM) ? NET_OFFLOAD_CSUM : 0) |
           (virtio_has(vdev, F_GUEST_TSO4) ? NET_OFFLOAD_TSO4 : 0) |
           (virtio_has(vdev, F_GUEST_TSO6) ? NET_OFFLOAD_TSO6 : 0) |
           (virtio_has(vdev, F_GUEST_ECN) ? NET_OFFLOAD_ECN : 0);
}

static void offloads_set(struct virtio_net *nic, u32 offload_bits)
{
    if (nic->net->ops->offload)
        nic->net->ops->offload(nic->net, offload_bits);
}

static void net_reset(struct virtio_dev *vdev)
{
    struct virtio_net *nic = nic_of(vdev);
    net_filter_reset(&nic->filter, nic->net->mac);
    nic->mac_was_set = nic->announce = 0;
    offloads_set(nic, 0);
    config_fill(nic);
}

static void net_started(struct virtio_dev *vdev)
{
    offloads_set(nic_of(vdev), offloads(vdev));
}

static int net_loaded(struct virtio_dev *vdev, struct err *err)
{
    struct virtio_net *nic = nic_of(vdev);
    net_filter_loaded(&nic->filter);
    nic->announce = nic->announce != 0;
    /* Its own address comes from this machine's configuration, unless the guest chose one. */
    if (!nic->mac_was_set)
        __builtin_memcpy(nic->filter.mac, nic->net->mac, sizeof(nic->filter.mac));
    nic->rx_waiting = true;
    if (vdev->status & VIRTIO_STATUS_DRIVER_OK)
        offloads_set(nic, offloads(vdev));
    config_fill(nic);
    return 0;
}

static void net_free(struct virtio_dev *vdev)
{
    alloc_free(nic_of(vdev));
}

static const struct virtio_ops net_ops = {
    .name = "virtio-net",
    .device_id = VIRTIO_ID_NET,
    .queue_count = QUEUE_COUNT,
    .queue_size = QUEUE_SIZE,
    .state = net_state,
    .notify = net_notify,
    .reset = net_reset,
    .started = net_started,
    .loaded = net_loaded,
    .free = net_free,
};

static u64 features_of(const struct net *net)
{
    u64 features = BIT(F_MAC) | BIT(F_MRG_RXBUF) | BIT(F_STATUS) | BIT(F_CTRL_VQ) | BIT(F_CTRL_RX) |
                   BIT(F_CTRL_RX_EXTRA) | BIT(F_GUEST_ANNOUNCE) | BIT(F_CTRL_MAC_ADDR);
    if (net->mtu >= MTU_MIN_BYTES)
        features |= BIT(F_MTU);
    if (net->vnet_header)
        features |= BIT(F_CSUM) | BIT(F_HOST_TSO4) | BIT(F_HOST_TSO6) | BIT(F_HOST_ECN);
    if (net->vnet_header && net->ops->offload)
        features |= BIT(F_GUEST_CSUM) | BIT(F_GUEST_TSO4) | BIT(F_GUEST_TSO6) | BIT(F_GUEST_ECN);
    return features;
}

struct virtio_dev *virtio_net_new(struct net *net)
{
    struct virtio_net *nic = new0(struct virtio_net);
    if (nic == NULL)
        return NULL;
    struct virtio_dev *vdev = &nic->vdev;
    vdev->ops = &net_ops;
    vdev->offered_features = features_of(net);
    vdev->config_bytes = CONFIG_BYTES;
    nic->net = net;
    net_filter_reset(&nic->filter, net->mac);
    config_fill(nic);
    struct net_client client = {.rx_ready = rx_ready, .rx = rx, .ctx = nic, .lock = &vdev->lock};
    net_attach(net, &client);
    return vdev;
}
