/*
 * back/net/user.c - rootless NAT, done by a process of its own.
 *
 * Runs   on the loop; sends on any thread under the device's lock.
 * Trust  atoll-slirp parses hostile packets: what it sends is a frame for the guest and nothing
 * else.
 */
#include "back/net/user.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/slirp.h"
#include "back/net/frames.h"
#include "base/alloc.h"
#include "base/fmt.h"
#include "base/log.h"
#include "host/fault.h"
#include "host/fd.h"
#include "host/spawn.h"

enum { START_TIMEOUT_MS = 10000, SOCKET_BUFFER_BYTES = 1 << 20, FORWARD_BYTES = 64 };

struct net_user {
    struct net net;
    struct frames frames;
    int fd;      /* owned */
    pid_t child; /* owned; 0 when there is none */
};

static void user_send(struct net *net, const struct net_segment *segments, unsigned count)
{
    frames_send(&container_of(net, struct net_user, net)->frames, segments, count);
}

static void user_rx_resume(struct net *net)
{
    frames_rx_resume(&container_of(net, struct net_user, net)->frames);
}

static void user_free(struct net *net)
{
    struct net_user *user = container_of(net, struct net_user, net);
    frames_fini(&user->frames);
    fd_close(&user->fd);
    if (user->child > 0) {
        kill(user->child, SIGKILL);
        waitpid(user->child, NULL, 0);
    }
    alloc_free(user);
}

static const struct net_ops user_ops = {
    .send = user_send, .rx_resume = user_rx_resume, .free = user_free};

static void on_ended(void *ctx)
{
    log_error("net", "atoll-slirp has ended: the user network is gone until the VM starts again");
}

/* Starts atoll-slirp with the other end of our socket. */
static int user_start(struct net_user *user, const struct net_forward *forwards, unsigned count,
                      struct err *err)
{
    char path[SPAWN_PATH_BYTES], number[16], texts[NET_FORWARDS_MAX][FORWARD_BYTES];
    const char *argv[4 + 2 * NET_FORWARDS_MAX] = {path, "--fd", number};
    int fds[2] = {-1, -1}, bytes = SOCKET_BUFFER_BYTES, result = host_fault(FAULT_SOCKET);

    if (count > NET_FORWARDS_MAX)
        return err_set(err, -EINVAL, "user network: at most %u ports can be forwarded",
                       NET_FORWARDS_MAX);
    if (result == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        result = -errno;
    if (result != 0)
        return err_set(err, result, "user network: %s", strerror(-result));
    for (unsigned i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    for (unsigned i = 0; i < count; i++) {
        fmt_text(texts[i], FORWARD_BYTES, "%s:%.15s:%u:%u", forwards[i].is_udp ? "udp" : "tcp",
                 forwards[i].host_address, forwards[i].host_port, forwards[i].guest_port);
        argv[3 + 2 * i] = "--forward";
        argv[4 + 2 * i] = texts[i];
    }
    spawn_beside("atoll-slirp", path);
    fmt_text(number, sizeof(number), "%d", fds[1]);
    const struct spawn_options options = {.argv = argv,
                                          .in_fd = -1,
                                          .out_fd = -1,
                                          .err_fd = -1,
                                          .keep_fds = &fds[1],
                                          .keep_count = 1,
                                          .dies_with_parent = true};
    user->fd = fds[0];
    pid_t child = spawn(&options, err);
    close(fds[1]);
    if (child < 0)
        return err_prefix(err, "user network");
    user->child = child;
    return 0;
}

/* Waits for the first message: that it is ready, or why not. */
static int user_wait(struct net_user *user, struct err *err)
{
    char sentence[SLIRP_SENTENCE_BYTES];
    struct pollfd wait = {.fd = user->fd, .events = POLLIN};
    int count;
    do {
        count = poll(&wait, 1, START_TIMEOUT_MS);
    } while (count < 0 && errno == EINTR);
    ssize_t got = count > 0 ? recv(user->fd, sentence, sizeof(sentence) - 1, 0) : -1;
    if (got <= 0)
        return err_set(err, -EIO, "user network: atoll-slirp %s",
                       count == 0 ? "does not answer" : "ended before it was ready");
    sentence[got] = '\0';
    if (strcmp(sentence, SLIRP_READY) != 0)
        return err_set(err, -EADDRINUSE, "user network: %s", sentence);
    return 0;
}

struct net *net_user_new(struct loop *loop, const struct net_forward *forwards, unsigned count,
                         struct err *err)
{
    struct net_user *user = new0(struct net_user);
    if (user == NULL) {
        err_set(err, -ENOMEM, "user network: out of memory");
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN); /* sending to a helper that has died must not end the VM */
    user->fd = -1;
    user->net.ops = &user_ops;
    user->net.mtu = SLIRP_MTU_BYTES;
    if (user_start(user, forwards, count, err) != 0 || user_wait(user, err) != 0)
        goto fail;
    user->frames.net = &user->net;
    user->frames.loop = loop;
    user->frames.ended = on_ended;
    int result = fd_set_nonblock(user->fd);
    if (result == 0)
        result = frames_init(&user->frames, user->fd);
    if (result != 0) {
        err_set(err, result, "user network: %s", strerror(-result));
        goto fail;
    }
    return &user->net;
fail:
    user_free(&user->net);
    return NULL;
}
