/*
 * slirp/stack.c - libslirp with the clock, the timers and the descriptors that it wants from
 * outside.
 *
 * Runs   on the only thread of atoll-slirp.
 * Trust  frames come from the guest, connections and datagrams from the network: libslirp parses
 * both, which is why this process holds no privilege and nothing worth stealing.
 */
#include "slirp/stack.h"

#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/slirp.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"

enum { POLLS_MAX = 8192, TIMERS_MAX = SLIRP_TIMER_NUM, FRAMES_PER_TURN = 64, FULL_WAIT_MS = 200 };

struct stack_timer {
    SlirpTimerId id;
    void *ctx;
    s64 due_ms; /* -1: not set */
    bool is_used;
};

struct stack {
    Slirp *slirp; /* owned */
    int fd;       /* borrowed */
    bool is_closed;
    struct stack_timer timers[TIMERS_MAX];
    struct pollfd polls[POLLS_MAX];
    int poll_count;
    u8 frame[SLIRP_FRAME_MAX_BYTES];
};

static ssize_t send_packet(const void *data, size_t bytes, void *ctx)
{
    struct stack *stack = ctx;
    struct pollfd room = {.fd = stack->fd, .events = POLLOUT};
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        if (send(stack->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return (ssize_t)bytes;
        if (errno != EAGAIN)
            break;
        /* The guest is slow: a lost frame would cost it more than this wait. */
        poll(&room, 1, FULL_WAIT_MS);
    }
    return (ssize_t)bytes; /* dropped, as a network may */
}

static void guest_error(const char *text, void *ctx)
{
    log_debug("slirp", "%s", text);
}

static int64_t clock_get_ns(void *ctx)
{
    return (int64_t)clock_monotonic_ns();
}

static void *timer_new(SlirpTimerId id, void *timer_ctx, void *ctx)
{
    struct stack *stack = ctx;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct stack_timer *timer = &stack->timers[i];
        if (timer->is_used)
            continue;
        *timer = (struct stack_timer){.id = id, .ctx = timer_ctx, .due_ms = -1, .is_used = true};
        return timer;
    }
    abort(); /* libslirp has more kinds of timers than its header says */
}

static void timer_free(void *opaque, void *ctx)
{
    struct stack_timer *timer = opaque;
    if (timer != NULL)
        timer->is_used = false;
}

static void timer_mod(void *opaque, int64_t due_ms, void *ctx)
{
    struct stack_timer *timer = opaque;
    timer->due_ms = due_ms;
}

/* Every descriptor is polled in every turn: there is nothing to register or to wake. */
static void ignore_fd(int fd, void *ctx)
{
}

static void ignore_notify(void *ctx)
{
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = ignore_fd,
    .notify = ignore_notify,
};

/* A guest that is told of IPv6 prefers it: offer it only where the host has a global address from
 * which the rest of the world can be reached. Connecting a datagram socket sends nothing. */
static bool host_has_ipv6(void)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(53)}, own = {0};
    socklen_t bytes = sizeof(own);
    bool has = false;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    inet_pton(AF_INET6, "2001:4860:4860::8888", &peer.sin6_addr);
    if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) == 0 &&
        getsockname(fd, (struct sockaddr *)&own, &bytes) == 0)
        has = (own.sin6_addr.s6_addr[0] & 0xe0) == 0x20;
    close(fd);
    return has;
}

struct stack *stack_new(int fd)
{
    struct stack *stack = new0(struct stack);
    SlirpConfig config = {
        .version = 4,
        .in_enabled = true,
        .in6_enabled = host_has_ipv6(),
        .vprefix_len = 64,
        .vhostname = "atoll",
        .if_mtu = SLIRP_MTU_BYTES,
        .if_mru = SLIRP_MTU_BYTES,
    };
    if (stack == NULL)
        return NULL;
    stack->fd = fd;
    inet_pton(AF_INET, SLIRP_NETWORK, &config.vnetwork);
    inet_pton(AF_INET, SLIRP_NETMASK, &config.vnetmask);
    inet_pton(AF_INET, SLIRP_HOST, &config.vhost);
    inet_pton(AF_INET, SLIRP_NAMESERVER, &config.vnameserver);
    inet_pton(AF_INET, SLIRP_GUEST, &config.vdhcp_start);
    inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &config.vhost6);
    inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
    stack->slirp = slirp_new(&config, &callbacks, stack);
    if (stack->slirp == NULL) {
        alloc_free(stack);
        return NULL;
    }
    return stack;
}

