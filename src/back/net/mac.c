/*
 * back/net/mac.c - the hardware address of a virtual adapter.
 *
 * Runs   on any thread.
 */
#include "back/net/mac.h"

#include <errno.h>
#include <string.h>

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mac_parse(const char *text, u8 ret_mac[6])
{
    u8 mac[6];
    for (unsigned i = 0; i < sizeof(mac); i++, text += 3) {
        int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (low < 0 || text[2] != (i == sizeof(mac) - 1 ? '\0' : ':'))
            return -EINVAL;
        mac[i] = (u8)(high << 4 | low);
    }
    if ((mac[0] & 1) != 0)
        return -EINVAL;
    memcpy(ret_mac, mac, sizeof(mac));
    return 0;
}

void mac_derive(const char *vm_name, unsigned index, u8 ret_mac[6])
{
    u64 hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *vm_name != '\0'; vm_name++)
        hash = (hash ^ (u8)*vm_name) * 0x100000001b3u;
    hash = (hash ^ index) * 0x100000001b3u;
    hash ^= hash >> 32;
    /* 52:54:00 is what virtual machines use by custom; bit 1 says that no vendor gave it. */
    const u8 mac[6] = {0x52, 0x54, 0x00, (u8)(hash >> 16), (u8)(hash >> 8), (u8)hash};
    memcpy(ret_mac, mac, sizeof(mac));
}
