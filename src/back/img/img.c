/*
 * back/img/img.c - where the bytes of a disk are, through all files that make it up.
 *
 * Runs   on the image's thread; img_map with MAY_LOAD false on any, under the lock.
 */
#include "back/img/img.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/img/file.h"
#include "back/img/img_priv.h"
#include "base/bits.h"

static void raw_extent(const struct link *link, u64 offset, u64 bytes,
                       struct img_extent *ret_extent)
{
    *ret_extent = (struct img_extent){.kind = QCOW2_DATA,
                                      .bytes = min_u64(bytes, link->size_bytes - offset),
                                      .file = link->file,
                                      .host = offset};
}

int img_map(struct img *img, unsigned first, u64 offset, u64 bytes, bool may_load,
            struct img_extent *ret_extent)
{
    struct qcow2_extent extent;
    for (unsigned i = first; i < img->count; i++) {
        struct link *link = &img->links[i];
        if (offset >= link->size_bytes)
            break;
        if (link->q == NULL) {
            raw_extent(link, offset, bytes, ret_extent);
            ret_extent->is_own = i == 0;
            return 0;
        }
        int result = qcow2_map(link->q, offset, bytes, may_load, &extent);
        if (result != 0)
            return result;
        bytes = extent.bytes;
        if (extent.kind == QCOW2_ABSENT)
            continue;
        *ret_extent = (struct img_extent){.kind = extent.kind,
                                          .bytes = bytes,
                                          .file = qcow2_data_file(link->q),
                                          .host = extent.host,
                                          .is_own = i == 0 && extent.is_own,
                                          .link = i};
        return 0;
    }
    *ret_extent = (struct img_extent){.kind = QCOW2_ZEROES, .bytes = bytes};
    return 0;
}

int img_read(struct img *img, unsigned first, u64 offset, void *to, u64 bytes)
{
    struct img_extent extent;
    u8 *at = to;
    while (bytes > 0) {
        int result = img_map(img, first, offset, bytes, true, &extent);
        u64 run = extent.bytes;
        if (result != 0)
            return result;
        if (extent.kind == QCOW2_ZEROES) {
            memset(at, 0, run);
        } else if (extent.kind == QCOW2_DATA) {
            result = file_read(extent.file, extent.host, at, run);
        } else {
            struct qcow2 *q = img->links[extent.link].q;
            u64 cluster_bytes = BIT(qcow2_header_of(q)->cluster_bits);
            run = min_u64(run, cluster_bytes - (offset & (cluster_bytes - 1)));
            result = qcow2_read_packed(q, offset, at, run);
        }
        if (result != 0)
            return result;
        at += run;
        offset += run;
        bytes -= run;
    }
    return 0;
}

u64 img_size_below(const struct img *img)
{
    return img->count > 1 ? img->links[1].size_bytes : 0;
}

void img_size_changed(struct img *img)
{
    struct link *link = &img->links[0];
    link->size_bytes = link->q != NULL ? qcow2_size(link->q) : link->file->bytes;
}

int img_backing_path(const struct img_options *options, const char *name, char **ret_path,
                     struct err *err)
{
    char *path = NULL, *real = NULL;
    int result = img_path_resolve(&path, options->path, name, err);
    if (result == 0)
        result = img_path_allow(&real, path, options, err);
    free(path);
    if (result == 0)
        *ret_path = real;
    return result;
}

static bool is_within(const struct img *img, u64 offset, u64 bytes)
{
    return offset <= img->links[0].size_bytes && bytes <= img->links[0].size_bytes - offset;
}

int img_write(struct img *img, u64 offset, const void *from, u64 bytes)
{
    struct link *link = &img->links[0];
    if (link->q != NULL)
        return qcow2_write(link->q, offset, from, bytes);
    if (link->file->read_only)
        return -EROFS;
    return is_within(img, offset, bytes) ? file_write(link->file, offset, from, bytes) : -EINVAL;
}

int img_zero(struct img *img, u64 offset, u64 bytes, unsigned flags)
{
    struct link *link = &img->links[0];
    if (link->q != NULL)
        return qcow2_zero(link->q, offset, bytes, flags);
    if (link->file->read_only)
        return -EROFS;
    if (!is_within(img, offset, bytes))
        return -EINVAL;
    return file_zero(link->file, offset, bytes, (flags & (QCOW2_UNMAP | QCOW2_ADVICE)) != 0);
}

int img_flush(struct img *img)
{
    struct link *link = &img->links[0];
    if (link->q != NULL)
        return qcow2_flush(link->q);
    return link->file->read_only ? 0 : file_sync(link->file);
}
