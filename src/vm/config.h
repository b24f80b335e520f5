/*
 * vm/config.h - what machine to run, read from the JSON object of api/vm_config.h.
 *
 * config_parse() checks the whole object before anything is opened; every error names the key.
 * Strings belong to the parsed object and live as long as the struct. Runs before threads start.
 */
#ifndef VM_CONFIG_H
#define VM_CONFIG_H

#include "api/vm_config.h"
#include "base/err.h"
#include "base/types.h"

enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_KVM, CONFIG_ENGINE_DBT };
enum config_net_kind { CONFIG_NET_USER, CONFIG_NET_TAP, CONFIG_NET_NONE };

enum config_format { CONFIG_FORMAT_RAW, CONFIG_FORMAT_QCOW2, CONFIG_FORMAT_AUTO };

struct config_disk {
    const char *path;
    const char *backing; /* a folder; NULL: the image's own */
    const char *data;    /* the external data file; NULL: none */
    enum config_format format;
    bool read_only, snapshot, direct;
};

struct config_forward {
    const char *host_address;
    u16 host_port, guest_port;
    bool is_udp;
};

struct config_net {
    enum config_net_kind kind;
    const char *tap; /* kind tap only */
    bool has_mac;
    u8 mac[6];
    struct config_forward forwards[VM_CONFIG_FORWARDS_MAX];
    unsigned forward_count;
};

struct config_port {
    const char *name;
    int fd;
};

struct config_boot {
    bool is_net;
    unsigned index;
};

struct config {
    const char *name;
    u64 memory_bytes;
    unsigned cpu_count;
    enum config_engine engine;
    const char *kernel; /* NULL: none */
    const char *initrd; /* NULL: none */
    const char *append;
    const char *firmware; /* "auto", "bios", "uefi" or a file; NULL: the kernel is started */
    const char *firmware_variables; /* NULL: they are gone with the VM */
    const char *firmware_log;       /* NULL: none */
    struct config_boot boot[VM_CONFIG_BOOT_MAX];
    unsigned boot_count;
    struct config_disk disks[VM_CONFIG_DISKS_MAX];
    unsigned disk_count;
    struct config_net nets[VM_CONFIG_NETS_MAX];
    unsigned net_count;
    bool has_console; /* the first serial port is on stdin and stdout */
    struct config_port ports[VM_CONFIG_PORTS_MAX];
    unsigned port_count;
    bool has_display;
    const char *vnc[VM_CONFIG_VNC_MAX]; /* addresses, as back/display/vnc.h has them */
    unsigned vnc_count;
    const char *vnc_password; /* NULL: none */
    bool has_hpet, has_testdev;
    const char *debug_trace; /* FILE[,rip=FIRST[-LAST]] for the translator's blocks; NULL: none */
    bool has_lockstep;       /* translated code is checked, as these two say (dbt/lockstep.h) */
    u32 lockstep_first, lockstep_every;
    const char *debug_stats; /* a file for the engine's counters; NULL: none */
    void *root;              /* owned: the parsed object, which holds all strings */
};

/* Parses BYTES of TEXT. -EINVAL with a message for anything that is not exactly a valid config. */
MUST_CHECK int config_parse(struct config *ret_config, const char *text, size_t bytes,
                            struct err *err);
void config_fini(struct config *config);

#endif
