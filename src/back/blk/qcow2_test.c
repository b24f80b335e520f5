/*
 * back/blk/qcow2_test.c - the qcow2 disk under many requests at once, against a model in memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/blk/qcow2.h"
#include "back/img/file.h"
#include "back/img/img.h"
#include "back/img/qcow2_create.h"
#include "host/fault.h"
#include "host/loop.h"

enum { DISK_BYTES = 8 << 20, SECTOR = 512, IN_FLIGHT = 64, NOT_DONE = 1, MOST = 48 * 1024 };
enum { PART = DISK_BYTES / IN_FLIGHT };

struct bench {
    struct loop *loop;
    struct blk *blk;
    struct lock lock;
    char path[64];
    u64 seed;
};

struct ask {
    struct blk_req req;
    struct blk_segment segments[2];
    u8 *data;
    u8 fill;
    int result;
};

static u64 random_next(u64 *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void image_make(struct bench *bench, u32 cluster_bits, bool is_extended)
{
    const struct qcow2_create_options options = {.version = 3,
                                                 .cluster_bits = cluster_bits,
                                                 .refcount_order = 4,
                                                 .is_extended = is_extended};
    struct qcow2_shared shared = {0};
    struct qcow2 *q;
    struct file *file;
    struct err err = {0};
    static unsigned number;
    snprintf(bench->path, sizeof(bench->path), "/var/tmp/atoll-q-%d-%u.qcow2", getpid(), number++);
    assert_int_equal(file_open(&file, bench->path, FILE_WRITABLE | FILE_CREATE, &err), 0);
    assert_int_equal(qcow2_create(file, &options, &err), 0);
    assert_int_equal(
        qcow2_open(&q, file, NULL, &shared, &(struct qcow2_options){.cache_pages = 64}, &err), 0);
    assert_int_equal(qcow2_resize(q, DISK_BYTES, &err), 0);
    qcow2_close(q);
    qcow2_shared_fini(&shared);
}

static void bench_open(struct bench *bench, struct blk_qcow2_options options)
{
    struct err err = {0};
    options.path = bench->path;
    if (bench->loop == NULL)
        bench->loop = loop_new(NULL);
    bench->blk = blk_qcow2_new(bench->loop, &options, &err);
    if (bench->blk == NULL)
        fail_msg("%s", err.text);
    blk_attach(bench->blk, &bench->lock);
}

static void bench_close(struct bench *bench)
{
    if (bench->blk != NULL)
        bench->blk->ops->free(bench->blk);
    loop_free(bench->loop);
    unlink(bench->path);
}

static void ask_done(struct blk_req *req, int result)
{
    ((struct ask *)req->ctx)->result = result;
}

static void ask_submit(struct bench *bench, struct ask *ask, enum blk_op op, u64 offset, u64 bytes)
{
    u64 first = bytes / 2 / SECTOR * SECTOR;
    ask->result = NOT_DONE;
    ask->segments[0] = (struct blk_segment){ask->data, first};
    ask->segments[1] = (struct blk_segment){ask->data + first, bytes - first};
    ask->req = (struct blk_req){.op = op,
                                .flags = (u32)random_next(&bench->seed) % 4,
                                .offset = offset,
                                .bytes = bytes,
                                .segments = ask->segments,
                                .segment_count = op <= BLK_WRITE ? 2 : 0,
                                .done = ask_done,
                                .ctx = ask};
    lock_acquire(&bench->lock);
    blk_submit(bench->blk, &ask->req);
    lock_release(&bench->lock);
}

static int ask_wait(struct bench *bench, struct ask *ask)
{
    for (unsigned i = 0; i < 3000 && ask->result == NOT_DONE; i++)
        loop_turn(bench->loop, 1000);
    return ask->result;
}

/* Requests in disjoint, but not cluster-aligned parts of the disk, all at once, wave after wave. */
static void run_waves(struct bench *bench, u8 *model, unsigned waves)
{
    static struct ask asks[IN_FLIGHT];
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        asks[i].data = aligned_alloc(4096, PART);
    for (unsigned wave = 0; wave < waves; wave++) {
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            static const enum blk_op ops[] = {BLK_READ,         BLK_READ,    BLK_WRITE, BLK_WRITE,
                                              BLK_WRITE_ZEROES, BLK_DISCARD, BLK_FLUSH};
            u64 *seed = &bench->seed;
            u64 first = random_next(seed) % (PART / SECTOR);
            u64 count = 1 + random_next(seed) % (PART / SECTOR - first);
            enum blk_op op = ops[random_next(seed) % ARRAY_LEN(ops)];
            asks[i].fill = (u8)random_next(seed);
            if (count > MOST / SECTOR)
                count = MOST / SECTOR;
            memset(asks[i].data, asks[i].fill, PART);
            ask_submit(bench, &asks[i], op, (i * (u64)PART + first * SECTOR), count * SECTOR);
        }
        for (unsigned i = 0; i < IN_FLIGHT; i++) {
            const struct blk_req *req = &asks[i].req;
            assert_int_equal(ask_wait(bench, &asks[i]), 0);
            if (req->op == BLK_READ)
                assert_memory_equal(asks[i].data, model + req->offset, req->bytes);
            else if (req->op == BLK_WRITE)
                memset(model + req->offset, asks[i].fill, req->bytes);
            else if (req->op == BLK_WRITE_ZEROES)
                memset(model + req->offset, 0, req->bytes);
            else if (req->op == BLK_DISCARD) { /* zeroes, or what was there: whole sectors */
                ask_submit(bench, &asks[i], BLK_READ, req->offset, req->bytes);
                assert_int_equal(ask_wait(bench, &asks[i]), 0);
                for (u64 at = 0; at < req->bytes; at++)
                    assert_true(asks[i].data[at] == 0 ||
                                asks[i].data[at] == model[req->offset + at]);
                memcpy(model + req->offset, asks[i].data, req->bytes);
            }
        }
    }
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        free(asks[i].data);
}

