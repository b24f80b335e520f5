/*
 * back/display/vnc_scene.h - a picture that changes and a place for input, behind a VNC server:
 * what the server's tests share. Not part of the product.
 */
#ifndef BACK_DISPLAY_VNC_SCENE_H
#define BACK_DISPLAY_VNC_SCENE_H

#include "back/display/rfb_decode.h"
#include "back/display/vnc.h"
#include "base/lock.h"

enum { EVENTS_MAX = 64 };

/* The machine's part: a picture, and what was typed. */
struct scene {
    struct lock lock;
    u32 width, height, phase;
    u32 row[4096];
    struct lock input_lock;
    struct {
        u16 code;
        bool is_down;
    } keys[EVENTS_MAX];
    unsigned key_count;
    struct display_pointer pointer;
    unsigned pointer_count;
    struct display *display;
    char path[64];
};

extern struct scene scene;

/* A server at a unix socket, and at TCP as well; 0, or not. Its end, which leaves no socket file.
 */
int scene_setup_with(const char *tcp, const char *password);
int scene_setup(void **state);
int scene_teardown(void **state);
void scene_change(u32 width, u32 height, u32 phase);
/* How far the peer's picture is from the scene, as its format can tell it. */
unsigned scene_worst(const struct rfb_peer *peer);
/* Asks for the whole picture and takes it. */
void scene_fetch(struct rfb_peer *peer);

#endif
