/*
 * dev/ps2_mouse.h - a PS/2 mouse with three buttons and a wheel at the keyboard controller.
 *
 * Threads: under the controller's lock, which the machine gives to this device as well.
 */
#ifndef DEV_PS2_MOUSE_H
#define DEV_PS2_MOUSE_H

#include "dev/device.h"

struct i8042;
struct ps2_mouse;

/* Attaches itself to the second port of I8042. NULL when out of memory. */
struct ps2_mouse *ps2_mouse_new(struct i8042 *i8042);
/* The mouse moves by DX to the right and DY down, its wheel WHEEL notches away from the person;
 * BUTTONS (bits of enum display_button: left, middle, right) are down. */
void ps2_mouse_move(struct ps2_mouse *mouse, s32 dx, s32 dy, s32 wheel, u8 buttons);

extern const struct device_ops ps2_mouse_device;

#endif
