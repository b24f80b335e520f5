/*
 * vm/config.c - the config's keys: one function per kind of object.
 *
 * Runs   before threads start.
 * Trust  the text is the user's own; it may still be anything.
 */
#include "vm/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "back/display/listen.h"
#include "back/net/mac.h"
#include "base/fmt.h"
#include "vm/json.h"

enum { PORT_MAX = 65535, FD_MAX = 1 << 20, MEMORY_ALIGN = 1 << 20 };
#define MEMORY_MAX (1ll << 40)

static const char *const engine_names[] = {"auto", "kvm", "dbt", NULL};
static const char *const net_names[] = {"user", "tap", "none", NULL};
static const char *const console_names[] = {"stdio", "none", NULL};
static const char *const format_names[] = {"raw", "qcow2", "auto", NULL};
static const char *const protocol_names[] = {"tcp", "udp", NULL};

static int parse_disk(struct config_disk *disk, json_t *value, const char *where, struct err *err)
{
    struct json_object object;

    json_object_begin(&object, value, where, err);
    disk->path = json_take_string(&object, "path", NULL);
    disk->format = (enum config_format)json_take_choice(&object, "format", format_names, 0);
    disk->backing = json_take_optional(&object, "backing");
    disk->data = json_take_optional(&object, "data");
    disk->read_only = json_take_bool(&object, "readonly", false);
    disk->snapshot = json_take_bool(&object, "snapshot", false);
    disk->direct = json_take_bool(&object, "direct", false);
    return json_object_end(&object);
}

static int parse_forward(struct config_forward *forward, json_t *value, const char *where,
                         struct err *err)
{
    struct json_object object;

    json_object_begin(&object, value, where, err);
    forward->host_address = json_take_string(&object, "host_address", "127.0.0.1");
    forward->host_port = (u16)json_take_integer(&object, "host_port", -1, 1, PORT_MAX);
    forward->guest_port = (u16)json_take_integer(&object, "guest_port", -1, 1, PORT_MAX);
    forward->is_udp = json_take_choice(&object, "protocol", protocol_names, 0) == 1;
    return json_object_end(&object);
}

static int parse_net(struct config_net *net, json_t *value, const char *where, struct err *err)
{
    struct json_object object;
    char inner[JSON_WHERE_BYTES];
    size_t i;
    json_t *element;

    json_object_begin(&object, value, where, err);
    net->kind = (enum config_net_kind)json_take_choice(&object, "kind", net_names, -1);
    net->tap = json_take_optional(&object, "tap");
    const char *mac = json_take_optional(&object, "mac");
    json_t *forwards = json_take_array(&object, "forwards", VM_CONFIG_FORWARDS_MAX);
    net->has_mac = mac != NULL;
    if (mac && mac_parse(mac, net->mac) < 0)
        json_object_fail(&object, "mac", "must be a unicast address such as 52:54:00:12:34:56");
    if ((net->kind == CONFIG_NET_TAP) != (net->tap != NULL))
        json_object_fail(&object, "tap", "must be given for kind \"tap\", and only then");
    if (net->kind != CONFIG_NET_USER && forwards)
        json_object_fail(&object, "forwards", "need kind \"user\"");
    int r = json_object_end(&object);
    json_array_foreach(forwards, i, element)
    {
        fmt_text(inner, sizeof(inner), "%sforwards[%zu].", where, i);
        if (r == 0)
            r = parse_forward(&net->forwards[net->forward_count++], element, inner, err);
    }
    return r;
}

static int parse_port(struct config_port *port, json_t *value, const char *where, struct err *err)
{
    struct json_object object;

    json_object_begin(&object, value, where, err);
    port->name = json_take_string(&object, "name", NULL);
    port->fd = (int)json_take_integer(&object, "fd", -1, 0, FD_MAX);
    return json_object_end(&object);
}

