/*
 * tests/fuzz/ram_fault.h - guest RAM between guard pages, which can change at every access.
 *
 * While armed, each access to the first part of the RAM faults; the handler may change the bytes
 * that are about to be read, lets the one instruction run (trap flag), and takes the page away
 * again. So code that reads a guest value twice sees two values.
 *
 * Threads: one; x86-64 Linux.
 */
#ifndef TESTS_FUZZ_RAM_FAULT_H
#define TESTS_FUZZ_RAM_FAULT_H

#include "base/types.h"

/* BYTES of zeroed memory between two areas that fault when touched. */
u8 *ram_fault_map(size_t bytes);
/* Makes the first BYTES of RAM change under their reader, at random from SEED. */
void ram_fault_arm(u8 *ram, size_t bytes, u64 seed);
void ram_fault_disarm(void);
/* Accesses seen since the process started. */
u64 ram_fault_count(void);

#endif
