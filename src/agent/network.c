/*
 * agent/network.c - waiting for the guest's network before the first command runs.
 *
 * Runs   on the agent's only thread.
 */
#include "agent/network.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT_STEPS = 600, STEP_US = 50000 };

static bool has_adapter(void)
{
    bool has = false;
    struct dirent *entry;
    DIR *folder = opendir("/sys/class/net");
    if (folder == NULL)
        return false;
    while (!has && (entry = readdir(folder)) != NULL) {
        char path[300];
        /* Only adapters with a device behind them: not lo, and no tunnels. */
        snprintf(path, sizeof(path), "/sys/class/net/%.64s/device", entry->d_name);
        has = entry->d_name[0] != '.' && access(path, F_OK) == 0;
    }
    closedir(folder);
    return has;
}

static bool has_line(const char *path, const char *format)
{
    char line[256];
    bool has = false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!has && fgets(line, sizeof(line), file) != NULL) {
        int end = 0;
        sscanf(line, format, &end);
        has = end > 0;
    }
    fclose(file);
    return has;
}

void network_wait(void)
{
    if (!has_adapter())
        return;
    for (unsigned i = 0; i < WAIT_STEPS; i++) {
        /* The second field of a route is its destination; a default route's is zero. */
        if (has_line("/proc/net/route", "%*s 00000000%n") &&
            has_line("/etc/resolv.conf", "nameserver %*s%n"))
            return;
        usleep(STEP_US);
    }
}
