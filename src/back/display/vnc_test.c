/*
 * back/display/vnc_test.c - the RFB server over its socket, against a client written from the
 * protocol's text: every encoding and format, sizes, input, passwords, several viewers, slow ones,
 * and viewers that send nonsense.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <nettle/des.h>

#include "back/display/keymap.h"
#include "back/display/rfb_decode.h"
#include "back/display/vnc.h"
#include "base/lock.h"
#include "host/fd.h"

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

static struct scene scene;

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

static void scene_change(u32 width, u32 height, u32 phase)
{
    lock_acquire(&scene.lock);
    scene.width = width;
    scene.height = height;
    scene.phase = phase;
    lock_release(&scene.lock);
}

static int setup_with(const char *tcp, const char *password)
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

static int setup(void **state)
{
    return setup_with(NULL, NULL);
}

static int teardown(void **state)
{
    scene.display->ops->free(scene.display);
    assert_int_not_equal(access(scene.path, F_OK), 0);
    return 0;
}

/* How far the peer's picture is from the scene, as its format can tell it. */
static unsigned worst(const struct rfb_peer *peer)
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

static void whole_picture(struct rfb_peer *peer)
{
    memset(peer->pixels, 0x55, RFB_SIDE_MAX * RFB_SIDE_MAX * sizeof(u32));
    rfb_request(peer, false);
    while (rfb_take(peer) != 0)
        ;
}

static void test_versions(void **state)
{
    const unsigned versions[] = {3, 7, 8};
    struct rfb_peer peer;

    for (unsigned i = 0; i < ARRAY_LEN(versions); i++) {
        rfb_peer_open(&peer, scene.path, versions[i]);
        assert_int_equal(peer.width, 203);
        assert_int_equal(peer.height, 317);
        whole_picture(&peer);
        assert_int_equal(worst(&peer), 0);
        rfb_peer_close(&peer);
    }
}

struct format {
    u8 bits, depth;
    bool is_big_endian;
    u16 max[3];
    u8 shift[3];
    unsigned off; /* what is lost at most */
};

static const struct format formats[] = {
    {32, 24, false, {255, 255, 255}, {16, 8, 0}, 0},
    {32, 24, false, {255, 255, 255}, {0, 8, 16}, 0},
    {32, 24, true, {255, 255, 255}, {16, 8, 0}, 0},
    {32, 24, true, {255, 255, 255}, {24, 16, 8}, 0},
    {32, 24, false, {255, 255, 255}, {24, 16, 8}, 0},
    {32, 32, false, {255, 255, 255}, {16, 8, 0}, 0},
    {32, 30, false, {1023, 1023, 1023}, {20, 10, 0}, 1},
    {16, 16, false, {31, 63, 31}, {11, 5, 0}, 5},
    {16, 16, true, {31, 63, 31}, {11, 5, 0}, 5},
    {16, 15, false, {31, 31, 31}, {10, 5, 0}, 5},
    {8, 8, false, {7, 7, 3}, {0, 3, 6}, 43},
};

static void test_encodings(void **state)
{
    const s32 encodings[] = {0, 5, 16, 7};
    struct rfb_peer peer;

    for (unsigned e = 0; e < ARRAY_LEN(encodings); e++) {
        rfb_peer_open(&peer, scene.path, 8);
        rfb_set_encodings(&peer, &encodings[e], 1);
        for (unsigned f = 0; f < ARRAY_LEN(formats); f++) {
            const struct format *format = &formats[f];
            rfb_set_format(&peer, format->bits, format->depth, format->is_big_endian, format->max,
                           format->shift);
            whole_picture(&peer);
            assert_in_range(worst(&peer), 0, format->off);
        }
        rfb_peer_close(&peer);
    }
}

static void test_incremental(void **state)
{
    const s32 encodings[] = {16, 7, 0};
    struct rfb_peer peer;

    for (unsigned e = 0; e < ARRAY_LEN(encodings); e++) {
        scene_change(203, 317, 0);
        rfb_peer_open(&peer, scene.path, 8);
        rfb_set_encodings(&peer, &encodings[e], 1);
        whole_picture(&peer);
        rfb_request(&peer, true);
        assert_false(rfb_has_input(&peer, 60)); /* nothing has changed */
        for (u32 phase = 1; phase < 6; phase++) {
            scene_change(203, 317, phase);
            rfb_take(&peer);
            assert_int_equal(worst(&peer), 0);
            rfb_request(&peer, true);
        }
        rfb_peer_close(&peer);
    }
}

