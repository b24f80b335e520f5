/*
 * agent/main.c - atoll-agent: runs commands in the guest for `atoll run -- COMMAND`.
 *
 * A static program, so that it runs in any Linux guest. As process 1 of an initial RAM disk it is
 * instead the small init of initrd.c.
 * Spec   api/agent.h
 * Trust  the host is the guest's master; its frames are still checked, so that a mistake there ends
 *        the conversation and nothing else.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/initrd.h"
#include "agent/network.h"
#include "agent/port.h"

enum { STRINGS_MAX = 1024, RETRY_US = 200000, SIGRTMIN_POWEROFF = 4 /* systemd(1), SIGRTMIN+4 */ };

struct agent {
    struct port port;
    struct child child;
    u8 input[AGENT_PAYLOAD_MAX]; /* for the command, not yet taken by it */
    size_t input_bytes;
    bool input_ends; /* close its input after that */
};

static void put_u32(struct agent *agent, enum agent_type type, u32 value)
{
    u8 payload[4];
    store_le32(payload, value);
    port_put(&agent->port, type, payload, sizeof(payload));
}

/* Points STRINGS at COUNT NUL-terminated strings from *AT on; false when they are not all there. */
static bool take_strings(const u8 **at, const u8 *end, u32 count, char **strings)
{
    if (count >= STRINGS_MAX)
        return false;
    for (u32 i = 0; i < count; i++) {
        const u8 *stop = memchr(*at, '\0', (size_t)(end - *at));
        if (stop == NULL)
            return false;
        strings[i] = (char *)(uintptr_t)*at;
        *at = stop + 1;
    }
    strings[count] = NULL;
    return true;
}

static bool on_exec(struct agent *agent, const struct port_frame *frame)
{
    static char *arguments[STRINGS_MAX], *environment[STRINGS_MAX];
    const u8 *at = frame->payload, *end = at + frame->bytes;
    struct child_request request = {.arguments = arguments, .environment = environment};

    if (agent->child.pid > 0 || frame->bytes < AGENT_EXEC_FIXED_BYTES)
        return false;
    request.wants_terminal = (load_le32(at) & AGENT_TTY) != 0;
    request.columns = load_le16(at + 4);
    request.rows = load_le16(at + 6);
    u32 argument_count = load_le32(at + 8), environment_count = load_le32(at + 12);
    at += AGENT_EXEC_FIXED_BYTES;
    if (argument_count == 0 || !take_strings(&at, end, argument_count, arguments) ||
        !take_strings(&at, end, environment_count, environment))
        return false;
    agent->input_bytes = 0;
    agent->input_ends = false;
    network_wait();
    int code = child_start(&agent->child, &request);
    if (code != 0)
        put_u32(agent, AGENT_FAILED, (u32)-code);
    return true;
}

static void on_poweroff(const struct port_frame *frame)
{
    sync();
    if (load_le32(frame->payload) == 0)
        kill(1, SIGRTMIN + SIGRTMIN_POWEROFF);
    else
        reboot(RB_POWER_OFF);
}

/* One frame from the host; false when it breaks the rules. */
static bool on_frame(struct agent *agent, const struct port_frame *frame)
{
    switch (frame->type) {
    case AGENT_EXEC:
        return on_exec(agent, frame);
    case AGENT_STDIN:
        memcpy(agent->input, frame->payload, frame->bytes);
        agent->input_bytes = frame->bytes;
        agent->input_ends = frame->bytes == 0;
        return true;
    case AGENT_RESIZE:
        if (frame->bytes != 4)
            return false;
        child_resize(&agent->child, load_le16(frame->payload), load_le16(frame->payload + 2));
        return true;
    case AGENT_SIGNAL:
        if (frame->bytes != 4)
            return false;
        child_signal(&agent->child, (int)load_le32(frame->payload));
        return true;
    case AGENT_POWEROFF:
        if (frame->bytes != 4)
            return false;
        on_poweroff(frame);
        return true;
    default:
        return false;
    }
}

static void close_input(struct child *child)
{
    if (child->in_fd >= 0)
        close(child->in_fd);
    child->in_fd = -1;
}

/* Gives the command what the host sent for it. */
static void input_send(struct agent *agent)
{
    struct child *child = &agent->child;
    if (child->in_fd < 0) {
        agent->input_bytes = 0; /* nobody reads it any more */
        return;
    }
    while (agent->input_bytes > 0) {
        ssize_t put = write(child->in_fd, agent->input, agent->input_bytes);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (put < 0) {
            close_input(child);
            agent->input_bytes = 0;
            return;
        }
        agent->input_bytes -= (size_t)put;
        memmove(agent->input, agent->input + put, agent->input_bytes);
    }
    if (agent->input_ends && child->has_terminal) {
        ssize_t put = write(child->in_fd, "\4", 1); /* ^D is a terminal's end of file */
        (void)put; /* full of input that is not read: then the end matters to nobody either */
    } else if (agent->input_ends) {
        close_input(child);
    }
    agent->input_ends = false;
}

