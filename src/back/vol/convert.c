/*
 * back/vol/convert.c - copies what a disk shows into a new image.
 *
 * What the source's tables or the host's file system know to be a hole is not read; what is read
 * and turns out to be zeroes is not written.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "back/img/file.h"
#include "back/img/qcow2_header.h"
#include "back/vol/copy.h"
#include "base/alloc.h"
#include "base/bits.h"

enum { ZERO_UNIT_BYTES = 65536 };

void progress_tell(const struct vol_progress *progress, u64 done_bytes, u64 total_bytes)
{
    if (progress != NULL && progress->tell != NULL)
        progress->tell(progress->ctx, done_bytes, total_bytes);
}

int copy_failed(struct err *err, const char *path, const char *what, int result)
{
    return err_set(err, result, "disk '%s': %s: %s", path, what, strerror(-result));
}

static bool is_zero(const u8 *data, u64 bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

int copy_piece(struct img *from, unsigned first, struct img *to, u64 offset, u64 bytes, u8 *buffer,
               bool to_is_zero)
{
    int result = img_read(from, first, offset, buffer, bytes);
    for (u64 at = 0; at < bytes && result == 0;) {
        u64 run = min_u64(ZERO_UNIT_BYTES, bytes - at);
        bool zero = is_zero(buffer + at, run);
        while (at + run < bytes) {
            u64 next = min_u64(ZERO_UNIT_BYTES, bytes - at - run);
            if (is_zero(buffer + at + run, next) != zero)
                break;
            run += next;
        }
        if (!zero)
            result = img_write(to, offset + at, buffer + at, run);
        else if (!to_is_zero)
            result = img_zero(to, offset + at, run, QCOW2_UNMAP);
        at += run;
    }
    return result;
}

/* How many bytes from OFFSET on are known to be zeroes without reading them. */
static int known_zeroes(struct img *img, u64 offset, u64 *ret_zero_bytes, u64 *ret_bytes)
{
    struct img_extent extent;
    int result = img_map(img, 0, offset, img_size(img) - offset, true, &extent);
    if (result != 0)
        return result;
    *ret_bytes = extent.bytes;
    *ret_zero_bytes = extent.kind == QCOW2_ZEROES ? extent.bytes : 0;
    if (extent.kind == QCOW2_DATA)
        *ret_zero_bytes = min_u64(file_hole(extent.file, extent.host), extent.bytes);
    return 0;
}

/* The clusters of a piece that starts with one, compressed. */
static int pack_piece(struct img *from, struct img *to, u64 offset, u64 bytes, u8 *buffer)
{
    struct qcow2 *q = img_qcow2(to, 0);
    u64 cluster_bytes = BIT(qcow2_header_of(q)->cluster_bits);
    int result = img_read(from, 0, offset, buffer, bytes);
    memset(buffer + bytes, 0, align_up(bytes, cluster_bytes) - bytes);
    for (u64 at = 0; at < bytes && result == 0; at += cluster_bytes) {
        if (!is_zero(buffer + at, cluster_bytes))
            result = qcow2_write_packed(q, offset + at, buffer + at);
    }
    return result;
}

static int copy_all(struct img *from, struct img *to, bool is_packed,
                    const struct vol_progress *progress)
{
    /* A multiple of every cluster size. */
    enum { PACK_BYTES = 2 << 20 };
    u8 *buffer = alloc_zero(PACK_BYTES);
    u64 total = img_size(from), zero_bytes = 0, bytes = 0;
    int result = buffer != NULL ? 0 : -ENOMEM;
    for (u64 at = 0; at < total && result == 0;) {
        result = known_zeroes(from, at, &zero_bytes, &bytes);
        if (is_packed)
            zero_bytes = align_down(zero_bytes, PACK_BYTES);
        if (result == 0 && zero_bytes == 0 && is_packed) {
            bytes = min_u64(PACK_BYTES, total - at);
            result = pack_piece(from, to, at, bytes, buffer);
        } else if (result == 0 && zero_bytes == 0) {
            bytes = min_u64(COPY_BYTES - (at & (COPY_BYTES - 1)), total - at);
            result = copy_piece(from, 0, to, at, bytes, buffer, true);
        } else {
            bytes = zero_bytes;
        }
        at += bytes;
        progress_tell(progress, at, total);
    }
    alloc_free(buffer);
    return result == 0 ? img_flush(to) : result;
}

int vol_convert(const struct vol_convert_options *options, const struct vol_progress *progress,
                struct err *err)
{
    struct img *from = NULL, *to = NULL;
    struct vol_create_options create = options->target;
    struct img_options open = {.path = create.path, .is_writable = true};
    int result = img_open(&from, &options->source, err);
    if (result != 0)
        return result;
    create.size_bytes = img_size(from);
    result = vol_create(&create, err);
    if (result != 0) {
        img_close(from);
        return result;
    }
    /* A raw file may be called anything, for we have just made it. */
    result = img_format_of(create.path, create.format, &open.format, err);
    if (result == 0)
        result = img_open(&to, &open, err);
    if (result == 0 && options->is_packed && img_qcow2(to, 0) == NULL)
        result = err_set(err, -EINVAL, "disk '%s': a raw disk cannot be compressed; write qcow2",
                         create.path);
    if (result == 0) {
        result = copy_all(from, to, options->is_packed, progress);
        if (result != 0)
            copy_failed(err, options->source.path, "copy", result);
    }
    img_close(to);
    img_close(from);
    if (result != 0)
        unlink(create.path);
    return result;
}
