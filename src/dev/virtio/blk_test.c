/*
 * dev/virtio/blk_test.c - the disk, with a back end in memory that completes when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "back/blk.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/pci/pci_bus.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { DISK_BYTES = 1 << 20, RING_SIZE = 256 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { F_RO = 5, F_FLUSH = 9, F_CONFIG_WCE = 11, F_MQ = 12, F_DISCARD = 13, F_WRITE_ZEROES = 14 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_NONE = 0xee };
#define FEATURES                                                                             \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(F_FLUSH) | BIT(F_DISCARD) | \
     BIT(F_WRITE_ZEROES) | BIT(F_CONFIG_WCE))

struct ram_disk {
    struct blk blk;
    u8 data[DISK_BYTES];
    struct blk_req *first, **last; /* in flight */
    unsigned in_flight, flush_count;
    struct blk_req seen; /* the last one submitted */
};

static void ram_submit(struct blk *blk, struct blk_req *req)
{
    struct ram_disk *disk = container_of(blk, struct ram_disk, blk);
    disk->seen = *req;
    req->next = NULL;
    *disk->last = req;
    disk->last = &req->next;
    disk->in_flight++;
}

static const struct blk_ops ram_ops = {.submit = ram_submit};

static void transfer(struct ram_disk *disk, struct blk_req *req)
{
    u64 offset = req->offset;
    for (unsigned i = 0; i < req->segment_count; i++) {
        struct blk_segment *segment = &req->segments[i];
        assert_true(offset + segment->bytes <= disk->blk.size_bytes);
        if (req->op == BLK_READ)
            memcpy(segment->data, disk->data + offset, segment->bytes);
        else
            memcpy(disk->data + offset, segment->data, segment->bytes);
        offset += segment->bytes;
    }
    assert_int_equal(offset, req->offset + req->bytes);
}

/* Completes all that is in flight; returns how many that were. */
static unsigned ram_complete(struct ram_disk *disk, int result)
{
    unsigned count = 0;
    while (disk->first) {
        struct blk_req *req = disk->first;
        disk->first = req->next;
        if (disk->first == NULL)
            disk->last = &disk->first;
        disk->in_flight--;
        count++;
        if (result == 0 && (req->op == BLK_READ || req->op == BLK_WRITE))
            transfer(disk, req);
        if (result == 0 && (req->op == BLK_DISCARD || req->op == BLK_WRITE_ZEROES))
            memset(disk->data + req->offset, 0, req->bytes);
        disk->flush_count += req->op == BLK_FLUSH;
        lock_acquire(disk->blk.lock);
        req->done(req, result);
        lock_release(disk->blk.lock);
    }
    return count;
}

struct rig {
    struct driver driver;
    struct ram_disk *disk;
    struct virtio_dev *vdev;
    gpa_t header, data, status;
};

static void rig_start(struct rig *rig, u64 features)
{
    assert_int_equal(driver_start(&rig->driver, features, RING_SIZE), 15);
    rig->header = driver_alloc(&rig->driver, 64);
    rig->data = driver_alloc(&rig->driver, 65536);
    rig->status = driver_alloc(&rig->driver, 1);
}

static struct rig *rig_new_with(u64 features, u32 sector_bytes, bool read_only, unsigned queues)
{
    struct rig *rig = new0(struct rig);
    struct ram_disk *disk = rig->disk = new0(struct ram_disk);
    disk->last = &disk->first;
    disk->blk = (struct blk){.ops = &ram_ops,
                             .size_bytes = DISK_BYTES,
                             .sector_bytes = sector_bytes,
                             .read_only = read_only,
                             .can_discard = true,
                             .id = "disk-serial-number-2"};
    for (unsigned i = 0; i < DISK_BYTES; i++)
        disk->data[i] = (u8)(i * 7 + i / 512);
    rig->vdev = virtio_blk_new(&disk->blk, queues);
    assert_true(driver_init(&rig->driver, rig->vdev));
    rig_start(rig, features);
    return rig;
}

