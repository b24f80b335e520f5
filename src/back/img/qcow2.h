/*
 * back/img/qcow2.h - a qcow2 file, versions 2 and 3: opened, mapped, read and written.
 *
 * What it holds is seen without its backing file: an extent that it does not hold is ABSENT, and
 * img.h goes on below it. Threads: see qcow2_priv.h; callers but the map's are one thread.
 * Trust: the file is hostile. Memory is bounded by the format's limits and the cache's; offsets are
 * checked where they are used, and what makes no sense is -EIO for who asked, never more.
 */
#ifndef BACK_IMG_QCOW2_H
#define BACK_IMG_QCOW2_H

#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"

struct file;
struct qcow2;
struct qcow2_header;

enum qcow2_kind { QCOW2_ABSENT, QCOW2_ZEROES, QCOW2_DATA, QCOW2_PACKED };

struct qcow2_extent {
    enum qcow2_kind kind;
    u64 bytes;   /* from the offset asked for; at least 1 */
    u64 host;    /* QCOW2_DATA: where, in qcow2_data_file() */
    bool is_own; /* QCOW2_DATA: may be overwritten in place */
};

enum { QCOW2_UNPACKED_COUNT = 4 };

/* A decompressed cluster. */
struct qcow2_unpacked {
    const struct qcow2 *from; /* NULL: none */
    u64 descriptor;           /* the L2 entry it came from */
    u64 last_use, bytes;
    u8 *data; /* owned */
};

/* What the images of a chain have in common, so that a long chain needs no more memory than a short
 * one. All zero is a good start. */
struct qcow2_shared {
    struct lock lock; /* guards what qcow2_map sees */
    struct qcow2_unpacked unpacked[QCOW2_UNPACKED_COUNT];
    u8 *packed; /* owned */
    u64 packed_bytes, clock;
};

void qcow2_shared_fini(struct qcow2_shared *shared);

struct qcow2_options {
    u32 cache_pages;       /* a power of two; 0: the default */
    bool is_checked_later; /* a tool that mends: refcounts may be wrong and tables damaged */
};

/* FILE, and DATA_FILE (NULL, but for images that keep their data in another file), are the image's
 * from then on, if it is opened at all. SHARED is borrowed. */
MUST_CHECK int qcow2_open(struct qcow2 **ret_qcow2, struct file *file, struct file *data_file,
                          struct qcow2_shared *shared, const struct qcow2_options *options,
                          struct err *err);
/* Writes what is in memory, if anything; NULL is allowed. */
void qcow2_close(struct qcow2 *q);

const struct qcow2_header *qcow2_header_of(const struct qcow2 *q);
u64 qcow2_size(const struct qcow2 *q);
struct file *qcow2_data_file(struct qcow2 *q);

/* What is at OFFSET, for at most BYTES. MAY_LOAD false: the lock is held, no I/O is done, and
 * -EAGAIN says that the answer is not in memory. */
MUST_CHECK int qcow2_map(struct qcow2 *q, u64 offset, u64 bytes, bool may_load,
                         struct qcow2_extent *ret_extent);
/* Reads from a compressed extent, within one cluster. */
MUST_CHECK int qcow2_read_packed(struct qcow2 *q, u64 offset, void *to, u64 bytes);

/* What lies below, for copies of parts of clusters; SIZE_BYTES 0 and no function: zeroes. */
struct qcow2_below {
    int (*read)(void *ctx, u64 offset, void *to, u64 bytes);
    void *ctx;
    u64 size_bytes;
};
void qcow2_set_below(struct qcow2 *q, const struct qcow2_below *below);

enum qcow2_zero_flag {
    QCOW2_UNMAP = 1,  /* the space may go back to the host */
    QCOW2_ADVICE = 2, /* a discard: parts of clusters may stay as they are */
    QCOW2_FORGET = 4, /* whole clusters become as if never written: what is below is seen */
};

/* All three wait for the host; -ENOSPC and -EIO leave what was there, or a part of what is new.
 * Nothing is sure to last before qcow2_flush. */
MUST_CHECK int qcow2_write(struct qcow2 *q, u64 offset, const void *from, u64 bytes);
/* Writes a whole cluster that holds nothing yet, compressed where that makes it shorter; beyond the
 * end of the disk FROM is zeroes. -EEXIST when it holds something. */
MUST_CHECK int qcow2_write_packed(struct qcow2 *q, u64 offset, const void *from);
MUST_CHECK int qcow2_zero(struct qcow2 *q, u64 offset, u64 bytes, unsigned flags);
MUST_CHECK int qcow2_flush(struct qcow2 *q);
/* Lets the header name another backing file, or none (""). Flushed when it returns. */
MUST_CHECK int qcow2_set_backing(struct qcow2 *q, const char *name, const char *format,
                                 struct err *err);
/* True when a flush has more to do than to sync the data file. The lock is held. */
bool qcow2_needs_flush(const struct qcow2 *q);

#endif
