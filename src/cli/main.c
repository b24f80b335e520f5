/*
 * cli/main.c - the command `atoll`: which sub-command, and how it ends.
 *
 * Runs   on the main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/exit_status.h"
#include "base/err.h"
#include "base/types.h"
#include "cli/doctor.h"
#include "cli/help.h"
#include "cli/image_build.h"
#include "cli/image_store.h"
#include "cli/run.h"
#include "cli/screenshot.h"
#include "cli/vol.h"

struct command {
    const char *name;
    int (*run)(const char *const *argv, struct err *err); /* its exit status */
};

static bool asks_help(const char *const *argv)
{
    return argv[0] != NULL && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0);
}

static int print(const char *text)
{
    return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? 0 : EXIT_STATUS_HOST;
}

static int doctor_main(const char *const *argv, struct err *err)
{
    if (asks_help(argv))
        return print(help_doctor);
    if (argv[0] != NULL) {
        err_set(err, -EINVAL, "'%s': 'atoll doctor' takes no arguments", argv[0]);
        return EXIT_STATUS_ARGUMENT;
    }
    return doctor_run() ? 0 : EXIT_STATUS_HOST;
}

static int image_status(int code)
{
    return code == 0                            ? 0
           : code == -EINVAL                    ? EXIT_STATUS_ARGUMENT
           : code == -ENOENT || code == -EACCES ? EXIT_STATUS_FILE
                                                : EXIT_STATUS_HOST;
}

static int image_main(const char *const *argv, struct err *err)
{
    struct image_build_options options;
    const char *verb = argv[0] != NULL ? argv[0] : "";
    bool has_one = argv[0] != NULL && argv[1] != NULL && argv[2] == NULL;

    if (asks_help(argv) || (argv[0] != NULL && asks_help(argv + 1)))
        return print(help_image);
    if (strcmp(verb, "build") == 0) {
        int result = image_build_parse(&options, argv + 1, err);
        return image_status(result != 0 ? result : image_build(&options, err));
    }
    if (strcmp(verb, "ls") == 0 && argv[1] == NULL)
        return image_status(image_list(false, err));
    if (strcmp(verb, "ls") == 0 && has_one && strcmp(argv[1], "--quiet") == 0)
        return image_status(image_list(true, err));
    if (strcmp(verb, "rm") == 0 && has_one)
        return image_status(image_remove(argv[1], err));
    err_set(err, -EINVAL,
            "'atoll image %s' is not how it goes: build NAME, ls [--quiet], or rm NAME; see "
            "'atoll image --help'",
            verb);
    return EXIT_STATUS_ARGUMENT;
}

static const struct command commands[] = {
    {"run", run_main},         {"image", image_main},
    {"vol", vol_main},         {"screenshot", screenshot_main},
    {"sendkey", sendkey_main}, {"doctor", doctor_main}};

int main(int argc, char **argv)
{
    const char *const *rest = (const char *const *)argv + 1;
    struct err err = {0};
    int status = EXIT_STATUS_ARGUMENT;
    bool is_known = false;

    if (argc < 2) {
        fputs(help_main, stderr);
        return EXIT_STATUS_ARGUMENT;
    }
    if (asks_help(rest) || strcmp(rest[0], "help") == 0)
        return print(help_main);
    if (strcmp(rest[0], "--version") == 0)
        return print("atoll " ATOLL_VERSION "\n");
    for (unsigned i = 0; i < ARRAY_LEN(commands) && !is_known; i++) {
        is_known = strcmp(rest[0], commands[i].name) == 0;
        if (is_known)
            status = commands[i].run(rest + 1, &err);
    }
    if (!is_known)
        err_set(
            &err, -EINVAL,
            "unknown command '%s'; there are run, image, vol, screenshot, sendkey and doctor; see "
            "'atoll --help'",
            rest[0]);
    if (err.text[0] != '\0')
        fprintf(stderr, "atoll: %s\n", err.text);
    return status;
}