/* Passes on what the command has written; false when nothing was there. */
static bool output_take(struct agent *agent, int *fd, enum agent_type type)
{
    static u8 data[AGENT_PAYLOAD_MAX];
    if (*fd < 0 || !port_has_room(&agent->port))
        return false;
    ssize_t got = read(*fd, data, sizeof(data));
    if (got > 0) {
        port_put(&agent->port, type, data, (u32)got);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(*fd);
        *fd = -1;
    }
    return false;
}

/* The command has ended: what it still wrote goes before its status. A child of its own that lives
 * on with the same output does not keep us. */
static bool end_command(struct agent *agent)
{
    struct child *child = &agent->child;
    while (output_take(agent, &child->out_fd, AGENT_STDOUT) ||
           output_take(agent, &child->err_fd, AGENT_STDERR))
        continue;
    if (!port_has_room(&agent->port))
        return false; /* later, when the host has read some */
    u32 status = child_collect(child);
    child_fini(child);
    put_u32(agent, AGENT_EXIT, status);
    return true;
}

enum { WATCH_PORT, WATCH_IN, WATCH_OUT, WATCH_ERR, WATCH_END, WATCH_COUNT };

static void fill_polls(const struct agent *agent, struct pollfd polls[WATCH_COUNT])
{
    const struct child *child = &agent->child;
    bool has_room = port_has_room(&agent->port);
    bool has_input = agent->input_bytes > 0 || agent->input_ends;
    short port_events = (short)((has_input ? 0 : POLLIN) |
                                (agent->port.out_bytes > 0 ? POLLOUT : 0));

    polls[WATCH_PORT] = (struct pollfd){.fd = agent->port.fd, .events = port_events};
    polls[WATCH_IN] = (struct pollfd){.fd = has_input ? child->in_fd : -1, .events = POLLOUT};
    polls[WATCH_OUT] = (struct pollfd){.fd = has_room ? child->out_fd : -1, .events = POLLIN};
    polls[WATCH_ERR] = (struct pollfd){.fd = has_room ? child->err_fd : -1, .events = POLLIN};
    polls[WATCH_END] = (struct pollfd){.fd = has_room ? child->pid_fd : -1, .events = POLLIN};
}

/* Frames are taken one at a time: while input waits for the command, the rest waits in the port. */
static bool frames_take(struct agent *agent)
{
    struct port_frame frame;
    int result = 0;
    while (agent->input_bytes == 0 && !agent->input_ends &&
           (result = port_take(&agent->port, &frame)) > 0) {
        bool is_good = on_frame(agent, &frame);
        port_drop(&agent->port);
        if (!is_good)
            return false;
        input_send(agent);
    }
    return result >= 0;
}

/* One conversation with the host, from hello to the end of the connection or a broken rule. */
static void converse(struct agent *agent)
{
    struct pollfd polls[WATCH_COUNT];
    bool is_alive = true;

    put_u32(agent, AGENT_HELLO, AGENT_VERSION);
    while (is_alive) {
        fill_polls(agent, polls);
        if (poll(polls, WATCH_COUNT, -1) < 0)
            continue;
        if ((polls[WATCH_PORT].revents & POLLHUP) != 0)
            return;
        if (polls[WATCH_IN].revents != 0)
            input_send(agent);
        if (polls[WATCH_OUT].revents != 0)
            output_take(agent, &agent->child.out_fd, AGENT_STDOUT);
        if (polls[WATCH_ERR].revents != 0)
            output_take(agent, &agent->child.err_fd, AGENT_STDERR);
        if (polls[WATCH_END].revents != 0)
            end_command(agent);
        if ((polls[WATCH_PORT].revents & POLLIN) != 0)
            is_alive = port_receive(&agent->port);
        is_alive = is_alive && frames_take(agent) && port_send(&agent->port);
    }
}

int main(void)
{
    static struct agent agent;

    signal(SIGPIPE, SIG_IGN);
    if (getpid() == 1)
        initrd_main();
    child_init(&agent.child);
    for (;;) {
        port_open(&agent.port);
        converse(&agent);
        child_fini(&agent.child);
        child_init(&agent.child);
        agent.input_bytes = 0;
        agent.input_ends = false;
        port_close(&agent.port);
        usleep(RETRY_US); /* nobody is there, or somebody who does not know the rules */
    }
}
