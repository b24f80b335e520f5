/*
 * dev/virtio/net_test.c - the network adapter on a link that keeps what it is given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/net.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/net.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { RX = 0, TX = 1, CONTROL = 2, HEADER_BYTES = 12, BUFFERS_AT = 10 };
enum { F_CSUM = 0, F_GUEST_CSUM = 1, F_MTU = 3, F_GUEST_TSO4 = 7, F_HOST_TSO4 = 11 };
enum { F_MRG_RXBUF = 15, F_STATUS = 16, F_CTRL_VQ = 17, F_CTRL_RX = 18, F_GUEST_ANNOUNCE = 21 };
enum { F_CTRL_MAC_ADDR = 23 };
#define BASE (BIT(VIRTIO_F_VERSION_1) | BIT(F_STATUS))
#define WITH_CONTROL \
    (BASE | BIT(F_CTRL_VQ) | BIT(F_CTRL_RX) | BIT(F_GUEST_ANNOUNCE) | BIT(F_CTRL_MAC_ADDR))

struct link {
    struct net net;
    u8 frame[NET_FRAME_MAX_BYTES]; /* the last one sent */
    size_t frame_bytes;
    unsigned sent_count, resume_count;
    u32 offloads;
};

static void link_send(struct net *net, const struct net_segment *segments, unsigned count)
{
    struct link *link = container_of(net, struct link, net);
    link->frame_bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_true(link->frame_bytes + segments[i].bytes <= sizeof(link->frame));
        memcpy(link->frame + link->frame_bytes, segments[i].data, segments[i].bytes);
        link->frame_bytes += segments[i].bytes;
    }
    link->sent_count++;
}

static void link_rx_resume(struct net *net)
{
    container_of(net, struct link, net)->resume_count++;
}

static void link_offload(struct net *net, u32 offloads)
{
    container_of(net, struct link, net)->offloads = offloads;
}

static const struct net_ops link_ops = {
    .send = link_send, .rx_resume = link_rx_resume, .offload = link_offload};

struct rig {
    struct driver driver;
    struct virtio_dev *vdev;
    struct link link;
    gpa_t buffer;
};

static const u8 link_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static struct rig *rig_new(u64 features, bool vnet_header)
{
    struct rig *rig = new0(struct rig);
    struct net *net = &rig->link.net;
    net->ops = &link_ops;
    net->vnet_header = vnet_header;
    net->mtu = 1500;
    memcpy(net->mac, link_mac, 6);
    rig->vdev = virtio_net_new(net);
    assert_true(driver_init(&rig->driver, rig->vdev));
    assert_int_equal(driver_start(&rig->driver, features, 64), 15);
    rig->buffer = driver_alloc(&rig->driver, 70000);
    return rig;
}

static void rig_free(struct rig *rig)
{
    driver_fini(&rig->driver);
    alloc_free(rig);
}

static void give_buffers(struct rig *rig, unsigned count, u32 bytes)
{
    for (unsigned i = 0; i < count; i++) {
        struct driver_segment segment = {driver_alloc(&rig->driver, bytes), bytes, true};
        driver_post(&rig->driver, RX, &segment, 1);
    }
    driver_kick(&rig->driver, RX);
}

static bool link_delivers(struct rig *rig, const void *frame, size_t bytes)
{
    struct net_client *client = &rig->link.net.client;
    lock_acquire(client->lock);
    bool ready = client->rx_ready(client->ctx);
    if (ready)
        client->rx(client->ctx, frame, bytes);
    lock_release(client->lock);
    return ready;
}

/* The next received buffer; NULL when there is none. */
static u8 *take(struct rig *rig, u32 *ret_bytes)
{
    u32 head;
    if (!driver_take_used(&rig->driver, RX, &head, ret_bytes))
        return NULL;
    const u8 *desc = driver_at(&rig->driver, rig->driver.rings[RX].desc + 16 * head);
    return driver_at(&rig->driver, load_le64(desc));
}

