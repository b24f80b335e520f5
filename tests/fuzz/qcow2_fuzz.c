/*
 * tests/fuzz/qcow2_fuzz.c - hostile qcow2 files under every call there is: an error or an answer,
 * in bounded time and memory, and never a byte outside.
 *
 * The input is the file. It is read, written, discarded, checked, mended, resized, its snapshots
 * are listed and applied.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "back/img/file.h"
#include "back/img/img.h"
#include "back/img/qcow2_check.h"
#include "back/img/qcow2_create.h"
#include "back/img/qcow2_snapshot.h"
#include "base/bits.h"
#include "fuzz.h"

enum { SEED_COUNT = 6, DATA_BYTES = 40000, GROWTH_MAX_KIB = 160 * 1024 };

static char path[64];

static void path_make(void)
{
    if (path[0] == '\0')
        snprintf(path, sizeof(path), "%s/atoll-fuzz-%d.qcow2",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", getpid());
}

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static void file_put(const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

static void seed_write(struct img *img, unsigned index)
{
    static u8 data[6000];
    struct qcow2 *q = img_qcow2(img, 0);
    memset(data, 0xa5, sizeof(data));
    must(img_write(img, 0, data, sizeof(data) / 512 * 512) == 0);
    must(img_write(img, 200 * 1024, data, 1024) == 0);
    if (index % 2 == 1)
        must(qcow2_snapshot_create(q, "first", 0, NULL) == 0);
    must(img_zero(img, 1024, 2048, QCOW2_UNMAP) == 0);
    must(img_write(img, 4096, data, 512) == 0);
    must(img_flush(img) == 0);
}

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    static const u32 cluster_bits[SEED_COUNT] = {9, 9, 10, 12, 11, 9};
    const struct qcow2_create_options create = {
        .version = index == 4 ? 2 : 3,
        .cluster_bits = index < SEED_COUNT ? cluster_bits[index] : 9,
        .refcount_order = index == 4 ? 4 : index % 7,
        .backing = index == 5 ? "/etc/shadow" : NULL,
        .backing_format = "raw"};
    struct img_options options = {
        .path = path, .format = IMG_QCOW2, .is_writable = true, .is_alone = true};
    struct file *file = NULL;
    struct img *img = NULL;
    if (index >= SEED_COUNT)
        return 0;
    path_make();
    unlink(path);
    must(file_open(&file, path, FILE_WRITABLE | FILE_CREATE, NULL) == 0);
    must(qcow2_create(file, &create, NULL) == 0);
    file_close(file);
    must(img_open(&img, &options, NULL) == 0);
    must(qcow2_resize(img_qcow2(img, 0), 256 * 1024, NULL) == 0);
    if (index != 0) /* refcounts of one bit leave no room for snapshots */
        seed_write(img, index);
    img_close(img);
    FILE *in = fopen(path, "r");
    must(in != NULL);
    size_t bytes = fread(to, 1, FUZZ_INPUT_MAX_BYTES, in);
    fclose(in);
    unlink(path);
    return bytes;
}

static void poke_disk(struct img *img)
{
    static u8 data[DATA_BYTES];
    u64 size = img_size(img);
    int result = 0;
    for (u64 at = 0; at < 8; at++) {
        u64 offset = size / 8 * at / 512 * 512,
            bytes = min_u64(DATA_BYTES / 512 * 512, size - offset);
        result |= img_read(img, 0, offset, data, bytes);
        result |= img_write(img, offset, data, min_u64(bytes, 1536));
        result |= img_zero(img, offset, bytes / 2 / 512 * 512, at % 2 == 0 ? QCOW2_UNMAP : 0);
    }
    result |= img_flush(img);
    (void)result;
}

static void poke_tables(struct img *img)
{
    const struct qcow2_check_options look = {0}, mend = {.mends_all = true, .mends_leaks = true};
    struct qcow2 *q = img_qcow2(img, 0);
    struct qcow2_snapshots list = {0};
    struct qcow2_report report;
    struct err err = {0};
    int result = qcow2_check(q, &look, &report, &err);
    if (qcow2_snapshots_load(q, &list, &err) == 0) {
        if (list.count > 0 && list.items[0].size_bytes < 64 << 20)
            result |= qcow2_snapshot_apply(q, list.items[0].name, &err);
        qcow2_snapshots_fini(&list);
    }
    result |= qcow2_resize(q, min_u64(qcow2_size(q), 1 << 20) + 65536, &err);
    result |= qcow2_check(q, &mend, &report, &err);
    (void)result;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    struct rusage usage;
    path_make();
    for (unsigned way = 0; way < 2; way++) {
        struct img_options options = {.path = path,
                                      .format = IMG_QCOW2,
                                      .is_writable = true,
                                      .is_alone = way == 1,
                                      .is_checked_later = way == 1};
        struct img *img = NULL;
        struct err err = {0};
        file_put(data, bytes);
        if (img_open(&img, &options, &err) != 0) {
            must(err.text[0] != '\0');
            continue;
        }
        poke_disk(img);
        if (way == 1)
            poke_tables(img);
        img_close(img);
    }
    unlink(path);
    getrusage(RUSAGE_SELF, &usage);
    must(usage.ru_maxrss < GROWTH_MAX_KIB || getenv("ASAN_OPTIONS") != NULL);
    return 0;
}