static struct rig *rig_new(void)
{
    return rig_new_with(FEATURES, 512, false, 1);
}

static void rig_free(struct rig *rig)
{
    ram_complete(rig->disk, -EIO);
    driver_fini(&rig->driver);
    alloc_free(rig->disk);
    alloc_free(rig);
}

static void header_write(struct rig *rig, u32 type, u64 sector)
{
    u8 *header = driver_at(&rig->driver, rig->header);
    store_le32(header, type);
    store_le32(header + 4, 0);
    store_le64(header + 8, sector);
    *(u8 *)driver_at(&rig->driver, rig->status) = S_NONE;
}

/* Posts one request with DATA_BYTES of payload in two pieces; completes it; returns its status. */
static u8 request(struct rig *rig, u32 type, u64 sector, u32 data_bytes, bool data_writable)
{
    struct driver_segment segments[4] = {{rig->header, 16, false}};
    unsigned count = 1;
    header_write(rig, type, sector);
    if (data_bytes > 1)
        segments[count++] = (struct driver_segment){rig->data, data_bytes / 2, data_writable};
    if (data_bytes > 0)
        segments[count++] = (struct driver_segment){rig->data + data_bytes / 2,
                                                    data_bytes - data_bytes / 2, data_writable};
    segments[count++] = (struct driver_segment){rig->status, 1, true};
    u16 head = driver_post(&rig->driver, 0, segments, count);
    driver_kick(&rig->driver, 0);
    ram_complete(rig->disk, 0);
    u32 used_head, used_bytes;
    assert_true(driver_take_used(&rig->driver, 0, &used_head, &used_bytes));
    assert_int_equal(used_head, head);
    u8 status = *(u8 *)driver_at(&rig->driver, rig->status);
    if (status == S_OK && type == T_IN)
        assert_int_equal(used_bytes, data_bytes + 1);
    return status;
}

static void test_config(void **state)
{
    struct rig *rig = rig_new_with(FEATURES, 4096, false, 1);
    gpa_t config = rig->driver.device;
    assert_int_equal(driver_pci_read(&rig->driver, 0, 4), 0x10421af4);
    assert_int_equal(driver_read(&rig->driver, config, 8), DISK_BYTES / 512);
    assert_int_equal(driver_read(&rig->driver, config + 20, 4), 4096);
    assert_true(driver_read(&rig->driver, config + 12, 4) + 2 <= CHAIN_SEGMENTS_MAX);
    assert_int_equal(driver_offered(&rig->driver) & (BIT(F_RO) | BIT(F_MQ)), 0);
    rig->disk->blk.size_bytes = 2 * DISK_BYTES;
    lock_acquire(&rig->vdev->lock);
    virtio_blk_resized(rig->vdev);
    lock_release(&rig->vdev->lock);
    assert_int_equal(driver_read(&rig->driver, config, 8), 2 * DISK_BYTES / 512);
    assert_int_equal(rig->driver.interrupts[0], 1);
    rig->disk->blk.size_bytes = DISK_BYTES;
    rig_free(rig);
}

static void test_read_write(void **state)
{
    struct rig *rig = rig_new();
    u8 *data = driver_at(&rig->driver, rig->data);
    assert_int_equal(request(rig, T_IN, 8, 4096, true), S_OK);
    assert_memory_equal(data, rig->disk->data + 4096, 4096);
    assert_true(mem_flag_set(&rig->driver.mem, rig->data + 4000, MEM_DIRTY));
    memset(data, 0x5a, 1024);
    assert_int_equal(request(rig, T_OUT, DISK_BYTES / 512 - 2, 1024, false), S_OK);
    assert_memory_equal(data, rig->disk->data + DISK_BYTES - 1024, 1024);
    assert_int_equal(rig->disk->seen.flags, 0);
    assert_int_equal(request(rig, T_FLUSH, 0, 0, false), S_OK);
    assert_int_equal(rig->disk->flush_count, 1);
    assert_int_equal(rig->driver.interrupts[1], 3);
    rig_free(rig);
}