static void test_config(void **state)
{
    struct rig *rig = rig_new(BASE, false);
    gpa_t config = rig->driver.device;
    assert_int_equal(driver_pci_read(&rig->driver, 0, 4), 0x10411af4);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(driver_read(&rig->driver, config + i, 1), link_mac[i]);
    assert_int_equal(driver_read(&rig->driver, config + 6, 2), 1);
    assert_int_equal(driver_read(&rig->driver, config + 10, 2), 1500);
    /* Offloads only where the back end can carry them. */
    u64 offloads = BIT(F_CSUM) | BIT(F_GUEST_CSUM) | BIT(F_HOST_TSO4) | BIT(F_GUEST_TSO4);
    assert_int_equal(driver_offered(&rig->driver) & offloads, 0);
    lock_acquire(&rig->vdev->lock);
    virtio_net_link(rig->vdev, false);
    lock_release(&rig->vdev->lock);
    assert_int_equal(driver_read(&rig->driver, config + 6, 2), 0);
    assert_int_equal(rig->driver.interrupts[0], 1);
    rig_free(rig);
    rig = rig_new(BASE | BIT(F_CSUM) | BIT(F_GUEST_CSUM) | BIT(F_GUEST_TSO4), true);
    assert_int_equal(driver_offered(&rig->driver) & offloads, offloads);
    assert_int_equal(rig->link.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
    driver_status_write(&rig->driver, 0);
    assert_int_equal(rig->link.offloads, 0);
    rig_free(rig);
}

/* Sends header and frame in pieces. */
static void guest_sends(struct rig *rig, u32 bytes)
{
    struct driver_segment segments[] = {{rig->buffer, 7, false},
                                        {rig->buffer + 7, 20, false},
                                        {rig->buffer + 27, bytes - 27, false}};
    u32 head, used_bytes;
    driver_post(&rig->driver, TX, segments, 3);
    driver_kick(&rig->driver, TX);
    assert_true(driver_take_used(&rig->driver, TX, &head, &used_bytes));
    assert_int_equal(used_bytes, 0);
}

static void test_send(void **state)
{
    struct rig *rig = rig_new(BASE, false);
    u8 *buffer = driver_at(&rig->driver, rig->buffer);
    for (unsigned i = 0; i < 2000; i++)
        buffer[i] = (u8)(i * 3);
    guest_sends(rig, HEADER_BYTES + 1514);
    assert_int_equal(rig->link.frame_bytes, 1514);
    assert_memory_equal(rig->link.frame, buffer + HEADER_BYTES, 1514);
    /* Too short, too long: dropped. */
    guest_sends(rig, 28);
    assert_int_equal(rig->link.frame_bytes, 16);
    struct driver_segment tiny = {rig->buffer, HEADER_BYTES + 13, false};
    struct driver_segment huge = {rig->buffer, NET_FRAME_MAX_BYTES + 1, false};
    driver_post(&rig->driver, TX, &tiny, 1);
    driver_post(&rig->driver, TX, &huge, 1);
    driver_kick(&rig->driver, TX);
    assert_int_equal(rig->link.sent_count, 2);
    rig_free(rig);
}

static void test_send_with_header(void **state)
{
    struct rig *rig = rig_new(BASE | BIT(F_CSUM), true);
    u8 *buffer = driver_at(&rig->driver, rig->buffer);
    memset(buffer, 1, 100);
    guest_sends(rig, 100);
    assert_int_equal(rig->link.frame_bytes, 100);
    assert_int_equal(rig->link.frame[0], 1);
    assert_int_equal(rig->link.frame[BUFFERS_AT], 0);
    rig_free(rig);
    /* Without F_CSUM the header asks for nothing. */
    rig = rig_new(BASE, true);
    memset(driver_at(&rig->driver, rig->buffer), 1, 100);
    guest_sends(rig, 100);
    for (unsigned i = 0; i < HEADER_BYTES; i++)
        assert_int_equal(rig->link.frame[i], 0);
    rig_free(rig);
}

static void test_short_header_breaks(void **state)
{
    struct rig *rig = rig_new(BASE, false);
    struct driver_segment tiny = {rig->buffer, 11, false};
    driver_post(&rig->driver, TX, &tiny, 1);
    driver_kick(&rig->driver, TX);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
}

static void test_receive(void **state)
{
    struct rig *rig = rig_new(BASE, false);
    u8 frame[1514], *got;
    u32 bytes;
    for (unsigned i = 0; i < sizeof(frame); i++)
        frame[i] = (u8)(i * 5);
    assert_false(link_delivers(rig, frame, sizeof(frame)));
    give_buffers(rig, 2, 1526);
    assert_int_equal(rig->link.resume_count, 1);
    assert_true(link_delivers(rig, frame, sizeof(frame)));
    got = take(rig, &bytes);
    assert_non_null(got);
    assert_int_equal(bytes, HEADER_BYTES + 1514);
    assert_int_equal(load_le16(got + BUFFERS_AT), 1);
    assert_memory_equal(got + HEADER_BYTES, frame, 1514);
    assert_int_equal(rig->driver.interrupts[1], 1);
    /* Too long for one buffer, and no merging negotiated: dropped, the buffer stays. */
    u8 long_frame[1600] = {0};
    assert_true(link_delivers(rig, long_frame, sizeof(long_frame)));
    assert_null(take(rig, &bytes));
    assert_true(link_delivers(rig, frame, sizeof(frame)));
    assert_non_null(take(rig, &bytes));
    rig_free(rig);
}

static void test_receive_merged(void **state)
{
    struct rig *rig = rig_new(BASE | BIT(F_MRG_RXBUF), true);
    static u8 frame[HEADER_BYTES + 1000];
    u32 bytes;
    for (unsigned i = 0; i < sizeof(frame); i++)
        frame[i] = (u8)(i * 11);
    give_buffers(rig, 9, 100);
    /* 1012 bytes need eleven buffers: nothing is shown, nothing is lost. */
    assert_true(link_delivers(rig, frame, sizeof(frame)));
    assert_null(take(rig, &bytes));
    assert_int_equal(rig->driver.interrupts[1], 0);
    give_buffers(rig, 3, 100);
    assert_true(link_delivers(rig, frame, sizeof(frame)));
    assert_int_equal(rig->driver.interrupts[1], 1);
    u8 *first = take(rig, &bytes);
    assert_memory_equal(first, frame, BUFFERS_AT);
    assert_int_equal(load_le16(first + BUFFERS_AT), 11);
    assert_memory_equal(first + HEADER_BYTES, frame + HEADER_BYTES, 88);
    for (unsigned at = 100; at < sizeof(frame); at += 100) {
        u8 *next = take(rig, &bytes);
        assert_non_null(next);
        assert_int_equal(bytes, sizeof(frame) - at < 100 ? sizeof(frame) - at : 100);
        assert_memory_equal(next, frame + at, bytes);
    }
    assert_null(take(rig, &bytes));
    rig_free(rig);
}

static void test_bad_receive_buffers(void **state)
{
    static const struct driver_segment bad[] = {{0x8000, 11, true}, {0x8000, 100, false}};
    u8 frame[60] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct rig *rig = rig_new(BASE | BIT(F_MRG_RXBUF), false);
        driver_post(&rig->driver, RX, &bad[i], 1);
        (void)link_delivers(rig, frame, sizeof(frame));
        assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
        assert_false(link_delivers(rig, frame, sizeof(frame)));
        rig_free(rig);
    }
    /* The second buffer of a merged frame is not writable. */
    struct rig *rig = rig_new(BASE | BIT(F_MRG_RXBUF), false);
    give_buffers(rig, 1, 20);
    driver_post(&rig->driver, RX, &bad[1], 1);
    (void)link_delivers(rig, frame, sizeof(frame));
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
}

