/*
 * agent/initrd.h - the init of the initial RAM disk that `atoll image build` makes.
 */
#ifndef AGENT_INITRD_H
#define AGENT_INITRD_H

/* Loads the modules that the root disk needs, mounts it, and becomes its init. Returns only when
 * this is no initial RAM disk of ours. */
void initrd_main(void);

#endif
