/*
 * vm/kernel.h - kernel and initrd files, read into memory for as long as loading them takes.
 *
 * They are read again at every guest reset, so that their memory is not held while the VM runs.
 */
#ifndef VM_KERNEL_H
#define VM_KERNEL_H

#include "base/err.h"
#include "host/map.h"

struct config;
struct machine;

/* Reads the whole file at PATH, named WHAT in messages. An empty file gives a map of no bytes. */
MUST_CHECK int kernel_file_read(const char *path, const char *what, struct map *ret_map,
                                u64 *ret_bytes, struct err *err);
/* Boots MACHINE with the files that CONFIG names; without a kernel, by its firmware. */
MUST_CHECK int kernel_boot(struct machine *machine, const struct config *config, struct err *err);

#endif
