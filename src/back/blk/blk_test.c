/*
 * back/blk/blk_test.c - the raw disk against a model in memory, with every host call failing in
 * turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/blk/overlay.h"
#include "back/blk/raw.h"
#include "back/blk/segments.h"
#include "base/bits.h"
#include "host/fault.h"
#include "host/loop.h"

enum { DISK_BYTES = 1 << 20, SECTOR = 512, IN_FLIGHT = 100, ROUNDS = 300, NOT_DONE = 1 };

struct bench {
    struct loop *loop;
    struct blk *blk;
    struct lock lock;
    char path[64];
    unsigned unlocked_count;
    unsigned done_count;
};

struct ask {
    struct blk_req req;
    struct blk_segment segments[3];
    struct bench *bench;
    u8 *data;
    int result;
};

static const char *const images_folder = "/var/tmp"; /* where O_DIRECT works */

static void file_make(struct bench *bench, u64 bytes)
{
    snprintf(bench->path, sizeof(bench->path), "%s/atoll-blk-XXXXXX", images_folder);
    int fd = mkstemp(bench->path);
    assert_true(fd >= 0);
    u8 *data = malloc(bytes);
    for (u64 i = 0; i < bytes; i++)
        data[i] = (u8)(i / 512 + i);
    assert_int_equal(write(fd, data, bytes), bytes);
    free(data);
    close(fd);
}

static void bench_open(struct bench *bench, struct blk_raw_options options)
{
    struct err err = {0};
    options.path = bench->path;
    if (bench->loop == NULL)
        bench->loop = loop_new(NULL);
    bench->blk = blk_raw_new(bench->loop, &options, &err);
    if (bench->blk == NULL)
        fail_msg("%s", err.text);
    blk_attach(bench->blk, &bench->lock);
}

static void bench_close(struct bench *bench)
{
    if (bench->blk != NULL)
        bench->blk->ops->free(bench->blk);
    bench->blk = NULL;
    loop_free(bench->loop);
    bench->loop = NULL;
    unlink(bench->path);
}

static void ask_done(struct blk_req *req, int result)
{
    struct ask *ask = req->ctx;
    ask->bench->unlocked_count += ask->bench->lock.word == 0;
    ask->bench->done_count++;
    ask->result = result;
}

/* Submits under the lock, as a device does; the data lies in three segments of odd alignment. */
static void ask_submit(struct bench *bench, struct ask *ask, enum blk_op op, u64 offset, u64 bytes,
                       u32 flags)
{
    u64 first = bytes / 3 / SECTOR * SECTOR + (bytes > 4096 ? 100 : 0);
    ask->bench = bench;
    ask->result = NOT_DONE;
    ask->segments[0] = (struct blk_segment){ask->data, first};
    ask->segments[1] = (struct blk_segment){ask->data + first, 0};
    ask->segments[2] = (struct blk_segment){ask->data + first, bytes - first};
    ask->req = (struct blk_req){.op = op,
                                .flags = flags,
                                .offset = offset,
                                .bytes = bytes,
                                .segments = ask->segments,
                                .segment_count = op <= BLK_WRITE ? 3 : 0,
                                .done = ask_done,
                                .ctx = ask};
    lock_acquire(&bench->lock);
    blk_submit(bench->blk, &ask->req);
    assert_int_equal(ask->result, NOT_DONE);
    lock_release(&bench->lock);
}

static int ask_wait(struct bench *bench, struct ask *ask)
{
    for (unsigned i = 0; i < 1000 && ask->result == NOT_DONE; i++)
        loop_turn(bench->loop, 1000);
    return ask->result;
}

static int ask_now(struct bench *bench, enum blk_op op, u64 offset, void *data, u64 bytes)
{
    struct ask ask = {.data = data};
    ask_submit(bench, &ask, op, offset, bytes, 0);
    return ask_wait(bench, &ask);
}

