/*
 * cli/session.c - a command in the guest, as if it ran here.
 *
 * Spec   api/agent.h
 * Runs   on the main thread.
 * Trust  the guest is hostile: its frames are bounded and checked, and end up on our standard
 * output and error only.
 */
#include "cli/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/agent.h"
#include "api/exit_status.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "host/fd.h"
#include "host/spawn.h"
#include "host/term.h"

enum {
    BOOT_TIMEOUT_S = 900, /* an engine without hardware help may need minutes */
    POWEROFF_TIMEOUT_S = 15,
    ORDERLY_TIMEOUT_S = 180,
    STATUS_NOT_FOUND = 127,
    STATUS_NOT_STARTED = 126,
    BUFFER_BYTES = AGENT_HEADER_BYTES + AGENT_PAYLOAD_MAX
};

extern char **environ;

struct session {
    const struct session_options *options;
    int vm_fd, signal_fd;
    bool has_terminal, is_started, is_over, input_ended;
    int status;
    u8 in[BUFFER_BYTES], out[BUFFER_BYTES];
    size_t in_bytes, out_bytes, out_position;
};

static u8 *frame_begin(struct session *session, enum agent_type type, u32 bytes)
{
    agent_header(session->out, type, bytes);
    session->out_bytes = AGENT_HEADER_BYTES + bytes;
    session->out_position = 0;
    return session->out + AGENT_HEADER_BYTES;
}

/* Appends a text with its NUL; NULL when there is no room. */
static u8 *text_put(u8 *at, const u8 *end, const char *text)
{
    size_t bytes = strlen(text) + 1;
    if (at == NULL || bytes > (size_t)(end - at))
        return NULL;
    memcpy(at, text, bytes);
    return at + bytes;
}

