/*
 * host/term.c - raw mode and its undoing.
 *
 * Runs   on the main thread; term_restore also in signal handlers (tcsetattr is safe there).
 */
#include "host/term.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved, raw;
static int raw_fd = -1;
static volatile sig_atomic_t is_raw;

static const int ending_signals[] = {SIGHUP,  SIGINT, SIGQUIT, SIGTERM, SIGABRT,
                                     SIGSEGV, SIGBUS, SIGFPE,  SIGILL,  SIGPIPE};

bool term_is_raw(void)
{
    return is_raw != 0;
}

void term_restore(void)
{
    int saved_errno = errno;
    if (is_raw) {
        is_raw = 0;
        tcsetattr(raw_fd, TCSANOW, &saved);
    }
    errno = saved_errno;
}

/* The handler is already reset (SA_RESETHAND), so raising the signal again ends the process as if
 * it had never been caught: with the right status, and a core where one is due. */
static void on_ending_signal(int signal_number)
{
    term_restore();
    raise(signal_number);
}

static void on_continue(int signal_number)
{
    int saved_errno = errno;
    (void)signal_number;
    if (is_raw)
        tcsetattr(raw_fd, TCSANOW, &raw);
    errno = saved_errno;
}

/* Takes only signals that nobody else handles. */
static void catch_signals(void)
{
    struct sigaction old, action = {.sa_handler = on_ending_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_LEN(ending_signals); i++) {
        if (sigaction(ending_signals[i], NULL, &old) == 0 && (old.sa_flags & SA_SIGINFO) == 0 &&
            old.sa_handler == SIG_DFL)
            sigaction(ending_signals[i], &action, NULL);
    }
    action.sa_handler = on_continue;
    action.sa_flags = SA_RESTART;
    sigaction(SIGCONT, &action, NULL);
}

int term_raw(int fd, struct err *err)
{
    static bool is_prepared;
    struct termios now;

    if (is_raw)
        return 0;
    if (tcgetattr(fd, &now) != 0)
        return err_set(err, -errno, "terminal: %s", strerror(errno));
    if (!is_prepared) {
        is_prepared = true;
        atexit(term_restore);
        catch_signals();
    }
    saved = raw = now;
    cfmakeraw(&raw);
    raw_fd = fd;
    if (tcsetattr(fd, TCSANOW, &raw) != 0)
        return err_set(err, -errno, "terminal: raw mode: %s", strerror(errno));
    is_raw = 1;
    return 0;
}

int term_size(int fd, u16 *ret_columns, u16 *ret_rows)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0)
        return -errno;
    *ret_columns = size.ws_col;
    *ret_rows = size.ws_row;
    return 0;
}
