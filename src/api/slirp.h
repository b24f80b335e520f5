/*
 * api/slirp.h - how atoll-vm and atoll-slirp, the process behind a user network, speak to each
 * other.
 *
 * atoll-vm starts `atoll-slirp --fd N [--forward PROTOCOL:ADDRESS:HOST_PORT:GUEST_PORT]...` with
 * one end of a SOCK_SEQPACKET pair at N. The first message comes from atoll-slirp: SLIRP_READY, or
 * a sentence for a person that says why it could not start. After that every message in either
 * direction is one Ethernet frame. The end of the connection ends atoll-slirp. Trust: the guest's
 * frames reach atoll-slirp as they are; it runs without any privilege.
 */
#ifndef API_SLIRP_H
#define API_SLIRP_H

#define SLIRP_READY "ready"

/* Large frames carry several times the bytes per second that 1500 would: each costs the guest about
 * the same. A guest that does not take the adapter's MTU keeps to its own, which TCP tells the
 * other end. */
enum { SLIRP_FRAME_MAX_BYTES = 65550, SLIRP_MTU_BYTES = 32000, SLIRP_SENTENCE_BYTES = 512 };

/* The guest's network: 10.0.2.0/24, with the host at .2, names at .3, and the guest from .15 on. */
#define SLIRP_NETWORK "10.0.2.0"
#define SLIRP_NETMASK "255.255.255.0"
#define SLIRP_HOST "10.0.2.2"
#define SLIRP_NAMESERVER "10.0.2.3"
#define SLIRP_GUEST "10.0.2.15"

#endif
