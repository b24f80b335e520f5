/*
 * back/img/img_test.c - qcow2 files that qemu-img makes, in every combination of its options, read
 * here and by qemu-img alike; chains, and which backing files are refused.
 *
 * Without qemu-img the tests that need it are skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "back/img/img.h"
#include "back/img/qcow2_format.h"
#include "base/bits.h"

enum { PATH_BYTES = 256, COMMAND_BYTES = 2048 };

static char folder[64];

static int has_qemu_img(void)
{
    return system("qemu-img --version >/dev/null 2>&1") == 0;
}

static void PRINTF_LIKE(1, 2) run(const char *format, ...)
{
    char command[COMMAND_BYTES], full[COMMAND_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    snprintf(full, sizeof(full), "cd %s && %s", folder, command);
    if (system(full) != 0)
        fail_msg("failed: %s", full);
}

static const char *in_folder(const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static struct img *open_img(const char *name)
{
    struct img *img = NULL;
    struct err err = {0};
    struct img_options options = {.path = in_folder(name), .format = IMG_QCOW2};
    if (img_open(&img, &options, &err) != 0)
        fail_msg("%s", err.text);
    return img;
}

/* Everything in the image is what the raw file of the other name holds. */
static void same_as(const char *image, const char *raw)
{
    enum { CHUNK = 300 * 1024 };
    struct img *img = open_img(image);
    FILE *file = fopen(in_folder(raw), "r");
    u8 *ours = malloc(CHUNK), *theirs = malloc(CHUNK);
    assert_true(file != NULL && ours != NULL && theirs != NULL);
    for (u64 at = 0; at < img_size(img); at += CHUNK) {
        u64 bytes = min_u64(CHUNK, img_size(img) - at);
        memset(theirs, 0, CHUNK);
        size_t got = fread(theirs, 1, bytes, file);
        assert_true(got == bytes || at + got + 512 > img_size(img));
        assert_int_equal(img_read(img, 0, at, ours, bytes), 0);
        if (memcmp(ours, theirs, bytes) != 0)
            fail_msg("%s differs from %s within %u bytes of %llu", image, raw, CHUNK,
                     (unsigned long long)at);
    }
    free(ours);
    free(theirs);
    fclose(file);
    img_close(img);
}

/* A raw file with data that compresses, data that does not, holes, and a size of its own. */
static void make_source(const char *name, u64 bytes)
{
    FILE *file = fopen(in_folder(name), "w");
    u64 seed = 99;
    u8 block[4096];
    assert_non_null(file);
    for (u64 at = 0; at + sizeof(block) <= bytes; at += sizeof(block)) {
        u64 kind = at / 65536 % 5;
        if (kind == 1 || kind == 4)
            continue;
        for (unsigned i = 0; i < sizeof(block); i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            block[i] = kind == 0 ? (u8)(seed >> 56) : (u8)(at >> 12);
        }
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(block, 1, sizeof(block), file), sizeof(block));
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(in_folder(name), (off_t)bytes), 0);
}

static void test_every_combination_reads_alike(void **state)
{
    static const char *const options[] = {"compat=0.10",
                                          "compat=0.10,cluster_size=512",
                                          "compat=1.1",
                                          "cluster_size=2M",
                                          "cluster_size=512,refcount_bits=1",
                                          "extended_l2=on,cluster_size=16k",
                                          "extended_l2=on,cluster_size=128k,compression_type=zstd",
                                          "lazy_refcounts=on",
                                          "refcount_bits=64,compression_type=zstd",
                                          "extended_l2=on,cluster_size=2M"};
    if (!has_qemu_img())
        skip();
    make_source("source", (6 << 20) + 512 * 3);
    for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
        run("qemu-img convert -f raw -O qcow2 -o %s source a.qcow2", options[i]);
        same_as("a.qcow2", "source");
        run("qemu-img convert -c -f raw -O qcow2 -o %s source a.qcow2", options[i]);
        same_as("a.qcow2", "source");
    }
}

static void test_preallocated_and_changed_images(void **state)
{
    static const char *const modes[] = {"off", "metadata", "falloc", "full"};
    if (!has_qemu_img())
        skip();
    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        for (unsigned extended = 0; extended < 2; extended++) {
            run("qemu-img create -q -f qcow2 -o preallocation=%s,extended_l2=%s p.qcow2 5M",
                modes[i], extended != 0 ? "on" : "off");
            run("qemu-io -f qcow2 -c 'write -P 7 100k 70k' -c 'write -z 1M 200k' -c 'write -P 9 "
                "1100k 3k' -c 'discard 120k 8k' -c 'write -zu 2M 1M' p.qcow2 >/dev/null");
            run("qemu-img convert -f qcow2 -O raw p.qcow2 p.raw");
            same_as("p.qcow2", "p.raw");
        }
    }
}

