/*
 * cli/doctor.h - `atoll doctor`: what this host offers to virtual machines, what is missing, and
 * what mends it.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

/* Prints one line for each thing; true when VMs can run here at all. */
_Bool doctor_run(void);

#endif
