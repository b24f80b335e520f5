/*
 * cli/run_args.c - the arguments of `atoll run`.
 *
 * Runs   on the main thread.
 */
#include "cli/run_args.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/display/listen.h"
#include "base/fmt.h"
#include "cli/size.h"

enum { MEMORY_DEFAULT_BYTES = 1 << 30, MIB = 1 << 20, TAP_NAME_MAX = 15 };

typedef int (*option_taker)(struct run_args *args, const char *value, struct err *err);

struct option {
    const char *name;
    option_taker take;
    bool has_value;
};

static int take_kernel(struct run_args *args, const char *value, struct err *err)
{
    args->kernel = value;
    return 0;
}

static int take_initrd(struct run_args *args, const char *value, struct err *err)
{
    args->initrd = value;
    return 0;
}

static int take_append(struct run_args *args, const char *value, struct err *err)
{
    args->append = value;
    return 0;
}

static int take_firmware(struct run_args *args, const char *value, struct err *err)
{
    args->firmware = value;
    return 0;
}

static int take_firmware_variables(struct run_args *args, const char *value, struct err *err)
{
    args->firmware_variables = value;
    return 0;
}

static int take_firmware_log(struct run_args *args, const char *value, struct err *err)
{
    args->firmware_log = value;
    return 0;
}

static int take_boot(struct run_args *args, const char *value, struct err *err)
{
    free(args->boot_text);
    args->boot_count = 0;
    args->boot_text = strdup(value);
    if (args->boot_text == NULL)
        return err_set(err, -ENOMEM, "--boot '%s': out of memory", value);
    for (char *word = args->boot_text, *rest; word != NULL; word = rest) {
        rest = strchr(word, ',');
        if (rest != NULL)
            *rest++ = '\0';
        if (args->boot_count == VM_CONFIG_BOOT_MAX)
            return err_set(err, -EINVAL, "--boot '%s': at most %u devices", value,
                           VM_CONFIG_BOOT_MAX);
        args->boot[args->boot_count++] = word;
    }
    return 0;
}

static int take_name(struct run_args *args, const char *value, struct err *err)
{
    size_t length = strlen(value);
    if (length == 0 || length > 63 || value[0] == '.' ||
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
            length)
        return err_set(
            err, -EINVAL,
            "--name '%s': a name has 1 to 63 letters, digits, '-', '_' and '.', the last "
            "not in front",
            value);
    args->name = value;
    return 0;
}

static int take_memory(struct run_args *args, const char *value, struct err *err)
{
    if (size_parse(value, &args->memory_bytes) != 0)
        return err_set(err, -EINVAL,
                       "--memory '%s': a size is a number with K, M, G or T: 512M, 2G", value);
    if (args->memory_bytes % MIB != 0 || args->memory_bytes < VM_CONFIG_MEMORY_MIN)
        return err_set(err, -EINVAL, "--memory '%s': give whole MiB, at least 1M", value);
    return 0;
}

static int take_cpus(struct run_args *args, const char *value, struct err *err)
{
    u64 count;
    if (number_parse(value, 1, VM_CONFIG_CPUS_MAX, &count) != 0)
        return err_set(err, -EINVAL, "--cpus '%s': give a number from 1 to %u", value,
                       VM_CONFIG_CPUS_MAX);
    args->cpus = (unsigned)count;
    return 0;
}

static int take_engine(struct run_args *args, const char *value, struct err *err)
{
    if (strcmp(value, "auto") != 0 && strcmp(value, "kvm") != 0 && strcmp(value, "dbt") != 0)
        return err_set(err, -EINVAL, "--engine '%s': choose auto, kvm or dbt", value);
    args->engine = value;
    return 0;
}

/* One word after the path; -EINVAL when there is no such word. */
static int take_disk_word(struct run_disk *disk, const char *word)
{
    if (strcmp(word, "readonly") == 0)
        disk->read_only = true;
    else if (strcmp(word, "snapshot") == 0)
        disk->snapshot = true;
    else if (strcmp(word, "direct") == 0)
        disk->direct = true;
    else if (strcmp(word, "format=raw") == 0 || strcmp(word, "format=qcow2") == 0)
        disk->format = word + strlen("format=");
    else if (strncmp(word, "backing=", 8) == 0 && word[8] != '\0')
        disk->backing = word + 8;
    else if (strncmp(word, "data=", 5) == 0 && word[5] != '\0')
        disk->data = word + 5;
    else
        return -EINVAL;
    return 0;
}

