/*
 * agent/child.c - the command that the host asked for.
 *
 * Runs   on the agent's only thread.
 * Trust  the request comes from the host, which may do anything to this guest.
 */
#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { STATUS_SIGNALLED = 128 };

struct ends {
    int in[2], out[2], error[2]; /* read, write; a terminal is in[1] (master) and in[0] (slave) */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void child_init(struct child *child)
{
    *child = (struct child){.pid_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1};
}

static void ends_close(struct ends *ends)
{
    for (unsigned i = 0; i < 2; i++) {
        close_fd(&ends->in[i]);
        close_fd(&ends->out[i]);
        close_fd(&ends->error[i]);
    }
}

static int ends_open(struct ends *ends, const struct child_request *request)
{
    struct winsize size = {.ws_col = request->columns, .ws_row = request->rows};
    const char *name;

    *ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
    if (!request->wants_terminal)
        return pipe2(ends->in, O_CLOEXEC) == 0 && pipe2(ends->out, O_CLOEXEC) == 0 &&
                       pipe2(ends->error, O_CLOEXEC) == 0
                   ? 0
                   : -errno;
    ends->in[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends->in[1] < 0 || grantpt(ends->in[1]) != 0 || unlockpt(ends->in[1]) != 0 ||
        (name = ptsname(ends->in[1])) == NULL)
        return -errno;
    ends->in[0] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends->in[0] < 0)
        return -errno;
    ioctl(ends->in[1], TIOCSWINSZ, &size);
    return 0;
}

static void __attribute__((noreturn))
child_run(const struct ends *ends, const struct child_request *request, int report_fd)
{
    bool has_terminal = request->wants_terminal;
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (has_terminal)
        ioctl(ends->in[0], TIOCSCTTY, 0);
    if (dup2(ends->in[0], 0) >= 0 && dup2(has_terminal ? ends->in[0] : ends->out[1], 1) >= 0 &&
        dup2(has_terminal ? ends->in[0] : ends->error[1], 2) >= 0) {
        if (chdir("/root") != 0)
            errno = 0; /* the command then starts where the agent stands */
        environ = request->environment;
        execvp(request->arguments[0], request->arguments);
    }
    int code = -errno;
    ssize_t written = write(report_fd, &code, sizeof(code));
    _exit(written < 0 ? 126 : 127);
}

/* Takes our halves out of ENDS. */
static void child_adopt(struct child *child, struct ends *ends, bool has_terminal)
{
    child->has_terminal = has_terminal;
    child->in_fd = ends->in[1];
    ends->in[1] = -1;
    child->out_fd = has_terminal ? fcntl(child->in_fd, F_DUPFD_CLOEXEC, 3) : ends->out[0];
    child->err_fd = ends->error[0];
    ends->out[0] = ends->error[0] = -1;
    fcntl(child->in_fd, F_SETFL, O_NONBLOCK | (has_terminal ? O_RDWR : O_WRONLY));
    fcntl(child->out_fd, F_SETFL, O_NONBLOCK | (has_terminal ? O_RDWR : O_RDONLY));
    if (child->err_fd >= 0)
        fcntl(child->err_fd, F_SETFL, O_NONBLOCK);
}

int child_start(struct child *child, const struct child_request *request)
{
    struct ends ends;
    int report[2], code = ends_open(&ends, request);

    if (code == 0 && pipe2(report, O_CLOEXEC) != 0)
        code = -errno;
    if (code != 0) {
        ends_close(&ends);
        return code;
    }
    pid_t pid = fork();
    if (pid == 0)
        child_run(&ends, request, report[1]);
    code = pid < 0 ? -errno : 0;
    close(report[1]);
    /* The pipe closes when the command runs; else it brings the reason. */
    if (pid > 0 && read(report[0], &code, sizeof(code)) == (ssize_t)sizeof(code))
        waitpid(pid, NULL, 0);
    close(report[0]);
    if (code == 0) {
        child->pid = pid;
        child->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
        child_adopt(child, &ends, request->wants_terminal);
    }
    ends_close(&ends);
    return code;
}

void child_resize(struct child *child, u16 columns, u16 rows)
{
    struct winsize size = {.ws_col = columns, .ws_row = rows};
    if (child->has_terminal && child->in_fd >= 0)
        ioctl(child->in_fd, TIOCSWINSZ, &size);
}

void child_signal(struct child *child, int number)
{
    if (child->pid > 0 && number > 0 && number < NSIG)
        kill(-child->pid, number); /* it leads a session, and so a group, of its own */
}

u32 child_collect(struct child *child)
{
    int status = 0;
    waitpid(child->pid, &status, 0);
    child->pid = 0;
    close_fd(&child->pid_fd);
    return WIFEXITED(status) ? (u32)WEXITSTATUS(status)
                             : (u32)(STATUS_SIGNALLED + WTERMSIG(status));
}

void child_fini(struct child *child)
{
    if (child->pid > 0) {
        kill(-child->pid, SIGKILL);
        child_collect(child);
    }
    close_fd(&child->in_fd);
    close_fd(&child->out_fd);
    close_fd(&child->err_fd);
}
