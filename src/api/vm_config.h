/*
 * api/vm_config.h - how a program tells atoll-vm what machine to run: one JSON object.
 *
 * The starter opens a file (a pipe or a memory file), writes the object to it, and executes
 * `atoll-vm --config-fd N` with the descriptor N open at the object's start. atoll-vm reads to the
 * end of the file. Paths are absolute or relative to the working directory. An unknown key, a
 * missing key that has no default, or a value of another type is an error that names the key.
 * Trust: whoever writes this object already has the rights of the user who runs atoll-vm.
 *
 *   key           type     default   meaning
 *   schema        integer  -         VM_CONFIG_SCHEMA
 *   name          string   "vm"      shown in messages and process lists
 *   memory_bytes  integer  -         guest RAM; a multiple of 1 MiB, at least VM_CONFIG_MEMORY_MIN
 *   cpus          integer  1         vCPUs, 1 to VM_CONFIG_CPUS_MAX
 *   engine        string   "auto"    "auto", "kvm" or "dbt"
 *   firmware      string   *         "none", "bios" (SeaBIOS), "uefi" (OVMF), "auto" (by what the
 * first disk holds) or a ROM's file; default "none" with a kernel, else "auto"
 *   firmware_variables string none   UEFI: the file that keeps its variables, made when it is not
 * there; without it, they vanish with the VM
 *   firmware_log  string   none      a file that gets what the firmware writes to port 0x402
 *   boot          array    *         of strings: what firmware starts from, in this order: "disk0",
 * "net0" and so on; default all disks, then all networks
 *   kernel        string   none      bzImage, ELF vmlinux (PVH) or Multiboot-1 ELF
 *   initrd        string   none      given to the kernel as it is
 *   append        string   ""        the kernel's command line
 *   disks         array    []        of objects, in the order of the guest's /dev/vda, vdb, ...:
 *     path          string   -         image file or block device
 *     format        string   "raw"     "raw", "qcow2", or "auto": qcow2 by its name's end
 *     backing       string   none      a folder where backing files may lie, beside the image's own
 *     data          string   none      the file that a qcow2 image keeps its data in, if it does
 *     readonly      boolean  false     the guest sees a read-only disk
 *     snapshot      boolean  false     writes go to a temporary file that vanishes with the VM
 *     direct        boolean  false     past the host's page cache (O_DIRECT)
 *   nets          array    []        of objects, in the order of the guest's adapters:
 *     kind          string   -         "user", "tap" or "none" (no link)
 *     tap           string   -         kind "tap" only: the interface's name
 *     mac           string   derived   "52:54:00:12:34:56"
 *     forwards      array    []        kind "user" only, of objects:
 *       host_address  string   "127.0.0.1"  IPv4 address to listen on
 *       host_port     integer  -         1 to 65535
 *       guest_port    integer  -         1 to 65535
 *       protocol      string   "tcp"     "tcp" or "udp"
 *   console       string   "stdio"   where the first serial port goes: "stdio" or "none"
 *   display       boolean  false     a VGA screen, a keyboard and a pointer; always so with vnc
 *   vnc           array    []        of strings: where viewers may connect: "unix:PATH", or
 * "[ADDRESS]:N" for TCP port 5900 + N, of 127.0.0.1 when no address is given
 *   vnc_password  string   none      what viewers over TCP must know; its first 8 bytes count
 *   ports         array    []        of objects: named virtio-console ports
 *     name          string   -         as in /dev/virtio-ports/NAME in the guest
 *     fd            integer  -         a connected stream socket that atoll-vm inherits
 *   devices       array    []        of strings: extra devices; "hpet" tells the guest of the
 * timer, "testdev" is the ports of bare-metal test programs
 *   debug_stats   string   none      a file that gets the engine's counters, at the end and
 * whenever SIGUSR2 comes
 *   debug_trace   string   none      FILE[,rip=FIRST[-LAST]]: what the translator makes of guest
 * code
 *   debug_lockstep string  none      "all" or FIRST/EVERY: translated code is checked against the
 * interpreter, each block's first FIRST runs and then every EVERYth; one vCPU only
 *
 * atoll-vm exits with a status of api/exit_status.h.
 */
#ifndef API_VM_CONFIG_H
#define API_VM_CONFIG_H

enum { VM_CONFIG_SCHEMA = 1 };
enum { VM_CONFIG_CPUS_MAX = 64, VM_CONFIG_DISKS_MAX = 16, VM_CONFIG_NETS_MAX = 8 };
enum { VM_CONFIG_VNC_MAX = 4 };
enum { VM_CONFIG_PORTS_MAX = 8, VM_CONFIG_FORWARDS_MAX = 64 };
enum { VM_CONFIG_BOOT_MAX = 8 };
#define VM_CONFIG_MEMORY_MIN (1ull << 20)

/* The port at which the agent in the guest listens; see api/agent.h. */
#define VM_CONFIG_AGENT_PORT "org.atoll.agent"

#endif