static int take_disk(struct run_args *args, const char *value, struct err *err)
{
    char *rest;
    if (args->disk_count == VM_CONFIG_DISKS_MAX)
        return err_set(err, -EINVAL, "--disk '%s': at most %u disks", value, VM_CONFIG_DISKS_MAX);
    struct run_disk *disk = &args->disks[args->disk_count];
    *disk = (struct run_disk){.path = strdup(value)};
    if (disk->path == NULL)
        return err_set(err, -ENOMEM, "--disk '%s': out of memory", value);
    args->disk_count++;
    char *word = strchr(disk->path, ',');
    if (word != NULL)
        *word++ = '\0';
    for (; word != NULL; word = rest) {
        rest = strchr(word, ',');
        if (rest != NULL)
            *rest++ = '\0';
        if (take_disk_word(disk, word) != 0)
            return err_set(
                err, -EINVAL,
                "--disk '%s': '%s' is not known; after the path come format=raw, format=qcow2, "
                "readonly, snapshot, direct",
                value, word);
    }
    if (disk->path[0] == '\0')
        return err_set(err, -EINVAL, "--disk '%s': give a file: --disk FILE[,readonly]", value);
    return 0;
}

static int take_net(struct run_args *args, const char *value, struct err *err)
{
    size_t length = strlen(value);
    if (strcmp(value, "user") == 0)
        args->net = RUN_NET_USER;
    else if (strcmp(value, "none") == 0)
        args->net = RUN_NET_NONE;
    else if (strncmp(value, "tap:", 4) == 0 && length > 4 && length <= 4 + TAP_NAME_MAX)
        args->net = RUN_NET_TAP;
    else
        return err_set(err, -EINVAL,
                       "--net '%s': choose user, none, or tap:NAME (up to %u letters)", value,
                       TAP_NAME_MAX);
    args->tap = args->net == RUN_NET_TAP ? value + 4 : NULL;
    return 0;
}

/* The number before END in TEXT as a port; 0 when it is none. */
static u16 port_parse(const char *text, size_t length)
{
    char digits[8];
    u64 port;
    if (length == 0 || length >= sizeof(digits))
        return 0;
    memcpy(digits, text, length);
    digits[length] = '\0';
    return number_parse(digits, 1, 65535, &port) == 0 ? (u16)port : 0;
}

/* [ADDRESS:]HOST:GUEST[/tcp|/udp] */
static int forward_parse(struct run_forward *forward, const char *text)
{
    struct in_addr address;
    const char *protocol = strchr(text, '/');
    const char *end = protocol != NULL ? protocol : text + strlen(text);
    const char *host = text, *guest = memchr(text, ':', (size_t)(end - text));

    if (protocol != NULL && strcmp(protocol, "/tcp") != 0 && strcmp(protocol, "/udp") != 0)
        return -EINVAL;
    forward->is_udp = protocol != NULL && protocol[1] == 'u';
    fmt_text(forward->host_address, RUN_ADDRESS_BYTES, "127.0.0.1");
    if (guest == NULL)
        return -EINVAL;
    const char *third = memchr(guest + 1, ':', (size_t)(end - guest - 1));
    if (third != NULL) {
        if ((size_t)(guest - text) >= RUN_ADDRESS_BYTES)
            return -EINVAL;
        memcpy(forward->host_address, text, (size_t)(guest - text));
        forward->host_address[guest - text] = '\0';
        host = guest + 1;
        guest = third;
    }
    forward->host_port = port_parse(host, (size_t)(guest - host));
    forward->guest_port = port_parse(guest + 1, (size_t)(end - guest - 1));
    if (inet_pton(AF_INET, forward->host_address, &address) != 1)
        return -EINVAL;
    return forward->host_port != 0 && forward->guest_port != 0 ? 0 : -EINVAL;
}

