/*
 * vm/main.c - atoll-vm: one VM as one process, described by a JSON object on an inherited
 * descriptor.
 *
 * Runs   on the main thread.
 * Trust  arguments and config are the user's own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/exit_status.h"
#include "base/alloc.h"
#include "host/fd.h"
#include "vm/config.h"
#include "vm/run.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

static const char usage[] =
    "Usage: atoll-vm --config-fd N\n"
    "Runs the virtual machine that the JSON object on file descriptor N describes.\n"
    "This is the process behind `atoll run`; see `atoll run --help`.\n";

/* Reads the whole config from FD. */
static int read_config(int fd, struct config *ret_config, struct err *err)
{
    char *text = alloc_zero(CONFIG_MAX_BYTES);

    if (!text)
        return err_set(err, -ENOMEM, "no memory for the config");
    s64 bytes = fd_read(fd, text, CONFIG_MAX_BYTES);
    int r;
    if (bytes < 0)
        r = err_set(err, (int)bytes, "config on descriptor %d: %s", fd, strerror((int)-bytes));
    else if (bytes == CONFIG_MAX_BYTES)
        r = err_set(err, -EFBIG, "config on descriptor %d: is longer than 1 MiB", fd);
    else
        r = config_parse(ret_config, text, (size_t)bytes, err);
    alloc_free(text);
    fd_close(&fd);
    return r;
}

int main(int argc, char **argv)
{
    struct config config;
    struct err err = {0};
    char *end;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_STATUS_POWEROFF;
    }
    if (argc != 3 || strcmp(argv[1], "--config-fd") != 0) {
        fputs(usage, stderr);
        return EXIT_STATUS_ARGUMENT;
    }
    errno = 0;
    long fd = strtol(argv[2], &end, 10);
    if (errno != 0 || *end != 0 || end == argv[2] || fd < 0 || fd > INT32_MAX) {
        fprintf(stderr, "atoll-vm: --config-fd '%s': must be a file descriptor's number\n",
                argv[2]);
        return EXIT_STATUS_ARGUMENT;
    }
    if (read_config((int)fd, &config, &err) < 0) {
        fprintf(stderr, "atoll-vm: %s\n", err.text);
        return EXIT_STATUS_ARGUMENT;
    }
    int status = run(&config, &err);
    if (err.code != 0)
        fprintf(stderr, "atoll-vm: %s\n", err.text);
    config_fini(&config);
    return status;
}
