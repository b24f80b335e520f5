/*
 * dev/vga/vga.h - the standard VGA adapter: text, planar and packed modes, and Bochs VBE on top.
 *
 * PCI 1234:1111, as QEMU's and Bochs's standard VGA: firmware and systems that know that one know
 * this one. It is a PCI function and, for what VGA has always had, a few fixed ranges:
 *
 *   BAR 0            16 MiB of video memory; RAM to the guest (struct pci_bar's `ram`)
 *   BAR 2            0x000 EDID   0x400 ports 0x3c0 to 0x3df   0x500 VBE registers
 *   0xa0000-0xbffff  the legacy window, as the graphics controller maps it
 *   0x3b0-0x3df      VGA ports        0x1ce-0x1d0  VBE index and data
 *
 * Threads: as dev/pci/function.h says; the picture is drawn on the viewer's thread, under the lock.
 */
#ifndef DEV_VGA_VGA_H
#define DEV_VGA_VGA_H

#include "back/display.h"
#include "base/err.h"
#include "base/types.h"
#include "dev/pci/function.h"

struct bus;
struct vga;
struct vm_clock;

enum { VGA_MEMORY_BYTES = 16 << 20, VGA_BAR_MEMORY = 0, VGA_BAR_REGISTERS = 2 };

/* NULL when memory is exhausted. CLOCK is borrowed: blinking and the retrace hang on it. */
struct vga *vga_new(struct vm_clock *clock);
/* What goes on the PCI bus, which frees the whole device with it. */
struct pci_function *vga_function(struct vga *vga);
/* Puts the legacy ranges on BUS; they stay until the bus goes. */
MUST_CHECK int vga_map(struct vga *vga, struct bus *bus, struct err *err);
/* The picture, for display_attach. */
struct display_source vga_source(struct vga *vga);
/* Shows the linear frame buffer with WIDTH by HEIGHT pixels of 32 bits, as firmware would before
 * it starts a system that knows no VGA registers. */
void vga_set_linear(struct vga *vga, u16 width, u16 height);

#endif
