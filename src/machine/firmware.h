/*
 * machine/firmware.h - what the machine tells its firmware, and how the firmware starts.
 *
 * Threads: while no vCPU runs; firmware's reading of the ACPI tables comes back here on a vCPU's
 * thread, under the configuration device's lock.
 */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include "base/err.h"

struct machine;
struct x86_state;

/* Fills the firmware configuration device; once, when the machine is complete. */
MUST_CHECK int firmware_publish(struct machine *machine, struct err *err);
/* Copies the ROM's end below 1 MiB, and makes STATE a processor at its reset vector. */
MUST_CHECK int firmware_start(struct machine *machine, struct x86_state *ret_state,
                              struct err *err);

#endif
