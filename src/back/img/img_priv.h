/*
 * back/img/img_priv.h - the links of a chain, for the files that open, read and write it.
 */
#ifndef BACK_IMG_IMG_PRIV_H
#define BACK_IMG_IMG_PRIV_H

#include "back/img/img.h"
#include "back/img/qcow2_header.h"

struct link {
    struct file *file;      /* owned, until it is Q's */
    struct file *data_file; /* owned, until it is Q's */
    struct qcow2 *q;        /* owned; NULL: raw */
    u64 size_bytes;
};

struct img {
    struct qcow2_shared shared;
    struct link *links; /* owned */
    unsigned count;
};

/* The path of the file that HEADER names, as its image at PATH means it. 0, or -EINVAL and ERR. */
MUST_CHECK int img_path_resolve(char **ret_path, const char *path, const char *name,
                                struct err *err);
/* -EACCES and ERR when PATH lies in none of the folders that OPTIONS allow; its real name else. */
MUST_CHECK int img_path_allow(char **ret_real, const char *path, const struct img_options *options,
                              struct err *err);

#endif
