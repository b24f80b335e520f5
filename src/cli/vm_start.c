/*
 * cli/vm_start.c - from what the user asked for to a running atoll-vm.
 *
 * Spec   api/vm_config.h
 * Runs   on the main thread.
 */
#include "cli/vm_start.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fmt.h"
#include "cli/vm_folder.h"
#include "host/fd.h"
#include "host/spawn.h"

enum { PASSWORD_FILE_BYTES = 256 };

static json_t *disk_json(const struct run_disk *disk)
{
    json_t *json = json_pack("{s:s, s:s, s:b, s:b, s:b}", "path", disk->path, "format",
                             disk->format != NULL ? disk->format : "auto", "readonly",
                             disk->read_only, "snapshot", disk->snapshot, "direct", disk->direct);
    if (json != NULL && disk->backing != NULL)
        json_object_set_new(json, "backing", json_string(disk->backing));
    if (json != NULL && disk->data != NULL)
        json_object_set_new(json, "data", json_string(disk->data));
    return json;
}

static json_t *disks_json(const struct vm_plan *plan)
{
    json_t *disks = json_array();
    if (plan->root_disk != NULL)
        json_array_append_new(disks, disk_json(plan->root_disk));
    for (unsigned i = 0; i < plan->args->disk_count; i++)
        json_array_append_new(disks, disk_json(&plan->args->disks[i]));
    return disks;
}

static json_t *nets_json(const struct run_args *args)
{
    json_t *nets = json_array(), *net = json_object();
    if (args->net == RUN_NET_NONE) {
        json_decref(net);
        return nets;
    }
    json_object_set_new(net, "kind", json_string(args->net == RUN_NET_TAP ? "tap" : "user"));
    if (args->net == RUN_NET_TAP) {
        json_object_set_new(net, "tap", json_string(args->tap));
    } else {
        json_t *forwards = json_array();
        for (unsigned i = 0; i < args->forward_count; i++) {
            const struct run_forward *forward = &args->forwards[i];
            json_array_append_new(forwards,
                                  json_pack("{s:s, s:i, s:i, s:s}", "host_address",
                                            forward->host_address, "host_port", forward->host_port,
                                            "guest_port", forward->guest_port, "protocol",
                                            forward->is_udp ? "udp" : "tcp"));
        }
        json_object_set_new(net, "forwards", forwards);
    }
    json_array_append_new(nets, net);
    return nets;
}

/* The first line of FILE; NULL and ERR when there is none. */
static json_t *password_json(const char *file, struct err *err)
{
    char text[PASSWORD_FILE_BYTES] = {0};
    int fd = fd_open(file, O_RDONLY, 0);
    s64 got = fd < 0 ? fd : fd_read(fd, text, sizeof(text) - 1);

    fd_close(&fd);
    text[strcspn(text, "\n")] = 0;
    if (got >= 0 && text[0] != 0)
        return json_string(text);
    err_set(err, got < 0 ? (int)got : -EINVAL, "--vnc-password '%s': %s", file,
            got < 0 ? strerror((int)-got) : "the file's first line is empty");
    return NULL;
}

/* The screen: always at a socket of its own, and where the user wants it. */
static int display_json(json_t *config, const struct vm_plan *plan, struct err *err)
{
    const struct run_args *args = plan->args;
    char path[VM_FOLDER_PATH_BYTES], address[VM_FOLDER_PATH_BYTES + 8];
    json_t *vnc = json_array();

    if (!args->has_display && args->vnc_count == 0) {
        json_decref(vnc);
        return 0;
    }
    json_object_set_new(config, "vnc", vnc);
    int r = vm_folder_screen(plan->name, true, path, err);
    if (r < 0)
        return r;
    fmt_text(address, sizeof(address), "unix:%s", path);
    json_array_append_new(vnc, json_string(address));
    for (unsigned i = 0; i < args->vnc_count; i++)
        json_array_append_new(vnc, json_string(args->vnc[i]));
    if (args->vnc_password_file == NULL)
        return 0;
    json_t *password = password_json(args->vnc_password_file, err);
    return password ? json_object_set_new(config, "vnc_password", password) : -EINVAL;
}

