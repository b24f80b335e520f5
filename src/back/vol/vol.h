/*
 * back/vol/vol.h - what `atoll vol` does to volumes: whole images, worked on while no VM runs.
 *
 * Every call blocks until it is done. Images are opened as back/img/img.h says: locked, with their
 * backing files from allowed folders only.
 */
#ifndef BACK_VOL_VOL_H
#define BACK_VOL_VOL_H

#include "back/img/img.h"
#include "back/img/qcow2_create.h"
#include "base/err.h"
#include "base/types.h"

/* Told now and then how far a long work is. */
struct vol_progress {
    void (*tell)(void *ctx, u64 done_bytes, u64 total_bytes);
    void *ctx;
};

struct vol_create_options {
    const char *path;
    enum img_format format; /* IMG_BY_NAME: qcow2 if the name ends so, else raw */
    u64 size_bytes;         /* 0: the backing file's */
    struct qcow2_create_options qcow2;
    enum qcow2_preallocation preallocation;
    const char *const *folders; /* as img_options has them */
};

struct vol_convert_options {
    struct img_options source;
    struct vol_create_options target;
    bool is_packed; /* the target's clusters are compressed; qcow2 only */
};

struct vol_rebase_options {
    struct img_options image;
    const char *backing;        /* as it is to stand in the header; "": none */
    const char *backing_format; /* "raw" or "qcow2" */
    bool is_unsafe; /* only the header changes: what the disk shows may change with it */
};

/* The file must not be there yet; it is taken away again when making it fails. */
MUST_CHECK int vol_create(const struct vol_create_options *options, struct err *err);
/* Copies what the source's disk shows into a new image. Holes stay holes. */
MUST_CHECK int vol_convert(const struct vol_convert_options *options,
                           const struct vol_progress *progress, struct err *err);
MUST_CHECK int vol_resize(const struct img_options *options, u64 size_bytes,
                          enum qcow2_preallocation preallocation, struct err *err);
/* Gives the image another backing file; the disk shows what it showed. */
MUST_CHECK int vol_rebase(const struct vol_rebase_options *options,
                          const struct vol_progress *progress, struct err *err);
/* Writes what the image holds into its backing file, and empties the image. */
MUST_CHECK int vol_commit(const struct img_options *options, const struct vol_progress *progress,
                          struct err *err);

#endif
