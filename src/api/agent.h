/*
 * api/agent.h - the frames between `atoll run -- COMMAND` and the agent in the guest.
 *
 * They travel over the virtio-console port VM_CONFIG_AGENT_PORT. A frame is a header of 8 bytes and
 * its payload; integers are little-endian. The agent speaks first: AGENT_HELLO when it has opened
 * the port; before that nothing is sent to it. One command runs at a time. Trust: each side treats
 * the other as hostile: a frame longer than AGENT_PAYLOAD_MAX, of unknown type, or with a payload
 * of the wrong shape ends the conversation.
 *
 *   offset  size  field
 *   0       2     type   (enum agent_type)
 *   2       2     0
 *   4       4     bytes  of payload that follow
 */
#ifndef API_AGENT_H
#define API_AGENT_H

#include "base/bits.h"
#include "base/types.h"

enum {
    AGENT_VERSION = 1,
    AGENT_HEADER_BYTES = 8,
    AGENT_PAYLOAD_MAX = 32768, /* bytes */
    AGENT_EXEC_FIXED_BYTES = 16
};

enum agent_type {
    AGENT_HELLO = 1, /* from the agent: u32 version */
    AGENT_EXEC = 2,  /* to it: u32 flags, u16 columns, u16 rows, u32 argument count, u32 environment
                        count, then that many NUL-terminated strings: arguments, environment */
    AGENT_STDIN = 3, /* to it: bytes for the command; none: end of file */
    AGENT_RESIZE = 4,   /* to it: u16 columns, u16 rows */
    AGENT_SIGNAL = 5,   /* to it: u32 signal number for the command */
    AGENT_STDOUT = 6,   /* from it: bytes */
    AGENT_STDERR = 7,   /* from it: bytes */
    AGENT_EXIT = 8,     /* from it: u32 status as a shell shows it (128 + signal when killed) */
    AGENT_FAILED = 9,   /* from it: u32 errno: the command could not be started */
    AGENT_POWEROFF = 10 /* to it: u32 0: orderly, through init; 1: at once, after sync */
};

enum agent_flag {
    AGENT_TTY = 1 /* the command gets a terminal; stdout and stderr come together */
};

static inline void agent_header(u8 header[AGENT_HEADER_BYTES], enum agent_type type, u32 bytes)
{
    store_le16(header, (u16)type);
    store_le16(header + 2, 0);
    store_le32(header + 4, bytes);
}

#endif
