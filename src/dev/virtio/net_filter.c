/*
 * dev/virtio/net_filter.c - receive modes and the address table of a network adapter.
 *
 * Spec   virtio 1.2, sections 5.1.6.5.1 and 5.1.6.5.2.
 * Runs   under the device's lock.
 * Trust  modes and addresses come from the guest, frames from the network.
 */
#include "dev/virtio/net_filter.h"

#include "base/bits.h"
#include "dev/virtio/virtq.h"

enum receive_mode { PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST, MODE_COUNT };

static bool has(const struct net_filter *filter, enum receive_mode mode)
{
    return (filter->modes >> mode) & 1;
}

void net_filter_reset(struct net_filter *filter, const u8 *mac)
{
    *filter = (struct net_filter){.modes = 1 << PROMISC};
    __builtin_memcpy(filter->mac, mac, NET_MAC_BYTES);
}

void net_filter_loaded(struct net_filter *filter)
{
    filter->modes &= (1 << MODE_COUNT) - 1;
    if (filter->address_count > NET_FILTER_ADDRESSES_MAX ||
        filter->unicast_count > filter->address_count) {
        filter->address_count = filter->unicast_count = 0;
        filter->table_overflow = 1;
    }
}

bool net_filter_mode_set(struct net_filter *filter, u8 mode, bool is_on)
{
    if (mode >= MODE_COUNT)
        return false;
    filter->modes = (u8)((filter->modes & ~(1u << mode)) | (unsigned)is_on << mode);
    return true;
}

/* Appends one list of the command to NEXT's table. */
static bool list_read(struct net_filter *next, struct chain *chain)
{
    u8 count_bytes[4];
    if (chain_read(chain, count_bytes, sizeof(count_bytes)) != sizeof(count_bytes))
        return false;
    u32 count = load_le32(count_bytes);
    if ((u64)count * NET_MAC_BYTES > chain->readable_bytes)
        return false;
    if (count > NET_FILTER_ADDRESSES_MAX - (u32)next->address_count) {
        next->table_overflow = 1;
        u64 skip = (u64)count * NET_MAC_BYTES;
        size_t part;
        while (skip > 0 && chain_take_readable(chain, skip, &part))
            skip -= part;
        return true;
    }
    for (u32 i = 0; i < count; i++)
        if (chain_read(chain, next->table[next->address_count++], NET_MAC_BYTES) != NET_MAC_BYTES)
            return false;
    return true;
}

bool net_filter_table_set(struct net_filter *filter, struct chain *chain)
{
    struct net_filter next = *filter;
    next.address_count = next.unicast_count = next.table_overflow = 0;
    if (!list_read(&next, chain))
        return false;
    next.unicast_count = next.address_count;
    if (!list_read(&next, chain))
        return false;
    *filter = next;
    return true;
}

static bool same(const u8 *a, const u8 *b)
{
    return load_le32(a) == load_le32(b) && load_le16(a + 4) == load_le16(b + 4);
}

bool net_filter_accepts(const struct net_filter *filter, const u8 *frame)
{
    static const u8 broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (has(filter, PROMISC))
        return true;
    if (same(frame, broadcast))
        return !has(filter, NOBCAST);
    bool multicast = frame[0] & 1;
    if (has(filter, multicast ? NOMULTI : NOUNI))
        return false;
    if (has(filter, multicast ? ALLMULTI : ALLUNI) || filter->table_overflow)
        return true;
    if (!multicast && same(frame, filter->mac))
        return true;
    unsigned first = multicast ? filter->unicast_count : 0;
    unsigned end = multicast ? filter->address_count : filter->unicast_count;
    for (unsigned i = first; i < end; i++)
        if (same(frame, filter->table[i]))
            return true;
    return false;
}