static void test_chain_of_ten(void **state)
{
    if (!has_qemu_img())
        skip();
    make_source("base.raw", 3 << 20);
    run("mkdir -p below");
    run("qemu-img create -q -f qcow2 -b base.raw -F raw c0.qcow2");
    for (unsigned i = 1; i < 10; i++) {
        run("qemu-img create -q -f qcow2 -b %s%sc%u.qcow2 -F qcow2 %s c%u.qcow2 %uM",
            i % 2 != 0 ? folder : "", i % 2 != 0 ? "/" : "", i - 1,
            i % 3 == 0 ? "-o extended_l2=on,cluster_size=32k" : "-o cluster_size=4k", i,
            i < 5 ? 3 + i : 11 - i);
        run("qemu-io -f qcow2 -c 'write -P %u %uk 9k' -c 'write -zu %uk 64k' c%u.qcow2 >/dev/null",
            i, 200 * i, 200 * i + 100, i);
    }
    run("qemu-img convert -f qcow2 -O raw c9.qcow2 c9.raw");
    same_as("c9.qcow2", "c9.raw");
    struct img *img = open_img("c9.qcow2");
    assert_int_equal(img_count(img), 11);
    img_close(img);
}

static void refused(const struct img_options *options, int code, const char *words)
{
    struct img *img = NULL;
    struct err err = {0};
    assert_int_equal(img_open(&img, options, &err), code);
    assert_null(img);
    if (strstr(err.text, words) == NULL)
        fail_msg("'%s' is not in: %s", words, err.text);
}

static void test_backing_files_that_are_refused(void **state)
{
    if (!has_qemu_img())
        skip();
    struct img_options options = {.format = IMG_QCOW2};
    static const char *const outside[] = {"/etc/shadow", "/etc/passwd", "../../../etc/passwd"};
    options.path = in_folder("r.qcow2");
    for (unsigned i = 0; i < ARRAY_LEN(outside); i++) {
        run("qemu-img create -q -u -f qcow2 -b %s -F raw r.qcow2 1M", outside[i]);
        refused(&options, -EACCES, "outside the image's own folder");
    }
    run("ln -sf /etc/passwd link; qemu-img create -q -u -f qcow2 -b link -F raw r.qcow2 1M");
    refused(&options, -EACCES, "outside");
    const char *const folders[] = {"/etc", NULL};
    struct img *img = NULL;
    options.folders = folders;
    assert_int_equal(img_open(&img, &options, NULL), 0);
    img_close(img);
    options.folders = NULL;
    run("qemu-img create -q -u -f qcow2 -b r.qcow3 -F qcow2 r.qcow2 1M && "
        "sed -i s/r.qcow3/r.qcow2/ r.qcow2");
    refused(&options, -ELOOP, "comes back");
    run("qemu-img create -q -u -f qcow2 -b r.qcow2 -F qcow2 s.qcow2 1M");
    run("qemu-img create -q -u -f qcow2 -b s.qcow2 -F qcow2 r.qcow2 1M");
    refused(&options, -ELOOP, "comes back");
    run("qemu-img create -q -u -f qcow2 -b gone -F raw r.qcow2 1M");
    refused(&options, -ENOENT, "rebase");
    run("qemu-img create -q -u -f qcow2 -b nbd://localhost/x -F raw r.qcow2 1M");
    refused(&options, -EINVAL, "no file name");
    run("qemu-img create -q -f qcow2 s.qcow2 1M; qemu-img create -q -u -f qcow2 -b s.qcow2 -F "
        "qcow2 "
        "-o compat=0.10 r.qcow2 1M");
    /* Without its backing format: the extension's type becomes one that nobody knows. */
    run("python3 -c \"import sys; d=bytearray(open('r.qcow2','rb').read()); i=d.find(b'\\xe2\\x79"
        "\\x2a\\xca'); d[i]=0x55; open('r.qcow2','wb').write(d)\"");
    refused(&options, -EINVAL, "rebase --unsafe");
}

static void test_formats_are_not_guessed(void **state)
{
    if (!has_qemu_img())
        skip();
    struct img_options options = {0};
    run("qemu-img create -q -f qcow2 disk.img 1M; cp disk.img disk.raw");
    options.path = in_folder("disk.img");
    refused(&options, -EINVAL, "format=qcow2");
    options.path = in_folder("disk.raw");
    struct img *img = NULL;
    assert_int_equal(img_open(&img, &options, NULL), 0);
    assert_null(img_qcow2(img, 0));
    img_close(img);
    run("truncate -s 1M zero.qcow2");
    options.path = in_folder("zero.qcow2");
    refused(&options, -EINVAL, "no qcow2 file");
}

