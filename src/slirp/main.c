/*
 * slirp/main.c - atoll-slirp: the process behind a VM's user network, a NAT without any privilege.
 *
 * It is a process of its own so that a mistake in parsing the guest's packets reaches neither the
 * VM nor the user's files: it gives up root, cannot start programs, and ends with the VM. Spec
 * api/slirp.h Trust  the arguments come from atoll-vm; what comes through the socket is hostile.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/slirp.h"
#include "base/err.h"
#include "base/log.h"
#include "slirp/stack.h"

enum { UID_NOBODY = 65534, ADDRESS_BYTES = 16 };

/* Digits only, 1 to 65535, up to END; 0 when it is none. */
static u16 parse_port(const char *text, char end)
{
    char *stop;
    unsigned long value = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &stop, 10) : 0;
    return value >= 1 && value <= 65535 && *stop == end ? (u16)value : 0;
}

/* PROTOCOL:ADDRESS:HOST_PORT:GUEST_PORT */
static int parse_forward(const char *text, struct stack_forward *ret_forward)
{
    struct stack_forward forward = {.is_udp = strncmp(text, "udp:", 4) == 0};
    char address[ADDRESS_BYTES];
    struct in_addr parsed;

    if (!forward.is_udp && strncmp(text, "tcp:", 4) != 0)
        return -EINVAL;
    text += 4;
    const char *ports = strchr(text, ':');
    if (ports == NULL || (size_t)(ports - text) >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, (size_t)(ports - text));
    address[ports - text] = '\0';
    const char *guest = strchr(ports + 1, ':');
    if (guest == NULL || inet_pton(AF_INET, address, &parsed) != 1)
        return -EINVAL;
    forward.host_address = parsed.s_addr;
    forward.host_port = parse_port(ports + 1, ':');
    forward.guest_port = parse_port(guest + 1, '\0');
    if (forward.host_port == 0 || forward.guest_port == 0)
        return -EINVAL;
    *ret_forward = forward;
    return 0;
}

static const char *forward_mend(int code)
{
    return code == -EADDRINUSE ? "; another process listens there: choose another port"
           : code == -EACCES   ? "; ports below 1024 need root: choose a higher one"
                               : "";
}

static int add_forward(struct stack *stack, const char *text, struct err *err)
{
    struct stack_forward forward;
    if (parse_forward(text, &forward) != 0)
        return err_set(err, -EINVAL, "forward '%s' is not PROTOCOL:ADDRESS:PORT:PORT", text);
    int result = stack_forward(stack, &forward);
    if (result != 0)
        return err_set(err, result, "port %u of the host cannot be forwarded: %s%s",
                       forward.host_port, strerror(-result), forward_mend(result));
    return 0;
}

/* What is not needed any more: root, new privileges, other programs, a look into other processes. A
 * call that the host does not let us give up is not worth failing for: the next ones still count.
 */
static void give_up_privileges(void)
{
    static const int denied[] = {
        SCMP_SYS(execve),
        SCMP_SYS(execveat),
        SCMP_SYS(fork),
        SCMP_SYS(vfork),
        SCMP_SYS(ptrace),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(mount),
        SCMP_SYS(umount2),
        SCMP_SYS(chroot),
        SCMP_SYS(pivot_root),
        SCMP_SYS(unshare),
        SCMP_SYS(setns),
        SCMP_SYS(bpf),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(userfaultfd),
        SCMP_SYS(open_by_handle_at),
        SCMP_SYS(keyctl),
        SCMP_SYS(add_key),
        SCMP_SYS(request_key),
        SCMP_SYS(kexec_load),
        SCMP_SYS(init_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(unlink),
        SCMP_SYS(unlinkat),
        SCMP_SYS(rename),
        SCMP_SYS(renameat2),
        SCMP_SYS(truncate),
        SCMP_SYS(chmod),
        SCMP_SYS(kill),
    };
    bool is_nobody = geteuid() != 0 || (setgroups(0, NULL) == 0 &&
                                        setresgid(UID_NOBODY, UID_NOBODY, UID_NOBODY) == 0 &&
                                        setresuid(UID_NOBODY, UID_NOBODY, UID_NOBODY) == 0);
    if (!is_nobody)
        log_warn("slirp", "this sandbox does not let it give up root; the network goes on as root");
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing the user has cleared it */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return;
    for (unsigned i = 0; i < ARRAY_LEN(denied); i++)
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
    seccomp_load(filter);
    seccomp_release(filter);
}

static int run(int argc, char **argv, int fd, struct err *err)
{
    struct stack *stack = stack_new(fd);
    int result = stack != NULL ? 0 : err_set(err, -ENOMEM, "out of memory");
    for (int i = 3; i + 1 < argc && result == 0; i += 2) {
        if (strcmp(argv[i], "--forward") == 0)
            result = add_forward(stack, argv[i + 1], err);
        else
            result = err_set(err, -EINVAL, "unknown argument '%s'", argv[i]);
    }
    if (result == 0) {
        give_up_privileges();
        send(fd, SLIRP_READY, strlen(SLIRP_READY), MSG_NOSIGNAL);
        stack_run(stack);
    }
    stack_free(stack);
    return result;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    if (argc < 3 || strcmp(argv[1], "--fd") != 0) {
        static const char usage[] = "atoll-slirp is started by atoll-vm: atoll-slirp --fd N "
                                    "[--forward PROTOCOL:ADDRESS:HOST_PORT:GUEST_PORT]...\n";
        ssize_t written = write(STDERR_FILENO, usage, sizeof(usage) - 1);
        return written < 0 ? 1 : 2;
    }
    signal(SIGINT, SIG_IGN); /* meant for the VM, which ends us */
    signal(SIGPIPE, SIG_IGN);
    int fd = atoi(argv[2]);
    if (run(argc, argv, fd, &err) == 0)
        return 0;
    send(fd, err.text, strlen(err.text), MSG_NOSIGNAL);
    return 1;
}