/* Runs one control command; returns its answer. */
static u8 control(struct rig *rig, const void *command, u32 bytes)
{
    struct driver_segment segments[] = {{rig->buffer, bytes, false}, {rig->buffer + 4096, 1, true}};
    memcpy(driver_at(&rig->driver, rig->buffer), command, bytes);
    *(u8 *)driver_at(&rig->driver, rig->buffer + 4096) = 0xee;
    driver_post(&rig->driver, CONTROL, segments, 2);
    driver_kick(&rig->driver, CONTROL);
    u32 head, used_bytes;
    assert_true(driver_take_used(&rig->driver, CONTROL, &head, &used_bytes));
    assert_int_equal(used_bytes, 1);
    return *(u8 *)driver_at(&rig->driver, rig->buffer + 4096);
}

/* True when a frame to MAC reaches the guest. */
static bool reaches(struct rig *rig, const u8 *mac)
{
    u8 frame[60] = {0};
    u32 bytes;
    memcpy(frame, mac, 6);
    rig->driver.next_free = rig->buffer + 8192;
    give_buffers(rig, 1, 128);
    assert_true(link_delivers(rig, frame, sizeof(frame)));
    return take(rig, &bytes) != NULL;
}

static void test_filter(void **state)
{
    struct rig *rig = rig_new(WITH_CONTROL, false);
    static const u8 other[6] = {2, 0, 0, 0, 0, 9}, group[6] = {1, 0, 0x5e, 0, 0, 5};
    static const u8 everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const u8 mine[6] = {2, 0, 0, 0, 0, 7};
    assert_true(reaches(rig, other)); /* nothing said yet */
    assert_int_equal(control(rig, "\0\0\0", 3), 0);
    assert_false(reaches(rig, other));
    assert_false(reaches(rig, group));
    assert_true(reaches(rig, link_mac));
    assert_true(reaches(rig, everyone));
    /* One unicast and one multicast address. */
    u8 table[] = {1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 5};
    assert_int_equal(control(rig, table, sizeof(table)), 0);
    assert_true(reaches(rig, other));
    assert_true(reaches(rig, group));
    table[2] = 200; /* more than the command has */
    assert_int_equal(control(rig, table, sizeof(table)), 1);
    assert_int_equal(control(rig, table, 9), 1);
    assert_true(reaches(rig, other));
    assert_int_equal(control(rig, "\1\0\0\0\0\0\0\0\0\0", 10), 0);
    assert_false(reaches(rig, other));
    assert_int_equal(control(rig, "\0\1\1", 3), 0); /* all multicast */
    assert_true(reaches(rig, group));
    assert_int_equal(control(rig, "\0\5\1", 3), 0); /* no broadcast */
    assert_false(reaches(rig, everyone));
    assert_int_equal(control(rig, "\0\6\1", 3), 1);
    /* More addresses than fit: all pass. */
    static u8 many[2 + 4 + 65 * 6 + 4] = {1, 0, 65};
    assert_int_equal(control(rig, many, sizeof(many)), 0);
    assert_true(reaches(rig, other));
    /* An address of its own. */
    u8 address[8] = {1, 1};
    memcpy(address + 2, mine, 6);
    assert_int_equal(control(rig, address, 8), 0);
    assert_int_equal(control(rig, "\1\0\0\0\0\0\0\0\0\0", 10), 0);
    assert_true(reaches(rig, mine));
    assert_false(reaches(rig, link_mac));
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 5, 1), 7);
    assert_int_equal(control(rig, "\7\0", 2), 1);
    assert_int_equal(control(rig, "\0", 1), 1);
    rig_free(rig);
}