static void test_jpeg(void **state)
{
    const s32 encodings[] = {7, -23};
    struct rfb_peer peer;

    scene_change(1280, 800, 0);
    rfb_peer_open(&peer, scene.path, 8);
    rfb_set_encodings(&peer, encodings, 2);
    whole_picture(&peer);
    assert_true(peer.jpeg_count > 0);
    assert_in_range(worst(&peer), 0, 40); /* noise suffers most */
    rfb_peer_close(&peer);
}

static void test_sizes(void **state)
{
    const s32 pseudo[] = {-308, -223};
    struct rfb_peer peer;

    for (unsigned i = 0; i < 2; i++) {
        const s32 encodings[] = {16, pseudo[i]};
        scene_change(203, 317, 0);
        rfb_peer_open(&peer, scene.path, 8);
        rfb_set_encodings(&peer, encodings, 2);
        whole_picture(&peer);
        unsigned before = peer.size_count;
        rfb_request(&peer, true);
        scene_change(640, 480, 1);
        while (peer.size_count == before)
            rfb_take(&peer);
        assert_int_equal(peer.width, 640);
        whole_picture(&peer);
        assert_int_equal(worst(&peer), 0);
        rfb_peer_close(&peer);
    }
    /* A viewer that cannot follow sees what it has room for, and no rectangle beyond. */
    scene_change(203, 317, 0);
    rfb_peer_open(&peer, scene.path, 8);
    whole_picture(&peer);
    scene_change(640, 480, 1);
    whole_picture(&peer);
    whole_picture(&peer);
    assert_int_equal(worst(&peer), 0);
    scene_change(100, 100, 1);
    rfb_request(&peer, true);
    while (rfb_has_input(&peer, 100))
        rfb_take(&peer);
    rfb_peer_close(&peer);
}

static void test_continuous(void **state)
{
    const s32 encodings[] = {16, -312, -313, -239, -258};
    static const u8 enable[10] = {150, 1, 0, 0, 0, 0, 2, 0, 2, 0};
    static const u8 disable[10] = {150, 0};
    static const u8 fence[9 + 3] = {248, 0, 0, 0, 0x80, 0, 0, 3, 3, 'a', 'b', 'c'};
    struct rfb_peer peer;
    u8 answer[12];

    rfb_peer_open(&peer, scene.path, 8);
    rfb_set_encodings(&peer, encodings, ARRAY_LEN(encodings));
    assert_int_equal(rfb_take(&peer), 248);
    assert_int_equal(rfb_take(&peer), 150);
    whole_picture(&peer);
    assert_int_equal(peer.cursor_count, 1);
    assert_int_equal(peer.key_count, 1);
    rfb_send(&peer, enable, sizeof(enable));
    for (u32 phase = 1; phase < 5; phase++) {
        scene_change(203, 317, phase);
        assert_int_equal(rfb_take(&peer), 0);
        assert_int_equal(worst(&peer), 0);
    }
    rfb_send(&peer, disable, sizeof(disable));
    assert_int_equal(rfb_take(&peer), 150);
    scene_change(203, 317, 9);
    assert_false(rfb_has_input(&peer, 60));
    rfb_send(&peer, fence, sizeof(fence));
    rfb_receive(&peer, answer, sizeof(answer));
    assert_int_equal(answer[4], 0); /* no longer a request */
    assert_memory_equal(answer + 7, "\3\3abc", 5);
    rfb_peer_close(&peer);
}

static void key(struct rfb_peer *peer, u32 keysym, bool is_down)
{
    const u8 message[8] = {4, is_down, 0, 0, 0, 0, (u8)(keysym >> 8), (u8)keysym};
    rfb_send(peer, message, sizeof(message));
}

