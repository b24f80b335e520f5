/*
 * back/img/qcow2_check.h - looks through all tables of a qcow2 file, and mends what can be mended.
 */
#ifndef BACK_IMG_QCOW2_CHECK_H
#define BACK_IMG_QCOW2_CHECK_H

#include "base/err.h"
#include "base/types.h"

struct qcow2;

struct qcow2_report {
    u64 bad_count;  /* references that make no sense, or to what is not counted often enough */
    u64 flag_count; /* wrong marks of sole use */
    u64 leak_count; /* clusters that are counted more often than used: space lost, no harm */
    u64 mended_count;
    u64 cluster_count, data_count, packed_count, zero_count; /* of the disk */
    u64 end_offset; /* of the last used cluster of the file */
};

struct qcow2_check_options {
    bool mends_leaks, mends_all;
    void (*problem)(void *ctx, const char *text); /* is told of each, up to 100; NULL: nobody */
    void *ctx;
};

/* An image that is to be mended is open for writing, with is_checked_later. After it has been
 * mended, its dirty and corrupt marks are gone if nothing bad is left. */
MUST_CHECK int qcow2_check(struct qcow2 *q, const struct qcow2_check_options *options,
                           struct qcow2_report *ret_report, struct err *err);

#endif
