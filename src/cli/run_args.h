/*
 * cli/run_args.h - the arguments of `atoll run`, understood and checked for shape.
 */
#ifndef CLI_RUN_ARGS_H
#define CLI_RUN_ARGS_H

#include "api/vm_config.h"
#include "base/err.h"
#include "base/types.h"

enum { RUN_DEVICES_MAX = 4, RUN_ADDRESS_BYTES = 16, RUN_VNC_MAX = VM_CONFIG_VNC_MAX - 1 };

struct run_disk {
    char *path;                          /* owned */
    const char *format, *backing, *data; /* within path's memory; NULL: not given */
    bool read_only, snapshot, direct;
};

struct run_forward {
    char host_address[RUN_ADDRESS_BYTES];
    u16 host_port, guest_port;
    bool is_udp;
};

enum run_net { RUN_NET_USER, RUN_NET_TAP, RUN_NET_NONE };
enum run_console { RUN_CONSOLE_DEFAULT, RUN_CONSOLE_STDIO, RUN_CONSOLE_NONE };

/* Texts are borrowed from argv. */
struct run_args {
    const char *firmware, *firmware_variables, *firmware_log;
    const char *boot[VM_CONFIG_BOOT_MAX]; /* "disk0", "net0" */
    char *boot_text;                      /* owned: what BOOT points into */
    unsigned boot_count;
    const char *image, *kernel, *initrd, *append, *name, *engine;
    u64 memory_bytes;
    unsigned cpus;
    struct run_disk disks[VM_CONFIG_DISKS_MAX];
    unsigned disk_count;
    enum run_net net;
    const char *tap;
    struct run_forward forwards[VM_CONFIG_FORWARDS_MAX];
    unsigned forward_count;
    enum run_console console;
    bool has_display;
    const char *vnc[RUN_VNC_MAX];
    unsigned vnc_count;
    const char *vnc_password_file;
    const char *devices[RUN_DEVICES_MAX];
    unsigned device_count;
    const char *debug_stats, *debug_trace, *debug_lockstep;
    bool keeps_changes;
    bool wants_help;
    const char *const *command; /* ends in NULL; NULL when there is none */
};

/* ARGV starts after "run" and ends in NULL. -EINVAL and ERR for what is not understood. */
MUST_CHECK int run_args_parse(struct run_args *ret_args, const char *const *argv, struct err *err);
void run_args_fini(struct run_args *args);

#endif