/* Data and status may share a descriptor, header and data too. */
static void test_any_layout(void **state)
{
    struct rig *rig = rig_new();
    u8 *base = driver_at(&rig->driver, rig->data);
    struct driver_segment in[] = {
        {rig->header, 3, false}, {rig->header + 3, 13, false}, {rig->data, 513, true}};
    u32 head, bytes;
    header_write(rig, T_IN, 1);
    driver_post_indirect(&rig->driver, 0, in, 3);
    base[512] = S_NONE;
    driver_kick(&rig->driver, 0);
    ram_complete(rig->disk, 0);
    assert_true(driver_take_used(&rig->driver, 0, &head, &bytes));
    assert_int_equal(bytes, 513);
    assert_int_equal(base[512], S_OK);
    assert_memory_equal(base, rig->disk->data + 512, 512);
    struct driver_segment out[] = {{rig->data, 16 + 512, false}, {rig->status, 1, true}};
    memset(base, 0x77, 600);
    store_le32(base, T_OUT);
    store_le64(base + 8, 2);
    driver_post(&rig->driver, 0, out, 2);
    driver_kick(&rig->driver, 0);
    ram_complete(rig->disk, 0);
    assert_int_equal(*(u8 *)driver_at(&rig->driver, rig->status), S_OK);
    assert_memory_equal(base + 16, rig->disk->data + 1024, 512);
    rig_free(rig);
}

static void test_bad_ranges(void **state)
{
    struct rig *rig = rig_new();
    u64 sectors = DISK_BYTES / 512;
    assert_int_equal(request(rig, T_IN, sectors, 512, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, sectors - 1, 1024, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, UINT64_MAX, 512, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, UINT64_MAX / 512, 1024, true), S_IOERR);
    assert_int_equal(request(rig, T_OUT, sectors, 512, false), S_IOERR);
    assert_int_equal(request(rig, T_IN, 0, 511, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, 0, 0, true), S_IOERR);
    assert_int_equal(request(rig, 2, 0, 512, true), S_UNSUPP);
    assert_int_equal(request(rig, UINT32_MAX, 0, 512, false), S_UNSUPP);
    assert_int_equal(rig->disk->seen.bytes, 0); /* nothing of this reached the back end */
    rig_free(rig);
    rig = rig_new_with(FEATURES, 4096, false, 1);
    assert_int_equal(request(rig, T_IN, 1, 4096, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, 8, 512, true), S_IOERR);
    assert_int_equal(request(rig, T_IN, 8, 4096, true), S_OK);
    rig_free(rig);
}

static void test_read_only(void **state)
{
    struct rig *rig = rig_new_with(FEATURES, 512, true, 1);
    assert_true(driver_offered(&rig->driver) & BIT(F_RO));
    assert_int_equal(request(rig, T_OUT, 0, 512, false), S_IOERR);
    assert_int_equal(request(rig, T_IN, 0, 512, true), S_OK);
    rig_free(rig);
}

static void test_id(void **state)
{
    struct rig *rig = rig_new();
    assert_int_equal(request(rig, T_GET_ID, 0, 20, true), S_OK);
    assert_memory_equal(driver_at(&rig->driver, rig->data), "disk-serial-number-2", 20);
    assert_int_equal(request(rig, T_GET_ID, 0, 3, true), S_OK);
    assert_int_equal(request(rig, T_GET_ID, 0, 4000, true), S_OK);
    assert_int_equal(rig->disk->in_flight, 0);
    rig_free(rig);
}

static void range_write(struct rig *rig, u64 sector, u32 sectors, u32 flags)
{
    u8 *range = driver_at(&rig->driver, rig->data);
    store_le64(range, sector);
    store_le32(range + 8, sectors);
    store_le32(range + 12, flags);
}

