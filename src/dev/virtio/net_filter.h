/*
 * dev/virtio/net_filter.h - which frames a network adapter hands to its guest.
 *
 * Threads: under the device's lock.
 */
#ifndef DEV_VIRTIO_NET_FILTER_H
#define DEV_VIRTIO_NET_FILTER_H

#include "base/types.h"

struct chain;

enum { NET_FILTER_ADDRESSES_MAX = 64, NET_MAC_BYTES = 6 };

/* Saved as it stands: bytes only, no padding. */
struct net_filter {
    u8 mac[NET_MAC_BYTES];
    u8 modes;          /* bit per receive mode command */
    u8 table_overflow; /* the driver gave more addresses than fit: let all pass that could match */
    u8 unicast_count;  /* the table's first entries */
    u8 address_count;
    u8 table[NET_FILTER_ADDRESSES_MAX][NET_MAC_BYTES];
};

/* Lets everything pass, as before a driver has said what it wants. */
void net_filter_reset(struct net_filter *filter, const u8 *mac);
/* Brings loaded counts into their range. */
void net_filter_loaded(struct net_filter *filter);
/* Command MODE of class VIRTIO_NET_CTRL_RX; false when it does not exist. */
bool net_filter_mode_set(struct net_filter *filter, u8 mode, bool is_on);
/* Reads the two address lists of VIRTIO_NET_CTRL_MAC_TABLE_SET; false (and no change) when short.
 */
bool net_filter_table_set(struct net_filter *filter, struct chain *chain);
/* FRAME has at least six bytes. */
bool net_filter_accepts(const struct net_filter *filter, const u8 *frame);

#endif
