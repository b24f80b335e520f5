/*
 * back/img/file.h - one host file or block device of a disk image: opened, locked, measured, and
 * read and written with blocking calls.
 *
 * Threads: one at a time. Every host call can be made to fail by host/fault.h, and a watcher can be
 * told of everything that changes the file, in the order in which it happened.
 */
#ifndef BACK_IMG_FILE_H
#define BACK_IMG_FILE_H

#include "base/err.h"
#include "base/types.h"

/* What one thread sets and another looks at without the lock: flags and sizes by themselves, whose
 * order with anything else does not matter, or is kept by how requests are handed over. */
#define shared_set(to, value) __atomic_store_n((to), (value), __ATOMIC_RELEASE)
#define shared_get(from) __atomic_load_n((from), __ATOMIC_ACQUIRE)

enum file_event { FILE_WROTE, FILE_ZEROED /* or punched */, FILE_RESIZED, FILE_SYNCED };

/* Told after the call has succeeded. DATA is NULL but for FILE_WROTE; a resize's OFFSET is the new
 * size. */
struct file_watch {
    void (*note)(void *ctx, enum file_event event, u64 offset, const void *data, u64 bytes);
    void *ctx;
};

struct file {
    int fd;        /* owned */
    int direct_fd; /* owned; the same file past the page cache, -1: none */
    char *path;    /* owned: as it was opened, for messages */
    u64 device, inode;
    u64 bytes; /* the file's size, kept up to date by what is done here; shared_get elsewhere */
    bool read_only, is_device;
    bool sync_failed;               /* what the host lost then cannot be flushed any more */
    const struct file_watch *watch; /* borrowed; NULL: nobody */
};

enum file_flag { FILE_WRITABLE = 1, FILE_DIRECT = 2, FILE_CREATE = 4 /* must not be there yet */ };

/* Opens and locks: a writer exclusively, a reader shared. FLAGS of enum file_flag. */
MUST_CHECK int file_open(struct file **ret_file, const char *path, unsigned flags, struct err *err);
/* Makes a file without a name that vanishes with the process. */
MUST_CHECK int file_open_temporary(struct file **ret_file, struct err *err);
/* NULL is allowed. */
void file_close(struct file *file);
/* Takes the lock that says who uses an image; -EBUSY when another process holds it. */
MUST_CHECK int file_lock(int fd, const char *path, bool is_writer, struct err *err);

/* 0 or -errno. Reading past the end gives zeroes. */
MUST_CHECK int file_read(struct file *file, u64 offset, void *to, u64 bytes);
MUST_CHECK int file_write(struct file *file, u64 offset, const void *from, u64 bytes);
/* Makes the bytes zero, as a hole if MAY_PUNCH; grows the file if they lie beyond its end. */
MUST_CHECK int file_zero(struct file *file, u64 offset, u64 bytes, bool may_punch);
/* Gives the bytes' space back where the host can; advice only. */
void file_punch(struct file *file, u64 offset, u64 bytes);
MUST_CHECK int file_resize(struct file *file, u64 bytes);
/* Gets space for the bytes, which may lie beyond the end, from the host. */
MUST_CHECK int file_allocate(struct file *file, u64 offset, u64 bytes);
MUST_CHECK int file_sync(struct file *file);
/* How many bytes from OFFSET on are a hole; 0 when there is data, or nobody knows. */
u64 file_hole(struct file *file, u64 offset);

#endif