static void check_file(const struct bench *bench, const u8 *model)
{
    struct img *img = NULL;
    struct err err = {0};
    struct img_options options = {.path = bench->path, .format = IMG_QCOW2};
    u8 *all = malloc(DISK_BYTES);
    char command[256];
    assert_int_equal(img_open(&img, &options, &err), 0);
    assert_int_equal(img_read(img, 0, 0, all, DISK_BYTES), 0);
    assert_memory_equal(all, model, DISK_BYTES);
    img_close(img);
    free(all);
    snprintf(command, sizeof(command), "! command -v qemu-img >/dev/null || qemu-img check -q %s",
             bench->path);
    assert_int_equal(system(command), 0);
}

static void check_waves(u32 cluster_bits, bool is_extended, struct blk_qcow2_options options)
{
    struct bench bench = {.seed = cluster_bits};
    u8 *model = calloc(1, DISK_BYTES);
    image_make(&bench, cluster_bits, is_extended);
    for (unsigned part = 0; part < 2; part++) {
        bench_open(&bench, options);
        run_waves(&bench, model, 8);
        bench.blk->ops->drain(bench.blk);
        bench.blk->ops->free(bench.blk);
        bench.blk = NULL;
        if (options.snapshot)
            memset(model, 0, DISK_BYTES);
        check_file(&bench, model);
    }
    bench_close(&bench);
    free(model);
}

static void test_many_at_once(void **state)
{
    check_waves(16, false, (struct blk_qcow2_options){.aio = AIO_AUTO});
    check_waves(12, false, (struct blk_qcow2_options){.aio = AIO_POOL});
    check_waves(16, true, (struct blk_qcow2_options){.aio = AIO_AUTO});
    check_waves(21, false, (struct blk_qcow2_options){.aio = AIO_AUTO});
}

static void test_past_the_page_cache(void **state)
{
    check_waves(16, false, (struct blk_qcow2_options){.direct = true});
}

static void test_snapshot_leaves_the_file_alone(void **state)
{
    check_waves(16, false, (struct blk_qcow2_options){.snapshot = true});
}

static void test_one_writer(void **state)
{
    struct bench bench = {.seed = 1};
    struct err err = {0};
    image_make(&bench, 16, false);
    bench_open(&bench, (struct blk_qcow2_options){0});
    struct blk_qcow2_options other = {.path = bench.path};
    assert_null(blk_qcow2_new(bench.loop, &other, &err));
    assert_int_equal(err.code, -EBUSY);
    other.read_only = true;
    assert_null(blk_qcow2_new(bench.loop, &other, &err));
    bench_close(&bench);
}

static void test_guest_mistakes_touch_nothing(void **state)
{
    struct bench bench = {.seed = 1};
    u8 data[1024] = {1};
    struct ask ask = {.data = data};
    image_make(&bench, 16, false);
    bench_open(&bench, (struct blk_qcow2_options){.read_only = true});
    static const struct {
        enum blk_op op;
        u64 offset, bytes;
        int result;
    } cases[] = {{BLK_WRITE, 0, 512, -EROFS},
                 {BLK_DISCARD, 0, 512, -EROFS},
                 {BLK_READ, DISK_BYTES, 512, -EINVAL},
                 {BLK_READ, ~0ull - 511, 1024, -EINVAL},
                 {BLK_READ, 1, 512, -EINVAL},
                 {(enum blk_op)9, 0, 512, -EOPNOTSUPP},
                 {BLK_READ, 0, 0, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        ask_submit(&bench, &ask, cases[i].op, cases[i].offset, cases[i].bytes);
        assert_int_equal(ask_wait(&bench, &ask), cases[i].result);
    }
    bench_close(&bench);
}

/* Each host call fails in turn: an error for somebody, or nothing was lost. */
static void test_each_call_fails_in_turn(void **state)
{
    for (u64 nth = 1;; nth++) {
        struct bench bench = {.seed = 3, .loop = loop_new(NULL)};
        struct err err = {0};
        u8 data[8192];
        struct ask ask = {.data = data};
        unsigned failures = 0;
        image_make(&bench, 16, false);
        struct blk_qcow2_options options = {.path = bench.path};
        fault_arm(FAULT_ANY, nth, -ENOSPC);
        bench.blk = blk_qcow2_new(bench.loop, &options, &err);
        if (bench.blk != NULL) {
            static const enum blk_op ops[] = {BLK_WRITE, BLK_WRITE,   BLK_READ, BLK_WRITE_ZEROES,
                                              BLK_FLUSH, BLK_DISCARD, BLK_FLUSH};
            blk_attach(bench.blk, &bench.lock);
            for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
                ask_submit(&bench, &ask, ops[i], i * 131072, sizeof(data));
                int result = ask_wait(&bench, &ask);
                assert_true(result == 0 || result == -ENOSPC || result == -EIO ||
                            result == -ENOMEM);
                failures += result != 0;
            }
        } else {
            assert_int_not_equal(err.text[0], '\0');
            failures++;
        }
        u64 count = fault_disarm();
        bench_close(&bench);
        if (count < nth) {
            assert_int_equal(failures, 0);
            assert_true(nth > 20);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_past_the_page_cache),
        cmocka_unit_test(test_snapshot_leaves_the_file_alone),
        cmocka_unit_test(test_one_writer),
        cmocka_unit_test(test_guest_mistakes_touch_nothing),
        cmocka_unit_test(test_each_call_fails_in_turn),
    };
    setenv("ATOLL_LOG", "error", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
