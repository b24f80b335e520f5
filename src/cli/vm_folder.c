/*
 * cli/vm_folder.c - where the sockets of this user's running VMs are.
 *
 * Runs   on the main thread.
 * Trust  /tmp belongs to everybody: a folder there is used only if it is ours and nobody else's.
 */
#include "cli/vm_folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fmt.h"
#include "host/fd.h"

static int folder_check(const char *path, bool makes, struct err *err)
{
    struct stat info;

    if (makes && mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_set(err, -errno, "folder '%s': %s", path, strerror(errno));
    if (lstat(path, &info) != 0)
        return err_set(err, -errno, "folder '%s': %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 022) != 0)
        return err_set(err, -EPERM,
                       "folder '%s' is not yours alone: remove it, or set XDG_RUNTIME_DIR", path);
    return 0;
}

int vm_folder_screen(const char *name, bool makes, char ret_path[VM_FOLDER_PATH_BYTES],
                     struct err *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[VM_FOLDER_PATH_BYTES];
    size_t used;

    if (runtime != NULL && runtime[0] == '/')
        used = fmt_text(folder, sizeof(folder), "%s/atoll", runtime);
    else
        used = fmt_text(folder, sizeof(folder), "/tmp/atoll-%u", (unsigned)geteuid());
    if (used >= sizeof(folder) || strchr(name, '/') != NULL ||
        fmt_text(ret_path, VM_FOLDER_PATH_BYTES, "%s/%s/screen.sock", folder, name) >=
            VM_FOLDER_PATH_BYTES)
        return err_set(err, -ENAMETOOLONG, "VM '%.64s': no name for a socket", name);
    int r = folder_check(folder, makes, makes ? err : NULL);
    if (r == 0) {
        fmt_text(folder + used, sizeof(folder) - used, "/%s", name);
        r = folder_check(folder, makes, makes ? err : NULL);
    }
    int fd = r == 0 && makes ? fd_connect(ret_path, NULL) : -1;
    if (fd >= 0) {
        fd_close(&fd);
        return err_set(
            err, -EBUSY,
            "a VM '%s' with a screen runs already; give this one another name with --name", name);
    }
    if (r < 0 && !makes)
        err_set(err, r,
                "no VM '%s' with a screen runs here; start one with 'atoll run --name %s --display "
                "vga ...'",
                name, name);
    return r;
}
