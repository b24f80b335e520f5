/*
 * cli/vol.c - `atoll vol`: which verb, and how it ends.
 *
 * Runs   on the main thread.
 */
#include "cli/vol.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/exit_status.h"
#include "back/img/qcow2_snapshot.h"
#include "cli/help.h"
#include "cli/progress.h"
#include "cli/size.h"
#include "cli/vol_args.h"

static int usage(struct err *err, const char *how)
{
    return err_set(err, -EINVAL, "it goes like this: atoll vol %s; see 'atoll vol --help'", how);
}

static int parse_size(const char *text, u64 *ret_bytes, struct err *err)
{
    if (size_parse(text, ret_bytes) == 0 ||
        (number_parse(text, 512, INT64_MAX, ret_bytes) == 0 && *ret_bytes % 512 == 0))
        return 0;
    return err_set(err, -EINVAL, "'%s': a size is a number with K, M, G or T: 512M, 10G", text);
}

static int create_options(const struct vol_args *args, const char *path,
                          struct vol_create_options *ret_options, struct err *err)
{
    *ret_options = (struct vol_create_options){.path = path,
                                               .format = args->type,
                                               .qcow2 = args->qcow2,
                                               .preallocation = args->preallocation,
                                               .folders = args->folders};
    if (args->backing != NULL && args->backing_format == NULL)
        return err_set(err, -EINVAL,
                       "--backing '%s': say what it is as well: --backing-format raw, or qcow2",
                       args->backing);
    ret_options->qcow2.backing = args->backing;
    ret_options->qcow2.backing_format = args->backing_format;
    return 0;
}

static int run_create(const struct vol_args *args, struct err *err)
{
    struct vol_create_options options;
    bool has_size = args->word_count == 3;
    if (!has_size && (args->word_count != 2 || args->backing == NULL))
        return usage(err, "create FILE SIZE, or create FILE --backing FILE --backing-format TYPE");
    int result = create_options(args, args->words[1], &options, err);
    if (result == 0 && has_size)
        result = parse_size(args->words[2], &options.size_bytes, err);
    return result == 0 ? vol_create(&options, err) : result;
}

static int run_convert(const struct vol_args *args, struct err *err)
{
    struct vol_convert_options options;
    struct progress progress;
    const struct vol_progress tell = {progress_show, &progress};
    if (args->word_count != 3)
        return usage(err, "convert SOURCE TARGET");
    options.source = vol_args_image(args, args->words[1], args->from);
    int result = create_options(args, args->words[2], &options.target, err);
    options.target.format = args->to;
    options.is_packed = args->is_packed;
    if (result == 0 && args->backing != NULL)
        result = err_set(err, -EINVAL, "convert: the copy stands alone; leave out --backing");
    if (result != 0)
        return result;
    progress_begin(&progress, "convert");
    result = vol_convert(&options, &tell, err);
    progress_end(&progress);
    return result;
}

static int run_resize(const struct vol_args *args, struct err *err)
{
    struct img *img = NULL;
    u64 bytes, old_bytes;
    if (args->word_count != 3)
        return usage(err, "resize FILE SIZE, or resize FILE +SIZE");
    const char *text = args->words[2];
    struct img_options options = vol_args_image(args, args->words[1], args->type);
    int result = parse_size(text + (text[0] == '+'), &bytes, err);
    if (result == 0)
        result = img_open(&img, &options, err);
    if (result != 0)
        return result;
    old_bytes = img_size(img);
    img_close(img);
    if (text[0] == '+')
        bytes += old_bytes;
    if (bytes < old_bytes && !args->may_shrink)
        return err_set(err, -EINVAL,
                       "resize: the disk would lose its end; shrink the guest's file system first, "
                       "then add --shrink");
    options.is_writable = true;
    return vol_resize(&options, bytes, args->preallocation, err);
}

