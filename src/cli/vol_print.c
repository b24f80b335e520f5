/*
 * cli/vol_print.c - what `atoll vol` tells of images: info, check, lists of snapshots.
 *
 * Runs   on the main thread.
 * Trust  texts from headers are hostile: what is not printable is shown as '?'.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "back/img/file.h"
#include "back/img/qcow2_check.h"
#include "back/img/qcow2_header.h"
#include "back/img/qcow2_snapshot.h"
#include "base/bits.h"
#include "base/fmt.h"
#include "cli/size.h"
#include "cli/vol_args.h"

enum { TEXT_BYTES = 1100, DATE_BYTES = 32 };

static const char *printable(const char *from, char to[TEXT_BYTES])
{
    size_t i = 0;
    for (; from[i] != '\0' && i < TEXT_BYTES - 1; i++)
        to[i] = (u8)from[i] >= ' ' && (u8)from[i] < 127 ? from[i] : '?';
    to[i] = '\0';
    return to;
}

static void print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static u64 used_bytes(const struct file *file)
{
    struct stat info;
    return fstat(file->fd, &info) == 0 ? (u64)info.st_blocks * 512 : 0;
}

static json_t *info_json(struct img *img, unsigned link)
{
    struct file *file = img_file(img, link);
    struct qcow2 *q = img_qcow2(img, link);
    char text[TEXT_BYTES];
    json_t *json = json_pack("{s:s, s:s, s:I, s:I}", "path", printable(file->path, text), "type",
                             q != NULL ? "qcow2" : "raw", "size_bytes",
                             (json_int_t)(q != NULL ? qcow2_size(q) : align_up(file->bytes, 512)),
                             "used_bytes", (json_int_t)used_bytes(file));
    if (q == NULL || json == NULL)
        return json;
    const struct qcow2_header *header = qcow2_header_of(q);
    u64 flags = header->incompatible;
    json_object_set_new(json, "version", json_integer(header->version));
    json_object_set_new(json, "cluster_bytes", json_integer((json_int_t)BIT(header->cluster_bits)));
    json_object_set_new(json, "refcount_bits", json_integer(1 << header->refcount_order));
    json_object_set_new(json, "compression",
                        json_string(header->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
    json_object_set_new(json, "extended_l2",
                        json_boolean((flags & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0));
    json_object_set_new(json, "lazy_refcounts",
                        json_boolean((header->compatible & QCOW2_COMPATIBLE_LAZY) != 0));
    json_object_set_new(json, "dirty", json_boolean((flags & QCOW2_INCOMPATIBLE_DIRTY) != 0));
    json_object_set_new(json, "corrupt", json_boolean((flags & QCOW2_INCOMPATIBLE_CORRUPT) != 0));
    json_object_set_new(json, "snapshots", json_integer(header->snapshot_count));
    if (header->backing[0] != '\0') {
        json_object_set_new(json, "backing", json_string(printable(header->backing, text)));
        json_object_set_new(json, "backing_format",
                            json_string(printable(header->backing_format, text)));
    }
    if ((flags & QCOW2_INCOMPATIBLE_DATA_FILE) != 0)
        json_object_set_new(json, "data_file", json_string(printable(header->data_file, text)));
    return json;
}

static void info_table(struct img *img, unsigned link)
{
    struct file *file = img_file(img, link);
    struct qcow2 *q = img_qcow2(img, link);
    char text[TEXT_BYTES], size[16], used[16], cluster[16];
    size_print(q != NULL ? qcow2_size(q) : file->bytes, size);
    size_print(used_bytes(file), used);
    printf("path            %s\ntype            %s\nsize            %s (%llu bytes)\n"
           "used            %s\n",
           printable(file->path, text), q != NULL ? "qcow2" : "raw", size,
           (unsigned long long)(q != NULL ? qcow2_size(q) : file->bytes), used);
    if (q == NULL)
        return;
    const struct qcow2_header *header = qcow2_header_of(q);
    u64 flags = header->incompatible;
    size_print(BIT(header->cluster_bits), cluster);
    printf("version         %u\nclusters        %s%s\nrefcounts       %u bits%s\n"
           "compression     %s\nsnapshots       %u\n",
           header->version, cluster,
           (flags & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0 ? ", with subclusters" : "",
           1u << header->refcount_order,
           (header->compatible & QCOW2_COMPATIBLE_LAZY) != 0 ? ", lazy" : "",
           header->compression == QCOW2_ZSTD ? "zstd" : "zlib", header->snapshot_count);
    if (header->backing[0] != '\0') {
        printf("backing file    %s\n", printable(header->backing, text));
        printf("backing format  %s\n", header->backing_format[0] != '\0'
                                           ? printable(header->backing_format, text)
                                           : "not given");
    }
    if ((flags & QCOW2_INCOMPATIBLE_DATA_FILE) != 0)
        printf("data file       %s\n", printable(header->data_file, text));
    if ((flags & QCOW2_INCOMPATIBLE_DIRTY) != 0)
        puts("state           not closed; 'atoll vol check --repair all' mends it");
    if ((flags & QCOW2_INCOMPATIBLE_CORRUPT) != 0)
        puts("state           marked as damaged; 'atoll vol check' tells more");
}

int vol_info(const struct vol_args *args, struct err *err)
{
    struct img *img = NULL;
    struct img_options options = vol_args_image(args, args->words[1], args->type);
    options.is_alone = !args->is_chain;
    int result = img_open(&img, &options, err);
    if (result != 0)
        return result;
    json_t *list = json_array();
    for (unsigned i = 0; i < img_count(img); i++) {
        if (args->is_json) {
            json_array_append_new(list, info_json(img, i));
            continue;
        }
        if (i > 0)
            putchar('\n');
        info_table(img, i);
    }
    if (args->is_json && args->is_chain)
        print_json(json_incref(list));
    else if (args->is_json)
        print_json(json_incref(json_array_get(list, 0)));
    json_decref(list);
    img_close(img);
    return 0;
}

static void print_problem(void *ctx, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void check_print(const struct vol_args *args, const struct qcow2_report *report)
{
    unsigned long long bad = report->bad_count, flags = report->flag_count;
    unsigned long long leaks = report->leak_count, mended = report->mended_count;
    if (args->is_json) {
        print_json(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bad", (json_int_t)bad, "wrong_marks",
            (json_int_t)flags, "leaked", (json_int_t)leaks, "mended", (json_int_t)mended,
            "clusters", (json_int_t)report->cluster_count, "allocated",
            (json_int_t)report->data_count, "compressed", (json_int_t)report->packed_count, "zero",
            (json_int_t)report->zero_count, "end_offset", (json_int_t)report->end_offset));
        return;
    }
    printf("bad references  %llu\nwrong marks     %llu\nleaked clusters %llu\n", bad, flags, leaks);
    if (mended != 0)
        printf("mended          %llu\n", mended);
    printf("clusters        %llu: %llu data, %llu compressed, %llu zero\n",
           (unsigned long long)report->cluster_count, (unsigned long long)report->data_count,
           (unsigned long long)report->packed_count, (unsigned long long)report->zero_count);
}

int vol_check(const struct vol_args *args, struct err *err)
{
    struct img *img = NULL;
    struct qcow2_report report = {0};
    struct img_options options = vol_args_image(args, args->words[1], args->type);
    const struct qcow2_check_options check = {
        .mends_leaks = args->mends_leaks, .mends_all = args->mends_all, .problem = print_problem};
    options.is_alone = options.is_checked_later = true;
    options.is_writable = args->mends_leaks;
    int result = img_open(&img, &options, err);
    if (result != 0)
        return result;
    if (img_qcow2(img, 0) == NULL)
        result = err_set(err, -EINVAL, "disk '%s': a raw disk has nothing to check", options.path);
    else
        result = qcow2_check(img_qcow2(img, 0), &check, &report, err);
    if (result == 0)
        check_print(args, &report);
    img_close(img);
    if (result == 0 && report.bad_count + report.flag_count != 0)
        result = err_set(err, -EIO,
                         "disk '%s': the image is damaged; make a copy of the file, then try "
                         "'atoll vol check --repair all'",
                         options.path);
    return result;
}

int vol_snapshot_list(const struct vol_args *args, const char *path, struct err *err)
{
    struct img *img = NULL;
    struct qcow2_snapshots list = {0};
    struct img_options options = vol_args_image(args, path, args->type);
    char date[DATE_BYTES], size[16], id[TEXT_BYTES], name[TEXT_BYTES];
    json_t *array = json_array();
    options.is_alone = true;
    int result = img_open(&img, &options, err);
    if (result == 0 && img_qcow2(img, 0) != NULL)
        result = qcow2_snapshots_load(img_qcow2(img, 0), &list, err);
    if (result == 0 && !args->is_json && list.count != 0)
        printf("%-6s %-24s %-20s %10s\n", "ID", "NAME", "DATE", "DISK");
    for (u32 i = 0; result == 0 && i < list.count; i++) {
        const struct qcow2_snapshot *item = &list.items[i];
        time_t seconds = item->date_s;
        struct tm parts = {0};
        gmtime_r(&seconds, &parts);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &parts);
        size_print(item->size_bytes, size);
        printable(item->id, id);
        printable(item->name, name);
        if (args->is_json)
            json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:I, s:I}", "id", id, "name",
                                                   name, "date", date, "size_bytes",
                                                   (json_int_t)item->size_bytes, "state_bytes",
                                                   (json_int_t)item->state_bytes));
        else
            printf("%-6s %-24s %-20s %10s\n", id, name, date, size);
    }
    if (result == 0 && args->is_json)
        print_json(json_incref(array));
    json_decref(array);
    qcow2_snapshots_fini(&list);
    img_close(img);
    return result;
}
