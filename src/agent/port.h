/*
 * agent/port.h - frames through the virtio-console port that leads to the host; see api/agent.h.
 */
#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#include "api/agent.h"
#include "base/types.h"

enum { PORT_QUEUE_BYTES = 8 * (AGENT_HEADER_BYTES + AGENT_PAYLOAD_MAX) };

struct port {
    int fd;
    u8 in[AGENT_HEADER_BYTES + AGENT_PAYLOAD_MAX];
    size_t in_bytes;
    u8 out[PORT_QUEUE_BYTES];
    size_t out_bytes;
};

struct port_frame {
    enum agent_type type;
    const u8 *payload; /* valid until the next call */
    u32 bytes;
};

/* Waits until the port is there, and opens it. */
void port_open(struct port *port);
void port_close(struct port *port);
/* True when a whole frame of any size can be queued. */
bool port_has_room(const struct port *port);
/* Queues a frame; there is room for it. */
void port_put(struct port *port, enum agent_type type, const void *payload, u32 bytes);
/* Sends what the host takes now; false when the conversation has ended. */
bool port_send(struct port *port);
/* Reads what is there; false when the conversation has ended. */
bool port_receive(struct port *port);
/* The next whole frame: 1, 0 when there is none yet, -1 when what came is no frame. */
int port_take(struct port *port, struct port_frame *ret_frame);
/* Forgets the frame that port_take gave. */
void port_drop(struct port *port);

#endif