static void test_discard_and_zeroes(void **state)
{
    struct rig *rig = rig_new();
    range_write(rig, 16, 8, 0);
    assert_int_equal(request(rig, T_DISCARD, 0, 16, false), S_OK);
    assert_int_equal(rig->disk->data[16 * 512], 0);
    range_write(rig, 32, 8, 1);
    assert_int_equal(request(rig, T_WRITE_ZEROES, 0, 16, false), S_OK);
    assert_int_equal(rig->disk->seen.flags, BLK_UNMAP);
    assert_int_equal(rig->disk->seen.bytes, 4096);
    range_write(rig, 16, 8, 1); /* discard has no unmap flag */
    assert_int_equal(request(rig, T_DISCARD, 0, 16, false), S_UNSUPP);
    range_write(rig, 16, 8, 2);
    assert_int_equal(request(rig, T_WRITE_ZEROES, 0, 16, false), S_UNSUPP);
    range_write(rig, UINT64_MAX, 8, 0);
    assert_int_equal(request(rig, T_DISCARD, 0, 16, false), S_IOERR);
    range_write(rig, 0, UINT32_MAX, 0);
    assert_int_equal(request(rig, T_DISCARD, 0, 16, false), S_IOERR);
    range_write(rig, 0, 8, 0);
    assert_int_equal(request(rig, T_DISCARD, 0, 32, false), S_IOERR);
    assert_int_equal(request(rig, T_DISCARD, 0, 8, false), S_IOERR);
    rig_free(rig);
    rig = rig_new_with(BIT(VIRTIO_F_VERSION_1), 512, false, 1);
    range_write(rig, 16, 8, 0);
    assert_int_equal(request(rig, T_DISCARD, 0, 16, false), S_UNSUPP);
    rig_free(rig);
}

static void test_write_cache(void **state)
{
    /* A driver that cannot flush gets every write on stable storage. */
    struct rig *rig = rig_new_with(BIT(VIRTIO_F_VERSION_1), 512, false, 1);
    assert_int_equal(request(rig, T_OUT, 0, 512, false), S_OK);
    assert_int_equal(rig->disk->seen.flags, BLK_FUA);
    rig_free(rig);
    rig = rig_new();
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 32, 1), 1);
    driver_write(&rig->driver, rig->driver.device + 32, 1, 0);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 32, 1), 0);
    assert_int_equal(request(rig, T_OUT, 0, 512, false), S_OK);
    assert_int_equal(rig->disk->seen.flags, BLK_FUA);
    rig_free(rig);
}

static void test_io_error(void **state)
{
    struct rig *rig = rig_new();
    struct driver_segment segments[] = {
        {rig->header, 16, false}, {rig->data, 512, true}, {rig->status, 1, true}};
    u32 head, bytes;
    header_write(rig, T_IN, 0);
    driver_post(&rig->driver, 0, segments, 3);
    driver_kick(&rig->driver, 0);
    assert_int_equal(ram_complete(rig->disk, -EIO), 1);
    assert_true(driver_take_used(&rig->driver, 0, &head, &bytes));
    assert_int_equal(*(u8 *)driver_at(&rig->driver, rig->status), S_IOERR);
    rig_free(rig);
}

static void test_broken_requests(void **state)
{
    struct driver_segment bad[][2] = {
        {{0x8000, 15, false}, {0x9000, 1, true}},  /* half a header */
        {{0x8000, 16, false}, {0x9000, 16, false}} /* no status */
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct rig *rig = rig_new();
        driver_post(&rig->driver, 0, bad[i], 2);
        driver_kick(&rig->driver, 0);
        assert_int_equal(driver_status(&rig->driver), 15 | VIRTIO_STATUS_NEEDS_RESET);
        rig_start(rig, FEATURES);
        assert_int_equal(request(rig, T_IN, 0, 512, true), S_OK);
        rig_free(rig);
    }
}