static void test_data_file_only_when_named(void **state)
{
    if (!has_qemu_img())
        skip();
    make_source("source", 2 << 20);
    for (unsigned raw = 0; raw < 2; raw++) {
        run("rm -f d.data; qemu-img create -q -f qcow2 -o data_file=d.data,data_file_raw=%s "
            "d.qcow2 2M && qemu-img convert -n -f raw -O qcow2 source d.qcow2",
            raw != 0 ? "on" : "off");
        char data[PATH_BYTES];
        snprintf(data, sizeof(data), "%s/d.data", folder);
        struct img_options options = {.path = in_folder("d.qcow2"), .format = IMG_QCOW2};
        refused(&options, -EACCES, "d.data");
        struct img *img = NULL;
        options.data_path = data;
        assert_int_equal(img_open(&img, &options, NULL), 0);
        u8 ours[512], theirs[512];
        FILE *file = fopen(in_folder("source"), "r");
        for (u64 at = 0; at < 2 << 20; at += 512) {
            assert_int_equal(fread(theirs, 1, 512, file), 512);
            assert_int_equal(img_read(img, 0, at, ours, 512), 0);
            assert_memory_equal(ours, theirs, 512);
        }
        fclose(file);
        img_close(img);
    }
}

static u64 peak_kib(void)
{
    char line[128];
    u64 kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoull(line + 6, NULL, 10);
    }
    if (file != NULL)
        fclose(file);
    return kib;
}

/* The largest tables that a header can ask for, and a packed cluster of 2 MiB that is none. */
static void worst_make(void)
{
    static u8 header[QCOW2_FULL_BYTES];
    static const struct {
        u64 offset, value;
    } entries[] = {{4 << 20, 64 << 20},
                   {64 << 20, QCOW2_COMPRESSED | 0x3ff0000000000000ull | 128 << 20}};
    u8 entry[8];
    store_be32(header + QCOW2_AT_MAGIC, QCOW2_MAGIC);
    store_be32(header + QCOW2_AT_VERSION, 3);
    store_be32(header + QCOW2_AT_CLUSTER_BITS, 21);
    store_be64(header + QCOW2_AT_SIZE, 1ull << 55);
    store_be32(header + QCOW2_AT_L1_COUNT, QCOW2_L1_BYTES_MAX / 8);
    store_be64(header + QCOW2_AT_L1_OFFSET, 4 << 20);
    store_be64(header + QCOW2_AT_REFTABLE_OFFSET, 1 << 30);
    store_be32(header + QCOW2_AT_REFTABLE_CLUSTERS, 4);
    store_be32(header + QCOW2_AT_REFCOUNT_ORDER, 4);
    store_be32(header + QCOW2_AT_HEADER_BYTES, QCOW2_FULL_BYTES);
    FILE *file = fopen(in_folder("worst.qcow2"), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(header, 1, sizeof(header), file), sizeof(header));
    for (unsigned i = 0; i < ARRAY_LEN(entries); i++) {
        store_be64(entry, entries[i].value);
        assert_int_equal(fseek(file, (long)entries[i].offset, SEEK_SET), 0);
        assert_int_equal(fwrite(entry, 1, 8, file), 8);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(in_folder("worst.qcow2"), (off_t)64 << 30), 0);
}

/* How a process ends that reads the worst file all over; it is one of its own, for its peak. */
static int worst_read(void)
{
    struct img_options options = {
        .path = in_folder("worst.qcow2"), .format = IMG_QCOW2, .is_writable = true};
    struct img *img = NULL;
    static u8 data[4096];
    u64 before_kib = peak_kib();
    if (img_open(&img, &options, NULL) != 0)
        return 2;
    for (u64 i = 1; i < 3000; i++) {
        if (img_read(img, 0, i << 33, data, sizeof(data)) != 0)
            return 3;
    }
    if (img_read(img, 0, 0, data, sizeof(data)) != -EIO)
        return 4;
    img_close(img);
    return peak_kib() - before_kib < 64 << 10 ? 0 : 5;
}

static void test_the_worst_header_takes_64_mib_at_most(void **state)
{
    worst_make();
    pid_t child = fork();
    if (child == 0)
        _exit(worst_read());
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int make_folder(void **state)
{
    snprintf(folder, sizeof(folder), "/var/tmp/atoll-img-XXXXXX");
    setenv("ATOLL_LOG", "error", 0);
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    run("rm -rf %s", folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination_reads_alike),
        cmocka_unit_test(test_preallocated_and_changed_images),
        cmocka_unit_test(test_chain_of_ten),
        cmocka_unit_test(test_backing_files_that_are_refused),
        cmocka_unit_test(test_formats_are_not_guessed),
        cmocka_unit_test(test_data_file_only_when_named),
        cmocka_unit_test(test_the_worst_header_takes_64_mib_at_most),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
