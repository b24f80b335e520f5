/*
 * back/net/net_test.c - frames, addresses, and the user network as a guest sees it: DHCP, a
 * forwarded port, a port that is taken, a helper that dies.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/net/frames.h"
#include "back/net/mac.h"
#include "back/net/none.h"
#include "back/net/tap.h"
#include "back/net/user.h"
#include "host/fault.h"
#include "host/loop.h"

enum { ETHERNET_BYTES = 14, IPV4_BYTES = 20, UDP_BYTES = 8, DHCP_FIXED_BYTES = 240 };

struct adapter {
    struct lock lock;
    u8 frames[16][2048];
    size_t bytes[16];
    unsigned count;
    bool is_full;
    unsigned unlocked_count;
};

static bool adapter_ready(void *ctx)
{
    struct adapter *adapter = ctx;
    return !adapter->is_full && adapter->count < 16;
}

static void adapter_rx(void *ctx, const void *frame, size_t bytes)
{
    struct adapter *adapter = ctx;
    adapter->unlocked_count += adapter->lock.word == 0;
    adapter->bytes[adapter->count] = bytes;
    memcpy(adapter->frames[adapter->count++], frame, bytes < 2048 ? bytes : 2048);
}

static void adapter_attach(struct adapter *adapter, struct net *net)
{
    const struct net_client client = {adapter_ready, adapter_rx, adapter, &adapter->lock};
    memset(adapter, 0, sizeof(*adapter));
    net_attach(net, &client);
}

static void adapter_send(struct adapter *adapter, struct net *net, const void *data, size_t bytes)
{
    const struct net_segment segments[2] = {{data, 3}, {(const u8 *)data + 3, bytes - 3}};
    lock_acquire(&adapter->lock);
    net->ops->send(net, segments, 2);
    lock_release(&adapter->lock);
}

static void turns(struct loop *loop, const struct adapter *adapter, unsigned wanted_count)
{
    for (unsigned i = 0; i < 100 && adapter->count < wanted_count; i++)
        loop_turn(loop, 50);
}

static void test_mac(void **state)
{
    u8 mac[6], other[6];
    static const char *const wrong[] = {"",
                                        "52:54:00:12:34",
                                        "52:54:00:12:34:5",
                                        "52:54:00:12:34:56:78",
                                        "52-54-00-12-34-56",
                                        "g2:54:00:12:34:56",
                                        "01:00:5e:00:00:01"};
    assert_int_equal(mac_parse("52:54:00:aB:cD:9f", mac), 0);
    assert_memory_equal(mac, "\x52\x54\x00\xab\xcd\x9f", 6);
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(mac_parse(wrong[i], mac), -EINVAL);
    mac_derive("vm", 0, mac);
    mac_derive("vm", 0, other);
    assert_memory_equal(mac, other, 6);
    mac_derive("vm", 1, other);
    assert_memory_not_equal(mac, other, 6);
    assert_int_equal(mac[0] & 3, 2);
}

static void test_none(void **state)
{
    struct net *net = net_none_new();
    struct adapter adapter;
    adapter_attach(&adapter, net);
    adapter_send(&adapter, net, "abcdef", 6);
    assert_int_equal(net->dropped_count, 1);
    net->ops->rx_resume(net);
    net->ops->free(net);
}

static void test_frames_wait_for_room(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct net *net = net_none_new();
    struct frames *frames = calloc(1, sizeof(*frames));
    struct adapter adapter;
    char back[16];
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    frames->net = net;
    frames->loop = loop;
    adapter_attach(&adapter, net);
    assert_int_equal(frames_init(frames, fds[0]), 0);
    adapter.is_full = true;
    assert_int_equal(write(fds[1], "one", 3), 3);
    assert_int_equal(write(fds[1], "three", 5), 5);
    loop_turn(loop, 20);
    loop_turn(loop, 20);
    assert_int_equal(adapter.count, 0);
    adapter.is_full = false;
    frames_rx_resume(frames);
    turns(loop, &adapter, 2);
    assert_int_equal(adapter.bytes[0], 3);
    assert_int_equal(adapter.bytes[1], 5);
    assert_int_equal(adapter.unlocked_count, 0);
    const struct net_segment whole[] = {{"ab", 2}, {"cde", 3}};
    frames_send(frames, whole, 2);
    assert_int_equal(read(fds[1], back, sizeof(back)), 5);
    frames_send(frames, whole, 0);
    assert_int_equal(net->dropped_count, 1);
    for (unsigned i = 0; i < 100000 && net->dropped_count == 1; i++)
        frames_send(frames, whole, 2); /* until the host's queue is full */
    assert_int_equal(net->dropped_count, 2);
    frames_fini(frames);
    free(frames);
    net->ops->free(net);
    close(fds[0]);
    close(fds[1]);
    loop_free(loop);
}

static u16 checksum(const u8 *data, size_t bytes)
{
    u32 sum = 0;
    for (size_t i = 0; i + 1 < bytes; i += 2)
        sum += (u32)data[i] << 8 | data[i + 1];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)~sum;
}