static void expect_key(unsigned at, u16 code, bool is_down)
{
    assert_true(at < scene.key_count);
    assert_int_equal(scene.keys[at].code, code);
    assert_int_equal(scene.keys[at].is_down, is_down);
}

static void test_input(void **state)
{
    static const u8 point[6] = {5, 1 | 8, 0, 202, 0, 158};
    static const u8 extended[12] = {255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xc8};
    struct rfb_peer peer;

    rfb_peer_open(&peer, scene.path, 8);
    key(&peer, 'a', true);
    key(&peer, 'a', false);
    key(&peer, 0xffe1, true);
    key(&peer, '!', true);
    key(&peer, 0x1234, true); /* no such key */
    key(&peer, 'z', false);   /* was not down */
    rfb_send(&peer, extended, sizeof(extended));
    rfb_send(&peer, point, sizeof(point));
    whole_picture(&peer);
    assert_int_equal(scene.key_count, 5);
    expect_key(0, 30, true);
    expect_key(1, 30, false);
    expect_key(2, 42, true);
    expect_key(3, 2, true);
    expect_key(4, 103, true); /* the arrow up, by its scan code */
    assert_int_equal(scene.pointer.x, 0x7fff);
    assert_in_range(scene.pointer.y, 0x3ff0, 0x4010);
    assert_int_equal(scene.pointer.buttons, DISPLAY_LEFT);
    assert_int_equal(scene.pointer.wheel, 1);
    rfb_peer_close(&peer); /* lets everything go */
    rfb_peer_open(&peer, scene.path, 8);
    whole_picture(&peer);
    assert_int_equal(scene.key_count, 8);
    for (unsigned i = 5; i < 8; i++)
        assert_false(scene.keys[i].is_down);
    assert_int_equal(scene.pointer.buttons, 0);
    rfb_peer_close(&peer);
}

static void test_keymap(void **state)
{
    bool shifted;
    assert_int_equal(keymap_from_keysym('A', &shifted), 30);
    assert_true(shifted);
    assert_int_equal(keymap_from_keysym(' ', &shifted), 57);
    assert_false(shifted);
    assert_int_equal(keymap_from_keysym('|', &shifted), 43);
    assert_int_equal(keymap_from_keysym(0xffbe, NULL), 59);
    assert_int_equal(keymap_from_keysym(0xffc9, NULL), 88);
    for (u32 keysym = 0x20; keysym < 0x7f; keysym++)
        assert_int_not_equal(keymap_from_keysym(keysym, NULL), 0);
    for (u32 keysym = 0; keysym < 0x20000; keysym++)
        assert_true(keymap_from_keysym(keysym, NULL) < KEYMAP_CODES);
    for (u32 code = 0; code < 0x1000; code++)
        assert_true(keymap_from_xt(code) < KEYMAP_CODES);
}

