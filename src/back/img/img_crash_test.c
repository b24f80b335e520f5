/*
 * back/img/img_crash_test.c - what a crash leaves of a qcow2 file: img_crash_test [STATES [SEED]].
 *
 * A run of random requests is recorded: every write, hole, change of size and sync of the file. A
 * state is what a crash could leave: all that came before a sync, and of what came after it every
 * operation, or a random part of them, with writes torn between sectors. Each state must check
 * without a bad reference, and each sector must hold what was flushed last, or what a request after
 * that flush put there. Leaked clusters are allowed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/img/file.h"
#include "back/img/img.h"
#include "back/img/qcow2_check.h"
#include "back/img/qcow2_create.h"
#include "base/bits.h"

enum { DISK_BYTES = 1 << 20, SECTOR = 512, SECTORS = DISK_BYTES / SECTOR, FILE_MAX = 8 << 20 };
enum { EVENTS_MAX = 20000, REQUESTS = 150, FLUSHES_MAX = REQUESTS + 1 };

struct event {
    enum file_event kind;
    u64 offset, bytes;
    u8 *data; /* owned */
};

struct request {
    u64 sector, count;
    unsigned window; /* the flush that came before it */
    bool is_zero;
};

struct flush {
    unsigned events; /* that had happened when it returned */
    u32 tags[SECTORS];
};

static struct {
    struct event events[EVENTS_MAX];
    unsigned event_count;
    struct request requests[REQUESTS + 1]; /* a request's index is its tag; 0: none */
    struct flush flushes[FLUSHES_MAX];
    unsigned flush_count;
    u8 start[FILE_MAX], state[FILE_MAX];
    u64 start_bytes, state_bytes;
} * run_of;

static u64 states_wanted = 3000, seed = 1;
static char image_path[64], state_path[64], base_path[64];

static u64 random_next(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
}

static void note(void *ctx, enum file_event kind, u64 offset, const void *data, u64 bytes)
{
    struct event *event = &run_of->events[run_of->event_count++];
    assert_true(run_of->event_count < EVENTS_MAX);
    *event = (struct event){.kind = kind, .offset = offset, .bytes = bytes};
    if (kind == FILE_WROTE) {
        event->data = malloc(bytes);
        memcpy(event->data, data, bytes);
    }
}

static const struct file_watch watch = {.note = note};

static void sector_fill(u8 *sector, u32 tag)
{
    for (unsigned i = 0; i < SECTOR; i += 4)
        store_le32(sector + i, tag);
}

static void base_make(u32 *tags)
{
    FILE *file = fopen(base_path, "w");
    u8 sector[SECTOR];
    assert_non_null(file);
    for (u32 i = 0; i < SECTORS / 2; i++) {
        tags[i] = i % 64 < 32 ? 1000000 + i : 0;
        sector_fill(sector, tags[i]);
        assert_int_equal(fwrite(sector, 1, SECTOR, file), SECTOR);
    }
    assert_int_equal(fclose(file), 0);
}

static void image_make(u32 cluster_bits, bool is_extended, bool has_backing)
{
    const struct qcow2_create_options options = {.version = 3,
                                                 .cluster_bits = cluster_bits,
                                                 .refcount_order = 4,
                                                 .is_extended = is_extended,
                                                 .backing = has_backing ? base_path : NULL,
                                                 .backing_format = has_backing ? "raw" : NULL};
    struct qcow2_shared shared = {0};
    struct qcow2 *q;
    struct file *file;
    unlink(image_path);
    assert_int_equal(file_open(&file, image_path, FILE_WRITABLE | FILE_CREATE, NULL), 0);
    assert_int_equal(qcow2_create(file, &options, NULL), 0);
    assert_int_equal(
        qcow2_open(&q, file, NULL, &shared, &(struct qcow2_options){.cache_pages = 64}, NULL), 0);
    assert_int_equal(qcow2_resize(q, DISK_BYTES, NULL), 0);
    qcow2_close(q);
    qcow2_shared_fini(&shared);
}

