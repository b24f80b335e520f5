/*
 * back/display/vnc_scene.c - a picture that changes and a place for input, behind a VNC server.
 *
 * Runs   in tests.
 */
#include "back/display/vnc_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct scene scene;

/* Fields of one colour, of two, of a few, of many, and noise; PHASE changes some of it. */
static u32 scene_pixel(u32 x, u32 y)
{
    u32 field = x / 40 % 6;
    if (y / 50 % 3 == 0)
        return 0x102030 * (x / 200 + 1) & 0xffffff;
    if (field == 0)
        return (x * 7 + y * 13) % 5 == 0 ? 0xffffff : 0x000080;
    if (field == 1)
        return (x / 3 + y / 5 + scene.phase) % 7 * 0x1b2c3d & 0xffffff;
    if (field == 2)
        return (x * 5 / 3 + y) % 100 * 0x020304;
    if (field == 3)
        return (x & 255) << 16 | (y & 255) << 8 | ((x + y) & 255);
    if (field == 4)
        return ((x * 2654435761u) ^ (y * 40503u * 65537u)) & 0xffffff;
    return 0xc0c0c0;
}

static void scene_refresh(void *ctx, struct surface *surface)
{
    if (!surface_resize(surface, scene.width, scene.height))
        return;
    for (u32 y = 0; y < scene.height; y++) {
        for (u32 x = 0; x < scene.width; x++)
            scene.row[x] = scene_pixel(x, y);
        surface_row(surface, y, scene.row);
    }
}

static void scene_key(void *ctx, u16 code, bool is_down)
{
    lock_acquire(&scene.input_lock);
    if (scene.key_count < EVENTS_MAX) {
        scene.keys[scene.key_count].code = code;
        scene.keys[scene.key_count++].is_down = is_down;
    }
    lock_release(&scene.input_lock);
}

static void scene_point(void *ctx, const struct display_pointer *pointer)
{
    lock_acquire(&scene.input_lock);
    scene.pointer = *pointer;
    scene.pointer_count++;
    lock_release(&scene.input_lock);
}

void scene_change(u32 width, u32 height, u32 phase)
{
    lock_acquire(&scene.lock);
    scene.width = width;
    scene.height = height;
    scene.phase = phase;
    lock_release(&scene.lock);
}

int scene_setup_with(const char *tcp, const char *password)
{
    char address[80];
    struct err err = {0};

    scene = (struct scene){.width = 203, .height = 317};
    snprintf(scene.path, sizeof(scene.path), "/tmp/atoll-vnc-test.%d", (int)getpid());
    snprintf(address, sizeof(address), "unix:%s", scene.path);
    const char *addresses[2] = {address, tcp};
    const struct vnc_options options = {
        .name = "test", .addresses = addresses, .address_count = tcp ? 2 : 1, .password = password};
    const struct display_source source = {.refresh = scene_refresh, .lock = &scene.lock};
    const struct display_input input = {.key = scene_key, .pointer = scene_point};
    scene.display = vnc_new(&options, &err);
    if (scene.display == NULL)
        return -1;
    display_attach(scene.display, &source, &input);
    return scene.display->ops->start(scene.display, &err);
}

int scene_setup(void **state)
{
    return scene_setup_with(NULL, NULL);
}

int scene_teardown(void **state)
{
    scene.display->ops->free(scene.display);
    return access(scene.path, F_OK) == 0 ? -1 : 0;
}

unsigned scene_worst(const struct rfb_peer *peer)
{
    unsigned most = 0;
    for (u32 y = 0; y < peer->height; y++)
        for (u32 x = 0; x < peer->width; x++)
            for (unsigned part = 0; part < 3; part++) {
                int wanted = (int)(scene_pixel(x, y) >> (16 - 8 * part) & 255);
                int got = (int)(peer->pixels[y * RFB_SIDE_MAX + x] >> (16 - 8 * part) & 255);
                unsigned off = (unsigned)abs(wanted - got);
                most = off > most ? off : most;
            }
    return most;
}

void scene_fetch(struct rfb_peer *peer)
{
    memset(peer->pixels, 0x55, RFB_SIDE_MAX * RFB_SIDE_MAX * sizeof(u32));
    rfb_request(peer, false);
    while (rfb_take(peer) != 0)
        ;
}
