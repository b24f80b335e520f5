/*
 * back/display/keymap.h - what viewers call keys, as Linux input event codes.
 */
#ifndef BACK_DISPLAY_KEYMAP_H
#define BACK_DISPLAY_KEYMAP_H

#include "base/types.h"

enum { KEYMAP_CODES = 256 };

/* The key that has KEYSYM (of X11) on a US keyboard, with or without Shift; 0: none. *RET_SHIFTED
 * (may be NULL) says whether Shift must be down for it. */
u16 keymap_from_keysym(u32 keysym, bool *ret_shifted);
/* The key with an XT scan code, as QEMU's extended key event has it: bit 7 stands for the prefix
 * 0xe0; 0: none. */
u16 keymap_from_xt(u32 scancode);

#endif
