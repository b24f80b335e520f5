/*
 * back/display/vnc_viewers_test.c - many viewers, slow ones, ones that send nonsense, and ones that
 * must know a password.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <nettle/des.h>

#include "back/display/vnc_scene.h"
#include "host/fd.h"

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
        scene_fetch(&peers[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(scene_worst(&peers[i]), 0);
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
        scene_fetch(&quick);
        assert_int_equal(scene_worst(&quick), 0);
    }
    do
        rfb_take(&slow);
    while (rfb_has_input(&slow, 300));
    scene_fetch(&slow);
    assert_int_equal(scene_worst(&slow), 0);
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
    scene_fetch(&peer);
    assert_int_equal(scene_worst(&peer), 0);
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
    } while (scene_setup_with(address, "sesame") != 0 && ++number < 50);
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
    scene_teardown(NULL);
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
        cmocka_unit_test_setup_teardown(test_several, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_slow, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, scene_setup, scene_teardown),
        cmocka_unit_test(test_password),
    };
    return cmocka_run_group_tests_name("vnc_viewers", tests, NULL, NULL);
}
