/*
 * tests/fuzz/virtio_fuzz.c - the virtio devices under a driver that does anything: registers,
 * rings, configuration space, tampered state, and back ends that answer late, wrongly or out of
 * order.
 *
 * Needs src/dev/virtio/virtq_driver.c tests/fuzz/ram_fault.c
 *
 * Input: byte 0 chooses the device, bit 7 of it the double-fetch mode (ram_fault.h): then guest
 * memory changes under the device. The rest is a sequence of operations, each a byte and what it
 * needs.
 */
#include <assert.h>
#include <string.h>

#include "back/blk.h"
#include "back/chr.h"
#include "back/entropy.h"
#include "back/net.h"
#include "base/bits.h"
#include "core/state.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/console.h"
#include "dev/virtio/net.h"
#include "dev/virtio/rng.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"
#include "fuzz.h"
#include "ram_fault.h"

enum { OPERATIONS_MAX = 300, RING_SIZE = 8, DISK_BYTES = 1 << 16, PORT_COUNT = 3 };
enum { KIND_BLK, KIND_NET, KIND_CONSOLE, KIND_RNG, KIND_COUNT, MODE_DOUBLE_FETCH = 0x80 };
enum { BAR_BYTES = 0x4000, SLOT_ECAM = 0xe0000000 + (2 << 15), RAM_USED_BYTES = 1 << 17 };

struct input {
    const u8 *data;
    size_t bytes, position;
};

struct line {
    struct chr chr;
    size_t room; /* bytes it takes before it is full */
};

struct world {
    struct driver driver;
    struct blk blk;
    struct blk_req *out[256]; /* requests in flight */
    unsigned out_count;
    struct net net;
    struct line lines[PORT_COUNT];
    struct entropy entropy;
    unsigned kind;
    bool double_fetch;
};

static u64 take(struct input *input, unsigned bytes)
{
    u64 value = 0;
    for (unsigned i = 0; i < bytes && input->position < input->bytes; i++)
        value |= (u64)input->data[input->position++] << (8 * i);
    return value;
}

/* ---- back ends ---- */

/* What a device hands over for I/O without a copy lies in guest RAM. */
static void check_in_ram(const struct world *world, const void *data, size_t bytes)
{
    size_t at = (size_t)((const u8 *)data - world->driver.ram);
    assert(bytes > 0 && at < DRIVER_RAM_BYTES && bytes <= DRIVER_RAM_BYTES - at);
}

static void disk_submit(struct blk *blk, struct blk_req *req)
{
    struct world *world = container_of(blk, struct world, blk);
    u64 bytes = 0;
    for (unsigned i = 0; i < req->segment_count; i++) {
        check_in_ram(world, req->segments[i].data, req->segments[i].bytes);
        bytes += req->segments[i].bytes;
    }
    if (req->op == BLK_READ || req->op == BLK_WRITE)
        assert(bytes == req->bytes);
    if (req->op != BLK_FLUSH)
        assert(req->bytes > 0 && (req->offset | req->bytes) % 512 == 0 &&
               req->offset + req->bytes <= DISK_BYTES);
    assert(world->out_count < ARRAY_LEN(world->out));
    world->out[world->out_count++] = req;
}

static void disk_complete(struct world *world, unsigned which, int result)
{
    if (world->out_count == 0)
        return;
    which %= world->out_count;
    struct blk_req *req = world->out[which];
    world->out[which] = world->out[--world->out_count];
    for (unsigned i = 0; i < req->segment_count; i++) {
        if (req->op == BLK_READ)
            memset(req->segments[i].data, 0x5a, req->segments[i].bytes);
        else if (req->op == BLK_WRITE)
            (void)*(volatile u8 *)req->segments[i].data;
    }
    lock_acquire(world->blk.lock);
    req->done(req, result);
    lock_release(world->blk.lock);
}

static void link_send(struct net *net, const struct net_segment *segments, unsigned count)
{
    const struct world *world = container_of(net, struct world, net);
    size_t bytes = segments[0].bytes; /* the header, the device's own */
    for (unsigned i = 1; i < count; i++) {
        check_in_ram(world, segments[i].data, segments[i].bytes);
        bytes += segments[i].bytes;
    }
    assert(bytes >= 14 && bytes <= NET_FRAME_MAX_BYTES);
}

static void link_rx_resume(struct net *net)
{
}

static void link_offload(struct net *net, u32 offloads)
{
    assert(offloads < 16);
}