static u64 random_next(u64 *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void model_apply(u8 *model, const struct ask *ask)
{
    if (ask->req.op == BLK_WRITE)
        memcpy(model + ask->req.offset, ask->data, ask->req.bytes);
    else if (ask->req.op == BLK_WRITE_ZEROES)
        memset(model + ask->req.offset, 0, ask->req.bytes);
}

/* Many requests at once, each in its own part of the disk, then the next wave; every read is
 * compared with the model. */
static void run_model(struct bench *bench, u8 *model)
{
    enum { PART = DISK_BYTES / IN_FLIGHT / 4096 * 4096 };
    static struct ask asks[IN_FLIGHT];
    u64 seed = 7;
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        asks[i].data = malloc(PART + 16);
    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            static const enum blk_op ops[] = {BLK_READ, BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES,
                                              BLK_FLUSH};
            u32 sector = bench->blk->sector_bytes;
            u64 first = random_next(&seed) % (PART / sector);
            u64 count = 1 + random_next(&seed) % (PART / sector - first);
            enum blk_op op = ops[random_next(&seed) % ARRAY_LEN(ops)];
            memset(asks[i].data, (int)random_next(&seed), PART);
            ask_submit(bench, &asks[i], op, i * (u64)PART + first * sector, count * sector,
                       random_next(&seed) % 4);
        }
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            assert_int_equal(ask_wait(bench, &asks[i]), 0);
            if (asks[i].req.op == BLK_READ)
                assert_memory_equal(asks[i].data, model + asks[i].req.offset, asks[i].req.bytes);
            model_apply(model, &asks[i]);
        }
    }
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        free(asks[i].data);
    u8 *all = malloc(DISK_BYTES);
    assert_int_equal(ask_now(bench, BLK_READ, 0, all, DISK_BYTES), 0);
    assert_memory_equal(all, model, DISK_BYTES);
    free(all);
    assert_int_equal(bench->unlocked_count, 0);
}

static u8 *file_read(const char *path, u64 bytes)
{
    u8 *data = malloc(bytes);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, data, bytes), bytes);
    close(fd);
    return data;
}

static void check_model(enum aio_choice aio, bool direct, bool snapshot)
{
    struct bench bench = {0};
    file_make(&bench, DISK_BYTES);
    u8 *before = file_read(bench.path, DISK_BYTES), *model = file_read(bench.path, DISK_BYTES);
    bench_open(&bench,
               (struct blk_raw_options){.aio = aio, .direct = direct, .snapshot = snapshot});
    run_model(&bench, model);
    bench.blk->ops->drain(bench.blk);
    bench.blk->ops->free(bench.blk);
    bench.blk = NULL;
    u8 *after = file_read(bench.path, DISK_BYTES);
    assert_memory_equal(after, snapshot ? before : model, DISK_BYTES);
    free(after);
    free(before);
    free(model);
    bench_close(&bench);
}

static void test_model_io_uring(void **state)
{
    check_model(AIO_RING, false, false);
}

static void test_model_threads(void **state)
{
    check_model(AIO_POOL, false, false);
}

static void test_model_direct(void **state)
{
    check_model(AIO_AUTO, true, false);
}

static void test_model_snapshot(void **state)
{
    check_model(AIO_AUTO, false, true);
    check_model(AIO_POOL, true, true);
}

static void test_guest_mistakes_touch_nothing(void **state)
{
    struct bench bench = {0};
    u8 data[8192] = {0};
    file_make(&bench, DISK_BYTES);
    bench_open(&bench, (struct blk_raw_options){0});
    assert_int_equal(ask_now(&bench, BLK_WRITE, DISK_BYTES, data, 512), -EINVAL);
    assert_int_equal(ask_now(&bench, BLK_WRITE, DISK_BYTES - 512, data, 1024), -EINVAL);
    assert_int_equal(ask_now(&bench, BLK_WRITE, ~0ull - 511, data, 1024), -EINVAL);
    assert_int_equal(ask_now(&bench, BLK_WRITE, 1, data, 512), -EINVAL);
    assert_int_equal(ask_now(&bench, BLK_READ, 0, data, 100), -EINVAL);
    assert_int_equal(ask_now(&bench, (enum blk_op)77, 0, data, 512), -EOPNOTSUPP);
    assert_int_equal(ask_now(&bench, BLK_READ, 0, data, 0), 0);
    assert_int_equal(ask_now(&bench, BLK_DISCARD, 0, data, DISK_BYTES * 2), -EINVAL);
    struct ask ask = {.data = data};
    ask_submit(&bench, &ask, BLK_WRITE, 0, 4096, 0);
    ask.req.bytes = 512; /* more in the segments than the request says */
    assert_int_equal(ask_wait(&bench, &ask), -EINVAL);
    bench_close(&bench);
}