static void test_announce(void **state)
{
    struct rig *rig = rig_new(WITH_CONTROL, false);
    lock_acquire(&rig->vdev->lock);
    virtio_net_announce(rig->vdev);
    lock_release(&rig->vdev->lock);
    assert_int_equal(rig->driver.interrupts[0], 1);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 6, 2), 3);
    assert_int_equal(control(rig, "\3\0", 2), 0);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 6, 2), 1);
    rig_free(rig);
}

static void test_state_round_trip(void **state)
{
    struct rig *from = rig_new(WITH_CONTROL, false), *to = rig_new(BASE, false);
    static const u8 other[6] = {2, 0, 0, 0, 0, 9};
    to->link.net.mac[5] = 99; /* a clone has its own address */
    assert_int_equal(control(from, "\0\0\0", 3), 0);
    struct state_writer writer = {0}, again = {0};
    pci_bus_save(from->driver.pci, &writer);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    assert_int_equal(reader.position, reader.bytes);
    memcpy(to->driver.ram, from->driver.ram, DRIVER_RAM_BYTES);
    memcpy(to->driver.rings, from->driver.rings, sizeof(from->driver.rings));
    vm_clock_run(&to->driver.clock);
    assert_int_equal(to->link.resume_count, 1);
    assert_int_equal(driver_read(&to->driver, to->driver.device + 5, 1), 99);
    assert_false(reaches(to, other));
    assert_true(reaches(to, to->link.net.mac));
    pci_bus_save(to->driver.pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_send_with_header),
        cmocka_unit_test(test_short_header_breaks),
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_receive_merged),
        cmocka_unit_test(test_bad_receive_buffers),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_announce),
        cmocka_unit_test(test_state_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