static void test_several(void **state)
{
    enum { COUNT = 16 };
    static struct rfb_peer peers[COUNT];

    for (unsigned i = 0; i < COUNT; i++)
        rfb_peer_open(&peers[i], scene.path, 8);
    int fd = fd_connect(scene.path, NULL); /* one too many */
    u8 byte;
    assert_int_equal(read(fd, &byte, 1), 0);
    fd_close(&fd);
    for (unsigned i = 0; i < COUNT; i++) {
        const s32 encoding = i % 2 ? 16 : 7;
        rfb_set_encodings(&peers[i], &encoding, 1);
        whole_picture(&peers[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(worst(&peers[i]), 0);
        rfb_peer_close(&peers[i]);
    }
}

/* A viewer that asks and does not read holds nobody up, and then gets the newest picture. */
static void test_slow(void **state)
{
    struct rfb_peer slow, quick;

    scene_change(1280, 800, 0);
    rfb_peer_open(&slow, scene.path, 8);
    rfb_peer_open(&quick, scene.path, 8);
    for (unsigned i = 0; i < 200; i++)
        rfb_request(&slow, false);
    for (u32 phase = 1; phase < 4; phase++) {
        scene_change(1280, 800, phase);
        whole_picture(&quick);
        assert_int_equal(worst(&quick), 0);
    }
    do
        rfb_take(&slow);
    while (rfb_has_input(&slow, 300));
    whole_picture(&slow);
    assert_int_equal(worst(&slow), 0);
    assert_true(slow.received_bytes < 100ull << 20);
    rfb_peer_close(&slow);
    rfb_peer_close(&quick);
}

/* Bytes after the handshake that end the connection, and nothing else. */
static void expect_dropped(const void *bytes, size_t count)
{
    struct rfb_peer peer;
    u8 byte;

    rfb_peer_open(&peer, scene.path, 8);
    rfb_send(&peer, bytes, count);
    assert_true(rfb_has_input(&peer, 5000));
    assert_true(read(peer.fd, &byte, 1) <= 0);
    rfb_peer_close(&peer);
}

static void test_nonsense(void **state)
{
    static const u8 type[1] = {99}, encodings[4] = {2, 0, 0xff, 0xff};
    static const u8 format[20] = {0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
    static const u8 shift[20] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 31, 8, 0};
    static const u8 text[8] = {6, 0, 0, 0, 0x70, 0, 0, 0},
                    fence[9] = {248, 0, 0, 0, 0, 0, 0, 0, 65};
    static const u8 cut[8 + 5] = {6, 0, 0, 0, 0, 0, 0, 5};
    struct rfb_peer peer;

    expect_dropped(type, sizeof(type));
    expect_dropped(encodings, sizeof(encodings));
    expect_dropped(format, sizeof(format));
    expect_dropped(shift, sizeof(shift));
    expect_dropped(text, sizeof(text));
    expect_dropped(fence, sizeof(fence));
    rfb_peer_open(&peer, scene.path, 8);
    rfb_send(&peer, cut, sizeof(cut)); /* text that is read past */
    whole_picture(&peer);
    assert_int_equal(worst(&peer), 0);
    rfb_peer_close(&peer);
}

static void test_password(void **state)
{
    struct des_ctx context;
    u8 bytes[16], key_bytes[8] = {0}, response[16];
    const char *password = "sesame";

    for (unsigned i = 0; i < 6; i++)
        for (unsigned bit = 0; bit < 8; bit++)
            key_bytes[i] |= (u8)((password[i] >> bit & 1) << (7 - bit));
    des_set_key(&context, key_bytes);
    unsigned number = 0;
    char address[16];
    do { /* a port that is free */
        snprintf(address, sizeof(address), ":%u", 20000 + (unsigned)getpid() % 5000 + number);
    } while (setup_with(address, "sesame") != 0 && ++number < 50);
    assert_true(number < 50);
    for (unsigned round = 0; round < 2; round++) {
        const struct sockaddr_in to = {
            .sin_family = AF_INET,
            .sin_port = htons((u16)(5900 + 20000 + (unsigned)getpid() % 5000 + number)),
            .sin_addr = {htonl(INADDR_LOOPBACK)}};
        struct rfb_peer peer = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        assert_int_equal(connect(peer.fd, (const struct sockaddr *)&to, sizeof(to)), 0);
        rfb_receive(&peer, bytes, 12);
        rfb_send(&peer, "RFB 003.008\n", 12);
        rfb_receive(&peer, bytes, 2);
        assert_int_equal(bytes[1], 2);
        rfb_send(&peer, "\2", 1);
        rfb_receive(&peer, bytes, 16);
        des_encrypt(&context, 16, response, bytes);
        response[3] ^= (u8)round;
        rfb_send(&peer, response, 16);
        rfb_receive(&peer, bytes, 4);
        assert_int_equal(bytes[3], round);
        fd_close(&peer.fd);
    }
    teardown(NULL);
    struct err err = {0}; /* where others could reach it, a password must be */
    const char *everywhere[1] = {"0.0.0.0:20001"};
    const struct vnc_options options = {
        .name = "test", .addresses = everywhere, .address_count = 1};
    assert_null(vnc_new(&options, &err));
    assert_int_equal(err.code, -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encodings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_incremental, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jpeg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_continuous, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input, setup, teardown),
        cmocka_unit_test(test_keymap),
        cmocka_unit_test_setup_teardown(test_several, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test(test_password),
    };
    return cmocka_run_group_tests_name("vnc", tests, NULL, NULL);
}
