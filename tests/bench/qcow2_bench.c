/*
 * tests/bench/qcow2_bench.c - the virtio disk on a qcow2 image and on a chain of ten, against the
 * same disk on a raw file, driven by a driver in this process. No guest CPU.
 *
 * The images are made in FOLDER and hold the same data; their tables are in memory when the
 * measuring starts. Rounds of the three are interleaved; the figures are medians. Output, one line
 * for each way and queue depth: "qcow2_bench WAY depth D raw R qcow2 Q ratio X chain C ratio Y", in
 * operations a second. Usage: qcow2_bench FOLDER [--ms N] [--direct]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "back/blk/qcow2.h"
#include "back/blk/raw.h"
#include "back/vol/vol.h"
#include "base/bits.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/virtq_driver.h"
#include "host/loop.h"

enum { ROUNDS = 9, RING_SIZE = 256, DEPTH_MAX = 32, HEADER_BYTES = 16, TABLE_BYTES = 48 };
enum { DISK_BYTES = 128 << 20, LINKS = 10, CLUSTER_BYTES = 65536, RAM_ALIGN_BYTES = 4096 };
enum { SUBJECTS = 3, PATH_BYTES = 300 };
enum { BLK_F_FLUSH = 9 /* without it, each write would be synced */ };

struct subject {
    struct blk *blk;
    struct driver driver;
    gpa_t headers, tables, statuses, data;
    void *ram;
    u16 slot_of[RING_SIZE]; /* by head */
};

struct way {
    const char *name;
    u32 block_bytes;
    bool is_write, is_random;
};

static const struct way ways[] = {{"random-read", 4096, false, true},
                                  {"sequential-read", 65536, false, false},
                                  {"random-write", 4096, true, true},
                                  {"sequential-write", 65536, true, false}};

static u64 round_ns = 60000000, generator = 88172645463325252ull, position;
static struct loop *loop;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "qcow2_bench: %s failed\n", what);
    exit(1);
}

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

static u64 next_offset(const struct way *way)
{
    if (!way->is_random) {
        position = (position + way->block_bytes) % DISK_BYTES;
        return position;
    }
    generator ^= generator << 13;
    generator ^= generator >> 7;
    generator ^= generator << 17;
    return generator % (DISK_BYTES / way->block_bytes) * way->block_bytes;
}

static void post(struct subject *subject, const struct way *way, unsigned slot)
{
    struct driver *driver = &subject->driver;
    gpa_t header = subject->headers + (gpa_t)slot * HEADER_BYTES;
    struct driver_segment segments[3] = {
        {header, HEADER_BYTES, false},
        {subject->data + (gpa_t)slot * 65536, way->block_bytes, !way->is_write},
        {subject->statuses + slot, 1, true}};
    store_le32(driver_at(driver, header), way->is_write ? 1 : 0);
    store_le64((u8 *)driver_at(driver, header) + 8, next_offset(way) / 512);
    u16 head = driver_post_table(driver, 0, segments, 3,
                                 subject->tables + (gpa_t)slot * TABLE_BYTES);
    subject->slot_of[head] = (u16)slot;
}

static void subject_start(struct subject *subject)
{
    struct driver *driver = &subject->driver;
    u64 features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX) |
                   BIT(BLK_F_FLUSH);
    subject->ram = aligned_alloc(RAM_ALIGN_BYTES, DRIVER_RAM_BYTES);
    must(subject->ram != NULL, "memory");
    memset(subject->ram, 0, DRIVER_RAM_BYTES);
    must(driver_init_at(driver, virtio_blk_new(subject->blk, 1), subject->ram) &&
             driver_start(driver, features, RING_SIZE) == 15,
         "the device's start");
    subject->headers = driver_alloc(driver, (size_t)DEPTH_MAX * HEADER_BYTES);
    subject->tables = driver_alloc(driver, (size_t)DEPTH_MAX * TABLE_BYTES);
    subject->statuses = driver_alloc(driver, DEPTH_MAX);
    driver->next_free = align_up(driver->next_free, 4096);
    subject->data = driver_alloc(driver, (size_t)DEPTH_MAX * 65536);
}

