/*
 * host/spawn.c - child processes.
 *
 * Runs   on the main thread.
 */
#include "host/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fmt.h"
#include "host/fault.h"
#include "host/fd.h"

enum { STATUS_SIGNALLED = 128 };

/* In the child, between fork and exec: only calls that are safe there. */
static int child_prepare(const struct spawn_options *options, pid_t parent)
{
    const int standard[3] = {options->in_fd, options->out_fd, options->err_fd};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++) {
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    }
    if (options->dies_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1); /* it has died already */
    }
    for (int i = 0; i < 3; i++) {
        if (standard[i] >= 0 && dup2(standard[i], i) < 0)
            return -errno;
    }
    for (unsigned i = 0; i < options->keep_count; i++) {
        int result = fd_set_inherited(options->keep_fds[i], true);
        if (result != 0)
            return result;
    }
    return 0;
}

static NO_RETURN void child_run(const struct spawn_options *options, pid_t parent, int report_fd)
{
    int code = child_prepare(options, parent);
    if (code == 0) {
        execvp(options->argv[0], (char *const *)(uintptr_t)options->argv);
        code = -errno;
    }
    ssize_t written = write(report_fd, &code, sizeof(code));
    _exit(written < 0 ? 126 : 127);
}

pid_t spawn(const struct spawn_options *options, struct err *err)
{
    int report[2], code = host_fault(FAULT_SPAWN);
    pid_t parent = getpid(), child = -1;

    if (code == 0 && pipe2(report, O_CLOEXEC) != 0)
        code = -errno;
    if (code != 0)
        return err_set(err, code, "starting '%s': %s", options->argv[0], strerror(-code));
    child = fork();
    if (child == 0)
        child_run(options, parent, report[1]);
    code = child < 0 ? -errno : 0;
    close(report[1]);
    /* The pipe closes when the program runs; else it brings the reason. */
    if (child > 0 && fd_read(report[0], &code, sizeof(code)) == sizeof(code))
        waitpid(child, NULL, 0);
    close(report[0]);
    if (code != 0)
        return err_set(err, code, "starting '%s': %s%s", options->argv[0], strerror(-code),
                       code == -ENOENT ? "; it is not installed" : "");
    return child;
}

int spawn_wait(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_SIGNALLED + WTERMSIG(status);
}

void spawn_beside(const char *name, char ret_path[SPAWN_PATH_BYTES])
{
    char own[SPAWN_PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (length > 0) {
        own[length] = '\0';
        char *slash = strrchr(own, '/');
        if (slash != NULL) {
            *slash = '\0';
            size_t needed = fmt_text(ret_path, SPAWN_PATH_BYTES, "%s/%s", own, name);
            if (needed < SPAWN_PATH_BYTES && access(ret_path, X_OK) == 0)
                return;
        }
    }
    fmt_text(ret_path, SPAWN_PATH_BYTES, "%s", name);
}
