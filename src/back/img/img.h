/*
 * back/img/img.h - a disk image with everything it rests on: the image that the user named, its
 * backing file, that one's backing file, and so on.
 *
 * Formats are never guessed: the user says what the first file is (or its name does, see
 * img_format_of), each header says what its backing file is. A backing file lies in the folder of
 * the image that the user named, below it, or in a folder that the user allows; and it is none that
 * the chain has already. Only the first image is ever written; the others are locked for reading.
 * Threads: as back/img/qcow2.h says; the lock of img_map is IMG's.
 */
#ifndef BACK_IMG_IMG_H
#define BACK_IMG_IMG_H

#include "back/img/qcow2.h"
#include "base/err.h"
#include "base/types.h"

struct img;
struct file_watch;

enum img_format { IMG_BY_NAME, IMG_RAW, IMG_QCOW2 };
enum { IMG_FOLDERS_MAX = 16, IMG_LINKS_MAX = 512 };

struct img_options {
    const char *path;
    enum img_format format;
    bool is_writable;
    bool is_direct;             /* past the host's page cache, where img_map's user can */
    bool is_covered;            /* writes go to a temporary file that vanishes with the process */
    bool is_alone;              /* do not open backing files */
    bool is_checked_later;      /* see qcow2_options */
    const char *data_path;      /* the external data file, if the image has one; NULL: none */
    const char *const *folders; /* where else backing files may lie; ends in NULL, or is NULL */
    const struct file_watch *watch; /* is told of changes of the first file; NULL: nobody */
};

struct img_extent {
    enum qcow2_kind kind; /* never QCOW2_ABSENT */
    u64 bytes;
    struct file *file; /* QCOW2_DATA: where, borrowed */
    u64 host;
    bool is_own;   /* QCOW2_DATA: in the first image, and may be overwritten in place */
    unsigned link; /* QCOW2_PACKED: whose */
};

/* What FORMAT means for the file at PATH: a name that ends in .qcow2 is qcow2; any other is raw,
 * unless the file starts like a qcow2 one: then the user has to say which, because a guest can make
 * a raw disk start that way. -EINVAL, or -errno when the file cannot be read. */
MUST_CHECK int img_format_of(const char *path, enum img_format format, enum img_format *ret_format,
                             struct err *err);

MUST_CHECK int img_open(struct img **ret_img, const struct img_options *options, struct err *err);
/* NULL is allowed. */
void img_close(struct img *img);

u64 img_size(const struct img *img);
unsigned img_count(const struct img *img);
/* Link 0 is the image that the user named; NULL for a raw file. */
struct qcow2 *img_qcow2(struct img *img, unsigned link);
struct file *img_file(struct img *img, unsigned link);
struct lock *img_lock(struct img *img);

/* As qcow2_map, for the disk that the links from FIRST on make up. Beyond the end of those it is
 * zeroes. */
MUST_CHECK int img_map(struct img *img, unsigned first, u64 offset, u64 bytes, bool may_load,
                       struct img_extent *ret_extent);
/* Reads the disk that the links from FIRST on make up. */
MUST_CHECK int img_read(struct img *img, unsigned first, u64 offset, void *to, u64 bytes);

/* The size of the disk that link 1 and those below make up; 0 when there is none. */
u64 img_size_below(const struct img *img);
/* Looks again how large the first image's disk is, after it has been resized. */
void img_size_changed(struct img *img);
/* The path of NAME, a backing file's name as the header of OPTIONS' image has it, if that file may
 * be opened; the caller frees it. */
MUST_CHECK int img_backing_path(const struct img_options *options, const char *name,
                                char **ret_path, struct err *err);
/* The format that HEADER, of the image at PATH, gives its backing file. */
MUST_CHECK int img_backing_format(const struct qcow2_header *header, const char *path,
                                  enum img_format *ret_format, struct err *err);

/* Changes the first image; see back/img/qcow2.h. FLAGS of enum qcow2_zero_flag. */
MUST_CHECK int img_write(struct img *img, u64 offset, const void *from, u64 bytes);
MUST_CHECK int img_zero(struct img *img, u64 offset, u64 bytes, unsigned flags);
MUST_CHECK int img_flush(struct img *img);

#endif
