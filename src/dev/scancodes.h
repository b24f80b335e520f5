/*
 * dev/scancodes.h - what keyboards send for a key, and how the controller translates it.
 *
 * Keys are Linux input event codes, which are set 1's scan codes up to 88.
 */
#ifndef DEV_SCANCODES_H
#define DEV_SCANCODES_H

#include "base/types.h"

enum { SCANCODES_MAX = 8 };

/* The bytes of set 1 or 2 for CODE going down or up; returns how many, 0 for a key that a keyboard
 * does not have. */
unsigned scancodes_set1(u16 code, bool is_down, u8 ret_bytes[SCANCODES_MAX]);
unsigned scancodes_set2(u16 code, bool is_down, u8 ret_bytes[SCANCODES_MAX]);
/* False for keys that are sent once however long they are held. */
bool scancodes_repeats(u16 code);
/* A byte of set 2 as the controller passes it on in set 1; 0xf0, the mark of a key that goes up, is
 * the caller's to keep for the next byte. */
u8 scancodes_translate(u8 set2);

#endif
