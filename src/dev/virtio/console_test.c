/*
 * dev/virtio/console_test.c - the console and its ports, with back ends that take as much as told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/chr.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/console.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { CONTROL_RX = 2, CONTROL_TX = 3, BUFFER_BYTES = 64, PORTS = 2 };
enum { DEVICE_READY, PORT_ADD, PORT_READY = 3, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };
enum { F_SIZE = 0, F_MULTIPORT = 1 };
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(F_SIZE) | BIT(F_MULTIPORT))

struct pipe {
    struct chr chr;
    char out[1024]; /* what the guest sent */
    size_t out_bytes, out_room;
    unsigned resume_count;
};

static size_t pipe_write(struct chr *chr, const void *data, size_t bytes)
{
    struct pipe *pipe = container_of(chr, struct pipe, chr);
    size_t taken = bytes < pipe->out_room ? bytes : pipe->out_room;
    assert_true(pipe->out_bytes + taken <= sizeof(pipe->out));
    memcpy(pipe->out + pipe->out_bytes, data, taken);
    pipe->out_bytes += taken;
    pipe->out_room -= taken;
    return taken;
}

static void pipe_rx_resume(struct chr *chr)
{
    container_of(chr, struct pipe, chr)->resume_count++;
}

static const struct chr_ops pipe_ops = {.write = pipe_write, .rx_resume = pipe_rx_resume};

struct rig {
    struct driver driver;
    struct virtio_dev *vdev;
    struct pipe pipes[PORTS];
    gpa_t buffer;
};

static struct rig *rig_new(u64 features)
{
    struct rig *rig = new0(struct rig);
    struct virtio_console_port ports[PORTS] = {{NULL, &rig->pipes[0].chr},
                                               {"org.atoll.agent", &rig->pipes[1].chr}};
    for (unsigned i = 0; i < PORTS; i++) {
        rig->pipes[i].chr.ops = &pipe_ops;
        rig->pipes[i].out_room = sizeof(rig->pipes[i].out);
    }
    rig->vdev = virtio_console_new(ports, PORTS);
    assert_true(driver_init(&rig->driver, rig->vdev));
    assert_int_equal(driver_start(&rig->driver, features, 16), 15);
    rig->buffer = driver_alloc(&rig->driver, 256);
    return rig;
}

static void rig_free(struct rig *rig)
{
    driver_fini(&rig->driver);
    alloc_free(rig);
}

/* Gives COUNT empty buffers to QUEUE. */
static void give_buffers(struct rig *rig, unsigned queue, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct driver_segment segment = {driver_alloc(&rig->driver, BUFFER_BYTES), BUFFER_BYTES,
                                         true};
        memset(driver_at(&rig->driver, segment.gpa), 0xee, BUFFER_BYTES);
        driver_post(&rig->driver, queue, &segment, 1);
    }
    driver_kick(&rig->driver, queue);
}

/* The next filled buffer of QUEUE; NULL when there is none. */
static const u8 *take(struct rig *rig, unsigned queue, u32 *ret_bytes)
{
    u32 head;
    if (!driver_take_used(&rig->driver, queue, &head, ret_bytes))
        return NULL;
    const u8 *desc = driver_at(&rig->driver, rig->driver.rings[queue].desc + 16 * head);
    return driver_at(&rig->driver, load_le64(desc));
}

static void expect_control(struct rig *rig, u32 port, u16 event, u16 value, const char *rest)
{
    u32 bytes = 0;
    const u8 *message = take(rig, CONTROL_RX, &bytes);
    assert_non_null(message);
    assert_int_equal(load_le32(message), port);
    assert_int_equal(load_le16(message + 4), event);
    assert_int_equal(load_le16(message + 6), value);
    assert_int_equal(bytes, 8 + strlen(rest));
    assert_memory_equal(message + 8, rest, strlen(rest));
}

static void expect_no_control(struct rig *rig)
{
    u32 bytes;
    assert_null(take(rig, CONTROL_RX, &bytes));
}

static void send(struct rig *rig, unsigned queue, const void *data, u32 bytes)
{
    struct driver_segment segment = {rig->buffer, bytes, false};
    memcpy(driver_at(&rig->driver, rig->buffer), data, bytes);
    driver_post(&rig->driver, queue, &segment, 1);
    driver_kick(&rig->driver, queue);
}

static void send_control(struct rig *rig, u32 port, u16 event, u16 value)
{
    u8 message[8];
    store_le32(message, port);
    store_le16(message + 4, event);
    store_le16(message + 6, value);
    send(rig, CONTROL_TX, message, sizeof(message));
}