void stack_free(struct stack *stack)
{
    if (stack == NULL)
        return;
    slirp_cleanup(stack->slirp);
    alloc_free(stack);
}

int stack_forward(struct stack *stack, const struct stack_forward *forward)
{
    struct in_addr host = {.s_addr = forward->host_address}, guest;
    inet_pton(AF_INET, SLIRP_GUEST, &guest);
    errno = 0;
    if (slirp_add_hostfwd(stack->slirp, forward->is_udp, host, forward->host_port, guest,
                          forward->guest_port) == 0)
        return 0;
    return errno != 0 ? -errno : -EADDRINUSE;
}

static int add_poll(int fd, int events, void *ctx)
{
    struct stack *stack = ctx;
    short wanted = 0;
    if (stack->poll_count == POLLS_MAX)
        return -1;
    wanted |= (events & SLIRP_POLL_IN) != 0 ? POLLIN : 0;
    wanted |= (events & SLIRP_POLL_OUT) != 0 ? POLLOUT : 0;
    wanted |= (events & SLIRP_POLL_PRI) != 0 ? POLLPRI : 0;
    stack->polls[stack->poll_count] = (struct pollfd){.fd = fd, .events = wanted};
    return stack->poll_count++;
}

static int get_revents(int index, void *ctx)
{
    struct stack *stack = ctx;
    int events = 0;
    if (index < 0 || index >= stack->poll_count)
        return 0;
    short revents = stack->polls[index].revents;
    events |= (revents & POLLIN) != 0 ? SLIRP_POLL_IN : 0;
    events |= (revents & POLLOUT) != 0 ? SLIRP_POLL_OUT : 0;
    events |= (revents & POLLPRI) != 0 ? SLIRP_POLL_PRI : 0;
    events |= (revents & POLLERR) != 0 ? SLIRP_POLL_ERR : 0;
    events |= (revents & POLLHUP) != 0 ? SLIRP_POLL_HUP : 0;
    return events;
}

static void frames_take(struct stack *stack)
{
    for (unsigned i = 0; i < FRAMES_PER_TURN; i++) {
        ssize_t got = recv(stack->fd, stack->frame, sizeof(stack->frame), MSG_DONTWAIT);
        if (got > 0) {
            slirp_input(stack->slirp, stack->frame, (int)got);
            continue;
        }
        stack->is_closed = got == 0 || (errno != EAGAIN && errno != EINTR);
        break;
    }
}

/* Fires what is due; returns how many milliseconds are left to the next, at most TIMEOUT_MS. */
static u32 timers_run(struct stack *stack, u32 timeout_ms)
{
    s64 now_ms = (s64)(clock_monotonic_ns() / 1000000u);
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct stack_timer *timer = &stack->timers[i];
        if (!timer->is_used || timer->due_ms < 0)
            continue;
        if (timer->due_ms <= now_ms) {
            timer->due_ms = -1;
            slirp_handle_timer(stack->slirp, timer->id, timer->ctx);
        }
        if (timer->due_ms > now_ms)
            timeout_ms = (u32)min_u64(timeout_ms, (u64)(timer->due_ms - now_ms));
    }
    return timeout_ms;
}

void stack_run(struct stack *stack)
{
    while (!stack->is_closed) {
        u32 timeout_ms = 60000;
        stack->poll_count = 0;
        stack->polls[stack->poll_count++] = (struct pollfd){.fd = stack->fd, .events = POLLIN};
        slirp_pollfds_fill(stack->slirp, &timeout_ms, add_poll, stack);
        timeout_ms = timers_run(stack, timeout_ms);
        int result = poll(stack->polls, (nfds_t)stack->poll_count, (int)timeout_ms);
        slirp_pollfds_poll(stack->slirp, result < 0, get_revents, stack);
        if (result > 0 && stack->polls[0].revents != 0)
            frames_take(stack);
    }
}
