/*
 * vm/kernel.c - reads kernel and initrd, and boots the machine with them.
 *
 * Runs   on the loop's thread, while no vCPU runs.
 * Trust  files may be anything; machine/boot.h checks their contents.
 */
#include "vm/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "back/entropy/getrandom.h"
#include "host/fd.h"
#include "machine/machine.h"
#include "vm/config.h"

#define FILE_MAX_BYTES (64ull << 30)

int kernel_file_read(const char *path, const char *what, struct map *ret_map, u64 *ret_bytes,
                     struct err *err)
{
    struct map map = {.fd = -1};
    struct stat status;
    s64 got = 0;

    /* O_NONBLOCK: a pipe without a writer must not hang the start. */
    int fd = fd_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, fd, "%s '%s': %s", what, path, strerror(-fd));
    int r = fstat(fd, &status) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(status.st_mode))
        r = err_set(err, -EINVAL, "%s '%s': is not a regular file", what, path);
    else if (r == 0 && (u64)status.st_size > FILE_MAX_BYTES)
        r = err_set(err, -EFBIG, "%s '%s': is larger than 64 GiB", what, path);
    else if (r < 0)
        err_set(err, r, "%s '%s': %s", what, path, strerror(-r));
    if (r == 0 && status.st_size > 0) {
        r = map_init(&map, (size_t)status.st_size, 0, err);
        if (r == 0)
            got = fd_read(fd, map.base, (size_t)status.st_size);
        if (r == 0 && got < 0)
            r = err_set(err, (int)got, "%s '%s': %s", what, path, strerror((int)-got));
    }
    fd_close(&fd);
    if (r < 0) {
        map_fini(&map);
        return r;
    }
    *ret_map = map;
    *ret_bytes = (u64)got;
    return 0;
}

int kernel_boot(struct machine *machine, const struct config *config, struct err *err)
{
    struct map kernel = {.fd = -1}, initrd = {.fd = -1};
    u64 kernel_bytes = 0, initrd_bytes = 0;
    u8 seed[BOOT_SEED_MAX_BYTES];

    if (!config->kernel) {
        const struct boot_request none = {.command_line = ""};
        return machine_boot(machine, &none, err);
    }
    entropy_fill(entropy_getrandom(), seed, sizeof(seed));
    int r = kernel_file_read(config->kernel, "kernel", &kernel, &kernel_bytes, err);
    if (r == 0 && config->initrd)
        r = kernel_file_read(config->initrd, "initrd", &initrd, &initrd_bytes, err);
    if (r == 0) {
        const struct boot_request request = {.kernel = {.data = kernel.base, .bytes = kernel_bytes},
                                             .initrd = {.data = initrd.base, .bytes = initrd_bytes},
                                             .command_line = config->append,
                                             .seed = {.data = seed, .bytes = sizeof(seed)}};
        r = machine_boot(machine, &request, err);
        if (r < 0 && r != -ENOSPC)
            err_prefix(err, "kernel '%s'", config->kernel);
    }
    map_fini(&kernel);
    map_fini(&initrd);
    return r;
}
