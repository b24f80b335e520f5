/*
 * back/img/img_open.c - finds and opens all files of an image.
 *
 * First every file is found, opened and locked, and every header read; then, when the length of the
 * chain is known, each gets its share of the memory.
 * Trust  all files but the first are named by a hostile header.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "back/img/file.h"
#include "back/img/img_priv.h"
#include "back/img/qcow2_create.h"
#include "base/alloc.h"
#include "host/fd.h"

enum { CACHE_PAGES_FIRST = 2048, CACHE_PAGES_REST = 2048, CACHE_PAGES_MIN = 4 };
enum { SECTOR_BYTES = 512 };
enum { L1_BYTES_MAX = 32 << 20 /* of all links */ };

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

int img_format_of(const char *path, enum img_format format, enum img_format *ret_format,
                  struct err *err)
{
    u8 start[8] = {0};
    if (format != IMG_BY_NAME || ends_with(path, ".qcow2")) {
        *ret_format = format == IMG_RAW ? IMG_RAW : IMG_QCOW2;
        return 0;
    }
    int fd = fd_open(path, O_RDONLY | O_NONBLOCK, 0);
    s64 got = fd < 0 ? fd : fd_pread(fd, start, sizeof(start), 0);
    fd_close(&fd);
    if (got < 0)
        return err_set(err, (int)got, "disk '%s': %s; check the path and the file's mode", path,
                       strerror((int)-got));
    if (qcow2_header_is(start, sizeof(start)) && !ends_with(path, ".raw"))
        return err_set(err, -EINVAL,
                       "disk '%s': this looks like a qcow2 file, but its name does not say so, and "
                       "a guest can make a raw disk look that way; say format=qcow2 or format=raw "
                       "(atoll vol: --type or --from)",
                       path);
    *ret_format = IMG_RAW;
    return 0;
}

u64 img_size(const struct img *img)
{
    return img->links[0].size_bytes;
}

unsigned img_count(const struct img *img)
{
    return img->count;
}

struct qcow2 *img_qcow2(struct img *img, unsigned link)
{
    return img->links[link].q;
}

struct file *img_file(struct img *img, unsigned link)
{
    return img->links[link].file;
}

struct lock *img_lock(struct img *img)
{
    return &img->shared.lock;
}

int img_backing_format(const struct qcow2_header *header, const char *path,
                       enum img_format *ret_format, struct err *err)
{
    if (strcmp(header->backing_format, "raw") == 0 ||
        strcmp(header->backing_format, "host_device") == 0)
        *ret_format = IMG_RAW;
    else if (strcmp(header->backing_format, "qcow2") == 0)
        *ret_format = IMG_QCOW2;
    else if (header->backing_format[0] == '\0')
        return err_set(err, -EINVAL,
                       "disk '%s': its header does not say what format its backing file '%.100s' "
                       "has; say it once with: atoll vol rebase --unsafe --backing '%.100s' "
                       "--backing-format raw (or qcow2) '%.100s'",
                       path, header->backing, header->backing, path);
    else
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s': its backing file has the format '%s'; raw and qcow2 are known "
                       "here",
                       path, header->backing_format);
    return 0;
}

static int check_new(const struct img *img, const struct file *file, struct err *err)
{
    for (unsigned i = 0; i < img->count; i++) {
        const struct file *other = img->links[i].file;
        if (other->device == file->device && other->inode == file->inode)
            return err_set(err, -ELOOP,
                           "disk '%s': the chain of backing files comes back to '%s'; name another "
                           "one with 'atoll vol rebase --unsafe'",
                           img->links[img->count - 1].file->path, file->path);
    }
    return 0;
}

static int add_link(struct img *img, struct file *file, struct err *err)
{
    struct link *links = img->count < IMG_LINKS_MAX
                             ? realloc(img->links, (img->count + 1) * sizeof(*links))
                             : NULL;
    if (links == NULL)
        return img->count == IMG_LINKS_MAX
                   ? err_set(err, -E2BIG,
                             "disk '%s': more than %u backing files; make the chain shorter with "
                             "'atoll vol commit' or 'rebase'",
                             img->links[0].file->path, IMG_LINKS_MAX)
                   : err_set(err, -ENOMEM, "disk: out of memory");
    img->links = links;
    img->links[img->count++] = (struct link){.file = file,
                                             .size_bytes = align_up(file->bytes, SECTOR_BYTES)};
    return 0;
}

static int open_backing(struct img *img, const struct qcow2_header *header,
                        const struct img_options *options, struct err *err)
{
    const struct file *image = img->links[img->count - 1].file;
    struct file *file = NULL;
    char *path = NULL, *real = NULL;
    int result = img_path_resolve(&path, image->path, header->backing, err);
    if (result == 0)
        result = img_path_allow(&real, path, options, err);
    if (result == 0)
        result = file_open(&file, real, options->is_direct ? FILE_DIRECT : 0, err);
    if (result == 0) {
        /* The next name is relative to this one as it is written, not to where a link leads. */
        free(file->path);
        file->path = path;
        path = NULL;
        result = check_new(img, file, err);
    }
    if (result == 0)
        result = add_link(img, file, err);
    if (result != 0)
        file_close(file);
    free(path);
    free(real);
    return result;
}