static size_t host_sends(struct rig *rig, unsigned port, const char *text)
{
    struct chr_client *client = &rig->pipes[port].chr.client;
    lock_acquire(client->lock);
    size_t taken = client->rx(client->ctx, text, strlen(text));
    lock_release(client->lock);
    return taken;
}

static void host_connects(struct rig *rig, unsigned port, bool is_on)
{
    struct chr_client *client = &rig->pipes[port].chr.client;
    lock_acquire(client->lock);
    client->connected(client->ctx, is_on);
    lock_release(client->lock);
}

/* The dance of a multiport driver. */
static void ports_up(struct rig *rig)
{
    give_buffers(rig, CONTROL_RX, 8);
    send_control(rig, 0, DEVICE_READY, 1);
    expect_control(rig, 0, PORT_ADD, 1, "");
    expect_control(rig, 1, PORT_ADD, 1, "");
    send_control(rig, 0, PORT_READY, 1);
    expect_control(rig, 0, CONSOLE_PORT, 1, "");
    u32 bytes;
    const u8 *resize = take(rig, CONTROL_RX, &bytes);
    assert_non_null(resize);
    assert_int_equal(load_le16(resize + 4), RESIZE);
    assert_int_equal(bytes, 12);
    expect_control(rig, 0, PORT_OPEN, 1, "");
    send_control(rig, 1, PORT_READY, 1);
    expect_control(rig, 1, PORT_NAME, 1, "org.atoll.agent");
    expect_no_control(rig);
    give_buffers(rig, CONTROL_RX, 7);
}

static void test_config(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    assert_int_equal(driver_pci_read(&rig->driver, 0, 4), 0x10431af4);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device, 4), 25 << 16 | 80);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 4, 4), PORTS);
    assert_int_equal(rig->driver.ring_count, 6);
    /* One character, before anything works. */
    driver_status_write(&rig->driver, 0);
    driver_write(&rig->driver, rig->driver.device + 8, 4, 'x');
    assert_int_equal(rig->pipes[0].out_bytes, 1);
    assert_int_equal(rig->pipes[0].out[0], 'x');
    rig_free(rig);
}

static void test_ports_come_up(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    ports_up(rig);
    host_connects(rig, 1, true);
    expect_control(rig, 1, PORT_OPEN, 1, "");
    host_connects(rig, 1, false);
    expect_control(rig, 1, PORT_OPEN, 0, "");
    rig_free(rig);
}

static void test_control_waits_for_buffers(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    send_control(rig, 0, DEVICE_READY, 1);
    send_control(rig, 1, PORT_READY, 1);
    expect_no_control(rig);
    give_buffers(rig, CONTROL_RX, 1);
    expect_control(rig, 0, PORT_ADD, 1, "");
    expect_no_control(rig);
    give_buffers(rig, CONTROL_RX, 5);
    expect_control(rig, 1, PORT_ADD, 1, "");
    expect_control(rig, 1, PORT_NAME, 1, "org.atoll.agent");
    expect_no_control(rig);
    rig_free(rig);
}

static void test_bad_control(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    give_buffers(rig, CONTROL_RX, 4);
    send_control(rig, PORTS, PORT_READY, 1);
    send_control(rig, UINT32_MAX, PORT_OPEN, 1);
    send_control(rig, 0, 99, 1);
    send(rig, CONTROL_TX, "short", 5);
    expect_no_control(rig);
    assert_int_equal(driver_status(&rig->driver), 15);
    ports_up(rig);
    rig_free(rig);
}

static void test_guest_to_host(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    ports_up(rig);
    send(rig, 1, "to the console", 14);
    send(rig, 5, "to the agent", 12);
    assert_memory_equal(rig->pipes[0].out, "to the console", 14);
    assert_memory_equal(rig->pipes[1].out, "to the agent", 12);
    rig_free(rig);
}

static void test_back_end_full(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    struct pipe *pipe = &rig->pipes[0];
    u32 head, bytes;
    pipe->out_room = 5;
    struct driver_segment split[] = {{rig->buffer, 3, false}, {rig->buffer + 3, 7, false}};
    memcpy(driver_at(&rig->driver, rig->buffer), "0123456789", 10);
    driver_post(&rig->driver, 1, split, 2);
    driver_kick(&rig->driver, 1);
    assert_int_equal(pipe->out_bytes, 5);
    assert_false(driver_take_used(&rig->driver, 1, &head, &bytes));
    for (unsigned i = 0; i < 5; i++) {
        pipe->out_room = 1;
        lock_acquire(&rig->vdev->lock);
        pipe->chr.client.writable(pipe->chr.client.ctx);
        lock_release(&rig->vdev->lock);
    }
    assert_memory_equal(pipe->out, "0123456789", 10);
    assert_true(driver_take_used(&rig->driver, 1, &head, &bytes));
    rig_free(rig);
}