static int take_forward(struct run_args *args, const char *value, struct err *err)
{
    if (args->forward_count == VM_CONFIG_FORWARDS_MAX)
        return err_set(err, -EINVAL, "-p '%s': at most %u ports", value, VM_CONFIG_FORWARDS_MAX);
    if (forward_parse(&args->forwards[args->forward_count], value) != 0)
        return err_set(err, -EINVAL,
                       "-p '%s': give [ADDRESS:]HOST_PORT:GUEST_PORT[/udp], ports from 1 to 65535: "
                       "8080:80, 0.0.0.0:8443:443",
                       value);
    args->forward_count++;
    return 0;
}

static int take_console(struct run_args *args, const char *value, struct err *err)
{
    if (strcmp(value, "stdio") == 0)
        args->console = RUN_CONSOLE_STDIO;
    else if (strcmp(value, "none") == 0)
        args->console = RUN_CONSOLE_NONE;
    else
        return err_set(err, -EINVAL, "--console '%s': choose stdio or none", value);
    return 0;
}

static int take_display(struct run_args *args, const char *value, struct err *err)
{
    if (strcmp(value, "vga") != 0 && strcmp(value, "none") != 0)
        return err_set(err, -EINVAL, "--display '%s': choose vga or none", value);
    args->has_display = value[0] == 'v';
    return 0;
}

static int take_vnc(struct run_args *args, const char *value, struct err *err)
{
    if (args->vnc_count == RUN_VNC_MAX)
        return err_set(err, -EINVAL, "--vnc '%s': at most %u addresses", value, RUN_VNC_MAX);
    int r = listen_check(value, err);
    if (r < 0)
        return err_prefix(err, "--vnc");
    args->vnc[args->vnc_count++] = value;
    return 0;
}

static int take_vnc_password(struct run_args *args, const char *value, struct err *err)
{
    args->vnc_password_file = value;
    return 0;
}

static int take_device(struct run_args *args, const char *value, struct err *err)
{
    if (strcmp(value, "testdev") != 0 && strcmp(value, "hpet") != 0)
        return err_set(err, -EINVAL, "--device '%s': the extra devices there are: hpet, testdev",
                       value);
    if (args->device_count < RUN_DEVICES_MAX)
        args->devices[args->device_count++] = value;
    return 0;
}

static int take_debug_stats(struct run_args *args, const char *value, struct err *err)
{
    args->debug_stats = value;
    return 0;
}

static int take_debug_trace(struct run_args *args, const char *value, struct err *err)
{
    args->debug_trace = value;
    return 0;
}

static int take_debug_lockstep(struct run_args *args, const char *value, struct err *err)
{
    args->debug_lockstep = value;
    return 0;
}

static int take_keep(struct run_args *args, const char *value, struct err *err)
{
    args->keeps_changes = true;
    return 0;
}

static int take_help(struct run_args *args, const char *value, struct err *err)
{
    args->wants_help = true;
    return 0;
}

static const struct option options[] = {
    {"--kernel", take_kernel, true},
    {"--initrd", take_initrd, true},
    {"--append", take_append, true},
    {"--firmware", take_firmware, true},
    {"--firmware-vars", take_firmware_variables, true},
    {"--firmware-log", take_firmware_log, true},
    {"--boot", take_boot, true},
    {"--disk", take_disk, true},
    {"--memory", take_memory, true},
    {"--cpus", take_cpus, true},
    {"--engine", take_engine, true},
    {"--net", take_net, true},
    {"-p", take_forward, true},
    {"--name", take_name, true},
    {"--console", take_console, true},
    {"--device", take_device, true},
    {"--display", take_display, true},
    {"--vnc", take_vnc, true},
    {"--vnc-password", take_vnc_password, true},
    {"--keep", take_keep, false},
    {"--debug-stats", take_debug_stats, true},
    {"--debug-trace", take_debug_trace, true},
    {"--debug-lockstep", take_debug_lockstep, true},
    {"--help", take_help, false},
};

static int unknown_option(const char *text, struct err *err)
{
    char names[256];
    size_t used = 0;
    for (unsigned i = 0; i < ARRAY_LEN(options); i++)
        used += fmt_text(names + used, sizeof(names) - used, " %s", options[i].name);
    return err_set(err, -EINVAL,
                   "unknown option '%s'; 'atoll run' takes%s; a command for the guest comes after "
                   "'--'",
                   text, names);
}

