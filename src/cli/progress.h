/*
 * cli/progress.h - how far a long work is: a bar on a terminal, a line now and then elsewhere.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/types.h"

struct progress {
    const char *what; /* "convert"; borrowed */
    u64 start_ns, shown_ns;
    unsigned shown_percent;
    bool is_terminal, is_shown;
};

void progress_begin(struct progress *progress, const char *what);
/* The type fits struct vol_progress's tell, with the progress as its context. */
void progress_show(void *progress, u64 done_bytes, u64 total_bytes);
/* Ends the bar's line, if there is one. */
void progress_end(struct progress *progress);

#endif