static int open_data_file(struct link *link, const struct qcow2_header *header,
                          const struct img_options *options, struct err *err)
{
    unsigned flags = link->file->read_only ? 0 : FILE_WRITABLE;
    if ((header->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE) == 0)
        return 0;
    if (options->data_path == NULL)
        return err_set(err, -EACCES,
                       "disk '%s': the image keeps its data in another file%s%.200s%s, which is "
                       "opened only if you name it: add ',data=FILE'",
                       link->file->path, header->data_file[0] != '\0' ? " ('" : "",
                       header->data_file, header->data_file[0] != '\0' ? "')" : "");
    return file_open(&link->data_file, options->data_path,
                     flags | (options->is_direct ? FILE_DIRECT : 0), err);
}

static int find_files(struct img *img, const struct img_options *options, enum img_format format,
                      struct err *err)
{
    u64 l1_bytes = 0;
    struct qcow2_header *header = new0(struct qcow2_header);
    int result = header != NULL ? 0 : err_set(err, -ENOMEM, "disk: out of memory");
    while (result == 0 && format == IMG_QCOW2) {
        struct link *link = &img->links[img->count - 1];
        result = qcow2_header_read(header, link->file, err);
        l1_bytes += (u64)header->l1_count * 8;
        if (result == 0 && l1_bytes > L1_BYTES_MAX)
            result = err_set(
                err, -E2BIG,
                "disk '%s': the L1 tables of its chain take more than 32 MiB; make the "
                "chain shorter with 'atoll vol commit'",
                options->path);
        if (result == 0 && img->count == 1)
            result = open_data_file(link, header, options, err);
        link->size_bytes = UINT64_MAX; /* qcow2, to be opened */
        if (result != 0 || header->backing[0] == '\0' || options->is_alone)
            break;
        result = img_backing_format(header, link->file->path, &format, err);
        if (result == 0)
            result = open_backing(img, header, options, err);
    }
    alloc_free(header);
    return result;
}

static int read_below(void *ctx, u64 offset, void *to, u64 bytes)
{
    return img_read(ctx, 1, offset, to, bytes);
}

static int open_images(struct img *img, const struct img_options *options, struct err *err)
{
    u32 pages_rest = CACHE_PAGES_REST;
    while (pages_rest > CACHE_PAGES_MIN && pages_rest * (img->count - 1) > CACHE_PAGES_REST)
        pages_rest /= 2;
    for (unsigned i = 0; i < img->count; i++) {
        struct link *link = &img->links[i];
        struct qcow2_options own = {.cache_pages = i == 0 ? CACHE_PAGES_FIRST : pages_rest,
                                    .is_checked_later = options->is_checked_later};
        if (link->size_bytes != UINT64_MAX)
            continue;
        int result = qcow2_open(&link->q, link->file, link->data_file, &img->shared, &own, err);
        if (result != 0)
            return result;
        link->size_bytes = qcow2_size(link->q);
    }
    return 0;
}

static void set_below(struct img *img)
{
    const struct qcow2_below below = {.read = read_below,
                                      .ctx = img,
                                      .size_bytes = img->count > 1 ? img->links[1].size_bytes : 0};
    if (img->links[0].q != NULL)
        qcow2_set_below(img->links[0].q, &below);
}

/* Puts a temporary, empty image on top of the others. */
static int cover(struct img *img, struct err *err)
{
    static const struct qcow2_create_options create = {
        .version = 3, .cluster_bits = 16, .refcount_order = 4};
    static const struct qcow2_options own = {.cache_pages = CACHE_PAGES_FIRST};
    u64 size_bytes = img->links[0].size_bytes;
    struct file *file = NULL;
    int result = file_open_temporary(&file, err);
    if (result == 0)
        result = qcow2_create(file, &create, err);
    if (result == 0)
        result = add_link(img, file, err);
    if (result != 0) {
        file_close(file);
        return result;
    }
    struct link top = img->links[img->count - 1];
    memmove(&img->links[1], &img->links[0], (img->count - 1) * sizeof(top));
    img->links[0] = top;
    result = qcow2_open(&img->links[0].q, file, NULL, &img->shared, &own, err);
    /* Nothing is below yet, so there is nothing to hide. */
    if (result == 0)
        result = qcow2_resize(img->links[0].q, size_bytes, err);
    img->links[0].size_bytes = size_bytes;
    return result;
}

int img_open(struct img **ret_img, const struct img_options *options, struct err *err)
{
    unsigned flags = (options->is_writable && !options->is_covered ? FILE_WRITABLE : 0) |
                     (options->is_direct ? FILE_DIRECT : 0);
    enum img_format format = options->format;
    struct file *file = NULL;
    struct img *img = new0(struct img);
    if (img == NULL)
        return err_set(err, -ENOMEM, "disk '%s': out of memory", options->path);
    int result = img_format_of(options->path, options->format, &format, err);
    if (result == 0)
        result = file_open(&file, options->path, flags, err);
    if (result == 0)
        result = add_link(img, file, err);
    if (result == 0) {
        file->watch = options->watch;
        result = find_files(img, options, format, err);
    } else {
        file_close(file);
    }
    if (result == 0)
        result = open_images(img, options, err);
    if (result == 0 && options->is_covered)
        result = cover(img, err);
    if (result == 0)
        set_below(img);
    if (result != 0) {
        img_close(img);
        return result;
    }
    *ret_img = img;
    return 0;
}

void img_close(struct img *img)
{
    if (img == NULL)
        return;
    for (unsigned i = 0; i < img->count; i++) {
        struct link *link = &img->links[i];
        if (link->q != NULL) {
            qcow2_close(link->q);
        } else {
            file_close(link->data_file);
            file_close(link->file);
        }
    }
    qcow2_shared_fini(&img->shared);
    free(img->links);
    alloc_free(img);
}