static void test_host_to_guest(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    u32 bytes;
    ports_up(rig);
    /* Closed: everything waits, and opening asks for it. */
    give_buffers(rig, 4, 2);
    assert_int_equal(host_sends(rig, 1, "hello"), 0);
    assert_int_equal(rig->pipes[1].resume_count, 0);
    send_control(rig, 1, PORT_OPEN, 1);
    assert_int_equal(rig->pipes[1].resume_count, 1);
    assert_int_equal(host_sends(rig, 1, "hello"), 5);
    const u8 *data = take(rig, 4, &bytes);
    assert_int_equal(bytes, 5);
    assert_memory_equal(data, "hello", 5);
    /* One buffer left for 100 bytes. */
    char text[101];
    memset(text, 'y', 100);
    text[100] = '\0';
    assert_int_equal(host_sends(rig, 1, text), BUFFER_BYTES);
    assert_non_null(take(rig, 4, &bytes));
    give_buffers(rig, 4, 3);
    assert_int_equal(rig->pipes[1].resume_count, 2);
    assert_int_equal(host_sends(rig, 1, text + BUFFER_BYTES), 100 - BUFFER_BYTES);
    /* Closed again. */
    send_control(rig, 1, PORT_OPEN, 0);
    assert_int_equal(host_sends(rig, 1, "late"), 0);
    rig_free(rig);
}

static void test_resize(void **state)
{
    struct rig *rig = rig_new(FEATURES);
    ports_up(rig);
    for (unsigned i = 0; i < 2; i++) {
        lock_acquire(&rig->vdev->lock);
        virtio_console_resize(rig->vdev, 132, 50);
        lock_release(&rig->vdev->lock);
    }
    u32 bytes;
    const u8 *message = take(rig, CONTROL_RX, &bytes);
    assert_int_equal(bytes, 12);
    assert_int_equal(load_le16(message + 4), RESIZE);
    assert_int_equal(load_le16(message + 8), 132);
    assert_int_equal(load_le16(message + 10), 50);
    expect_no_control(rig);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device, 4), 50 << 16 | 132);
    assert_int_equal(rig->driver.interrupts[0], 1);
    rig_free(rig);
}

static void test_without_multiport(void **state)
{
    struct rig *rig = rig_new(BIT(VIRTIO_F_VERSION_1));
    u32 bytes;
    assert_int_equal(host_sends(rig, 0, "early"), 0);
    give_buffers(rig, 0, 1);
    assert_int_equal(rig->pipes[0].resume_count, 1);
    assert_int_equal(host_sends(rig, 0, "early"), 5);
    assert_non_null(take(rig, 0, &bytes));
    rig_free(rig);
}

static void test_unwritable_receive_buffer(void **state)
{
    struct rig *rig = rig_new(BIT(VIRTIO_F_VERSION_1));
    struct driver_segment segment = {rig->buffer, 16, false};
    driver_post(&rig->driver, 0, &segment, 1);
    assert_int_equal(host_sends(rig, 0, "text"), 0);
    assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
    rig_free(rig);
}

static void test_state_round_trip(void **state)
{
    struct rig *from = rig_new(FEATURES), *to = rig_new(BIT(VIRTIO_F_VERSION_1));
    ports_up(from);
    send_control(from, 1, PORT_OPEN, 1);
    from->pipes[0].out_room = 4;
    send(from, 1, "half sent", 9);
    struct state_writer writer = {0};
    pci_bus_save(from->driver.pci, &writer);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    assert_int_equal(reader.position, reader.bytes);
    memcpy(to->driver.ram, from->driver.ram, DRIVER_RAM_BYTES);
    memcpy(to->driver.rings, from->driver.rings, sizeof(from->driver.rings));
    vm_clock_run(&to->driver.clock);
    /* The rest of the message, and what the host sends to the open port. */
    assert_int_equal(to->pipes[0].out_bytes, 5);
    assert_memory_equal(to->pipes[0].out, " sent", 5);
    to->driver.next_free = from->driver.next_free;
    give_buffers(to, 4, 1);
    assert_int_equal(host_sends(to, 1, "still open"), 10);
    state_writer_fini(&writer);
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_ports_come_up),
        cmocka_unit_test(test_control_waits_for_buffers),
        cmocka_unit_test(test_bad_control),
        cmocka_unit_test(test_guest_to_host),
        cmocka_unit_test(test_back_end_full),
        cmocka_unit_test(test_host_to_guest),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_without_multiport),
        cmocka_unit_test(test_unwritable_receive_buffer),
        cmocka_unit_test(test_state_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
