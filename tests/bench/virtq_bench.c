/*
 * tests/bench/virtq_bench.c - the virtio disk's device path alone: a driver in this process, rings
 * in RAM, the bus, the device, and a disk that does nothing. No guest CPU, no host I/O.
 *
 * Output, one line for each queue depth:
 * "virtq_bench depth D direct|indirect IOPS device-nanoseconds-a-request". The device's share is
 * what passes between the kick and the end of the completions; the rest is the driver's own work.
 * Usage: virtq_bench [--ms N]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "back/blk.h"
#include "base/bits.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"

enum { ROUNDS = 5, RING_SIZE = 256, REQUEST_BYTES = 4096, DISK_BYTES = 1 << 30 };
enum { HEADER_BYTES = 16 };

struct null_disk {
    struct blk blk;
    struct blk_req *first, **last;
};

struct bench {
    struct driver driver;
    struct null_disk disk;
    gpa_t headers, data, statuses, tables;
    unsigned depth;
    bool indirect;
};

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

static void null_submit(struct blk *blk, struct blk_req *req)
{
    struct null_disk *disk = container_of(blk, struct null_disk, blk);
    req->next = NULL;
    *disk->last = req;
    disk->last = &req->next;
}

static const struct blk_ops null_ops = {.submit = null_submit};

/* What the loop does when the disk has answered: one lock for each completion. */
static void null_complete(struct null_disk *disk)
{
    struct blk_req *req = disk->first;
    disk->first = NULL;
    disk->last = &disk->first;
    while (req) {
        struct blk_req *next = req->next;
        lock_acquire(disk->blk.lock);
        req->done(req, 0);
        lock_release(disk->blk.lock);
        req = next;
    }
}

static void bench_start(struct bench *bench)
{
    bench->disk.last = &bench->disk.first;
    bench->disk.blk = (struct blk){.ops = &null_ops, .size_bytes = DISK_BYTES, .sector_bytes = 512};
    u64 features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX);
    if (!driver_init(&bench->driver, virtio_blk_new(&bench->disk.blk, 1)) ||
        driver_start(&bench->driver, features, RING_SIZE) != 15) {
        fputs("virtq_bench: the device does not start\n", stderr);
        exit(1);
    }
    bench->headers = driver_alloc(&bench->driver, (size_t)RING_SIZE * HEADER_BYTES);
    bench->statuses = driver_alloc(&bench->driver, RING_SIZE);
    bench->tables = driver_alloc(&bench->driver, (size_t)RING_SIZE * 48);
    bench->data = driver_alloc(&bench->driver, (size_t)RING_SIZE * REQUEST_BYTES);
}

static void post(struct bench *bench, unsigned slot)
{
    gpa_t header = bench->headers + (gpa_t)slot * HEADER_BYTES;
    struct driver_segment segments[3] = {
        {header, HEADER_BYTES, false},
        {bench->data + (gpa_t)slot * REQUEST_BYTES, REQUEST_BYTES, true},
        {bench->statuses + slot, 1, true}};
    store_le64((u8 *)driver_at(&bench->driver, header) + 8, slot * 8);
    if (bench->indirect)
        driver_post_table(&bench->driver, 0, segments, 3, bench->tables + (gpa_t)slot * 48);
    else
        driver_post(&bench->driver, 0, segments, 3);
}

/* Does DEPTH requests; returns the nanoseconds that the device took. */
static u64 batch(struct bench *bench)
{
    u32 head, bytes;
    for (unsigned i = 0; i < bench->depth; i++)
        post(bench, i);
    u64 start_ns = now_ns();
    driver_kick(&bench->driver, 0);
    null_complete(&bench->disk);
    u64 took_ns = now_ns() - start_ns;
    unsigned done = 0;
    while (driver_take_used(&bench->driver, 0, &head, &bytes))
        done += bytes == REQUEST_BYTES + 1;
    /* The next batch is interrupted for once, at its end. */
    struct driver_ring *ring = &bench->driver.rings[0];
    store_le16((u8 *)driver_at(&bench->driver, ring->avail) + 4 + 2u * ring->size,
               (u16)(ring->last_used + bench->depth - 1));
    if (done != bench->depth) {
        fprintf(stderr, "virtq_bench: %u of %u requests came back\n", done, bench->depth);
        exit(1);
    }
    return took_ns;
}

static void measure(struct bench *bench, u64 round_ns)
{
    double best_iops = 0, best_device_ns = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        u64 start_ns = now_ns(), device_ns = 0, count = 0;
        while (now_ns() - start_ns < round_ns) {
            device_ns += batch(bench);
            count += bench->depth;
        }
        double iops = (double)count * 1e9 / (double)(now_ns() - start_ns);
        if (iops > best_iops) {
            best_iops = iops;
            best_device_ns = (double)device_ns / (double)count;
        }
    }
    printf("virtq_bench depth %u %s %.0f %.1f\n", bench->depth,
           bench->indirect ? "indirect" : "direct", best_iops, best_device_ns);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    static const unsigned depths[] = {1, 8, 32, 80};
    u64 round_ns = 200000000;
    if (argc == 3 && strcmp(argv[1], "--ms") == 0)
        round_ns = strtoull(argv[2], NULL, 10) * 1000000;
    bench_start(&bench);
    for (unsigned i = 0; i < ARRAY_LEN(depths); i++) {
        bench.depth = depths[i];
        bench.indirect = false;
        measure(&bench, round_ns);
        bench.indirect = true;
        measure(&bench, round_ns);
    }
    bench.depth = 128;
    measure(&bench, round_ns);
    driver_fini(&bench.driver);
    return 0;
}
