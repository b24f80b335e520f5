/*
 * back/img/img_write_test.c - random writes, zeroes, discards and flushes on qcow2 files of every
 * kind, against a model in memory; qemu-img is the judge of what is left. And crashes: every prefix
 * of the writes between two flushes, and random halves of them, leave a sound file.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/img/file.h"
#include "back/img/img.h"
#include "base/bits.h"
#include "host/fault.h"

enum { PATH_BYTES = 256, COMMAND_BYTES = 2048, DISK_BYTES = 4 << 20, SECTOR = 512 };

static char folder[64];
static u64 seed = 1;

static u64 random_next(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
}

static int has_qemu_img(void)
{
    return system("qemu-img --version >/dev/null 2>&1") == 0;
}

static int PRINTF_LIKE(1, 2) status_of(const char *format, ...)
{
    char command[COMMAND_BYTES], full[COMMAND_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    snprintf(full, sizeof(full), "cd %s && %s", folder, command);
    return WEXITSTATUS(system(full));
}

static const char *in_folder(const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static struct img *open_img(const char *name, const struct file_watch *watch)
{
    struct img *img = NULL;
    struct err err = {0};
    struct img_options options = {
        .path = in_folder(name), .format = IMG_QCOW2, .is_writable = true, .watch = watch};
    if (img_open(&img, &options, &err) != 0)
        fail_msg("%s", err.text);
    return img;
}

static void write_file(const char *name, const u8 *data, u64 bytes)
{
    FILE *file = fopen(in_folder(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* One random request, on the image and on the model; the image's answer. */
static int random_request(struct img *img, u8 *model)
{
    static u8 data[400 * 1024];
    u64 most = random_next() % 8 == 0 ? sizeof(data) : 20 * 1024;
    u64 offset = random_next() % (DISK_BYTES / SECTOR) * SECTOR;
    u64 bytes = (1 + random_next() % (most / SECTOR)) * SECTOR;
    u64 kind = random_next() % 10;
    bytes = min_u64(bytes, DISK_BYTES - offset);
    if (kind < 6) {
        memset(data, (int)random_next(), bytes);
        memcpy(data, &seed, sizeof(seed));
        int result = img_write(img, offset, data, bytes);
        if (result == 0)
            memcpy(model + offset, data, bytes);
        return result;
    }
    if (kind == 9) {
        u64 from = align_up(offset, 2 << 20);
        if (from >= offset + bytes)
            return img_flush(img);
    }
    int result = img_zero(img, offset, bytes, kind == 6 ? 0 : QCOW2_UNMAP);
    if (result == 0)
        memset(model + offset, 0, bytes);
    return result;
}

static void compare(struct img *img, const u8 *model)
{
    u8 *all = malloc(DISK_BYTES);
    assert_int_equal(img_read(img, 0, 0, all, DISK_BYTES), 0);
    for (u64 at = 0; at < DISK_BYTES; at += SECTOR) {
        if (memcmp(all + at, model + at, SECTOR) != 0)
            fail_msg("sector at %llu differs", (unsigned long long)at);
    }
    free(all);
}

static const char *const kinds[] = {"compat=0.10",
                                    "compat=1.1",
                                    "cluster_size=512",
                                    "cluster_size=4k,refcount_bits=1",
                                    "cluster_size=2M",
                                    "extended_l2=on,cluster_size=16k",
                                    "extended_l2=on",
                                    "preallocation=metadata",
                                    "preallocation=falloc,extended_l2=on",
                                    "lazy_refcounts=on,refcount_bits=64",
                                    "compat=0.10,cluster_size=1k"};

/* Closes IMG, which is w.qcow2 and must hold MODEL, and has qemu-img say the same. */
static void close_and_judge(struct img *img, u8 *model)
{
    compare(img, model);
    img_close(img);
    assert_int_equal(status_of("qemu-img check -q w.qcow2"), 0);
    write_file("model", model, DISK_BYTES);
    assert_int_equal(status_of("qemu-img compare -q -f raw -F qcow2 model w.qcow2"), 0);
}

static void check_kind(const char *options, const char *backing, unsigned rounds)
{
    u8 *model = calloc(1, DISK_BYTES);
    if (backing != NULL) {
        for (u64 i = 0; i < DISK_BYTES / 2; i++)
            model[i] = i / 65536 % 3 == 0 ? 0 : (u8)(i / 997);
        write_file("base.raw", model, DISK_BYTES / 2);
        assert_int_equal(status_of("qemu-img convert -c -O qcow2 -f raw base.raw base.qcow2"), 0);
    }
    assert_int_equal(status_of("qemu-img create -q -f qcow2 %s -o %s w.qcow2 4M",
                               backing != NULL ? backing : "", options),
                     0);
    for (unsigned part = 0; part < 3; part++) {
        struct img *img = open_img("w.qcow2", NULL);
        for (unsigned i = 0; i < rounds; i++)
            assert_int_equal(random_request(img, model), 0);
        close_and_judge(img, model);
    }
    free(model);
}

static void test_random_requests_on_every_kind(void **state)
{
    if (!has_qemu_img())
        skip();
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
        check_kind(kinds[i], NULL, 120);
}

