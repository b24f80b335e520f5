/*
 * back/vol/rebase.c - another backing file under an image, and an image's changes into the one
 * below.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/img/file.h"
#include "back/img/qcow2_header.h"
#include "back/vol/copy.h"
#include "base/alloc.h"
#include "base/bits.h"

/* Opens what the image would rest on with its new header. */
static int open_new_backing(const struct vol_rebase_options *options, struct img **ret_img,
                            struct err *err)
{
    struct img_options open = options->image;
    char *path = NULL;
    *ret_img = NULL;
    if (options->backing[0] == '\0')
        return 0;
    int result = img_backing_path(&options->image, options->backing, &path, err);
    open.path = path;
    open.format = strcmp(options->backing_format, "qcow2") == 0 ? IMG_QCOW2 : IMG_RAW;
    open.is_writable = false;
    if (result == 0)
        result = img_open(ret_img, &open, err);
    free(path);
    return result;
}

static int read_or_zero(struct img *img, unsigned first, u64 offset, u8 *to, u64 bytes)
{
    if (img == NULL) {
        memset(to, 0, bytes);
        return 0;
    }
    return img_read(img, first, offset, to, bytes);
}

/* How many bytes from OFFSET on are known to be zeroes in the old and in the new backing file. */
static int both_empty(struct img *img, struct img *below, u64 offset, u64 bytes, u64 *ret_bytes)
{
    struct img_extent old = {.kind = QCOW2_ZEROES, .bytes = bytes}, fresh = old;
    int result = img_count(img) > 1 ? img_map(img, 1, offset, bytes, true, &old) : 0;
    if (result == 0 && below != NULL)
        result = img_map(below, 0, offset, bytes, true, &fresh);
    *ret_bytes = old.kind == QCOW2_ZEROES && fresh.kind == QCOW2_ZEROES
                     ? min_u64(old.bytes, fresh.bytes)
                     : 0;
    return result;
}

/* Copies into the image what it has shown from below, where the new backing file shows another. */
static int keep_differences(struct img *img, struct img *below, u8 *old, u8 *fresh,
                            const struct vol_progress *progress)
{
    struct qcow2 *q = img_qcow2(img, 0);
    u64 total = img_size(img), cluster_bytes = BIT(qcow2_header_of(q)->cluster_bits);
    int result = 0;
    for (u64 at = 0; at < total && result == 0;) {
        struct qcow2_extent extent;
        result = qcow2_map(q, at, total - at, true, &extent);
        if (result != 0)
            break;
        u64 bytes = extent.bytes, empty = 0;
        if (extent.kind == QCOW2_ABSENT)
            result = both_empty(img, below, at, bytes, &empty);
        if (result == 0 && empty != 0) {
            bytes = empty;
        } else if (result == 0 && extent.kind == QCOW2_ABSENT) {
            /* A cluster at a time, or more: so that no write meets the rest of its own cluster. */
            bytes = min_u64(bytes, max_u64(cluster_bytes, 65536) - (at & (cluster_bytes - 1)));
            bytes = min_u64(bytes, COPY_BYTES);
            result = img_count(img) > 1 ? img_read(img, 1, at, old, bytes)
                                        : read_or_zero(NULL, 0, at, old, bytes);
            if (result == 0)
                result = read_or_zero(below, 0, at, fresh, bytes);
            if (result == 0 && memcmp(old, fresh, bytes) != 0)
                result = img_write(img, at, old, bytes);
        }
        at += bytes;
        progress_tell(progress, at, total);
    }
    return result == 0 ? img_flush(img) : result;
}

static int rebase_open(const struct vol_rebase_options *options, struct img *img, struct img *below,
                       const struct vol_progress *progress, struct err *err)
{
    u8 *old = alloc_zero(COPY_BYTES), *fresh = alloc_zero(COPY_BYTES);
    int result = old != NULL && fresh != NULL ? 0 : -ENOMEM;
    if (result == 0 && !options->is_unsafe)
        result = keep_differences(img, below, old, fresh, progress);
    alloc_free(old);
    alloc_free(fresh);
    if (result != 0)
        return copy_failed(err, options->image.path, "rebase", result);
    return qcow2_set_backing(img_qcow2(img, 0), options->backing, options->backing_format, err);
}