static double subject_rate(struct subject *subject, const struct way *way, unsigned depth)
{
    struct driver *driver = &subject->driver;
    u64 count = 0, start_ns = now_ns();
    u32 head, bytes;
    unsigned out = depth;
    for (unsigned i = 0; i < depth; i++)
        post(subject, way, i);
    driver_kick(driver, 0);
    for (bool over = false; out > 0;) {
        unsigned posted = 0;
        loop_turn(loop, -1);
        over = over || now_ns() - start_ns >= round_ns;
        while (driver_take_used(driver, 0, &head, &bytes)) {
            must(bytes == (way->is_write ? 1 : way->block_bytes + 1), "a request");
            count++;
            out--;
            if (over)
                continue;
            post(subject, way, subject->slot_of[head]);
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

static void measure(struct subject *subjects, const struct way *way, unsigned depth)
{
    double rates[SUBJECTS][ROUNDS], median[SUBJECTS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        for (unsigned s = 0; s < SUBJECTS; s++)
            rates[s][i] = subject_rate(&subjects[s], way, depth);
    }
    for (unsigned s = 0; s < SUBJECTS; s++) {
        qsort(rates[s], ROUNDS, sizeof(double), ascending);
        median[s] = rates[s][ROUNDS / 2];
    }
    printf("qcow2_bench %s depth %u raw %.0f qcow2 %.0f ratio %.2f chain %.0f ratio %.2f\n",
           way->name, depth, median[0], median[1], median[1] / median[0], median[2],
           median[2] / median[0]);
    fflush(stdout);
}

/* Makes an image; every STEP-th cluster from FIRST on is written. */
static void image_make(const char *path, const char *backing, unsigned first, unsigned step)
{
    static u8 cluster[CLUSTER_BYTES];
    struct err err = {0};
    struct img *img = NULL;
    struct vol_create_options create = {
        .path = path,
        .format = IMG_BY_NAME,
        .size_bytes = DISK_BYTES,
        .qcow2 = {.version = 3,
                  .cluster_bits = 16,
                  .refcount_order = 4,
                  .backing = backing,
                  .backing_format = backing != NULL ? "qcow2" : NULL}};
    struct img_options open = {.path = path, .is_writable = true};
    unlink(path);
    must(vol_create(&create, &err) == 0 && img_open(&img, &open, &err) == 0, "an image");
    memset(cluster, 0x5a, sizeof(cluster));
    for (u64 at = (u64)first * CLUSTER_BYTES; at < DISK_BYTES; at += (u64)step * CLUSTER_BYTES)
        must(img_write(img, at, cluster, sizeof(cluster)) == 0, "writing an image");
    must(img_flush(img) == 0, "writing an image");
    img_close(img);
}

static void subjects_make(struct subject *subjects, const char *folder, bool direct)
{
    char path[PATH_BYTES], name[32], last[32] = "";
    struct err err = {0};
    snprintf(path, sizeof(path), "%s/bench.raw", folder);
    image_make(path, NULL, 0, 1);
    const struct blk_raw_options raw = {.path = path, .direct = direct};
    subjects[0].blk = blk_raw_new(loop, &raw, &err);
    snprintf(path, sizeof(path), "%s/bench.qcow2", folder);
    image_make(path, NULL, 0, 1);
    const struct blk_qcow2_options qcow2 = {.path = path, .direct = direct};
    subjects[1].blk = blk_qcow2_new(loop, &qcow2, &err);
    for (unsigned i = 0; i < LINKS; i++) {
        snprintf(name, sizeof(name), "bench-%u.qcow2", i);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        image_make(path, i > 0 ? last : NULL, i, LINKS);
        memcpy(last, name, sizeof(last));
    }
    subjects[2].blk = blk_qcow2_new(loop, &qcow2, &err);
    for (unsigned i = 0; i < SUBJECTS; i++) {
        if (subjects[i].blk == NULL)
            fprintf(stderr, "qcow2_bench: %s\n", err.text);
        must(subjects[i].blk != NULL, "opening an image");
        subject_start(&subjects[i]);
    }
}

static void files_remove(const char *folder)
{
    char path[PATH_BYTES];
    static const char *const names[] = {"bench.raw", "bench.qcow2"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    for (unsigned i = 0; i < LINKS; i++) {
        snprintf(path, sizeof(path), "%s/bench-%u.qcow2", folder, i);
        unlink(path);
    }
}

int main(int argc, char **argv)
{
    static const unsigned depths[] = {1, DEPTH_MAX};
    static struct subject subjects[SUBJECTS];
    const char *folder = NULL;
    bool direct = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--direct") == 0)
            direct = true;
        else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
            round_ns = strtoull(argv[++i], NULL, 10) * 1000000;
        else
            folder = argv[i];
    }
    if (folder == NULL) {
        fputs("Usage: qcow2_bench FOLDER [--ms N] [--direct]\n", stderr);
        return 2;
    }
    loop = loop_new(NULL);
    must(loop != NULL, "the loop");
    subjects_make(subjects, folder, direct);
    /* Tables into memory. The reads come first: writes to the chain copy into its first image. */
    for (unsigned s = 0; s < SUBJECTS; s++)
        subject_rate(&subjects[s], &ways[1], DEPTH_MAX);
    for (unsigned w = 0; w < ARRAY_LEN(ways); w++) {
        for (unsigned d = 0; d < ARRAY_LEN(depths); d++)
            measure(subjects, &ways[w], depths[d]);
    }
    for (unsigned s = 0; s < SUBJECTS; s++) {
        subjects[s].blk->ops->drain(subjects[s].blk);
        driver_fini(&subjects[s].driver);
        subjects[s].blk->ops->free(subjects[s].blk);
        free(subjects[s].ram);
    }
    loop_free(loop);
    files_remove(folder);
    return 0;
}