static void start_remember(void)
{
    FILE *file = fopen(image_path, "r");
    assert_non_null(file);
    memset(run_of->start, 0, FILE_MAX);
    run_of->start_bytes = fread(run_of->start, 1, FILE_MAX, file);
    fclose(file);
}

static void flush_remember(const u32 *tags)
{
    struct flush *flush = &run_of->flushes[run_of->flush_count++];
    flush->events = run_of->event_count;
    memcpy(flush->tags, tags, sizeof(flush->tags));
}

/* Records a run of requests. */
static void run_record(u32 *tags)
{
    static u8 data[64 * 1024];
    struct img *img = NULL;
    struct img_options options = {
        .path = image_path, .format = IMG_QCOW2, .is_writable = true, .watch = &watch};
    run_of->event_count = run_of->flush_count = 0;
    start_remember();
    assert_int_equal(img_open(&img, &options, NULL), 0);
    flush_remember(tags);
    for (u32 tag = 1; tag <= REQUESTS; tag++) {
        struct request *request = &run_of->requests[tag];
        u64 kind = random_next() % 12;
        *request = (struct request){.sector = random_next() % SECTORS,
                                    .window = run_of->flush_count - 1,
                                    .is_zero = kind > 7};
        request->count = 1 + random_next() % (random_next() % 4 == 0 ? 128 : 16);
        request->count = min_u64(request->count, SECTORS - request->sector);
        u64 offset = request->sector * SECTOR, bytes = request->count * SECTOR;
        if (kind == 11) {
            request->count = 0;
            assert_int_equal(img_flush(img), 0);
            flush_remember(tags);
            continue;
        }
        for (u64 i = 0; i < request->count; i++) {
            sector_fill(data + i * SECTOR, tag);
            tags[request->sector + i] = request->is_zero ? 0 : tag;
        }
        assert_int_equal(request->is_zero
                             ? img_zero(img, offset, bytes, kind == 8 ? 0 : QCOW2_UNMAP)
                             : img_write(img, offset, data, bytes),
                         0);
    }
    assert_int_equal(img_flush(img), 0);
    flush_remember(tags);
    img_close(img);
}

static void event_apply(const struct event *event, bool is_torn)
{
    u64 end = event->kind == FILE_RESIZED ? event->offset : event->offset + event->bytes;
    assert_true(end <= FILE_MAX);
    if (event->kind == FILE_RESIZED) {
        if (end < run_of->state_bytes)
            memset(run_of->state + end, 0, run_of->state_bytes - end);
        run_of->state_bytes = end;
        return;
    }
    if (event->kind == FILE_SYNCED)
        return;
    for (u64 at = 0; at < event->bytes; at += SECTOR) {
        u64 bytes = min_u64(SECTOR, event->bytes - at);
        if (is_torn && random_next() % 2 == 0)
            continue;
        if (event->kind == FILE_WROTE) {
            memcpy(run_of->state + event->offset + at, event->data + at, bytes);
            run_of->state_bytes = max_u64(run_of->state_bytes, event->offset + at + bytes);
        } else {
            memset(run_of->state + event->offset + at, 0, bytes);
        }
    }
}

/* What is in the file after CUT operations and a crash. */
static void state_make(unsigned cut, bool is_random)
{
    unsigned synced = 0;
    memcpy(run_of->state, run_of->start, FILE_MAX);
    run_of->state_bytes = run_of->start_bytes;
    for (unsigned i = 0; i < cut; i++) {
        if (run_of->events[i].kind == FILE_SYNCED)
            synced = i;
    }
    for (unsigned i = 0; i < cut; i++) {
        bool is_sure = i < synced || !is_random;
        if (is_sure || random_next() % 2 == 0)
            event_apply(&run_of->events[i], !is_sure && random_next() % 3 == 0);
    }
    FILE *file = fopen(state_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(run_of->state, 1, run_of->state_bytes, file), run_of->state_bytes);
    assert_int_equal(fclose(file), 0);
}

