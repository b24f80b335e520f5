/*
 * dev/ps2_keyboard.h - a 101-key PS/2 keyboard at the keyboard controller.
 *
 * Threads: under the controller's lock, which the machine gives to this device as well.
 */
#ifndef DEV_PS2_KEYBOARD_H
#define DEV_PS2_KEYBOARD_H

#include "core/clock.h"
#include "dev/device.h"

struct i8042;
struct ps2_keyboard;

/* Attaches itself to the first port of I8042; LOCK is that one's. NULL when out of memory. */
struct ps2_keyboard *ps2_keyboard_new(struct vm_clock *clock, struct lock *lock,
                                      struct i8042 *i8042);
/* The key with the Linux input event code CODE goes down or up. A key that goes down again is
 * repeated. Codes that such a keyboard does not have are ignored. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, u16 code, bool is_down);

extern const struct device_ops ps2_keyboard_device;

#endif