static int parse_devices(struct config *config, json_t *devices, struct err *err)
{
    size_t i;
    json_t *element;

    json_array_foreach(devices, i, element)
    {
        const char *name = json_is_string(element) ? json_string_value(element) : "";
        if (strcmp(name, "testdev") == 0)
            config->has_testdev = true;
        else if (strcmp(name, "hpet") == 0)
            config->has_hpet = true;
        else
            return err_set(err, -EINVAL, "config: 'devices[%zu]' must be \"hpet\" or \"testdev\"",
                           i);
    }
    return 0;
}

/* "disk0", "net1": something there is. */
static bool parse_boot_device(const struct config *config, const char *text,
                              struct config_boot *ret_boot)
{
    bool is_net = strncmp(text, "net", 3) == 0;
    const char *digits = text + (is_net ? 3 : 4);

    if ((!is_net && strncmp(text, "disk", 4) != 0) || digits[0] < '0' || digits[0] > '9' ||
        (digits[1] != 0 && (digits[1] < '0' || digits[1] > '9' || digits[2] != 0)))
        return false;
    *ret_boot = (struct config_boot){.is_net = is_net, .index = (unsigned)atoi(digits)};
    return ret_boot->index < (is_net ? config->net_count : config->disk_count);
}

static int parse_boot(struct config *config, json_t *boot, struct err *err)
{
    size_t i;
    json_t *element;

    json_array_foreach(boot, i, element)
    {
        const char *text = json_is_string(element) ? json_string_value(element) : "";
        if (!parse_boot_device(config, text, &config->boot[config->boot_count++]))
            return err_set(err, -EINVAL,
                           "config: 'boot[%zu]' must be a disk or network of this VM, such as "
                           "\"disk0\" or \"net0\"",
                           i);
    }
    /* Without an order: every disk, then every network, in their own. */
    for (unsigned d = 0; !boot && d < config->disk_count; d++)
        if (config->boot_count < VM_CONFIG_BOOT_MAX)
            config->boot[config->boot_count++] = (struct config_boot){.index = d};
    for (unsigned n = 0; !boot && n < config->net_count; n++)
        if (config->boot_count < VM_CONFIG_BOOT_MAX)
            config->boot[config->boot_count++] = (struct config_boot){.is_net = true, .index = n};
    return 0;
}

static int parse_vnc(struct config *config, json_t *addresses, struct err *err)
{
    size_t i;
    json_t *element;

    json_array_foreach(addresses, i, element)
    {
        const char *address = json_string_value(element);
        if (address == NULL)
            return err_set(err, -EINVAL, "config: 'vnc[%zu]' must be a string", i);
        int r = listen_check(address, err);
        if (r < 0)
            return err_prefix(err, "config: 'vnc[%zu]'", i);
        config->vnc[config->vnc_count++] = address;
    }
    config->has_display = config->has_display || config->vnc_count > 0;
    return 0;
}

/* The arrays of objects. */
static int parse_lists(struct config *config, json_t *disks, json_t *nets, json_t *ports,
                       struct err *err)
{
    char where[JSON_WHERE_BYTES];
    json_t *element;
    size_t i;
    int r = 0;

    json_array_foreach(disks, i, element)
    {
        fmt_text(where, sizeof(where), "disks[%zu].", i);
        if (r == 0)
            r = parse_disk(&config->disks[config->disk_count++], element, where, err);
    }
    json_array_foreach(nets, i, element)
    {
        fmt_text(where, sizeof(where), "nets[%zu].", i);
        if (r == 0)
            r = parse_net(&config->nets[config->net_count++], element, where, err);
    }
    json_array_foreach(ports, i, element)
    {
        fmt_text(where, sizeof(where), "ports[%zu].", i);
        if (r == 0)
            r = parse_port(&config->ports[config->port_count++], element, where, err);
    }
    return r;
}

static bool parse_lockstep(struct config *config, const char *text)
{
    char *end;

    config->lockstep_first = UINT32_MAX;
    if (strcmp(text, "all") == 0)
        return true;
    errno = 0;
    unsigned long first = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '/' || first > UINT32_MAX)
        return false;
    text = end + 1;
    unsigned long every = strtoul(text, &end, 10);
    config->lockstep_first = (u32)first;
    config->lockstep_every = (u32)every;
    return errno == 0 && end != text && *end == 0 && every <= UINT32_MAX;
}

