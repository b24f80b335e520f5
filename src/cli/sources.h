/*
 * cli/sources.h - where this host gets its Debian packages from, for an image that is to use the
 * same.
 */
#ifndef CLI_SOURCES_H
#define CLI_SOURCES_H

#include "base/err.h"
#include "base/types.h"

/* Lines of sources.list(5) for the suites of the release CODENAME ("bookworm", and its updates and
 * security suites), taken from FOLDER ("/etc/apt"), into TO; -ENOENT when the host has none. */
MUST_CHECK int sources_read(const char *folder, const char *codename, char *to, size_t bytes,
                            struct err *err);

#endif