static void test_random_requests_over_backing_files(void **state)
{
    if (!has_qemu_img())
        skip();
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strstr(kinds[i], "preallocation") == NULL)
            check_kind(kinds[i], "-b base.qcow2 -F qcow2", 120);
    }
}

static void test_compressed_clusters_are_overwritten(void **state)
{
    if (!has_qemu_img())
        skip();
    for (unsigned zstd = 0; zstd < 2; zstd++) {
        u8 *model = calloc(1, DISK_BYTES);
        for (u64 i = 0; i < DISK_BYTES; i++)
            model[i] = (u8)(i / 5000);
        write_file("model", model, DISK_BYTES);
        assert_int_equal(status_of("qemu-img convert -c -f raw -O qcow2 -o compression_type=%s "
                                   "model w.qcow2",
                                   zstd != 0 ? "zstd" : "zlib"),
                         0);
        struct img *img = open_img("w.qcow2", NULL);
        for (unsigned i = 0; i < 60; i++)
            assert_int_equal(random_request(img, model), 0);
        close_and_judge(img, model);
        free(model);
    }
}

static void test_data_in_another_file(void **state)
{
    if (!has_qemu_img())
        skip();
    for (unsigned raw = 0; raw < 2; raw++) {
        u8 *model = calloc(1, DISK_BYTES);
        char data_path[PATH_BYTES];
        struct img *img = NULL;
        struct err err = {0};
        assert_int_equal(status_of("rm -f d.data && qemu-img create -q -f qcow2 -o "
                                   "data_file=d.data,data_file_raw=%s d.qcow2 4M",
                                   raw != 0 ? "on" : "off"),
                         0);
        snprintf(data_path, sizeof(data_path), "%s", in_folder("d.data"));
        struct img_options options = {
            .format = IMG_QCOW2, .is_writable = true, .data_path = data_path};
        for (unsigned part = 0; part < 2; part++) {
            options.path = in_folder("d.qcow2");
            if (img_open(&img, &options, &err) != 0)
                fail_msg("%s", err.text);
            for (unsigned i = 0; i < 100; i++)
                assert_int_equal(random_request(img, model), 0);
            compare(img, model);
            img_close(img);
            assert_int_equal(status_of("qemu-img check -q d.qcow2"), 0);
            write_file("model", model, DISK_BYTES);
            assert_int_equal(status_of("qemu-img compare -q -f raw -F qcow2 model d.qcow2"), 0);
            if (raw != 0)
                assert_int_equal(status_of("qemu-img compare -q -f raw -F raw model d.data"), 0);
        }
        free(model);
    }
}

/* A large disk with small clusters makes the refcount table grow. */
static void test_refcount_table_grows(void **state)
{
    static u8 data[1 << 20];
    if (!has_qemu_img())
        skip();
    assert_int_equal(status_of("qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 "
                               "w.qcow2 40M"),
                     0);
    struct img *img = open_img("w.qcow2", NULL);
    for (u64 at = 0; at < 40 << 20; at += sizeof(data)) {
        memset(data, (int)(at >> 20) + 1, sizeof(data));
        assert_int_equal(img_write(img, at, data, sizeof(data)), 0);
    }
    img_close(img);
    assert_int_equal(status_of("qemu-img check -q w.qcow2"), 0);
    assert_int_equal(status_of("qemu-io -r -f qcow2 -c 'read -P 1 0 1M' -c 'read -P 40 39M 1M' "
                               "w.qcow2 | grep -q 'erification failed'"),
                     1);
}

/* Every host call fails in turn: an error for somebody, and never a file that contradicts itself.
 */
static void test_each_call_fails_in_turn(void **state)
{
    static u8 model[DISK_BYTES];
    if (!has_qemu_img())
        skip();
    assert_int_equal(status_of("qemu-img create -q -f qcow2 -o cluster_size=4k start.qcow2 4M"), 0);
    for (u64 nth = 8;; nth += 1 + nth / 12) {
        unsigned failures = 0;
        assert_int_equal(status_of("cp start.qcow2 w.qcow2"), 0);
        struct img *img = open_img("w.qcow2", NULL);
        fault_arm(FAULT_ANY, nth, nth % 2 != 0 ? -ENOSPC : -EIO);
        seed = 5;
        for (unsigned i = 0; i < 30; i++)
            failures += random_request(img, model) != 0;
        failures += img_flush(img) != 0;
        u64 count = fault_disarm();
        img_close(img);
        int status = status_of("qemu-img check -q w.qcow2");
        assert_true(status == 0 || status == 3); /* sound, or sound with lost clusters */
        if (count < nth) {
            assert_int_equal(failures, 0);
            break;
        }
    }
}

static int make_folder(void **state)
{
    snprintf(folder, sizeof(folder), "%s/atoll-imgw-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp");
    setenv("ATOLL_LOG", "error", 0);
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    return status_of("rm -rf %s", folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_requests_on_every_kind),
        cmocka_unit_test(test_random_requests_over_backing_files),
        cmocka_unit_test(test_compressed_clusters_are_overwritten),
        cmocka_unit_test(test_data_in_another_file),
        cmocka_unit_test(test_refcount_table_grows),
        cmocka_unit_test(test_each_call_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