int vol_rebase(const struct vol_rebase_options *options, const struct vol_progress *progress,
               struct err *err)
{
    struct img *img = NULL, *below = NULL;
    struct img_options open = options->image;
    int result = 0;
    open.is_writable = true;
    open.is_alone = options->is_unsafe;
    if (options->backing[0] != '\0' && strcmp(options->backing_format, "raw") != 0 &&
        strcmp(options->backing_format, "qcow2") != 0)
        return err_set(err, -EINVAL,
                       "disk '%s': say what the backing file is: --backing-format raw, or qcow2",
                       open.path);
    if (!options->is_unsafe)
        result = open_new_backing(options, &below, err);
    if (result == 0)
        result = img_open(&img, &open, err);
    if (result == 0 && img_qcow2(img, 0) == NULL)
        result = err_set(err, -EINVAL, "disk '%s': a raw disk has no backing file", open.path);
    if (result == 0)
        result = rebase_open(options, img, below, progress, err);
    img_close(img);
    img_close(below);
    return result;
}

/* Below gets what the image holds. */
static int commit_data(struct img *img, struct img *below, const struct vol_progress *progress)
{
    struct qcow2 *q = img_qcow2(img, 0);
    u64 total = img_size(img);
    u8 *buffer = alloc_zero(COPY_BYTES);
    int result = buffer != NULL ? 0 : -ENOMEM;
    for (u64 at = 0; at < total && result == 0;) {
        struct qcow2_extent extent;
        result = qcow2_map(q, at, total - at, true, &extent);
        if (result != 0)
            break;
        u64 bytes = extent.bytes;
        if (extent.kind == QCOW2_ZEROES) {
            result = img_zero(below, at, bytes, QCOW2_UNMAP);
        } else if (extent.kind != QCOW2_ABSENT) {
            bytes = min_u64(bytes, COPY_BYTES);
            result = copy_piece(img, 0, below, at, bytes, buffer, false);
        }
        at += bytes;
        progress_tell(progress, at, total);
    }
    alloc_free(buffer);
    return result == 0 ? img_flush(below) : result;
}

static int commit_open(struct img *img, struct img *below, const struct vol_progress *progress,
                       struct err *err)
{
    struct qcow2 *q = img_qcow2(img, 0);
    int result = 0;
    if (img_size(below) < img_size(img)) {
        if (img_qcow2(below, 0) != NULL)
            result = qcow2_resize(img_qcow2(below, 0), img_size(img), err);
        else
            result = file_resize(img_file(below, 0), img_size(img));
        if (result == 0)
            img_size_changed(below);
    }
    if (result == 0)
        result = commit_data(img, below, progress);
    if (result == 0)
        result = qcow2_zero(q, 0, img_size(img), QCOW2_FORGET);
    if (result == 0)
        result = qcow2_flush(q);
    return result == 0 ? 0 : copy_failed(err, img_file(img, 0)->path, "commit", result);
}

int vol_commit(const struct img_options *options, const struct vol_progress *progress,
               struct err *err)
{
    struct img *img = NULL, *below = NULL;
    struct img_options top = *options, next = *options;
    char *path = NULL;
    top.is_writable = top.is_alone = true;
    int result = img_open(&img, &top, err);
    if (result != 0)
        return result;
    const struct qcow2_header *header = img_qcow2(img, 0) != NULL
                                            ? qcow2_header_of(img_qcow2(img, 0))
                                            : NULL;
    if (header == NULL || header->backing[0] == '\0')
        result = err_set(err, -EINVAL, "disk '%s': it has no backing file to commit to",
                         options->path);
    if (result == 0)
        result = img_backing_path(options, header->backing, &path, err);
    if (result == 0)
        result = img_backing_format(header, options->path, &next.format, err);
    next.path = path;
    next.is_writable = true;
    if (result == 0)
        result = img_open(&below, &next, err);
    if (result == 0)
        result = commit_open(img, below, progress, err);
    img_close(below);
    img_close(img);
    free(path);
    return result;
}