static json_t *config_json(const struct vm_plan *plan)
{
    const struct run_args *args = plan->args;
    json_t *config = json_pack("{s:i, s:s, s:I, s:i, s:s, s:s, s:s}", "schema", VM_CONFIG_SCHEMA,
                               "name", plan->name, "memory_bytes", (json_int_t)args->memory_bytes,
                               "cpus", (int)args->cpus, "engine", args->engine, "append",
                               plan->append, "console", plan->has_console ? "stdio" : "none");
    json_t *devices = json_array();
    if (config == NULL) {
        json_decref(devices);
        return NULL;
    }
    if (plan->kernel != NULL)
        json_object_set_new(config, "kernel", json_string(plan->kernel));
    if (plan->initrd != NULL)
        json_object_set_new(config, "initrd", json_string(plan->initrd));
    if (args->firmware != NULL)
        json_object_set_new(config, "firmware", json_string(args->firmware));
    if (plan->firmware_variables != NULL)
        json_object_set_new(config, "firmware_variables", json_string(plan->firmware_variables));
    if (args->firmware_log != NULL)
        json_object_set_new(config, "firmware_log", json_string(args->firmware_log));
    if (args->boot_count > 0) {
        json_t *boot = json_array();
        for (unsigned i = 0; i < args->boot_count; i++)
            json_array_append_new(boot, json_string(args->boot[i]));
        json_object_set_new(config, "boot", boot);
    }
    json_object_set_new(config, "disks", disks_json(plan));
    json_object_set_new(config, "nets", nets_json(args));
    if (args->debug_stats != NULL)
        json_object_set_new(config, "debug_stats", json_string(args->debug_stats));
    if (args->debug_trace != NULL)
        json_object_set_new(config, "debug_trace", json_string(args->debug_trace));
    if (args->debug_lockstep != NULL)
        json_object_set_new(config, "debug_lockstep", json_string(args->debug_lockstep));
    for (unsigned i = 0; i < args->device_count; i++)
        json_array_append_new(devices, json_string(args->devices[i]));
    json_object_set_new(config, "devices", devices);
    if (plan->agent_fd >= 0)
        json_object_set_new(
            config, "ports",
            json_pack("[{s:s, s:i}]", "name", VM_CONFIG_AGENT_PORT, "fd", plan->agent_fd));
    return config;
}

/* A memory file with the configuration, at its start; a negative error when there is none. */
static int config_fd(const struct vm_plan *plan, struct err *err)
{
    json_t *config = config_json(plan);
    if (config == NULL)
        return err_set(err, -EINVAL, "the arguments are not UTF-8 text; rename the files");
    int r = display_json(config, plan, err);
    if (r < 0) {
        json_decref(config);
        return r;
    }
    int fd = memfd_create("vm-config", MFD_CLOEXEC);
    if (fd < 0 || json_dumpfd(config, fd, JSON_COMPACT) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        json_decref(config);
        fd_close(&fd);
        return err_set(err, -EIO, "the VM's configuration could not be written: %s",
                       strerror(errno));
    }
    json_decref(config);
    return fd;
}

static int exec_failed(const char *path, struct err *err)
{
    return err_set(err, -errno, "starting '%s': %s; it belongs beside 'atoll'", path,
                   strerror(errno));
}

int vm_exec(const struct vm_plan *plan, struct err *err)
{
    char path[SPAWN_PATH_BYTES], number[16];
    int fd = config_fd(plan, err);
    if (fd < 0)
        return fd;
    int result = fd_set_inherited(fd, true);
    if (result != 0)
        return err_set(err, result, "the VM's configuration: %s", strerror(-result));
    spawn_beside("atoll-vm", path);
    fmt_text(number, sizeof(number), "%d", fd);
    execlp(path, "atoll-vm", "--config-fd", number, (char *)NULL);
    result = exec_failed(path, err);
    fd_close(&fd);
    return result;
}

pid_t vm_spawn(const struct vm_plan *plan, struct err *err)
{
    char path[SPAWN_PATH_BYTES], number[16];
    int fd = config_fd(plan, err), null_fd = fd_open("/dev/null", O_RDONLY, 0);
    if (fd < 0) {
        fd_close(&null_fd);
        return fd;
    }
    const int kept[] = {fd, plan->agent_fd};
    const char *const argv[] = {path, "--config-fd", number, NULL};
    const struct spawn_options options = {.argv = argv,
                                          .in_fd = null_fd,
                                          .out_fd = STDERR_FILENO,
                                          .err_fd = -1,
                                          .keep_fds = kept,
                                          .keep_count = plan->agent_fd >= 0 ? 2 : 1,
                                          .dies_with_parent = true};
    spawn_beside("atoll-vm", path);
    fmt_text(number, sizeof(number), "%d", fd);
    pid_t child = spawn(&options, err);
    fd_close(&fd);
    fd_close(&null_fd);
    return child;
}
