/*
 * cli/image_build.c - making an image from the distribution's own packages.
 *
 * mmdebstrap installs the packages, as root or in a user namespace; the script debian_12.sh, its
 * hook, sets the system up and makes the disk. The work is done in a temporary folder that the
 * namespace's users can reach, and the result is copied to the image's folder. Runs   on the main
 * thread. Trust  packages are checked by apt with the distribution's keys.
 */
#include "cli/image_build.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "cli/cpio.h"
#include "cli/debian_12.h"
#include "cli/image_store.h"
#include "cli/size.h"
#include "cli/sources.h"
#include "host/fd.h"
#include "host/spawn.h"

enum { SOURCES_BYTES = 8192, FILE_BYTES = IMAGE_PATH_BYTES + 64, MODULES_MAX = 100 };

#define RELEASE "bookworm"
#define DISK_DEFAULT_BYTES (8ull << 30)
#define DISK_MIN_BYTES (1ull << 30)

static const char base_packages[] =
    "linux-image-cloud-amd64,systemd-sysv,systemd-resolved,udev,dbus,kmod,iproute2,iputils-ping,"
    "curl,ca-certificates,procps,netbase,less";

struct build {
    const struct image_build_options *options;
    char parent[256];             /* a temporary folder that nobody else can list */
    char work[288];               /* the folder in it where the hook works */
    char fresh[IMAGE_PATH_BYTES]; /* the new image until it is whole */
    char final[IMAGE_PATH_BYTES];
    u64 start_ns;
};

int image_build_parse(struct image_build_options *ret_options, const char *const *argv,
                      struct err *err)
{
    *ret_options = (struct image_build_options){.disk_bytes = DISK_DEFAULT_BYTES};
    for (; *argv != NULL; argv++) {
        bool has_value = strcmp(*argv, "--mirror") == 0 || strcmp(*argv, "--size") == 0 ||
                         strcmp(*argv, "--include") == 0;
        if (has_value && argv[1] == NULL)
            return err_set(err, -EINVAL, "%s needs a value", *argv);
        if (strcmp(*argv, "--force") == 0)
            ret_options->is_forced = true;
        else if (strcmp(*argv, "--mirror") == 0)
            ret_options->mirror = *++argv;
        else if (strcmp(*argv, "--include") == 0)
            ret_options->packages = *++argv;
        else if (has_value && (size_parse(*++argv, &ret_options->disk_bytes) != 0 ||
                               ret_options->disk_bytes < DISK_MIN_BYTES))
            return err_set(err, -EINVAL, "--size '%s': give a size of at least 1G, like 8G", *argv);
        else if (!has_value && (*argv)[0] == '-')
            return err_set(err, -EINVAL,
                           "unknown option '%s'; 'atoll image build' takes --force --mirror URL "
                           "--size SIZE --include PACKAGE[,PACKAGE]",
                           *argv);
        else if (!has_value && ret_options->name != NULL)
            return err_set(err, -EINVAL, "one image at a time: '%s' or '%s'", ret_options->name,
                           *argv);
        else if (!has_value)
            ret_options->name = *argv;
    }
    if (ret_options->name == NULL || strcmp(ret_options->name, "debian/12") != 0)
        return err_set(err, -EINVAL, "'%s' cannot be built; what can is debian/12",
                       ret_options->name != NULL ? ret_options->name : "");
    return 0;
}

/* Runs ARGV to its end, its output on our standard error; IN_FD is its input, -1 for none. */
static int run_tool(const char *const *argv, int in_fd, struct err *err)
{
    int null_fd = in_fd >= 0 ? -1 : fd_open("/dev/null", O_RDONLY, 0);
    const struct spawn_options options = {.argv = argv,
                                          .in_fd = in_fd >= 0 ? in_fd : null_fd,
                                          .out_fd = STDERR_FILENO,
                                          .err_fd = -1,
                                          .dies_with_parent = true};
    pid_t child = spawn(&options, err);
    fd_close(&null_fd);
    if (child < 0)
        return child;
    int status = spawn_wait(child);
    if (status != 0)
        return err_set(err, -EIO, "'%s' failed with status %d; what it said stands above", argv[0],
                       status);
    return 0;
}

/* A text as a file that can be read from its start. */
static int text_fd(const char *text, struct err *err)
{
    int fd = memfd_create("text", MFD_CLOEXEC);
    if (fd < 0 || fd_write(fd, text, strlen(text)) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        fd_close(&fd);
        return err_set(err, -ENOMEM, "out of memory");
    }
    return fd;
}

