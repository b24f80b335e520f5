/*
 * tests/fuzz/rfb_fuzz.c - the RFB server under viewers that send anything, in pieces, and read or
 * do not read, while the screen changes its size and contents.
 *
 * Input: a byte of flags (password, protocol by itself or after a proper handshake), then
 * operations, each a byte and what it needs; see operate.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/display/vnc_priv.h"
#include "fuzz.h"
#include "host/fd.h"

enum { OPERATIONS_MAX = 300, FLAG_PASSWORD = 1, FLAG_HANDSHAKE = 2 };

struct input {
    const u8 *data;
    size_t bytes, position;
};

struct world {
    struct vnc *vnc;
    int peer;
    u32 width, height, phase;
    u32 row[SURFACE_SIDE_MAX];
    unsigned key_count;
};

static struct world world;

static u32 take(struct input *input)
{
    return input->position < input->bytes ? input->data[input->position++] : 0;
}

static void refresh(void *ctx, struct surface *surface)
{
    if (!surface_resize(surface, world.width, world.height))
        return;
    for (u32 y = 0; y < world.height; y++) {
        for (u32 x = 0; x < world.width; x++)
            world.row[x] = (x * (world.phase & 15) + y / 3 * 77) * (world.phase + 1);
        surface_row(surface, y, world.row);
    }
}

static void key(void *ctx, u16 code, bool is_down)
{
    assert(code > 0 && code < KEYMAP_CODES);
    world.key_count++;
}

static void point(void *ctx, const struct display_pointer *pointer)
{
    assert(pointer->x <= DISPLAY_AXIS_MAX && pointer->y <= DISPLAY_AXIS_MAX);
    assert((pointer->buttons & ~7) == 0 && pointer->wheel >= -1 && pointer->wheel <= 1);
}

static void drain(void)
{
    static u8 sink[65536];
    while (recv(world.peer, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        ;
}

static void give(const u8 *data, size_t bytes)
{
    /* What the socket has no room for is dropped: it would be with a viewer that has gone. */
    (void)!send(world.peer, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    loop_turn(world.vnc->loop, 0);
}

static void world_start(u8 flags)
{
    static const char *const none[1] = {NULL};
    const struct vnc_options options = {
        .name = "fuzz", .addresses = none, .password = flags & FLAG_PASSWORD ? "secret" : NULL};
    const struct display_source source = {.refresh = refresh};
    const struct display_input input = {.key = key, .pointer = point};
    int fds[2];

    world = (struct world){.width = 70, .height = 35};
    struct display *display = vnc_new(&options, NULL);
    assert(display != NULL && fd_pair(fds, NULL) == 0 && fd_set_nonblock(fds[0]) == 0);
    display_attach(display, &source, &input);
    world.vnc = container_of(display, struct vnc, display);
    world.peer = fds[1];
    viewer_open(&world.vnc->viewers[0], world.vnc, fds[0], flags & FLAG_PASSWORD);
    if (flags & FLAG_HANDSHAKE)
        give((const u8 *)"RFB 003.008\n\1\1", 14);
}

static void world_end(void)
{
    viewer_close(&world.vnc->viewers[0]);
    world.vnc->display.ops->free(&world.vnc->display);
    close(world.peer);
}

static void operate(struct input *input)
{
    u8 what = (u8)take(input);
    size_t bytes = 0;

    switch (what % 8) {
    case 0:
        world.width = 1 + take(input) * 3;
        world.height = 1 + take(input);
        break;
    case 1:
        world.phase = take(input);
        break;
    case 2:
        drain();
        break;
    case 3: /* time for a picture */
        vnc_tick(world.vnc);
        break;
    default: /* bytes, as many as the operation says */
        bytes = what / 8 + 1;
        if (bytes > input->bytes - input->position)
            bytes = input->bytes - input->position;
        give(input->data + input->position, bytes);
        input->position += bytes;
        break;
    }
}

/* The flags, then operations; one of N bytes is (N - 1) * 8 + 4. */
static const struct {
    const char *data;
    size_t bytes;
} seeds[] = {
    /* formats of 16 and 8 bits, and updates */
    {"\x02\x9c\x00\x00\x00\x00\x10\x10\x00\x01\x00\x1f\x00\x3f\x00\x1f\x0b\x05\x00\x00"
     "\x00\x00\x4c\x03\x00\x00\x00\x00\x00\xff\x00\xff\x03\x02\x01\x05\x4c\x03\x01\x00"
     "\x00\x00\x00\x00\xff\x00\xff\x03",
     48},
    /* Tight with JPEG, pseudo-encodings, continuous updates */
    {"\x02\x7c\x02\x00\x00\x03\x00\x00\x00\x07\xff\xff\xff\xe9\xff\xff\xfe\xcc\x4c\x03"
     "\x00\x00\x00\x00\x00\x01\x00\x01\x00\x03\x02\x00\x50\x5a\x4c\x96\x01\x00\x00\x00"
     "\x00\x00\xff\x00\xff\x03",
     46},
    /* keys, pointer, clipboard, a fence */
    {"\x02\x3c\x04\x01\x00\x00\x00\x00\x00\x61\x2c\x05\x09\x00\x03\x00\x04\x5c\xff\x00"
     "\x00\x01\x00\x00\x00\x00\x00\x00\x00\xc8\x3c\x06\x00\x00\x00\x00\x00\x00\x05\x24"
     "\x01\x02\x03\x04\x05\x5c\xf8\x00\x00\x00\x80\x00\x00\x03\x03\x01\x02\x03",
     58},
    /* a wrong password */
    {"\x01\x5c\x52\x46\x42\x20\x30\x30\x33\x2e\x30\x30\x38\x0a\x04\x02\x7c\x01\x02\x03"
     "\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10",
     33},
    /* ZRLE, hextile sizes, Tight */
    {"\x02\x3c\x02\x00\x00\x01\x00\x00\x00\x10\x4c\x03\x00\x00\x00\x00\x00\xff\x00\xff"
     "\x03\x00\x5a\x3c\x01\xc8\x4c\x03\x01\x00\x00\x00\x00\xff\x00\xff\x03\x3c\x02\x00"
     "\x00\x01\x00\x00\x00\x07\x4c\x03\x00\x00\x00\x00\x00\xff\x00\xff\x03",
     57},
};

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    if (index >= ARRAY_LEN(seeds))
        return 0;
    memcpy(to, seeds[index].data, seeds[index].bytes);
    return seeds[index].bytes;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    struct input input = {data, bytes, 0};

    world_start((u8)take(&input));
    for (unsigned i = 0; i < OPERATIONS_MAX && input.position < input.bytes; i++)
        operate(&input);
    world_end();
    return 0;
}
