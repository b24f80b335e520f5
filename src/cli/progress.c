/*
 * cli/progress.c - how far a long work is, on standard error.
 *
 * Works that end within half a second show nothing.
 */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "cli/size.h"

enum { BAR_CHARS = 24, LINE_PERCENT = 10 };
#define QUIET_NS 500000000ull
#define REDRAW_NS 100000000ull

void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){
        .what = what, .start_ns = clock_monotonic_ns(), .is_terminal = isatty(STDERR_FILENO) == 1};
}

static void show_bar(const struct progress *progress, u64 done_bytes, u64 total_bytes, u64 now_ns)
{
    char done[16], total[16], rate[16], bar[BAR_CHARS + 1];
    u64 elapsed_ns = max_u64(now_ns - progress->start_ns, 1);
    double per_second = (double)done_bytes * 1e9 / (double)elapsed_ns;
    u64 left_s = per_second > 0 ? (u64)((double)(total_bytes - done_bytes) / per_second) : 0;
    for (unsigned i = 0; i < BAR_CHARS; i++)
        bar[i] = (u64)i * total_bytes < done_bytes * BAR_CHARS ? '#' : '.';
    bar[BAR_CHARS] = '\0';
    size_print(done_bytes, done);
    size_print(total_bytes, total);
    size_print((u64)per_second, rate);
    fprintf(stderr, "\r%s [%s] %s of %s, %s/s, %llu:%02llu left \033[K", progress->what, bar, done,
            total, rate, (unsigned long long)(left_s / 60), (unsigned long long)(left_s % 60));
}

void progress_show(void *ctx, u64 done_bytes, u64 total_bytes)
{
    struct progress *progress = ctx;
    u64 now_ns = clock_monotonic_ns();
    unsigned percent = total_bytes == 0
                           ? 100
                           : (unsigned)((double)done_bytes * 100 / (double)total_bytes);
    if (now_ns - progress->start_ns < QUIET_NS)
        return;
    if (progress->is_terminal) {
        if (now_ns - progress->shown_ns < REDRAW_NS && done_bytes < total_bytes)
            return;
        show_bar(progress, done_bytes, total_bytes, now_ns);
    } else {
        if (percent < progress->shown_percent + LINE_PERCENT)
            return;
        fprintf(stderr, "%s: %u%%\n", progress->what, percent);
        progress->shown_percent = percent / LINE_PERCENT * LINE_PERCENT;
    }
    progress->shown_ns = now_ns;
    progress->is_shown = true;
}

void progress_end(struct progress *progress)
{
    if (progress->is_shown && progress->is_terminal)
        fputs("\r\033[K", stderr);
}
