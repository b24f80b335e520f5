/*
 * agent/initrd.c - the init of the initial RAM disk: modules, root file system, the real init.
 *
 * The kernel's own module loader does the work: /modules/ holds the files in the order in which
 * they must be loaded, named 00.ko, 01.ko and so on. A full-size initial RAM disk brings udev and a
 * shell for the same three steps, and takes seconds where the guest's processor is a translated
 * one. Runs   as process 1.
 */
#include "agent/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MODULES_MAX = 100, WAIT_STEPS = 1000, STEP_US = 10000, COMMAND_LINE_BYTES = 4096 };

/* A line on the console, and nothing more to do: the kernel panics when process 1 returns. */
static void __attribute__((noreturn)) give_up(const char *what, const char *name)
{
    fprintf(stderr, "initrd: %s %s: %s\n", what, name, strerror(errno));
    fflush(stderr);
    _exit(1);
}

static void load_modules(void)
{
    for (unsigned i = 0; i < MODULES_MAX; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/modules/%02u.ko", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        /* One that does not fit this machine (a faster checksum, say) is not missed. */
        if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != ENODEV && errno != EEXIST)
            fprintf(stderr, "initrd: module %s: %s\n", path, strerror(errno));
        close(fd);
        unlink(path); /* its memory is the RAM disk's */
    }
}

/* The value of KEY= in the kernel's command line, or FALLBACK. */
static const char *option(char *line, const char *key, const char *fallback, char *value,
                          size_t bytes)
{
    size_t length = strlen(key);
    const char *found = NULL;
    for (const char *at = line; (at = strstr(at, key)) != NULL; at += length) {
        if (at == line || at[-1] == ' ')
            found = at + length;
    }
    snprintf(value, bytes, "%.*s", found != NULL ? (int)strcspn(found, " \n") : 100,
             found != NULL ? found : fallback);
    return value;
}

static bool has_word(const char *line, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = line; (at = strstr(at, word)) != NULL; at += length) {
        if ((at == line || at[-1] == ' ') && strchr(" \n", at[length]) != NULL)
            return true;
    }
    return false;
}

static void mount_root(char *line)
{
    char device[128], type[32];
    option(line, "root=", "/dev/vda", device, sizeof(device));
    option(line, "rootfstype=", "ext4", type, sizeof(type));
    for (unsigned i = 0; i < WAIT_STEPS && access(device, F_OK) != 0; i++)
        usleep(STEP_US);
    unsigned long flags = has_word(line, "rw") ? 0 : MS_RDONLY;
    if (mount(device, "/root", type, flags, "") != 0 &&
        (errno != EROFS || mount(device, "/root", type, MS_RDONLY, "") != 0))
        give_up("mounting the root file system", device);
}

void initrd_main(void)
{
    static const char *const kept[] = {"/dev", "/proc", "/sys"};
    char line[COMMAND_LINE_BYTES] = "", init[128], target[32];

    if (access("/modules", F_OK) != 0)
        return;
    if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") != 0 && errno != EBUSY)
        give_up("mounting", "/dev");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "") != 0 ||
        mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "") != 0)
        give_up("mounting", "/proc and /sys");
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, line, sizeof(line) - 1) : 0;
    close(fd);
    line[got > 0 ? got : 0] = '\0';
    load_modules();
    mount_root(line);
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        snprintf(target, sizeof(target), "/root%s", kept[i]);
        if (mount(kept[i], target, NULL, MS_MOVE, NULL) != 0)
            umount2(kept[i], MNT_DETACH);
    }
    unlink("/init");
    if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0)
        give_up("moving to", "the root file system");
    option(line, "init=", "/sbin/init", init, sizeof(init));
    char *const arguments[] = {init, NULL};
    execv(init, arguments);
    give_up("starting", init);
}
