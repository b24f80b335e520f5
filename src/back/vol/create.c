/*
 * back/vol/create.c - makes volumes, and changes their sizes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "back/img/file.h"
#include "back/img/qcow2_header.h"
#include "back/vol/vol.h"
#include "base/bits.h"

enum { SECTOR_BYTES = 512 };

static bool is_named_qcow2(const char *path)
{
    size_t length = strlen(path);
    return length > 6 && strcmp(path + length - 6, ".qcow2") == 0;
}

static int raw_grow(struct file *file, u64 size_bytes, enum qcow2_preallocation mode)
{
    u64 old_bytes = file->bytes;
    int result = file_resize(file, size_bytes);
    if (result != 0 || size_bytes <= old_bytes || mode < QCOW2_PREALLOC_FALLOC)
        return result;
    return mode == QCOW2_PREALLOC_FULL ? file_zero(file, old_bytes, size_bytes - old_bytes, false)
                                       : file_allocate(file, old_bytes, size_bytes - old_bytes);
}

static int size_check(u64 size_bytes, const char *path, struct err *err)
{
    if (size_bytes == 0 || size_bytes % SECTOR_BYTES != 0 || size_bytes > INT64_MAX / 2)
        return err_set(err, -EINVAL, "disk '%s': a size is a multiple of 512 bytes, and not 0",
                       path);
    return 0;
}

static int failed(struct err *err, const char *path, const char *what, int result)
{
    return err_set(err, result, "disk '%s': %s: %s%s", path, what, strerror(-result),
                   result == -EINVAL ? "; with a backing file it needs --extended-l2" : "");
}

/* The size that the new image is to have; its backing file is opened, so that what cannot be used
 * is told now. */
static int size_for_new(const struct vol_create_options *options, u64 *ret_bytes, struct err *err)
{
    struct img *img = NULL;
    struct img_options open = {
        .path = options->path, .format = IMG_QCOW2, .folders = options->folders};
    int result = img_open(&img, &open, err);
    if (result != 0)
        return result;
    *ret_bytes = options->size_bytes != 0 ? options->size_bytes : img_size_below(img);
    img_close(img);
    return size_check(*ret_bytes, options->path, err);
}

/* A new image of size 0 gets its size, without what is below: else that would be hidden, as it is
 * where a disk grows. */
static int qcow2_grow_new(const struct vol_create_options *options, struct err *err)
{
    struct img *img = NULL;
    struct img_options open = {.path = options->path,
                               .format = IMG_QCOW2,
                               .is_writable = true,
                               .is_alone = true,
                               .folders = options->folders};
    u64 size_bytes;
    int result = size_for_new(options, &size_bytes, err);
    if (result == 0)
        result = img_open(&img, &open, err);
    if (result == 0)
        result = qcow2_resize(img_qcow2(img, 0), size_bytes, err);
    img_close(img);
    if (result != 0 || options->preallocation == QCOW2_PREALLOC_OFF)
        return result;
    open.is_alone = false;
    result = img_open(&img, &open, err);
    if (result != 0)
        return result;
    result = qcow2_preallocate(img_qcow2(img, 0), 0, options->preallocation);
    img_close(img);
    return result == 0 ? 0 : failed(err, options->path, "preallocation", result);
}

int vol_create(const struct vol_create_options *options, struct err *err)
{
    struct file *file = NULL;
    bool is_qcow2 = options->format == IMG_QCOW2 ||
                    (options->format == IMG_BY_NAME && is_named_qcow2(options->path));
    if (!is_qcow2 && options->qcow2.backing != NULL)
        return err_set(err, -EINVAL, "disk '%s': a raw disk has no backing file; make a qcow2 file",
                       options->path);
    int result = is_qcow2 && options->qcow2.backing != NULL
                     ? 0
                     : size_check(options->size_bytes, options->path, err);
    if (result == 0)
        result = file_open(&file, options->path, FILE_WRITABLE | FILE_CREATE, err);
    if (result != 0)
        return result;
    if (is_qcow2) {
        result = qcow2_create(file, &options->qcow2, err);
    } else {
        result = raw_grow(file, options->size_bytes, options->preallocation);
        if (result != 0)
            err_set(err, result, "disk '%s': %s", options->path, strerror(-result));
    }
    if (result == 0 && file_sync(file) != 0)
        result = err_set(err, -EIO, "disk '%s': it could not be written", options->path);
    file_close(file);
    if (result == 0 && is_qcow2)
        result = qcow2_grow_new(options, err);
    if (result != 0)
        unlink(options->path);
    return result;
}

int vol_resize(const struct img_options *options, u64 size_bytes,
               enum qcow2_preallocation preallocation, struct err *err)
{
    struct img *img = NULL;
    int result = size_check(size_bytes, options->path, err);
    if (result == 0)
        result = img_open(&img, options, err);
    if (result != 0)
        return result;
    u64 old_bytes = img_size(img);
    if (img_qcow2(img, 0) == NULL) {
        result = raw_grow(img_file(img, 0), size_bytes, preallocation);
        if (result != 0)
            err_set(err, result, "disk '%s': resize: %s", options->path, strerror(-result));
    } else {
        result = qcow2_resize(img_qcow2(img, 0), size_bytes, err);
        if (result == 0 && size_bytes > old_bytes) {
            result = qcow2_preallocate(img_qcow2(img, 0), old_bytes, preallocation);
            if (result != 0)
                failed(err, options->path, "preallocation", result);
        }
    }
    img_close(img);
    return result;
}
