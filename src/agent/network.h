/*
 * agent/network.h - waiting for the guest's network before the first command runs.
 */
#ifndef AGENT_NETWORK_H
#define AGENT_NETWORK_H

/* Returns when the guest has a default route and knows a name server, at once when it has no
 * adapter, and in any case after a few seconds. */
void network_wait(void);

#endif