static void sector_judge(const u8 *sector, u64 number, unsigned window, unsigned cut)
{
    u32 tag = load_le32(sector);
    bool is_fine = tag == run_of->flushes[window].tags[number];
    for (unsigned i = 4; i < SECTOR; i += 4) {
        if (load_le32(sector + i) != tag)
            fail_msg("cut %u: sector %llu is torn", cut, (unsigned long long)number);
    }
    for (u32 i = 1; i <= REQUESTS && !is_fine; i++) {
        const struct request *request = &run_of->requests[i];
        is_fine = request->window == window && number - request->sector < request->count &&
                  tag == (request->is_zero ? 0 : i);
    }
    if (!is_fine)
        fail_msg("cut %u: sector %llu holds %u; flushed was %u", cut, (unsigned long long)number,
                 tag, run_of->flushes[window].tags[number]);
}

static void problem(void *ctx, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void state_judge(unsigned cut)
{
    static u8 disk[DISK_BYTES];
    struct img *img = NULL;
    struct err err = {0};
    struct qcow2_report report;
    struct img_options options = {.path = state_path, .format = IMG_QCOW2};
    struct qcow2_check_options check = {0};
    unsigned window = 0;
    while (window + 1 < run_of->flush_count && run_of->flushes[window + 1].events <= cut)
        window++;
    if (img_open(&img, &options, &err) != 0)
        fail_msg("cut %u: %s", cut, err.text);
    assert_int_equal(qcow2_check(img_qcow2(img, 0), &check, &report, &err), 0);
    if (report.bad_count != 0 || report.flag_count != 0) {
        check.problem = problem;
        assert_int_equal(qcow2_check(img_qcow2(img, 0), &check, &report, &err), 0);
        fail_msg("cut %u: %llu bad references", cut, (unsigned long long)report.bad_count);
    }
    assert_int_equal(img_read(img, 0, 0, disk, DISK_BYTES), 0);
    for (u64 i = 0; i < SECTORS; i++)
        sector_judge(disk + i * SECTOR, i, window, cut);
    img_close(img);
}

static void test_every_crash_leaves_a_sound_file(void **state)
{
    static const struct {
        u32 cluster_bits;
        bool is_extended, has_backing;
    } kinds[] = {{12, false, true},
                 {9, false, false},
                 {16, false, true},
                 {14, true, true},
                 {12, false, false}};
    static u32 tags[SECTORS];
    u64 per_kind = states_wanted / ARRAY_LEN(kinds), done = 0;
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        for (u64 left = per_kind; left > 0;) {
            memset(tags, 0, sizeof(tags));
            if (kinds[i].has_backing)
                base_make(tags);
            image_make(kinds[i].cluster_bits, kinds[i].is_extended, kinds[i].has_backing);
            run_record(tags);
            /* Every prefix, while there are states left, and as many random ones. */
            for (unsigned cut = 0; cut <= run_of->event_count * 2 && left > 0; left--, done++) {
                bool is_random = cut % 2 != 0;
                unsigned at = per_kind < run_of->event_count * 2
                                  ? (unsigned)(random_next() % (run_of->event_count + 1))
                                  : cut / 2;
                state_make(at, is_random);
                state_judge(at);
                cut++;
            }
            for (unsigned e = 0; e < run_of->event_count; e++)
                free(run_of->events[e].data);
        }
    }
    printf("crash: %llu states\n", (unsigned long long)done);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_crash_leaves_a_sound_file)};
    const char *where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp";
    if (argc > 1)
        states_wanted = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    snprintf(image_path, sizeof(image_path), "%s/atoll-crash-%d.qcow2", where, getpid());
    snprintf(state_path, sizeof(state_path), "%s/atoll-crash-%d-state.qcow2", where, getpid());
    snprintf(base_path, sizeof(base_path), "%s/atoll-crash-%d.raw", where, getpid());
    run_of = calloc(1, sizeof(*run_of));
    int result = run_of == NULL ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    unlink(image_path);
    unlink(state_path);
    unlink(base_path);
    free(run_of);
    return result;
}
