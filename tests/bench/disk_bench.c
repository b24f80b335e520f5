/*
 * tests/bench/disk_bench.c - random reads of 4 KiB from a file: this host's io_uring by itself, and
 * the virtio disk on the raw back end, driven by a driver in this process. No guest CPU.
 *
 * Output, one line for each queue depth: "disk_bench depth D host IOPS virtio IOPS ratio R". Rounds
 * of the two are interleaved; the figures are medians. Usage: disk_bench FILE [--ms N] [--direct]
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "back/blk/raw.h"
#include "base/bits.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"
#include "host/loop.h"

enum { ROUNDS = 7, RING_SIZE = 256, DEPTH_MAX = 128, BLOCK_BYTES = 4096, HEADER_BYTES = 16 };
enum { TABLE_BYTES = 48, RAM_ALIGN_BYTES = 4096 };

struct bench {
    const char *path;
    bool direct;
    u64 blocks, round_ns, generator;
    struct loop *loop;
    struct driver driver;
    gpa_t headers, tables, statuses, data;
    u16 slot_of[RING_SIZE]; /* by head */
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "disk_bench: %s failed\n", what);
    exit(1);
}

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

static u64 random_block(struct bench *bench)
{
    bench->generator ^= bench->generator << 13;
    bench->generator ^= bench->generator >> 7;
    bench->generator ^= bench->generator << 17;
    return bench->generator % bench->blocks;
}

/* ---- the host alone ---- */

static double host_iops(struct bench *bench, unsigned depth)
{
    struct io_uring ring;
    int fd = open(bench->path, O_RDONLY | (bench->direct ? O_DIRECT : 0));
    u8 *buffers = aligned_alloc(BLOCK_BYTES, (size_t)DEPTH_MAX * BLOCK_BYTES);
    struct iovec iovs[DEPTH_MAX];
    must(fd >= 0 && buffers && io_uring_queue_init(RING_SIZE, &ring, 0) == 0, "io_uring");
    u64 count = 0, start_ns = now_ns();
    unsigned idle = depth;
    u16 idle_slots[DEPTH_MAX];
    for (unsigned i = 0; i < depth; i++)
        idle_slots[i] = (u16)i;
    while (now_ns() - start_ns < bench->round_ns) {
        while (idle > 0) {
            u16 slot = idle_slots[--idle];
            iovs[slot] = (struct iovec){buffers + (size_t)slot * BLOCK_BYTES, BLOCK_BYTES};
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            io_uring_prep_readv(sqe, fd, &iovs[slot], 1, random_block(bench) * BLOCK_BYTES);
            io_uring_sqe_set_data64(sqe, slot);
        }
        struct io_uring_cqe *cqe;
        must(io_uring_submit_and_wait(&ring, 1) >= 0, "io_uring_submit_and_wait");
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            must(cqe->res == BLOCK_BYTES, "a read");
            idle_slots[idle++] = (u16)cqe->user_data;
            io_uring_cqe_seen(&ring, cqe);
            count++;
        }
    }
    double iops = (double)count * 1e9 / (double)(now_ns() - start_ns);
    io_uring_queue_exit(&ring);
    free(buffers);
    close(fd);
    return iops;
}

/* ---- the device ---- */

static void post(struct bench *bench, unsigned slot)
{
    struct driver *driver = &bench->driver;
    gpa_t header = bench->headers + (gpa_t)slot * HEADER_BYTES;
    struct driver_segment segments[3] = {
        {header, HEADER_BYTES, false},
        {bench->data + (gpa_t)slot * BLOCK_BYTES, BLOCK_BYTES, true},
        {bench->statuses + slot, 1, true}};
    store_le64((u8 *)driver_at(driver, header) + 8, random_block(bench) * (BLOCK_BYTES / 512));
    u16 head = driver_post_table(driver, 0, segments, 3, bench->tables + (gpa_t)slot * TABLE_BYTES);
    bench->slot_of[head] = (u16)slot;
}

