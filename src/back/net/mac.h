/*
 * back/net/mac.h - the hardware address of a virtual adapter.
 */
#ifndef BACK_NET_MAC_H
#define BACK_NET_MAC_H

#include "base/types.h"

/* Six pairs of hexadecimal digits with colons; -EINVAL when TEXT is none, or is a group address. */
MUST_CHECK int mac_parse(const char *text, u8 ret_mac[6]);
/* An address that is the same whenever the same VM name and adapter index are given. */
void mac_derive(const char *vm_name, unsigned index, u8 ret_mac[6]);

#endif
