/*
 * back/chr/chr_test.c - streams over pipes and sockets: order, back pressure, late attach, hang-up.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/chr/null.h"
#include "back/chr/ring.h"
#include "back/chr/stdio.h"
#include "back/chr/unix.h"
#include "back/entropy/getrandom.h"
#include "base/bits.h"
#include "host/fault.h"
#include "host/fd.h"
#include "host/loop.h"

enum { TURN_MS = 200 };

struct device {
    struct lock lock;
    char got[8192];
    size_t got_bytes;
    size_t room_bytes; /* what rx takes in one go */
    unsigned writable_count;
    int connected; /* +1 for each arrival, -1 for each departure */
    unsigned unlocked_count;
};

static void check_lock(struct device *device)
{
    device->unlocked_count += device->lock.word == 0;
}

static size_t device_rx(void *ctx, const void *data, size_t bytes)
{
    struct device *device = ctx;
    check_lock(device);
    size_t taken = min_u64(bytes, device->room_bytes);
    taken = min_u64(taken, sizeof(device->got) - device->got_bytes);
    memcpy(device->got + device->got_bytes, data, taken);
    device->got_bytes += taken;
    return taken;
}

static void device_writable(void *ctx)
{
    struct device *device = ctx;
    check_lock(device);
    device->writable_count++;
}

static void device_connected(void *ctx, bool is_on)
{
    struct device *device = ctx;
    check_lock(device);
    device->connected += is_on ? 1 : -1;
}

static void device_attach(struct device *device, struct chr *chr)
{
    *device = (struct device){.room_bytes = SIZE_MAX};
    const struct chr_client client = {device_rx, device_writable, device_connected, device,
                                      &device->lock};
    chr_attach(chr, &client);
}

static size_t device_write(struct device *device, struct chr *chr, const void *data, size_t bytes)
{
    lock_acquire(&device->lock);
    size_t taken = chr->ops->write(chr, data, bytes);
    lock_release(&device->lock);
    return taken;
}

static void turns(struct loop *loop, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        loop_turn(loop, 5);
}

static void test_null(void **state)
{
    struct chr *chr = chr_null_new();
    assert_int_equal(chr->ops->write(chr, "abc", 3), 3);
    chr->ops->rx_resume(chr);
    chr->ops->free(chr);
}

static void test_ring_keeps_the_last_bytes(void **state)
{
    struct ring ring;
    const u8 *runs[2];
    size_t bytes[2];
    char text[16] = "";
    assert_int_equal(ring_init(&ring, 8), 0);
    for (const char *c = "abcdefghijk"; *c != '\0'; c++)
        ring_put(&ring, c, 1);
    ring_view(&ring, runs, bytes);
    memcpy(text, runs[0], bytes[0]);
    memcpy(text + bytes[0], runs[1], bytes[1]);
    assert_string_equal(text, "defghijk");
    ring_put(&ring, "0123456789ABC", 13);
    ring_view(&ring, runs, bytes);
    memcpy(text, runs[0], bytes[0]);
    memcpy(text + bytes[0], runs[1], bytes[1]);
    assert_string_equal(text, "56789ABC");
    ring_fini(&ring);
}