static void device_start(struct bench *bench, struct blk *blk, void *ram)
{
    struct driver *driver = &bench->driver;
    u64 features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX);
    must(driver_init_at(driver, virtio_blk_new(blk, 1), ram) &&
             driver_start(driver, features, RING_SIZE) == 15,
         "the device's start");
    bench->headers = driver_alloc(driver, (size_t)DEPTH_MAX * HEADER_BYTES);
    bench->tables = driver_alloc(driver, (size_t)DEPTH_MAX * TABLE_BYTES);
    bench->statuses = driver_alloc(driver, DEPTH_MAX);
    driver->next_free = align_up(driver->next_free, BLOCK_BYTES);
    bench->data = driver_alloc(driver, (size_t)DEPTH_MAX * BLOCK_BYTES);
}

static double device_iops(struct bench *bench, unsigned depth)
{
    struct driver *driver = &bench->driver;
    u64 count = 0, start_ns = now_ns();
    u32 head, bytes;
    unsigned out = depth;
    for (unsigned i = 0; i < depth; i++)
        post(bench, i);
    driver_kick(driver, 0);
    for (bool over = false; out > 0;) {
        unsigned posted = 0;
        loop_turn(bench->loop, -1);
        over = over || now_ns() - start_ns >= bench->round_ns;
        while (driver_take_used(driver, 0, &head, &bytes)) {
            must(bytes == BLOCK_BYTES + 1, "a request");
            count++;
            out--;
            if (over)
                continue;
            post(bench, bench->slot_of[head]);
            posted++;
            out++;
        }
        if (posted > 0)
            driver_kick(driver, 0);
    }
    return (double)count * 1e9 / (double)(now_ns() - start_ns);
}

static int ascending(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static void measure(struct bench *bench, unsigned depth)
{
    double host[ROUNDS], device[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        host[i] = host_iops(bench, depth);
        device[i] = device_iops(bench, depth);
    }
    qsort(host, ROUNDS, sizeof(host[0]), ascending);
    qsort(device, ROUNDS, sizeof(device[0]), ascending);
    printf("disk_bench depth %u host %.0f virtio %.0f ratio %.2f\n", depth, host[ROUNDS / 2],
           device[ROUNDS / 2], device[ROUNDS / 2] / host[ROUNDS / 2]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct bench bench = {.round_ns = 100000000, .generator = 88172645463325252ull};
    static const unsigned depths[] = {1, 4, 16, 64, 128};
    struct err err = {0};
    struct stat status;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--direct") == 0)
            bench.direct = true;
        else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
            bench.round_ns = strtoull(argv[++i], NULL, 10) * 1000000;
        else
            bench.path = argv[i];
    }
    if (bench.path == NULL || stat(bench.path, &status) != 0 || status.st_size < BLOCK_BYTES) {
        fputs("Usage: disk_bench FILE [--ms N] [--direct]\n", stderr);
        return 2;
    }
    bench.blocks = (u64)status.st_size / BLOCK_BYTES;
    bench.loop = loop_new(&err);
    struct blk_raw_options options = {
        .path = bench.path, .read_only = true, .direct = bench.direct};
    struct blk *blk = bench.loop ? blk_raw_new(bench.loop, &options, &err) : NULL;
    void *ram = aligned_alloc(RAM_ALIGN_BYTES, DRIVER_RAM_BYTES);
    if (blk == NULL || ram == NULL) {
        fprintf(stderr, "disk_bench: %s\n", err.text);
        return 1;
    }
    memset(ram, 0, DRIVER_RAM_BYTES);
    device_start(&bench, blk, ram);
    for (unsigned i = 0; i < ARRAY_LEN(depths); i++)
        measure(&bench, depths[i]);
    blk->ops->drain(blk);
    driver_fini(&bench.driver);
    blk->ops->free(blk);
    loop_free(bench.loop);
    free(ram);
    return 0;
}
