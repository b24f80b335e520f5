/*
 * vm/stats.c - the engine's counters as a text file.
 *
 * Runs   on the main thread, while vCPUs run or after.
 */
#include "vm/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "core/counter.h"
#include "vcpu/vcpu.h"

struct output {
    FILE *file;
    unsigned cpu;
};

static void write_line(void *ctx, const char *group, const char *name, u64 value)
{
    const struct output *output = ctx;

    fprintf(output->file, "cpu%u %s.%s %" PRIu64 "\n", output->cpu, group, name, value);
}

int stats_write(const char *path, struct engine *engine, unsigned cpu_count, struct err *err)
{
    struct output output = {.file = fopen(path, "we")};
    const struct counter_sink sink = {.take = write_line, .ctx = &output};

    if (!output.file)
        return err_set(err, -errno, "--debug-stats '%s': %s", path, strerror(errno));
    fprintf(output.file, "host tsc_hz %" PRIu64 "\n", clock_tsc_hz());
    for (unsigned i = 0; i < cpu_count && engine->ops->counters; i++) {
        output.cpu = i;
        engine->ops->counters(engine, i, &sink);
    }
    bool failed = ferror(output.file) != 0;
    failed |= fclose(output.file) != 0;
    return failed ? err_set(err, -EIO, "--debug-stats '%s': cannot be written", path) : 0;
}