/* A DHCP discover as a guest sends it (RFC 2131); returns the frame's length. */
static size_t make_discover(u8 *frame)
{
    enum { DHCP_BYTES = DHCP_FIXED_BYTES + 60 };
    static const u8 mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    u8 *ip = frame + ETHERNET_BYTES, *udp = ip + IPV4_BYTES, *dhcp = udp + UDP_BYTES;
    u16 udp_bytes = UDP_BYTES + DHCP_BYTES, ip_bytes = (u16)(IPV4_BYTES + udp_bytes);

    memset(frame, 0, ETHERNET_BYTES + ip_bytes);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    frame[12] = 8;
    memcpy(ip, "\x45\0\0\0\0\0\0\0\x40\x11", 10);
    ip[2] = (u8)(ip_bytes >> 8);
    ip[3] = (u8)ip_bytes;
    memset(ip + 16, 0xff, 4);
    u16 sum = checksum(ip, IPV4_BYTES);
    ip[10] = (u8)(sum >> 8);
    ip[11] = (u8)sum;
    memcpy(udp, "\0\x44\0\x43", 4);
    udp[4] = (u8)(udp_bytes >> 8);
    udp[5] = (u8)udp_bytes;
    memcpy(dhcp, "\1\1\6\0\x12\x34\x56\x78", 8);
    memcpy(dhcp + 28, mac, 6);
    memcpy(dhcp + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    return ETHERNET_BYTES + ip_bytes;
}

/* A host port that was free a moment ago, and still is unless KEEP_FD is taken. */
static u16 free_port(int *ret_keep_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t bytes = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    if (ret_keep_fd != NULL)
        *ret_keep_fd = fd;
    else
        close(fd);
    return ntohs(address.sin_port);
}

static const u8 *find_frame(const struct adapter *adapter, u16 type)
{
    for (unsigned i = 0; i < adapter->count; i++) {
        const u8 *frame = adapter->frames[i];
        if (adapter->bytes[i] >= 42 && (frame[12] << 8 | frame[13]) == type)
            return frame;
    }
    return NULL;
}

static void test_user_network(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct err err = {0};
    struct adapter adapter;
    u8 frame[1024];
    const struct net_forward forward = {
        .host_address = "127.0.0.1", .host_port = free_port(NULL), .guest_port = 80};
    struct net *net = net_user_new(loop, &forward, 1, &err);
    if (net == NULL)
        fail_msg("%s", err.text);
    adapter_attach(&adapter, net);
    adapter_send(&adapter, net, frame, make_discover(frame));
    turns(loop, &adapter, 1);
    const u8 *offer = find_frame(&adapter, 0x0800);
    assert_non_null(offer);
    const u8 *dhcp = offer + ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES;
    assert_int_equal(dhcp[0], 2);
    assert_memory_equal(dhcp + 16, "\x0a\0\2\x0f", 4); /* 10.0.2.15 */

    /* A connection from the host makes the network look for the guest. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(forward.host_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    turns(loop, &adapter, adapter.count + 1);
    assert_true(find_frame(&adapter, 0x0806) != NULL || adapter.count > 1);
    close(fd);
    net->ops->free(net);
    loop_free(loop);
}

static void test_user_network_port_taken(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct err err = {0};
    char port[8];
    int fd;
    const struct net_forward forward = {
        .host_address = "127.0.0.1", .host_port = free_port(&fd), .guest_port = 80};
    assert_null(net_user_new(loop, &forward, 1, &err));
    snprintf(port, sizeof(port), "%u", forward.host_port);
    assert_non_null(strstr(err.text, port));
    close(fd);
    loop_free(loop);
}

static void test_user_network_failures(void **state)
{
    for (u64 nth = 1;; nth++) {
        struct loop *loop = loop_new(NULL);
        struct err err = {0};
        fault_arm(FAULT_ANY, nth, -EMFILE);
        struct net *net = net_user_new(loop, NULL, 0, &err);
        u64 count = fault_disarm();
        if (net != NULL)
            net->ops->free(net);
        else
            assert_int_not_equal(err.text[0], '\0');
        loop_free(loop);
        if (count < nth)
            break;
    }
}

static void test_tap_names(void **state)
{
    struct loop *loop = loop_new(NULL);
    struct err err = {0};
    assert_null(net_tap_new(loop, "a-name-that-is-too-long", &err));
    assert_int_equal(err.code, -EINVAL);
    assert_null(net_tap_new(loop, "", &err));
    fault_arm(FAULT_SOCKET, 1, -EPERM);
    assert_null(net_tap_new(loop, "tap9", &err));
    fault_disarm();
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_frames_wait_for_room),
        cmocka_unit_test(test_user_network),
        cmocka_unit_test(test_user_network_port_taken),
        cmocka_unit_test(test_user_network_failures),
        cmocka_unit_test(test_tap_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