static int write_file(const char *path, const void *data, size_t bytes, unsigned mode,
                      struct err *err)
{
    int fd = fd_open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    int result = fd < 0 ? fd : fd_write(fd, data, bytes);
    if (result == 0 && fchmod(fd, (mode_t)mode) != 0)
        result = -errno;
    fd_close(&fd);
    return result == 0 ? 0 : err_set(err, result, "writing '%s': %s", path, strerror(-result));
}

/* The folder where the hook works, with what it needs. */
static int prepare(struct build *build, struct err *err)
{
    char path[FILE_BYTES], agent[SPAWN_PATH_BYTES];
    const char *temporary = getenv("TMPDIR");

    if (fmt_text(build->parent, sizeof(build->parent), "%s/atoll-image-XXXXXX",
                 temporary != NULL ? temporary : "/var/tmp") >= sizeof(build->parent))
        return err_set(err, -ENAMETOOLONG, "TMPDIR '%s' is too long a path", temporary);
    if (mkdtemp(build->parent) == NULL) {
        build->parent[0] = '\0';
        return err_set(err, -errno, "making a folder in '%s': %s",
                       temporary != NULL ? temporary : "/var/tmp", strerror(errno));
    }
    fmt_text(build->work, sizeof(build->work), "%s/%016llx", build->parent,
             (unsigned long long)(clock_tsc() * 0x9e3779b97f4a7c15u));
    fmt_text(path, sizeof(path), "%s/bare", build->work);
    if (chmod(build->parent, 0711) != 0 || mkdir(build->work, 0777) != 0 ||
        chmod(build->work, 0777) != 0 || mkdir(path, 0755) != 0)
        return err_set(err, -errno, "making the folder '%s': %s", build->work, strerror(errno));
    fmt_text(path, sizeof(path), "%s/hook.sh", build->work);
    int result = write_file(path, debian_12, sizeof(debian_12), 0755, err);
    spawn_beside("atoll-agent", agent);
    const char *const copy[] = {"cp", agent, build->work, NULL};
    return result != 0 ? result : run_tool(copy, -1, err);
}

static int run_mmdebstrap(struct build *build, struct err *err)
{
    char sources[SOURCES_BYTES], hook[FILE_BYTES], include[1024], size[32];
    const char *extra = build->options->packages;
    const char *const argv[] = {"mmdebstrap",
                                "--mode=auto",
                                "--variant=minbase",
                                "--format=null",
                                include,
                                "--aptopt=Acquire::Languages \"none\"",
                                "--dpkgopt=path-exclude=/usr/share/man/*",
                                hook,
                                RELEASE,
                                "/dev/null",
                                "-",
                                NULL};
    int result = 0;
    if (build->options->mirror != NULL)
        fmt_text(sources, sizeof(sources), "deb %s " RELEASE " main\n", build->options->mirror);
    else
        result = sources_read("/etc/apt", RELEASE, sources, sizeof(sources), err);
    if (result != 0)
        return result;
    if (fmt_text(include, sizeof(include), "--include=%s%s%s", base_packages,
                 extra != NULL ? "," : "", extra != NULL ? extra : "") >= sizeof(include))
        return err_set(err, -EINVAL, "--include: too many packages");
    fmt_text(hook, sizeof(hook), "--customize-hook=%s/hook.sh", build->work);
    fmt_text(size, sizeof(size), "%llu", (unsigned long long)build->options->disk_bytes);
    setenv("ATOLL_OUT", build->work, 1);
    setenv("ATOLL_DISK_BYTES", size, 1);
    int fd = text_fd(sources, err);
    if (fd < 0)
        return fd;
    result = run_tool(argv, fd, err);
    fd_close(&fd);
    return result;
}

/* The init and the modules, in the order of their names. */
static int make_initrd(const struct build *build, struct err *err)
{
    char path[FILE_BYTES], name[32];
    fmt_text(path, sizeof(path), "%s/initrd.img", build->fresh);
    struct cpio cpio = {.file = fopen(path, "we")};
    if (cpio.file == NULL)
        return err_set(err, -errno, "writing '%s': %s", path, strerror(errno));
    static const char *const folders[] = {"dev", "proc", "sys", "root", "modules"};
    for (unsigned i = 0; i < ARRAY_LEN(folders); i++)
        cpio_folder(&cpio, folders[i]);
    cpio_device(&cpio, "dev/console", 5, 1);
    fmt_text(path, sizeof(path), "%s/atoll-agent", build->work);
    int result = cpio_file(&cpio, "init", path);
    for (unsigned i = 0; i < MODULES_MAX && result == 0; i++) {
        fmt_text(name, sizeof(name), "modules/%02u.ko", i);
        fmt_text(path, sizeof(path), "%s/module-%02u.ko", build->work, i);
        if (access(path, F_OK) != 0)
            break;
        result = cpio_file(&cpio, name, path);
    }
    cpio_end(&cpio);
    if (result == 0 && ferror(cpio.file) != 0)
        result = -EIO;
    if (fclose(cpio.file) != 0 && result == 0)
        result = -errno;
    return result == 0 ? 0 : err_set(err, result, "making the initrd: %s", strerror(-result));
}

