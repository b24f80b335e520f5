/*
 * back/display.h - a screen, keyboard and pointer as viewers outside the VM see them.
 *
 * The machine attaches its graphics device and its input to a display before the display starts.
 * From then on the display's own thread asks for the picture whenever somebody looks at it, and
 * hands over what that person types.
 *
 * Threads: display_attach before start(); start() and stop() on the main thread. After stop() has
 * returned nothing attached is called again: it comes before the machine is freed. refresh() runs
 * on the display's thread with the device's lock held. key() and pointer() run on the display's
 * thread with no lock held and do not block.
 */
#ifndef BACK_DISPLAY_H
#define BACK_DISPLAY_H

#include "back/surface.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"

/* Where the picture comes from. */
struct display_source {
    void (*refresh)(void *ctx, struct surface *surface); /* brings SURFACE up to date */
    void *ctx;                                           /* borrowed */
    struct lock *lock;                                   /* borrowed: the device's */
};

/* Bits of display_pointer.buttons. */
enum display_button { DISPLAY_LEFT = 1, DISPLAY_MIDDLE = 2, DISPLAY_RIGHT = 4 };

enum { DISPLAY_AXIS_MAX = 0x7fff };

struct display_pointer {
    u16 x, y;   /* from 0 at the left or top to DISPLAY_AXIS_MAX */
    s32 dx, dy; /* pixels since the last event, for pointers that only know movement */
    u8 buttons; /* enum display_button, that are down */
    s8 wheel;   /* notches away from the person */
};

/* Where keys and pointer events go. */
struct display_input {
    /* CODE is a Linux input event code: KEY_A is 30. */
    void (*key)(void *ctx, u16 code, bool is_down);
    void (*pointer)(void *ctx, const struct display_pointer *pointer);
    void *ctx; /* borrowed */
};

struct display;

struct display_ops {
    int (*start)(struct display *display, struct err *err);
    void (*stop)(struct display *display); /* no effect when it has not started */
    void (*free)(struct display *display); /* stops it first */
};

struct display {
    const struct display_ops *ops;
    struct display_source source; /* filled by display_attach */
    struct display_input input;
};

static inline void display_attach(struct display *display, const struct display_source *source,
                                  const struct display_input *input)
{
    display->source = *source;
    display->input = *input;
}

#endif
