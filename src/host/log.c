/*
 * host/log.c - base/log.h on standard error: one write per line, so that lines never interleave.
 *
 * ATOLL_LOG=error|warn|info|debug chooses what is shown (warn when it is not set). Levels are
 * coloured on a terminal unless NO_COLOR is set. Runs   on any thread. Trust  text may come from a
 * guest or a file: control characters are shown as '?'.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fmt.h"
#include "host/term.h"

enum { LOG_LINE_BYTES = 1024 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const level_colours[] = {"\033[31m", "\033[33m", "\033[36m", "\033[2m"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum log_level shown_level = LOG_WARN;
static bool is_coloured;

static void log_setup(void)
{
    const char *wanted = getenv("ATOLL_LOG");
    const char *no_colour = getenv("NO_COLOR");

    for (unsigned i = 0; wanted != NULL && i < ARRAY_LEN(level_names); i++) {
        if (strcmp(wanted, level_names[i]) == 0)
            shown_level = (enum log_level)i;
    }
    is_coloured = isatty(STDERR_FILENO) == 1 && (no_colour == NULL || no_colour[0] == '\0');
}

/* Text from outside must not move the cursor or start an escape sequence. */
static void hide_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
    }
}

void log_line(enum log_level level, const char *subject, const char *format, ...)
{
    char text[LOG_LINE_BYTES - 80], line[LOG_LINE_BYTES];
    va_list args;

    pthread_once(&once, log_setup);
    if (level > shown_level)
        return;
    va_start(args, format);
    fmt_text_v(text, sizeof(text), format, args);
    va_end(args);
    hide_controls(text);
    /* A raw terminal does not return the carriage by itself. */
    const char *end = term_is_raw() ? "\r\n" : "\n";
    size_t length = fmt_text(line, sizeof(line), "%s%s%s: %.40s: %s%s",
                             is_coloured ? level_colours[level] : "", level_names[level],
                             is_coloured ? "\033[0m" : "", subject, text, end);
    if (length > sizeof(line) - 1)
        length = sizeof(line) - 1;
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written; /* There is nowhere to report that stderr has gone. */
}