static int run_rebase(const struct vol_args *args, struct err *err)
{
    struct progress progress;
    const struct vol_progress tell = {progress_show, &progress};
    if (args->word_count != 2 || args->backing == NULL)
        return usage(err, "rebase FILE --backing FILE --backing-format TYPE, or --backing ''");
    struct vol_rebase_options options = {
        .image = vol_args_image(args, args->words[1], args->type),
        .backing = args->backing,
        .backing_format = args->backing_format ? args->backing_format : "",
        .is_unsafe = args->is_unsafe};
    progress_begin(&progress, "rebase");
    int result = vol_rebase(&options, &tell, err);
    progress_end(&progress);
    return result;
}

static int run_commit(const struct vol_args *args, struct err *err)
{
    struct progress progress;
    const struct vol_progress tell = {progress_show, &progress};
    if (args->word_count != 2)
        return usage(err, "commit FILE");
    struct img_options options = vol_args_image(args, args->words[1], args->type);
    progress_begin(&progress, "commit");
    int result = vol_commit(&options, &tell, err);
    progress_end(&progress);
    return result;
}

static int snapshot_change(const struct vol_args *args, struct err *err)
{
    struct img *img = NULL;
    struct timespec now;
    const char *verb = args->words[1], *name = args->words[3];
    struct img_options options = vol_args_image(args, args->words[2], args->type);
    options.is_writable = true;
    int result = img_open(&img, &options, err);
    if (result != 0)
        return result;
    struct qcow2 *q = img_qcow2(img, 0);
    clock_gettime(CLOCK_REALTIME, &now);
    if (q == NULL)
        result = err_set(err, -EINVAL, "disk '%s': a raw disk has no snapshots", options.path);
    else if (strcmp(verb, "create") == 0)
        result = qcow2_snapshot_create(q, name, (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec,
                                       err);
    else if (strcmp(verb, "apply") == 0)
        result = qcow2_snapshot_apply(q, name, err);
    else
        result = qcow2_snapshot_delete(q, name, err);
    img_close(img);
    return result;
}

static int run_snapshot(const struct vol_args *args, struct err *err)
{
    const char *verb = args->word_count > 1 ? args->words[1] : "";
    bool is_change = strcmp(verb, "create") == 0 || strcmp(verb, "apply") == 0 ||
                     strcmp(verb, "rm") == 0;
    if (strcmp(verb, "ls") == 0 && args->word_count == 3)
        return vol_snapshot_list(args, args->words[2], err);
    if (is_change && args->word_count == 4)
        return snapshot_change(args, err);
    return usage(err, "snapshot ls FILE, or snapshot create|apply|rm FILE NAME");
}

static int run_info(const struct vol_args *args, struct err *err)
{
    return args->word_count == 2 ? vol_info(args, err) : usage(err, "info FILE [--chain]");
}

static int run_check(const struct vol_args *args, struct err *err)
{
    return args->word_count == 2 ? vol_check(args, err)
                                 : usage(err, "check FILE [--repair leaks|all]");
}

static const struct {
    const char *name;
    int (*run)(const struct vol_args *args, struct err *err);
} verbs[] = {{"create", run_create},     {"info", run_info},     {"check", run_check},
             {"convert", run_convert},   {"resize", run_resize}, {"rebase", run_rebase},
             {"snapshot", run_snapshot}, {"commit", run_commit}};

static int status_of(int code)
{
    switch (code) {
    case 0:
        return 0;
    case -EINVAL:
        return EXIT_STATUS_ARGUMENT;
    case -ENOSPC:
    case -ENOMEM:
    case -EBUSY:
        return EXIT_STATUS_HOST;
    default:
        return EXIT_STATUS_FILE;
    }
}

int vol_main(const char *const *argv, struct err *err)
{
    struct vol_args args;
    int result = vol_args_parse(&args, argv, err);
    if (result != 0)
        return status_of(result);
    if (args.wants_help)
        return fputs(help_vol, stdout) >= 0 ? 0 : EXIT_STATUS_HOST;
    const char *verb = args.word_count > 0 ? args.words[0] : "";
    for (unsigned i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verb, verbs[i].name) == 0)
            return status_of(verbs[i].run(&args, err));
    }
    err_set(err, -EINVAL,
            "'atoll vol %s' is not how it goes; there are create, info, check, convert, resize, "
            "rebase, snapshot and commit; see 'atoll vol --help'",
            verb);
    return EXIT_STATUS_ARGUMENT;
}