static size_t line_write(struct chr *chr, const void *data, size_t bytes)
{
    struct line *line = container_of(chr, struct line, chr);
    size_t taken = min_u64(bytes, line->room);
    if (taken > 0)
        (void)((volatile const u8 *)data)[taken - 1];
    line->room -= taken;
    return taken;
}

static void line_rx_resume(struct chr *chr)
{
}

static void entropy_give(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0x77, bytes);
}

static const struct blk_ops disk_ops = {.submit = disk_submit};
static const struct net_ops link_ops = {
    .send = link_send, .rx_resume = link_rx_resume, .offload = link_offload};
static const struct chr_ops line_ops = {.write = line_write, .rx_resume = line_rx_resume};
static const struct entropy_ops source_ops = {.fill = entropy_give};

/* ---- the world ---- */

static struct virtio_dev *device_new(struct world *world)
{
    struct virtio_console_port ports[PORT_COUNT] = {{NULL, &world->lines[0].chr},
                                                    {"org.atoll.agent", &world->lines[1].chr},
                                                    {"two", &world->lines[2].chr}};
    world->blk = (struct blk){
        .ops = &disk_ops, .size_bytes = DISK_BYTES, .sector_bytes = 512, .can_discard = true};
    world->net = (struct net){.ops = &link_ops, .vnet_header = true, .mtu = 1500};
    world->entropy.ops = &source_ops;
    for (unsigned i = 0; i < PORT_COUNT; i++)
        world->lines[i].chr.ops = &line_ops;
    switch (world->kind) {
    case KIND_BLK:
        return virtio_blk_new(&world->blk, 2);
    case KIND_NET:
        return virtio_net_new(&world->net);
    case KIND_CONSOLE:
        return virtio_console_new(ports, PORT_COUNT);
    default:
        return virtio_rng_new(&world->entropy);
    }
}

static void world_start(struct world *world, u8 mode)
{
    static u8 *ram;
    if (ram == NULL)
        ram = ram_fault_map(DRIVER_RAM_BYTES);
    memset(ram, 0, RAM_USED_BYTES);
    memset(world, 0, sizeof(*world));
    world->kind = (mode & ~MODE_DOUBLE_FETCH) % KIND_COUNT;
    world->double_fetch = (mode & MODE_DOUBLE_FETCH) != 0;
    assert(driver_init_at(&world->driver, device_new(world), ram));
    vm_clock_stop(&world->driver.clock);
    (void)driver_start(&world->driver, driver_offered(&world->driver), RING_SIZE);
}

static void world_end(struct world *world)
{
    struct virtio_dev *vdev = world->driver.vdev;
    assert(vdev->busy_count == world->out_count);
    while (world->out_count > 0)
        disk_complete(world, 0, -5);
    assert(vdev->busy_count == 0 && !vdev->resetting);
    for (unsigned i = 0; i < vdev->queue_count && virtio_running(vdev); i++)
        assert(vdev->queues[i]->in_flight == 0);
    driver_fini(&world->driver);
    assert(world->driver.clock.heap_count == 0);
}

/* ---- operations ---- */

static void clock_step(struct world *world, u64 ns)
{
    struct vm_clock *clock = &world->driver.clock;
    vm_clock_set(clock, vm_clock_now(clock) + ns);
    vm_clock_start(clock);
    vm_clock_run(clock);
    vm_clock_stop(clock);
}

/* A descriptor whose fields are near what is sensible. */
static void descriptor_write(struct world *world, struct input *input)
{
    struct driver_ring *ring = &world->driver.rings[take(input, 1) % 8];
    if (ring->size == 0)
        return;
    u64 where = take(input, 1);
    static const u64 places[] = {
        0x10000, 0x10010,         0x18000,   0x1fff0, DRIVER_RAM_BYTES - 16,
        0x1000,  UINT64_MAX - 15, 0xc0000000};
    struct driver_segment segment = {places[where % 8] + (where >> 5), (u32)take(input, 2), false};
    u16 flags = (u16)take(input, 1) & 7;
    if (flags & 4)
        segment.bytes = segment.bytes % 64 & ~3u;
    gpa_t table = where & 8 ? 0x10000 : ring->desc;
    driver_desc(&world->driver, table, (unsigned)take(input, 1) % RING_SIZE, &segment, flags,
                (u16)take(input, 1));
}

static void ring_expose(struct world *world, struct input *input)
{
    unsigned queue = take(input, 1) % 8;
    if (world->driver.rings[queue].size > 0)
        driver_expose(&world->driver, queue, (u16)take(input, 1));
}

