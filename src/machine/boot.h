/*
 * machine/boot.h - puts a kernel into guest memory and a processor at its entry.
 *
 * Accepted: a Linux bzImage (64 or 32 bits), an ELF file with the PVH entry note (a
 * Linux vmlinux), and an ELF file with a Multiboot 1 header. boot_load() finds out which; anything
 * else is refused with a message that says what the file is instead.
 *
 * Boot data that the guest finds in low memory, all below the ACPI tables:
 *
 *   0x01000  GDT                       0x02000  boot_params, start info or Multiboot information
 *   0x03000  module and memory lists   0x10000  page tables (6 pages; 64-bit Linux only)
 *   0x1f000  setup_data                0x20000  command line (at most 256 KiB)
 *
 * Threads: no vCPU runs. Trust: kernel, initrd and command line are hostile; every value of their
 * headers is checked before use, and work is bounded by file size plus RAM size.
 */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include "base/err.h"
#include "base/types.h"

struct mem;
struct memmap;
struct x86_state;

struct boot_blob {
    const u8 *data; /* borrowed */
    u64 bytes;
};

struct boot_request {
    struct mem *mem;          /* borrowed */
    const struct memmap *map; /* borrowed */
    struct boot_blob kernel;
    struct boot_blob initrd;  /* bytes 0: none */
    const char *command_line; /* borrowed; never NULL */
    gpa_t rsdp;
    /* A linear frame buffer that shows already, of 32 bits a pixel; bytes 0: none. */
    struct boot_screen {
        gpa_t base;
        u64 bytes;
        u16 width, height;
    } screen;
    struct boot_blob seed; /* random bytes for the guest's pool, at most 64; bytes 0: none */
};

enum { BOOT_SEED_MAX_BYTES = 64 };

/* Loads the kernel and fills the boot processor's state. -ENOEXEC for a file that is no kernel or a
 * damaged one, -ENOSPC when guest memory is too small, -E2BIG for a command line that is too long.
 */
MUST_CHECK int boot_load(const struct boot_request *request, struct x86_state *ret_state,
                         struct err *err);

#endif