/* The option that TEXT names, alone or before '='; RET_INLINE is what follows the '='. */
static const struct option *option_find(const char *text, const char **ret_inline)
{
    for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
        size_t length = strlen(options[i].name);
        if (strncmp(text, options[i].name, length) != 0)
            continue;
        if (text[length] == '\0' || (text[length] == '=' && options[i].has_value)) {
            *ret_inline = text[length] == '=' ? text + length + 1 : NULL;
            return &options[i];
        }
    }
    return NULL;
}

/* Takes one argument, or two; returns how many, or a negative error. */
static int take_one(struct run_args *args, const char *const *argv, struct err *err)
{
    const char *value = NULL;
    if (argv[0][0] != '-') {
        if (args->image != NULL)
            return err_set(err, -EINVAL,
                           "'%s': one image is given already ('%s'); a command for the guest comes "
                           "after '--'",
                           argv[0], args->image);
        args->image = argv[0];
        return 1;
    }
    const struct option *option = strcmp(argv[0], "-h") == 0 ? &options[ARRAY_LEN(options) - 1]
                                                             : option_find(argv[0], &value);
    if (option == NULL)
        return unknown_option(argv[0], err);
    if (!option->has_value || value != NULL) {
        int result = option->take(args, value, err);
        return result != 0 ? result : 1;
    }
    if (argv[1] == NULL)
        return err_set(err, -EINVAL, "%s needs a value; see 'atoll run --help'", argv[0]);
    int result = option->take(args, argv[1], err);
    return result != 0 ? result : 2;
}

/* What only makes sense together. */
static int check_whole(const struct run_args *args, struct err *err)
{
    if (args->wants_help)
        return 0;
    bool starts_none = args->firmware == NULL ? args->disk_count == 0
                                              : strcmp(args->firmware, "none") == 0;
    if (args->image == NULL && args->kernel == NULL && starts_none)
        return err_set(err, -EINVAL,
                       "nothing to run: give an image ('atoll run debian/12'), a disk to boot "
                       "('atoll run --disk FILE') or a kernel ('atoll run --kernel FILE'); 'atoll "
                       "image ls' shows the images");
    if (args->kernel != NULL && args->firmware != NULL && strcmp(args->firmware, "none") != 0)
        return err_set(err, -EINVAL,
                       "--firmware %s boots a disk, and --kernel starts without one: leave out "
                       "one of them",
                       args->firmware);
    if (args->command != NULL && args->image == NULL)
        return err_set(err, -EINVAL,
                       "a command needs an image, whose agent runs it: atoll run debian/12 -- %s",
                       args->command[0]);
    if (args->command != NULL && args->console == RUN_CONSOLE_STDIO)
        return err_set(err, -EINVAL,
                       "--console stdio and a command both want the terminal: leave out one");
    if (args->forward_count > 0 && args->net != RUN_NET_USER)
        return err_set(err, -EINVAL, "-p works with --net user only");
    if (args->vnc_password_file != NULL && args->vnc_count == 0)
        return err_set(err, -EINVAL,
                       "--vnc-password is for viewers over TCP: name an address with --vnc");
    if (args->keeps_changes && args->image == NULL)
        return err_set(err, -EINVAL,
                       "--keep is for images: disks given with --disk are kept anyway");
    return 0;
}

int run_args_parse(struct run_args *ret_args, const char *const *argv, struct err *err)
{
    *ret_args = (struct run_args){
        .memory_bytes = MEMORY_DEFAULT_BYTES, .cpus = 1, .engine = "auto", .append = ""};
    while (*argv != NULL && strcmp(*argv, "--") != 0) {
        int taken = take_one(ret_args, argv, err);
        if (taken < 0)
            return taken;
        argv += taken;
    }
    if (*argv != NULL) {
        ret_args->command = argv + 1;
        if (argv[1] == NULL)
            return err_set(err, -EINVAL, "after '--' comes a command: atoll run IMAGE -- uname -a");
    }
    return check_whole(ret_args, err);
}

void run_args_fini(struct run_args *args)
{
    for (unsigned i = 0; i < args->disk_count; i++)
        free(args->disks[i].path);
    args->disk_count = 0;
    free(args->boot_text);
    args->boot_text = NULL;
}
