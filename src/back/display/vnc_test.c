/*
 * back/display/vnc_test.c - the RFB server over its socket, against a client written from the
 * protocol's text: every encoding and format, sizes, continuous updates, input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "back/display/keymap.h"
#include "back/display/vnc_scene.h"

static void test_versions(void **state)
{
    const unsigned versions[] = {3, 7, 8};
    struct rfb_peer peer;

    for (unsigned i = 0; i < ARRAY_LEN(versions); i++) {
        rfb_peer_open(&peer, scene.path, versions[i]);
        assert_int_equal(peer.width, 203);
        assert_int_equal(peer.height, 317);
        scene_fetch(&peer);
        assert_int_equal(scene_worst(&peer), 0);
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
            scene_fetch(&peer);
            assert_in_range(scene_worst(&peer), 0, format->off);
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
        scene_fetch(&peer);
        rfb_request(&peer, true);
        assert_false(rfb_has_input(&peer, 60)); /* nothing has changed */
        for (u32 phase = 1; phase < 6; phase++) {
            scene_change(203, 317, phase);
            rfb_take(&peer);
            assert_int_equal(scene_worst(&peer), 0);
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
    scene_fetch(&peer);
    assert_true(peer.jpeg_count > 0);
    assert_in_range(scene_worst(&peer), 0, 40); /* noise suffers most */
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
        scene_fetch(&peer);
        unsigned before = peer.size_count;
        rfb_request(&peer, true);
        scene_change(640, 480, 1);
        while (peer.size_count == before)
            rfb_take(&peer);
        assert_int_equal(peer.width, 640);
        scene_fetch(&peer);
        assert_int_equal(scene_worst(&peer), 0);
        rfb_peer_close(&peer);
    }
    /* A viewer that cannot follow sees what it has room for, and no rectangle beyond. */
    scene_change(203, 317, 0);
    rfb_peer_open(&peer, scene.path, 8);
    scene_fetch(&peer);
    scene_change(640, 480, 1);
    scene_fetch(&peer);
    scene_fetch(&peer);
    assert_int_equal(scene_worst(&peer), 0);
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
    scene_fetch(&peer);
    assert_int_equal(peer.cursor_count, 1);
    assert_int_equal(peer.key_count, 1);
    rfb_send(&peer, enable, sizeof(enable));
    for (u32 phase = 1; phase < 5; phase++) {
        scene_change(203, 317, phase);
        assert_int_equal(rfb_take(&peer), 0);
        assert_int_equal(scene_worst(&peer), 0);
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
    scene_fetch(&peer);
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
    scene_fetch(&peer);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_encodings, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_incremental, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_jpeg, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_sizes, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_continuous, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_input, scene_setup, scene_teardown),
        cmocka_unit_test(test_keymap),
    };
    return cmocka_run_group_tests_name("vnc", tests, NULL, NULL);
}