static int parse_root(struct config *config, json_t *root, struct err *err)
{
    struct json_object object;

    json_object_begin(&object, root, "", err);
    (void)json_take_integer(&object, "schema", -1, VM_CONFIG_SCHEMA, VM_CONFIG_SCHEMA);
    config->name = json_take_string(&object, "name", "vm");
    config->memory_bytes = (u64)json_take_integer(&object, "memory_bytes", -1,
                                                  (s64)VM_CONFIG_MEMORY_MIN, MEMORY_MAX);
    config->cpu_count = (unsigned)json_take_integer(&object, "cpus", 1, 1, VM_CONFIG_CPUS_MAX);
    config->engine = (enum config_engine)json_take_choice(&object, "engine", engine_names, 0);
    config->kernel = json_take_optional(&object, "kernel");
    config->initrd = json_take_optional(&object, "initrd");
    config->append = json_take_string(&object, "append", "");
    const char *firmware = json_take_optional(&object, "firmware");
    config->firmware_variables = json_take_optional(&object, "firmware_variables");
    config->firmware_log = json_take_optional(&object, "firmware_log");
    json_t *boot = json_take_array(&object, "boot", VM_CONFIG_BOOT_MAX);
    config->has_console = json_take_choice(&object, "console", console_names, 0) == 0;
    config->debug_trace = json_take_optional(&object, "debug_trace");
    const char *lockstep = json_take_optional(&object, "debug_lockstep");
    config->debug_stats = json_take_optional(&object, "debug_stats");
    json_t *disks = json_take_array(&object, "disks", VM_CONFIG_DISKS_MAX);
    json_t *nets = json_take_array(&object, "nets", VM_CONFIG_NETS_MAX);
    json_t *ports = json_take_array(&object, "ports", VM_CONFIG_PORTS_MAX);
    config->has_display = json_take_bool(&object, "display", false);
    config->vnc_password = json_take_optional(&object, "vnc_password");
    json_t *vnc = json_take_array(&object, "vnc", VM_CONFIG_VNC_MAX);
    json_t *devices = json_take_array(&object, "devices", 16);
    config->has_lockstep = lockstep != NULL;
    if (lockstep && !parse_lockstep(config, lockstep))
        json_object_fail(&object, "debug_lockstep", "must be \"all\" or FIRST/EVERY");
    if (lockstep && config->cpu_count != 1)
        json_object_fail(&object, "debug_lockstep", "needs a machine of one vCPU");
    if (config->memory_bytes % MEMORY_ALIGN != 0)
        json_object_fail(&object, "memory_bytes", "must be a multiple of 1 MiB");
    config->firmware = firmware ? firmware : config->kernel ? NULL : "auto";
    if (firmware && strcmp(firmware, "none") == 0)
        config->firmware = NULL;
    if (!config->kernel && !config->firmware)
        json_object_fail(&object, "kernel", "is missing: without firmware, nothing can start");
    if (config->kernel && config->firmware)
        json_object_fail(&object, "firmware", "cannot start a kernel: leave out one of the two");
    int r = json_object_end(&object);
    if (r == 0)
        r = parse_lists(config, disks, nets, ports, err);
    if (r == 0)
        r = parse_boot(config, boot, err);
    if (r == 0)
        r = parse_vnc(config, vnc, err);
    return r < 0 ? r : parse_devices(config, devices, err);
}

int config_parse(struct config *ret_config, const char *text, size_t bytes, struct err *err)
{
    struct config config = {0};
    json_error_t where;

    config.root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (!config.root)
        return err_set(err, -EINVAL, "config: line %d, column %d: %s", where.line, where.column,
                       where.text);
    int r = parse_root(&config, config.root, err);
    if (r < 0) {
        config_fini(&config);
        return r;
    }
    *ret_config = config;
    return 0;
}

void config_fini(struct config *config)
{
    json_decref(config->root);
    config->root = NULL;
}