static int send_exec(struct session *session, struct err *err)
{
    static const char *const passed[] = {"TERM", "LANG", "LC_ALL", "COLORTERM", "NO_COLOR"};
    u8 *payload = session->out + AGENT_HEADER_BYTES, *at = payload + AGENT_EXEC_FIXED_BYTES;
    const u8 *end = session->out + BUFFER_BYTES;
    u32 argument_count = 0, environment_count = 0;
    u16 columns = 80, rows = 24;

    for (; session->options->command[argument_count] != NULL; argument_count++)
        at = text_put(at, end, session->options->command[argument_count]);
    at = text_put(at, end, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    at = text_put(at, end, "HOME=/root");
    at = text_put(at, end, "USER=root");
    environment_count = 3;
    for (char **entry = environ; *entry != NULL; entry++) {
        for (unsigned i = 0; i < ARRAY_LEN(passed); i++) {
            size_t length = strlen(passed[i]);
            if (strncmp(*entry, passed[i], length) == 0 && (*entry)[length] == '=') {
                at = text_put(at, end, *entry);
                environment_count++;
            }
        }
    }
    if (at == NULL)
        return err_set(err, -E2BIG, "the command is longer than %u bytes", AGENT_PAYLOAD_MAX);
    if (session->has_terminal && term_size(STDOUT_FILENO, &columns, &rows) != 0)
        columns = 80;
    store_le32(payload, session->has_terminal ? AGENT_TTY : 0);
    store_le16(payload + 4, columns);
    store_le16(payload + 6, rows);
    store_le32(payload + 8, argument_count);
    store_le32(payload + 12, environment_count);
    frame_begin(session, AGENT_EXEC, (u32)(at - payload));
    return 0;
}

static int protocol_broken(struct err *err)
{
    return err_set(err, -EPROTO,
                   "the guest's agent does not keep to the protocol; build the image "
                   "again with 'atoll image build --force'");
}

static int on_hello(struct session *session, const u8 *payload, u32 bytes, struct err *err)
{
    if (bytes != 4 || load_le32(payload) != AGENT_VERSION || session->is_started)
        return protocol_broken(err);
    session->is_started = true;
    int result = send_exec(session, err);
    if (result == 0 && session->has_terminal)
        result = term_raw(STDIN_FILENO, err);
    return result;
}

/* One frame from the agent. */
static int on_frame(struct session *session, enum agent_type type, const u8 *payload, u32 bytes,
                    struct err *err)
{
    const char *command = session->options->command[0];
    if (type == AGENT_HELLO)
        return on_hello(session, payload, bytes, err);
    if (!session->is_started)
        return protocol_broken(err);
    switch (type) {
    case AGENT_STDOUT:
    case AGENT_STDERR:
        /* A reader that has gone is the command's matter: what it writes is lost, as in a pipe. */
        if (fd_write(type == AGENT_STDOUT ? STDOUT_FILENO : STDERR_FILENO, payload, bytes) != 0)
            session->input_ended = true;
        return 0;
    case AGENT_EXIT:
        session->is_over = true;
        session->status = bytes == 4 ? (int)(load_le32(payload) & 0xff) : EXIT_STATUS_AGENT;
        return 0;
    case AGENT_FAILED:
        session->is_over = true;
        int code = bytes == 4 ? (int)load_le32(payload) : EIO;
        session->status = code == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_STARTED;
        err_set(err, -code, "'%s' in the guest: %s", command, strerror(code));
        return 0;
    default:
        return protocol_broken(err);
    }
}

/* Reads what the agent sent and handles each whole frame. */
static int agent_read(struct session *session, struct err *err)
{
    ssize_t got = read(session->options->fd, session->in + session->in_bytes,
                       sizeof(session->in) - session->in_bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return err_set(err, -EPIPE, "the VM ended before the command did");
    session->in_bytes += (size_t)got;
    while (session->in_bytes >= AGENT_HEADER_BYTES && !session->is_over) {
        u32 bytes = load_le32(session->in + 4);
        size_t frame_bytes = AGENT_HEADER_BYTES + (size_t)bytes;
        if (bytes > AGENT_PAYLOAD_MAX)
            return protocol_broken(err);
        if (session->in_bytes < frame_bytes)
            break;
        int result = on_frame(session, (enum agent_type)load_le16(session->in),
                              session->in + AGENT_HEADER_BYTES, bytes, err);
        if (result != 0)
            return result;
        session->in_bytes -= frame_bytes;
        memmove(session->in, session->in + frame_bytes, session->in_bytes);
    }
    return 0;
}

static void agent_write(struct session *session)
{
    ssize_t put = write(session->options->fd, session->out + session->out_position,
                        session->out_bytes - session->out_position);
    if (put > 0)
        session->out_position += (size_t)put;
    if (session->out_position == session->out_bytes)
        session->out_position = session->out_bytes = 0;
}

static void input_read(struct session *session)
{
    ssize_t got = read(STDIN_FILENO, session->out + AGENT_HEADER_BYTES, AGENT_PAYLOAD_MAX);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    session->input_ended = got <= 0;
    frame_begin(session, AGENT_STDIN, got > 0 ? (u32)got : 0);
}

/* The window's new size, or a signal that ends us and is the command's to handle. */
static void signal_read(struct session *session)
{
    struct signalfd_siginfo info;
    u16 columns, rows;
    if (read(session->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo != SIGWINCH) {
        store_le32(frame_begin(session, AGENT_SIGNAL, 4), info.ssi_signo);
    } else if (session->has_terminal && term_size(STDOUT_FILENO, &columns, &rows) == 0) {
        u8 *payload = frame_begin(session, AGENT_RESIZE, 4);
        store_le16(payload, columns);
        store_le16(payload + 2, rows);
    }
}

enum { WATCH_AGENT, WATCH_VM, WATCH_INPUT, WATCH_SIGNAL, WATCH_COUNT };

static int turn(struct session *session, int timeout_ms, struct err *err)
{
    bool is_free = session->out_bytes == 0; /* room for a frame to the agent */
    bool takes_input = is_free && session->is_started && !session->input_ended;
    short agent_events = (short)(POLLIN | (is_free ? 0 : POLLOUT));
    struct pollfd polls[WATCH_COUNT] = {
        [WATCH_AGENT] = {.fd = session->options->fd, .events = agent_events},
        [WATCH_VM] = {.fd = session->vm_fd, .events = POLLIN},
        [WATCH_INPUT] = {.fd = takes_input ? STDIN_FILENO : -1, .events = POLLIN},
        [WATCH_SIGNAL] = {.fd = is_free && session->is_started ? session->signal_fd : -1,
                          .events = POLLIN},
    };
    int count = poll(polls, WATCH_COUNT, timeout_ms);
    if (count < 0 && errno != EINTR)
        return err_set(err, -errno, "waiting for the guest: %s", strerror(errno));
    if (count <= 0)
        return 0;
    if ((polls[WATCH_AGENT].revents & POLLOUT) != 0)
        agent_write(session);
    else if (polls[WATCH_INPUT].revents != 0)
        input_read(session);
    else if (polls[WATCH_SIGNAL].revents != 0)
        signal_read(session);
    if ((polls[WATCH_AGENT].revents & (POLLIN | POLLHUP)) != 0)
        return agent_read(session, err);
    if (polls[WATCH_VM].revents != 0)
        return err_set(err, -EPIPE, "the VM ended before the command did");
    return 0;
}

/* Waits for the VM's end until END_NS, then ends it; its exit status. */
static int vm_end(struct session *session, u64 end_ns)
{
    struct pollfd wait = {.fd = session->vm_fd, .events = POLLIN};
    while (clock_monotonic_ns() < end_ns && poll(&wait, 1, 100) <= 0)
        continue;
    if ((wait.revents & POLLIN) == 0)
        kill(session->options->vm, SIGKILL);
    return spawn_wait(session->options->vm);
}

static u64 later_ns(u64 seconds)
{
    return clock_monotonic_ns() + seconds * 1000000000u;
}

static void power_off(struct session *session)
{
    bool is_orderly = session->options->ends_orderly;
    /* What is still queued for a command that has ended is of no use, but a frame must be whole. */
    for (unsigned i = 0; i < 100 && session->out_bytes > 0; i++) {
        struct pollfd wait = {.fd = session->options->fd, .events = POLLOUT};
        poll(&wait, 1, 100);
        agent_write(session);
    }
    store_le32(frame_begin(session, AGENT_POWEROFF, 4), is_orderly ? 0 : 1);
    agent_write(session);
    vm_end(session, later_ns(is_orderly ? ORDERLY_TIMEOUT_S : POWEROFF_TIMEOUT_S));
}

/* Until the command is over or something fails; 0 or a negative error. */
static int converse(struct session *session, struct err *err)
{
    u64 end_ns = later_ns(BOOT_TIMEOUT_S);
    int result = 0;
    while (result == 0 && !session->is_over) {
        result = turn(session, 1000, err);
        if (result == 0 && !session->is_started && clock_monotonic_ns() > end_ns)
            result = err_set(err, -ETIMEDOUT,
                             "the guest's agent did not answer within %u s; 'atoll run IMAGE' "
                             "without a command shows the guest's console",
                             BOOT_TIMEOUT_S);
    }
    return result;
}

static void signals_take(struct session *session)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    if (!session->has_terminal)
        sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
}

int session_run(const struct session_options *options, struct err *err)
{
    struct session *session = new0(struct session);
    int status = EXIT_STATUS_AGENT;

    if (session == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        return EXIT_STATUS_HOST;
    }
    session->options = options;
    session->has_terminal = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
    session->vm_fd = (int)syscall(SYS_pidfd_open, options->vm, 0);
    signals_take(session);
    int result = fd_set_nonblock(options->fd);
    if (result == 0)
        result = converse(session, err);
    term_restore();
    if (result == 0) {
        power_off(session);
        status = session->status;
    } else {
        /* A VM that ended by itself has said why; its status tells more than ours. */
        int vm_status = vm_end(session, later_ns(result == -EPIPE ? 5 : 0));
        if (result == -EPIPE && vm_status != EXIT_STATUS_POWEROFF)
            status = vm_status;
    }
    int fd = options->fd;
    fd_close(&fd);
    fd_close(&session->vm_fd);
    fd_close(&session->signal_fd);
    alloc_free(session);
    return status;
}
