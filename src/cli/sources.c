/*
 * cli/sources.c - where this host gets its Debian packages from.
 *
 * Spec   sources.list(5): one-line style (*.list) and deb822 style (*.sources).
 * Runs   on the main thread.
 * Trust  the files belong to the host's administrator.
 */
#include "cli/sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fmt.h"

enum { LINE_BYTES = 1024, FIELD_BYTES = 512, PATH_BYTES = 512 };

struct sink {
    const char *codename;
    char *to;
    size_t bytes, used;
};

struct stanza {
    char types[FIELD_BYTES], uris[FIELD_BYTES], suites[FIELD_BYTES], components[FIELD_BYTES];
    char signed_by[FIELD_BYTES], enabled[FIELD_BYTES];
};

/* The release itself, its updates and its security suite; no backports, no third party. */
static bool suite_wanted(const char *codename, const char *suite)
{
    size_t length = strlen(codename);
    return strncmp(suite, codename, length) == 0 &&
           (suite[length] == '\0' || strcmp(suite + length, "-updates") == 0 ||
            strcmp(suite + length, "-security") == 0);
}

static void put_line(struct sink *sink, const char *key, const char *uri, const char *suite,
                     const char *components)
{
    char line[LINE_BYTES];
    bool has_key = key[0] == '/' && access(key, R_OK) == 0;
    size_t length = fmt_text(line, sizeof(line), "deb %s%s%s%s %s %s\n",
                             has_key ? "[signed-by=" : "", has_key ? key : "", has_key ? "] " : "",
                             uri, suite, components);
    if (length >= sizeof(line) || sink->used + length >= sink->bytes)
        return;
    if (strstr(sink->to, line) != NULL)
        return; /* the same twice: two files may say it */
    memcpy(sink->to + sink->used, line, length + 1);
    sink->used += length;
}

static void stanza_end(struct sink *sink, struct stanza *stanza)
{
    char *uri_state, *suite_state, suites[FIELD_BYTES];
    bool is_on = strcmp(stanza->enabled, "no") != 0 && strstr(stanza->types, "deb") != NULL &&
                 strcmp(stanza->types, "deb-src") != 0;
    for (char *uri = is_on ? strtok_r(stanza->uris, " \t", &uri_state) : NULL; uri != NULL;
         uri = strtok_r(NULL, " \t", &uri_state)) {
        memcpy(suites, stanza->suites, sizeof(suites));
        for (char *suite = strtok_r(suites, " \t", &suite_state); suite != NULL;
             suite = strtok_r(NULL, " \t", &suite_state)) {
            if (suite_wanted(sink->codename, suite))
                put_line(sink, stanza->signed_by, uri, suite, stanza->components);
        }
    }
    memset(stanza, 0, sizeof(*stanza));
}

static void stanza_field(struct stanza *stanza, const char *line)
{
    const struct {
        const char *name;
        char *value;
    } fields[] = {{"Types:", stanza->types},         {"URIs:", stanza->uris},
                  {"Suites:", stanza->suites},       {"Components:", stanza->components},
                  {"Signed-By:", stanza->signed_by}, {"Enabled:", stanza->enabled}};
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
        size_t length = strlen(fields[i].name);
        if (strncasecmp(line, fields[i].name, length) == 0) {
            line += length + strspn(line + length, " \t");
            fmt_text(fields[i].value, FIELD_BYTES, "%s", line);
            return;
        }
    }
}

/* "deb [options] URI SUITE COMPONENT..." */
static void one_line(struct sink *sink, char *line)
{
    char key[FIELD_BYTES] = "", *at = line + strspn(line, " \t"), *rest;
    if (strncmp(at, "deb", 3) != 0 || (at[3] != ' ' && at[3] != '\t'))
        return;
    at += 3 + strspn(at + 3, " \t");
    if (*at == '[') {
        char *close = strchr(at, ']'), *signed_by = strstr(at, "signed-by=");
        if (close == NULL)
            return;
        if (signed_by != NULL && signed_by < close)
            fmt_text(key, sizeof(key), "%s", signed_by + strlen("signed-by="));
        key[strcspn(key, " ],")] = '\0';
        at = close + 1;
    }
    char *uri = strtok_r(at, " \t", &rest),
         *suite = uri != NULL ? strtok_r(NULL, " \t", &rest) : NULL;
    if (suite != NULL && suite_wanted(sink->codename, suite))
        put_line(sink, key, uri, suite, rest);
}

static void read_file(struct sink *sink, const char *path, bool is_deb822)
{
    char line[LINE_BYTES];
    struct stanza stanza = {0};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '#')
            continue;
        if (!is_deb822) {
            line[strcspn(line, "#")] = '\0';
            one_line(sink, line);
        } else if (line[strspn(line, " \t")] == '\0') {
            stanza_end(sink, &stanza);
        } else {
            stanza_field(&stanza, line);
        }
    }
    stanza_end(sink, &stanza);
    fclose(file);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

int sources_read(const char *folder, const char *codename, char *to, size_t bytes, struct err *err)
{
    struct sink sink = {.codename = codename, .to = to, .bytes = bytes};
    struct dirent **entries = NULL;
    char path[PATH_BYTES], parts[PATH_BYTES];

    to[0] = '\0';
    fmt_text(path, sizeof(path), "%s/sources.list", folder);
    read_file(&sink, path, false);
    fmt_text(parts, sizeof(parts), "%s/sources.list.d", folder);
    int count = scandir(parts, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        bool is_deb822 = ends_with(name, ".sources");
        if (fmt_text(path, sizeof(path), "%s/%s", parts, name) < sizeof(path) &&
            (is_deb822 || ends_with(name, ".list")))
            read_file(&sink, path, is_deb822);
        free(entries[i]);
    }
    free(entries);
    if (sink.used == 0)
        return err_set(err, -ENOENT,
                       "%s names no source of Debian packages for '%s'; say where they are with "
                       "--mirror URL",
                       folder, codename);
    return 0;
}