static void test_read_only(void **state)
{
    struct bench bench = {0};
    u8 data[512];
    file_make(&bench, DISK_BYTES);
    chmod(bench.path, 0400);
    bench_open(&bench, (struct blk_raw_options){.read_only = true});
    assert_true(bench.blk->read_only);
    assert_int_equal(ask_now(&bench, BLK_READ, 512, data, 512), 0);
    assert_int_equal(data[0], 1);
    assert_int_equal(ask_now(&bench, BLK_WRITE, 0, data, 512), -EROFS);
    assert_int_equal(ask_now(&bench, BLK_WRITE_ZEROES, 0, data, 512), -EROFS);
    bench_close(&bench);
}

static void test_odd_size_is_rounded_up(void **state)
{
    struct bench bench = {0};
    u8 data[1024];
    for (unsigned direct = 0; direct < 2; direct++) {
        file_make(&bench, 5000);
        bench_open(&bench, (struct blk_raw_options){.direct = direct != 0});
        u64 size = bench.blk->size_bytes;
        assert_int_equal(size, align_up(5000, bench.blk->sector_bytes));
        memset(data, 0xee, sizeof(data));
        if (bench.blk->sector_bytes == 512) {
            assert_int_equal(ask_now(&bench, BLK_READ, size - 1024, data, 1024), 0);
            u64 tail = 5000 - (size - 1024);
            assert_int_equal(data[tail - 1], (u8)(4999 / 512 + 4999));
            for (u64 i = tail; i < sizeof(data); i++)
                assert_int_equal(data[i], 0);
        }
        bench_close(&bench);
    }
}

static void test_shrunk_file_gives_errors(void **state)
{
    struct bench bench = {0};
    struct stat info;
    u8 data[1024];
    file_make(&bench, DISK_BYTES);
    bench_open(&bench, (struct blk_raw_options){0});
    assert_int_equal(truncate(bench.path, 4096), 0);
    assert_int_equal(ask_now(&bench, BLK_READ, 0, data, 1024), 0);
    assert_int_equal(ask_now(&bench, BLK_READ, 3584, data, 1024), -EIO);
    assert_int_equal(ask_now(&bench, BLK_READ, 8192, data, 1024), -EIO);
    assert_int_equal(ask_now(&bench, BLK_WRITE, 8192, data, 1024), -EIO);
    assert_int_equal(ask_now(&bench, BLK_WRITE_ZEROES, 8192, data, 1024), -EIO);
    assert_int_equal(stat(bench.path, &info), 0);
    assert_int_equal(info.st_size, 4096);
    bench_close(&bench);
}

static void test_one_writer(void **state)
{
    struct bench bench = {0};
    struct err err = {0};
    file_make(&bench, DISK_BYTES);
    bench_open(&bench, (struct blk_raw_options){0});
    struct blk_raw_options other = {.path = bench.path};
    assert_null(blk_raw_new(bench.loop, &other, &err));
    assert_int_equal(err.code, -EBUSY);
    assert_non_null(strstr(err.text, bench.path));
    other.snapshot = true;
    assert_null(blk_raw_new(bench.loop, &other, &err));
    bench.blk->ops->free(bench.blk);
    bench_open(&bench, (struct blk_raw_options){.snapshot = true});
    struct blk *second = blk_raw_new(bench.loop, &other, &err);
    assert_non_null(second);
    second->ops->free(second);
    bench_close(&bench);
}

static void test_what_is_no_disk(void **state)
{
    static const char *const paths[] = {"/nonexistent/disk", "/", "/dev/null", "/dev/zero"};
    struct loop *loop = loop_new(NULL);
    for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
        struct err err = {0};
        struct blk_raw_options options = {.path = paths[i]};
        assert_null(blk_raw_new(loop, &options, &err));
        assert_non_null(strstr(err.text, paths[i]));
    }
    struct bench bench = {0};
    struct err err = {0};
    file_make(&bench, 0);
    struct blk_raw_options options = {.path = bench.path};
    assert_null(blk_raw_new(loop, &options, &err));
    assert_int_equal(err.code, -EINVAL);
    unlink(bench.path);
    loop_free(loop);
}