/* A whole request as a driver makes it: bytes to read at 0x10000, room to write at 0x18000. */
static void request_post(struct world *world, struct input *input)
{
    unsigned queue = take(input, 1) % 8;
    struct driver_segment segments[2] = {{0x10000, (u32)take(input, 1), false},
                                         {0x18000, (u32)take(input, 2), true}};
    if (segments[0].bytes > 0xf0) /* a header and whole sectors */
        segments[0].bytes = 16 + 512 * (segments[0].bytes - 0xf0);
    if (world->driver.vdev->status & VIRTIO_STATUS_NEEDS_RESET)
        (void)driver_start(&world->driver, driver_offered(&world->driver), RING_SIZE);
    u32 prefix_bytes = (u32)min_u64(segments[0].bytes, 48);
    unsigned first = segments[0].bytes == 0, end = segments[1].bytes == 0 ? 1 : 2;
    for (u32 i = 0; i < prefix_bytes; i++)
        *(u8 *)driver_at(&world->driver, segments[0].gpa + i) = (u8)take(input, 1);
    if (first < end && world->driver.rings[queue].size > 0)
        driver_post(&world->driver, queue, segments + first, end - first);
}

static void kick(struct world *world, unsigned queue)
{
    driver_write(&world->driver, world->driver.notify + 4 * queue, 2, queue);
}

static void back_end_act(struct world *world, struct input *input)
{
    static u8 frame[4096];
    u8 what = (u8)take(input, 1);
    u16 bytes = (u16)take(input, 2) % sizeof(frame);
    struct line *line = &world->lines[what % PORT_COUNT];
    struct chr_client *chr = &line->chr.client;
    struct net_client *net = &world->net.client;
    if (world->kind == KIND_BLK) {
        disk_complete(world, what, bytes % 3 ? 0 : -5);
        return;
    }
    if (world->kind == KIND_NET) {
        lock_acquire(net->lock);
        if (what & 1 || net->rx_ready(net->ctx))
            net->rx(net->ctx, frame, bytes);
        lock_release(net->lock);
    } else if (world->kind == KIND_CONSOLE) {
        line->room += bytes;
        lock_acquire(chr->lock);
        if (what & 0x40)
            assert(chr->rx(chr->ctx, frame, bytes) <= bytes);
        else if (what & 0x20)
            chr->connected(chr->ctx, what & 0x80);
        else
            chr->writable(chr->ctx);
        lock_release(chr->lock);
    }
}

/* Saves, spoils bytes, and loads: an error or a device that goes on, never a crash. */
static void state_tamper(struct world *world, struct input *input)
{
    struct state_writer writer = {0};
    struct err err;
    while (world->out_count > 0)
        disk_complete(world, 0, 0);
    pci_bus_save(world->driver.pci, &writer);
    for (unsigned i = (unsigned)take(input, 1) % 4; i > 0; i--) {
        size_t at = take(input, 2) % writer.bytes;
        writer.data[at] = (u8)take(input, 1);
    }
    struct state_reader reader = {writer.data, writer.bytes, 0};
    int result = pci_bus_load(world->driver.pci, &reader, &err);
    assert(result <= 0);
    state_writer_fini(&writer);
}

static void register_access(struct world *world, struct input *input)
{
    u8 how = (u8)take(input, 1);
    u64 at = take(input, 2) % BAR_BYTES;
    unsigned bytes = 1u << (how & 3);
    gpa_t base = how & 8 ? SLOT_ECAM : world->driver.common;
    if (how & 8)
        at %= 256;
    else if (how & 0x10)
        at %= 0x38;
    if (how & 4)
        driver_write(&world->driver, base + at, bytes, take(input, bytes));
    else
        (void)driver_read(&world->driver, base + at, bytes);
}

/* The operations in which the device looks at guest memory. */
static void device_act(struct world *world, struct input *input, unsigned what)
{
    u64 seed = take(input, 1);
    if (world->double_fetch)
        ram_fault_arm(world->driver.ram, RAM_USED_BYTES, seed + input->position);
    if (what == 0)
        kick(world, (unsigned)seed % 8);
    else if (what == 1)
        back_end_act(world, input);
    else
        clock_step(world, seed << 16);
    ram_fault_disarm();
}

