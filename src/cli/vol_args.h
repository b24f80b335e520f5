/*
 * cli/vol_args.h - the arguments of `atoll vol`, understood, and what its verbs share.
 */
#ifndef CLI_VOL_ARGS_H
#define CLI_VOL_ARGS_H

#include "back/vol/vol.h"

enum { VOL_WORDS_MAX = 4 };

/* Texts are borrowed from argv. */
struct vol_args {
    const char *words[VOL_WORDS_MAX]; /* what is no option */
    unsigned word_count;
    bool is_json, is_chain, is_packed, may_shrink, is_unsafe, wants_help;
    bool mends_leaks, mends_all;
    const char *backing, *backing_format; /* NULL: not given */
    const char *data;
    enum img_format type, from, to;
    struct qcow2_create_options qcow2;
    enum qcow2_preallocation preallocation;
    const char *folders[IMG_FOLDERS_MAX + 1];
    unsigned folder_count;
};

MUST_CHECK int vol_args_parse(struct vol_args *ret_args, const char *const *argv, struct err *err);
/* How the image at PATH is to be opened. */
struct img_options vol_args_image(const struct vol_args *args, const char *path,
                                  enum img_format format);

/* vol_print.c: data on standard output, as a table or as JSON. */
MUST_CHECK int vol_info(const struct vol_args *args, struct err *err);
/* -EIO when the image is damaged; leaked clusters are no damage. */
MUST_CHECK int vol_check(const struct vol_args *args, struct err *err);
MUST_CHECK int vol_snapshot_list(const struct vol_args *args, const char *path, struct err *err);

#endif
