/*
 * cli/cpio.c - an initial RAM disk in the "newc" format.
 *
 * Spec   Linux Documentation/driver-api/early-userspace/buffer-format.rst
 * Runs   on the main thread.
 *
 *   110 bytes   "070701" and 13 fields of 8 hexadecimal digits
 *   name        with its NUL, then zeroes up to a multiple of 4 from the header's start
 *   contents    then zeroes up to a multiple of 4
 */
#include "cli/cpio.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { HEADER_BYTES = 110, COPY_BYTES = 65536 };

struct entry {
    const char *name;
    u32 mode, bytes, device_major, device_minor;
};

static void pad(struct cpio *cpio, size_t bytes)
{
    static const char zeroes[4];
    fwrite(zeroes, 1, (4 - bytes % 4) % 4, cpio->file);
}

static void put_header(struct cpio *cpio, const struct entry *entry)
{
    size_t name_bytes = strlen(entry->name) + 1;
    cpio->entry_count++;
    fprintf(cpio->file, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
            cpio->entry_count, entry->mode, 0, 0, S_ISDIR(entry->mode) ? 2 : 1, 0, entry->bytes, 0,
            0, entry->device_major, entry->device_minor, (unsigned)name_bytes, 0);
    fwrite(entry->name, 1, name_bytes, cpio->file);
    pad(cpio, HEADER_BYTES + name_bytes);
}

void cpio_folder(struct cpio *cpio, const char *name)
{
    put_header(cpio, &(struct entry){.name = name, .mode = S_IFDIR | 0755});
}

void cpio_device(struct cpio *cpio, const char *name, u32 major, u32 minor)
{
    put_header(cpio, &(struct entry){.name = name,
                                     .mode = S_IFCHR | 0600,
                                     .device_major = major,
                                     .device_minor = minor});
}

int cpio_file(struct cpio *cpio, const char *name, const char *path)
{
    static char buffer[COPY_BYTES];
    struct stat info;
    FILE *from = fopen(path, "re");

    if (from == NULL || fstat(fileno(from), &info) != 0 || info.st_size > INT32_MAX) {
        int code = from == NULL ? -errno : -EFBIG;
        if (from != NULL)
            fclose(from);
        return code;
    }
    u32 left = (u32)info.st_size;
    put_header(cpio, &(struct entry){.name = name, .mode = S_IFREG | 0755, .bytes = left});
    while (left > 0) {
        size_t got = fread(buffer, 1, left < sizeof(buffer) ? left : sizeof(buffer), from);
        if (got == 0) {
            fclose(from);
            return -EIO; /* it has become shorter */
        }
        fwrite(buffer, 1, got, cpio->file);
        left -= (u32)got;
    }
    fclose(from);
    pad(cpio, (size_t)info.st_size);
    return 0;
}

void cpio_end(struct cpio *cpio)
{
    put_header(cpio, &(struct entry){.name = "TRAILER!!!"});
    fflush(cpio->file);
}