static void operate(struct world *world, struct input *input)
{
    switch (take(input, 1) % 14) {
    case 0:
    case 1:
        descriptor_write(world, input);
        break;
    case 2:
        ring_expose(world, input);
        break;
    case 3:
    case 4:
        device_act(world, input, 0);
        break;
    case 5:
    case 6:
        device_act(world, input, 1);
        break;
    case 7:
        device_act(world, input, 2);
        break;
    case 8: {
        u64 at = take(input, 2) + DRIVER_RINGS_GPA / 2, value = take(input, 2);
        memcpy(driver_at(&world->driver, at), &value, 2);
        break;
    }
    case 9:
        register_access(world, input);
        break;
    case 10:
        state_tamper(world, input);
        break;
    case 11:
    case 12:
        request_post(world, input);
        break;
    default:
        if (take(input, 1) % 8 == 0)
            pci_bus_reset(world->driver.pci);
        else
            (void)driver_start(&world->driver, driver_offered(&world->driver) ^ take(input, 3),
                               RING_SIZE);
        break;
    }
}

/* ---- seeds ---- */

struct seed_request {
    u8 kind, queue;
    u16 room_bytes;
    u8 bytes, data[32];
};

static const struct seed_request seed_requests[] = {
    {KIND_BLK, 0, 513, 16, {0}},
    {KIND_BLK, 0, 1, 0xf2, {1}},
    {KIND_BLK, 1, 1, 16, {4}},
    {KIND_BLK, 0, 21, 16, {8}},
    {KIND_BLK, 0, 1, 32, {[0] = 11, [16] = 4, [24] = 8}},
    {KIND_BLK, 0, 1, 32, {[0] = 13, [16] = 4, [24] = 8, [28] = 1}},
    {KIND_NET, 0, 2000, 0, {0}},
    {KIND_NET, 1, 0, 60, {0}},
    {KIND_NET, 2, 1, 3, {0, 0, 0}},
    {KIND_NET, 2, 1, 8, {1, 1, 2, 3, 4, 5, 6, 7}},
    {KIND_NET, 2, 1, 22, {1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 5}},
    {KIND_NET, 2, 1, 2, {3, 0}},
    {KIND_CONSOLE, 2, 64, 0, {0}},
    {KIND_CONSOLE, 3, 0, 8, {0, 0, 0, 0, 0, 0, 1, 0}},
    {KIND_CONSOLE, 3, 0, 8, {1, 0, 0, 0, 3, 0, 1, 0}},
    {KIND_CONSOLE, 3, 0, 8, {1, 0, 0, 0, 6, 0, 1, 0}},
    {KIND_CONSOLE, 4, 64, 0, {0}},
    {KIND_CONSOLE, 5, 0, 30, {'x'}},
    {KIND_RNG, 0, 64, 0, {0}},
};

/* Seeds for each device: every request above that the device has, once to three times, kicked and
 * answered, and a descriptor made by hand. */
size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    /* Single steps are slow: one seed in four changes memory under the device. */
    if (index >= 4 * KIND_COUNT)
        return 0;
    size_t at = 0;
    u8 kind = index % KIND_COUNT;
    to[at++] = (u8)(kind | (index >= 3 * KIND_COUNT ? MODE_DOUBLE_FETCH : 0));
    for (unsigned i = 0; i < (1 + index / KIND_COUNT % 3) * ARRAY_LEN(seed_requests); i++) {
        const struct seed_request *request = &seed_requests[i % ARRAY_LEN(seed_requests)];
        if (request->kind != kind)
            continue;
        const u8 head[] = {11, request->queue, request->bytes, (u8)request->room_bytes,
                           (u8)(request->room_bytes >> 8)};
        memcpy(to + at, head, sizeof(head));
        at += sizeof(head);
        unsigned data_bytes = request->bytes < 48 ? request->bytes : 48;
        memset(to + at, 0, data_bytes);
        memcpy(to + at, request->data, data_bytes < 32 ? data_bytes : 32);
        at += data_bytes;
        const u8 tail[] = {3, request->queue, 5, 9, 0x41, 60, 0, 5, 9, 0x20, 60, 0, 7, 200};
        memcpy(to + at, tail, sizeof(tail));
        at += sizeof(tail);
    }
    static const u8 by_hand[] = {0, 0, 0, 16, 0, 1, 0,    1,    0, 0,  2, 1,  0, 2, 1, 0,
                                 2, 0, 0, 3,  0, 9, 0x12, 0x14, 0, 10, 0, 13, 1, 0, 0, 0};
    memcpy(to + at, by_hand, sizeof(by_hand));
    return at + sizeof(by_hand);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct world world;
    struct input input = {data, bytes, 1};
    if (bytes < 2)
        return 0;
    world_start(&world, data[0]);
    for (unsigned i = 0; i < OPERATIONS_MAX && input.position < input.bytes; i++)
        operate(&world, &input);
    world_end(&world);
    return 0;
}
