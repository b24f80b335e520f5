/*
 * cli/run.c - `atoll run`: a VM in the place of this process, or a command in a VM.
 *
 * Runs   on the main thread.
 */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/exit_status.h"
#include "base/fmt.h"
#include "cli/help.h"
#include "cli/image_store.h"
#include "cli/run_args.h"
#include "cli/session.h"
#include "cli/vm_start.h"
#include "host/fd.h"
#include "host/term.h"

enum {
    FILE_BYTES = IMAGE_PATH_BYTES + 16,
    APPEND_BYTES = 2048,
    CONSOLE_BYTES = 128,
    TERM_MAX = 64
};

/* What an image adds to the arguments. */
struct image_parts {
    char disk[FILE_BYTES], kernel[FILE_BYTES], initrd[FILE_BYTES], append[APPEND_BYTES];
    char name[IMAGE_NAME_BYTES];
    struct run_disk root;
};

/* A file that must be there and readable, and no folder. */
static int file_check(const char *option, const char *path, struct err *err)
{
    struct stat info;
    if (path == NULL)
        return 0;
    if (stat(path, &info) != 0 || access(path, R_OK) != 0)
        return err_set(err, -errno, "%s '%s': %s; give a file that you can read", option, path,
                       strerror(errno));
    if (S_ISDIR(info.st_mode))
        return err_set(err, -EISDIR, "%s '%s': this is a folder; give a file", option, path);
    return 0;
}

static int files_check(const struct run_args *args, struct err *err)
{
    int result = file_check("--kernel", args->kernel, err);
    if (result == 0)
        result = file_check("--initrd", args->initrd, err);
    for (unsigned i = 0; i < args->disk_count && result == 0; i++)
        result = file_check("--disk", args->disks[i].path, err);
    return result;
}

/* A serial line carries neither the kind of the terminal nor its size: the image's profile finds
 * both in the kernel's command line. */
static void console_words(char text[CONSOLE_BYTES])
{
    const char *term = getenv("TERM");
    u16 columns, rows;
    size_t used = fmt_text(text, CONSOLE_BYTES, "console=ttyS0 ");
    bool is_word = term != NULL && term[0] != '\0' && strlen(term) <= TERM_MAX &&
                   term[strspn(term, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789-+._")] == '\0';
    if (term_size(STDIN_FILENO, &columns, &rows) != 0 || columns == 0 || rows == 0)
        return;
    used += fmt_text(text + used, CONSOLE_BYTES - used, "atoll.size=%ux%u ", columns, rows);
    if (is_word)
        fmt_text(text + used, CONSOLE_BYTES - used, "atoll.term=%s ", term);
}

static int image_parts(struct image_parts *parts, const struct run_args *args, struct err *err)
{
    char folder[IMAGE_PATH_BYTES];
    int result = image_find(args->image, folder, err);
    if (result != 0)
        return result;
    fmt_text(parts->disk, FILE_BYTES, "%s/disk.raw", folder);
    fmt_text(parts->kernel, FILE_BYTES, "%s/vmlinuz", folder);
    fmt_text(parts->initrd, FILE_BYTES, "%s/initrd.img", folder);
    parts->root = (struct run_disk){
        .path = parts->disk, .format = "raw", .snapshot = !args->keeps_changes};
    char console[CONSOLE_BYTES] = "";
    if (args->command == NULL)
        console_words(console);
    if (fmt_text(parts->append, APPEND_BYTES, "root=/dev/vda rw %squiet %s", console,
                 args->append) >= APPEND_BYTES)
        return err_set(err, -EINVAL, "--append: the command line is longer than %u bytes",
                       APPEND_BYTES);
    fmt_text(parts->name, sizeof(parts->name), "%s", args->image);
    for (char *slash = parts->name; (slash = strchr(slash, '/')) != NULL;)
        *slash = '-';
    return 0;
}

static int run_command(struct vm_plan *plan, const struct run_args *args, struct err *err)
{
    int fds[2];
    if (fd_pair(fds, err) != 0)
        return EXIT_STATUS_HOST;
    plan->agent_fd = fds[1];
    pid_t vm = vm_spawn(plan, err);
    fd_close(&fds[1]);
    if (vm < 0) {
        fd_close(&fds[0]);
        return EXIT_STATUS_HOST;
    }
    const struct session_options options = {
        .fd = fds[0], .vm = vm, .command = args->command, .ends_orderly = args->keeps_changes};
    return session_run(&options, err);
}

static int status_of(int code)
{
    return code == -EINVAL ? EXIT_STATUS_ARGUMENT : EXIT_STATUS_FILE;
}

static int run_checked(const struct run_args *args, struct err *err)
{
    static struct image_parts parts;
    struct vm_plan plan = {.name = args->name != NULL ? args->name : "vm",
                           .kernel = args->kernel,
                           .initrd = args->initrd,
                           .append = args->append,
                           .args = args,
                           .has_console = args->console != RUN_CONSOLE_NONE,
                           .agent_fd = -1};
    bool has_firmware = args->firmware != NULL && strcmp(args->firmware, "none") != 0;
    static char variables[IMAGE_PATH_BYTES];
    int result = files_check(args, err);
    /* A VM with a name keeps its firmware's variables under it. */
    plan.firmware_variables = args->firmware_variables;
    if (result == 0 && args->firmware_variables == NULL && args->name != NULL) {
        result = image_store_variables(args->name, variables, err);
        plan.firmware_variables = variables;
    }
    if (result == 0 && args->image != NULL) {
        result = image_parts(&parts, args, err);
        plan.name = args->name != NULL ? args->name : parts.name;
        if (!has_firmware) {
            plan.kernel = args->kernel != NULL ? args->kernel : parts.kernel;
            plan.initrd = args->initrd != NULL ? args->initrd : parts.initrd;
            plan.append = parts.append;
        }
        plan.root_disk = &parts.root;
    }
    if (result != 0)
        return status_of(result);
    if (args->command != NULL) {
        plan.has_console = false;
        return run_command(&plan, args, err);
    }
    if (plan.has_console && isatty(STDIN_FILENO) == 1)
        fprintf(stderr, "starting %s; ^] leaves and ends it\n", plan.name);
    result = vm_exec(&plan, err);
    return result == -EINVAL ? EXIT_STATUS_ARGUMENT : EXIT_STATUS_HOST;
}

int run_main(const char *const *argv, struct err *err)
{
    struct run_args args;
    int status = EXIT_STATUS_ARGUMENT;
    if (run_args_parse(&args, argv, err) == 0) {
        if (args.wants_help) {
            fputs(help_run, stdout);
            status = 0;
        } else {
            status = run_checked(&args, err);
        }
    }
    run_args_fini(&args);
    return status;
}