static void test_failed_flush_stays_failed(void **state)
{
    struct bench bench = {0};
    file_make(&bench, DISK_BYTES);
    bench_open(&bench, (struct blk_raw_options){0});
    fault_arm(FAULT_SYNC, 1, -EIO);
    assert_int_equal(ask_now(&bench, BLK_FLUSH, 0, NULL, 0), -EIO);
    fault_disarm();
    assert_int_equal(ask_now(&bench, BLK_FLUSH, 0, NULL, 0), -EIO);
    bench_close(&bench);
}

/* A request of each kind; returns 0 when all succeeded, else the code that one of them gave. */
static int one_of_each(struct bench *bench)
{
    static const enum blk_op ops[] = {BLK_WRITE, BLK_READ, BLK_WRITE_ZEROES, BLK_DISCARD,
                                      BLK_FLUSH};
    u8 *data = calloc(1, 16384);
    int code = 0;
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        struct ask ask = {.data = data};
        ask_submit(bench, &ask, ops[i], 4096, 16384, BLK_FUA);
        int result = ask_wait(bench, &ask);
        assert_int_not_equal(result, NOT_DONE);
        if (result != 0)
            code = result;
    }
    free(data);
    return code;
}

/* Fails each host call of a disk's whole life in turn: always an error for somebody, never a hang.
 */
static void test_each_call_fails_in_turn(void **state)
{
    static const struct blk_raw_options kinds[] = {
        {.aio = AIO_AUTO}, {.aio = AIO_POOL}, {.snapshot = true}, {.direct = true}};
    for (unsigned kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        unsigned failed_open_count = 0, failed_request_count = 0;
        for (u64 nth = 1;; nth++) {
            struct bench bench = {.loop = loop_new(NULL)};
            struct blk_raw_options options = kinds[kind];
            struct err err = {0};
            file_make(&bench, DISK_BYTES);
            options.path = bench.path;
            fault_arm(FAULT_ANY, nth, -ENOSPC);
            bench.blk = blk_raw_new(bench.loop, &options, &err);
            if (bench.blk == NULL) {
                assert_int_not_equal(err.text[0], '\0');
                failed_open_count++;
            } else {
                blk_attach(bench.blk, &bench.lock);
                int code = one_of_each(&bench);
                assert_true(code == 0 || code == -ENOSPC || code == -EIO);
                failed_request_count += code != 0;
            }
            u64 count = fault_disarm();
            bench_close(&bench);
            if (count < nth)
                break;
        }
        assert_true(failed_open_count >= 3);
        assert_true(failed_request_count >= 3);
    }
}

static void test_overlay_runs(void **state)
{
    struct overlay overlay;
    bool is_here;
    assert_int_equal(overlay_init(&overlay, 512 * 1000, 512, NULL), 0);
    overlay_mark(&overlay, 512 * 3, 512 * 200);
    overlay_mark(&overlay, 512 * 300, 512);
    assert_int_equal(overlay_run(&overlay, 0, 512 * 1000, &is_here), 512 * 3);
    assert_false(is_here);
    assert_int_equal(overlay_run(&overlay, 512 * 3, 512 * 997, &is_here), 512 * 200);
    assert_true(is_here);
    assert_int_equal(overlay_run(&overlay, 512 * 10, 512 * 5, &is_here), 512 * 5);
    assert_int_equal(overlay_run(&overlay, 512 * 203, 512 * 797, &is_here), 512 * 97);
    assert_false(is_here);
    assert_int_equal(overlay_run(&overlay, 512 * 301, 512 * 699, &is_here), 512 * 699);
    overlay_fini(&overlay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_io_uring),
        cmocka_unit_test(test_model_threads),
        cmocka_unit_test(test_model_direct),
        cmocka_unit_test(test_model_snapshot),
        cmocka_unit_test(test_guest_mistakes_touch_nothing),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_odd_size_is_rounded_up),
        cmocka_unit_test(test_shrunk_file_gives_errors),
        cmocka_unit_test(test_one_writer),
        cmocka_unit_test(test_what_is_no_disk),
        cmocka_unit_test(test_failed_flush_stays_failed),
        cmocka_unit_test(test_each_call_fails_in_turn),
        cmocka_unit_test(test_overlay_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