static int describe(const struct build *build, struct err *err)
{
    char path[FILE_BYTES], version[128] = "", built[32];
    time_t now = (time_t)(clock_realtime_ns() / 1000000000u);
    struct tm parts;

    fmt_text(path, sizeof(path), "%s/kernel-version", build->work);
    int fd = fd_open(path, O_RDONLY, 0);
    if (fd >= 0 && fd_read(fd, version, sizeof(version) - 1) < 0)
        version[0] = '\0';
    fd_close(&fd);
    version[strcspn(version, "\n")] = '\0';
    strftime(built, sizeof(built), "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &parts));
    json_t *about = json_pack("{s:s, s:s, s:s}", "name", build->options->name, "built", built,
                              "kernel_version", version);
    fmt_text(path, sizeof(path), "%s/image.json", build->fresh);
    int result = about != NULL ? json_dump_file(about, path, JSON_INDENT(2)) : -1;
    json_decref(about);
    return result == 0 ? 0 : err_set(err, -EIO, "writing '%s' failed", path);
}

/* From the working folder into the image's own, which then takes its name. */
static int finish(struct build *build, struct err *err)
{
    char disk[FILE_BYTES], kernel[FILE_BYTES];
    char store[IMAGE_PATH_BYTES];
    int result = image_store_path(store, err);
    if (result == 0)
        result = image_path(build->options->name, build->final, err);
    if (result != 0)
        return result;
    fmt_text(build->fresh, sizeof(build->fresh), "%s/.new-%d", store, (int)getpid());
    result = folder_make(build->fresh, err);
    if (result != 0)
        return result;
    fmt_text(disk, sizeof(disk), "%s/disk.raw", build->work);
    fmt_text(kernel, sizeof(kernel), "%s/vmlinuz", build->work);
    const char *const copy[] = {"cp", "--sparse=always", disk, kernel, build->fresh, NULL};
    result = run_tool(copy, -1, err);
    if (result == 0)
        result = make_initrd(build, err);
    if (result == 0)
        result = describe(build, err);
    if (result == 0)
        result = folder_remove(build->final, err);
    if (result == 0)
        result = folder_make(build->final, err);
    if (result == 0 && rename(build->fresh, build->final) != 0)
        result = err_set(err, -errno, "'%s': %s", build->final, strerror(errno));
    return result;
}

static bool is_there(const char *name)
{
    char path[IMAGE_PATH_BYTES];
    return image_find(name, path, NULL) == 0;
}

int image_build(const struct image_build_options *options, struct err *err)
{
    struct build build = {.options = options, .start_ns = clock_monotonic_ns()};
    const char *path = getenv("PATH");
    char full_path[4096];

    if (!options->is_forced && is_there(options->name)) {
        fprintf(stderr, "image %s is here already; --force builds it again\n", options->name);
        return 0;
    }
    /* The tools of file systems and namespaces live where an ordinary user does not look. */
    fmt_text(full_path, sizeof(full_path), "%s:/usr/local/sbin:/usr/sbin:/sbin",
             path != NULL ? path : "/usr/local/bin:/usr/bin:/bin");
    setenv("PATH", full_path, 1);
    fprintf(stderr, "building %s; this takes some minutes\n", options->name);
    int result = prepare(&build, err);
    if (result == 0)
        result = run_mmdebstrap(&build, err);
    if (result == 0)
        result = finish(&build, err);
    if (build.parent[0] != '\0' && folder_remove(build.parent, NULL) != 0)
        fprintf(stderr, "what was left in '%s' could not be removed\n", build.parent);
    if (build.fresh[0] != '\0' && folder_remove(build.fresh, NULL) != 0)
        fprintf(stderr, "what was left in '%s' could not be removed\n", build.fresh);
    if (result == 0)
        fprintf(stderr, "built %s in %llu s: %s\n", options->name,
                (unsigned long long)((clock_monotonic_ns() - build.start_ns) / 1000000000u),
                build.final);
    return result;
}