static void test_many_in_flight(void **state)
{
    /* More requests than the pool: two full queues. */
    struct rig *rig = rig_new_with(FEATURES | BIT(F_MQ), 512, false, 2);
    assert_int_equal(driver_read(&rig->driver, rig->driver.device + 34, 2), 2);
    header_write(rig, T_IN, 0);
    struct driver_segment segments[] = {
        {rig->header, 16, false}, {rig->data, 512, true}, {rig->status, 1, true}};
    for (unsigned i = 0; i < 2 * RING_SIZE; i++)
        driver_post_indirect(&rig->driver, i % 2, segments, 3);
    driver_kick(&rig->driver, 0);
    driver_kick(&rig->driver, 1);
    assert_int_equal(rig->disk->in_flight, 256);
    unsigned done = ram_complete(rig->disk, 0);
    vm_clock_run(&rig->driver.clock);
    done += ram_complete(rig->disk, 0);
    assert_int_equal(done, 2 * RING_SIZE);
    unsigned used = 0;
    u32 head, bytes;
    for (unsigned i = 0; i < 2; i++)
        while (driver_take_used(&rig->driver, i, &head, &bytes))
            used++;
    assert_int_equal(used, 2 * RING_SIZE);
    rig_free(rig);
}

static void test_reset_during_io(void **state)
{
    struct rig *rig = rig_new();
    struct driver_segment segments[] = {
        {rig->header, 16, false}, {rig->data, 512, true}, {rig->status, 1, true}};
    header_write(rig, T_IN, 0);
    for (unsigned i = 0; i < 10; i++)
        driver_post(&rig->driver, 0, segments, 3);
    driver_kick(&rig->driver, 0);
    assert_int_equal(rig->disk->in_flight, 10);
    driver_status_write(&rig->driver, 0);
    assert_int_not_equal(driver_status(&rig->driver), 0);
    u16 used_index = load_le16((u8 *)driver_at(&rig->driver, rig->driver.rings[0].used) + 2);
    assert_int_equal(ram_complete(rig->disk, 0), 10);
    /* Nothing was said to the driver that had gone. */
    assert_int_equal(load_le16((u8 *)driver_at(&rig->driver, rig->driver.rings[0].used) + 2),
                     used_index);
    assert_int_equal(*(u8 *)driver_at(&rig->driver, rig->status), S_NONE);
    assert_int_equal(driver_status(&rig->driver), 0);
    rig_start(rig, FEATURES);
    assert_int_equal(request(rig, T_IN, 0, 512, true), S_OK);
    rig_free(rig);
}

static void test_state_round_trip(void **state)
{
    struct rig *from = rig_new(), *to = rig_new_with(BIT(VIRTIO_F_VERSION_1), 512, false, 1);
    assert_int_equal(request(from, T_IN, 0, 512, true), S_OK);
    driver_write(&from->driver, from->driver.device + 32, 1, 0);
    struct state_writer writer = {0}, again = {0};
    pci_bus_save(from->driver.pci, &writer);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    struct err err = {0};
    assert_int_equal(pci_bus_load(to->driver.pci, &reader, &err), 0);
    pci_bus_save(to->driver.pci, &again);
    assert_int_equal(again.bytes, writer.bytes);
    assert_memory_equal(again.data, writer.data, writer.bytes);
    assert_int_equal(driver_read(&to->driver, to->driver.device + 32, 1), 0);
    memcpy(to->driver.ram, from->driver.ram, DRIVER_RAM_BYTES);
    memcpy(to->driver.rings, from->driver.rings, sizeof(from->driver.rings));
    assert_int_equal(request(to, T_IN, 7, 512, true), S_OK);
    state_writer_fini(&writer);
    state_writer_fini(&again);
    rig_free(from);
    rig_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_read_write),
        cmocka_unit_test(test_any_layout),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_discard_and_zeroes),
        cmocka_unit_test(test_write_cache),
        cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_broken_requests),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_reset_during_io),
        cmocka_unit_test(test_state_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