static void test_taken_socket_carries_both_ways(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct device device;
    int fds[2];
    char text[16] = "";
    assert_int_equal(fd_pair(fds, NULL), 0);
    struct chr *chr = chr_unix_take(loop, fds[0], NULL);
    assert_non_null(chr);
    device_attach(&device, chr);
    turns(loop, 1);
    assert_int_equal(device.connected, 1);
    assert_int_equal(device_write(&device, chr, "hello", 5), 5);
    assert_int_equal(read(fds[1], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(write(fds[1], "answer", 6), 6);
    turns(loop, 1);
    assert_memory_equal(device.got, "answer", 6);
    close(fds[1]);
    turns(loop, 3);
    assert_int_equal(device.connected, 0);
    assert_int_equal(device_write(&device, chr, "gone", 4), 4);
    assert_int_equal(device.unlocked_count, 0);
    chr->ops->free(chr);
    loop_free(loop);
}

static void test_input_waits_for_the_device(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct device device;
    int fds[2];
    assert_int_equal(fd_pair(fds, NULL), 0);
    struct chr *chr = chr_unix_take(loop, fds[0], NULL);
    device_attach(&device, chr);
    device.room_bytes = 3;
    assert_int_equal(write(fds[1], "abcdefgh", 8), 8);
    turns(loop, 4);
    assert_int_equal(device.got_bytes, 3);
    device.room_bytes = 4;
    chr->ops->rx_resume(chr);
    turns(loop, 4);
    assert_int_equal(device.got_bytes, 7);
    chr->ops->rx_resume(chr);
    turns(loop, 4);
    assert_memory_equal(device.got, "abcdefgh", 8);
    assert_int_equal(write(fds[1], "ij", 2), 2); /* and it listens again */
    turns(loop, 2);
    assert_memory_equal(device.got, "abcdefghij", 10);
    chr->ops->free(chr);
    close(fds[1]);
    loop_free(loop);
}

static void test_output_waits_for_the_peer(void **state)
{
    enum { TOTAL = 3 << 20 };
    struct loop *loop = loop_new(NULL);
    struct device device;
    int fds[2];
    size_t sent = 0, received = 0, wrong = 0;
    u8 chunk[5000], back[7000];
    assert_int_equal(fd_pair(fds, NULL), 0);
    assert_int_equal(fd_set_nonblock(fds[1]), 0);
    struct chr *chr = chr_unix_take(loop, fds[0], NULL);
    device_attach(&device, chr);
    for (unsigned round = 0; round < 100000 && received < TOTAL; round++) {
        for (size_t i = 0; i < sizeof(chunk); i++)
            chunk[i] = (u8)((sent + i) * 7 / 5);
        size_t want = min_u64(sizeof(chunk), TOTAL - sent);
        sent += device_write(&device, chr, chunk, want);
        if (round % 300 != 299)
            continue;
        for (ssize_t got; (got = read(fds[1], back, sizeof(back))) > 0;) {
            for (ssize_t i = 0; i < got; i++, received++)
                wrong += back[i] != (u8)(received * 7 / 5);
            loop_turn(loop, 0);
        }
    }
    assert_int_equal(received, TOTAL);
    assert_int_equal(wrong, 0);
    assert_true(device.writable_count > 0);
    chr->ops->free(chr);
    close(fds[1]);
    loop_free(loop);
}

static void test_late_peer_gets_the_history(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct device device;
    char folder[] = "/tmp/atoll-test-XXXXXX", path[64], text[32] = "";
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/console", folder);
    struct chr *chr = chr_unix_listen(loop, path, NULL);
    assert_non_null(chr);
    device_attach(&device, chr);
    assert_int_equal(device_write(&device, chr, "before ", 7), 7);
    int first = fd_connect(path, NULL);
    turns(loop, 2);
    assert_int_equal(device_write(&device, chr, "after", 5), 5);
    turns(loop, 2);
    assert_int_equal(read(first, text, sizeof(text)), 12);
    assert_string_equal(text, "before after");
    int second = fd_connect(path, NULL); /* takes the first one's place */
    turns(loop, 3);
    assert_int_equal(read(first, text, sizeof(text)), 0);
    assert_int_equal(device.connected, 1);
    assert_int_equal(write(second, "x", 1), 1);
    turns(loop, 2);
    assert_int_equal(device.got[0], 'x');
    close(first);
    close(second);
    turns(loop, 3);
    assert_int_equal(device.connected, 0);
    chr->ops->free(chr);
    assert_int_not_equal(access(path, F_OK), 0);
    rmdir(folder);
    loop_free(loop);
}

static void test_failures_of_the_host(void **state)
{
    for (u64 nth = 1;; nth++) {
        struct loop *loop = loop_new(NULL);
        struct err err = {0};
        int fds[2];
        assert_int_equal(fd_pair(fds, NULL), 0);
        fault_arm(FAULT_ANY, nth, -ENOMEM);
        struct chr *chr = chr_unix_take(loop, fds[0], &err);
        u64 count = fault_disarm();
        if (chr != NULL)
            chr->ops->free(chr);
        else
            assert_int_equal(err.code, -ENOMEM);
        close(fds[1]);
        loop_free(loop);
        if (count < nth)
            break;
    }
}

static void on_escape(void *ctx)
{
    loop_stop(ctx);
}

/* The child: a console on its standard input and output that says what it got when it ends. */
static void console_child(void)
{
    struct loop *loop = loop_new(NULL);
    struct device device;
    struct chr *chr = chr_stdio_new(loop, on_escape, loop, NULL);
    if (chr == NULL)
        _exit(9);
    device_attach(&device, chr);
    device_write(&device, chr, "ready\n", 6);
    loop_run(loop);
    device_write(&device, chr, device.got, device.got_bytes);
    chr->ops->free(chr);
    _exit(device.got_bytes == 3 && memcmp(device.got, "a\3b", 3) == 0 ? 0 : 8);
}

static void test_stdio_escape_on_a_terminal(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status;
    struct termios before, after;
    char text[64];
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(tcgetattr(slave, &before), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(slave, 0);
        dup2(slave, 1);
        console_child();
    }
    assert_int_equal(read(master, text, sizeof(text)), 6); /* no carriage return: the mode is raw */
    assert_int_equal(write(master, "a\3b\35c", 5), 5);     /* ^C is the guest's, ^] leaves */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(tcgetattr(slave, &after), 0);
    assert_int_equal(before.c_lflag, after.c_lflag);
    assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
    close(slave);
    close(master);
}

static void test_entropy(void **state)
{
    u8 bytes[1000] = {0};
    unsigned zero_count = 0;
    struct entropy *source = entropy_getrandom();
    entropy_fill(source, bytes, sizeof(bytes));
    for (unsigned i = 0; i < sizeof(bytes); i++)
        zero_count += bytes[i] == 0;
    assert_true(zero_count < 100);
    source->ops->free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_ring_keeps_the_last_bytes),
        cmocka_unit_test(test_taken_socket_carries_both_ways),
        cmocka_unit_test(test_input_waits_for_the_device),
        cmocka_unit_test(test_output_waits_for_the_peer),
        cmocka_unit_test(test_late_peer_gets_the_history),
        cmocka_unit_test(test_failures_of_the_host),
        cmocka_unit_test(test_stdio_escape_on_a_terminal),
        cmocka_unit_test(test_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
