/*
 * back/img/img_path.c - which file a name in a header means, and whether it may be opened.
 *
 * Trust  names in headers are hostile: they can point anywhere the user can read.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "back/img/img_priv.h"
#include "base/bits.h"

/* "nbd://...", "json:{...}": a word, then a colon, before any slash. */
static bool is_protocol(const char *name)
{
    size_t word = strcspn(name, ":/");
    return name[word] == ':';
}

int img_path_resolve(char **ret_path, const char *path, const char *name, struct err *err)
{
    char text[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    else if (is_protocol(name))
        return err_set(err, -EINVAL,
                       "disk '%s': its backing file '%.200s' is no file name; files are what is "
                       "known here: name one with 'atoll vol rebase'",
                       path, name);
    int folder_bytes = name[0] == '/' || slash == NULL ? 0 : (int)(slash - path + 1);
    int length = snprintf(text, sizeof(text), "%.*s%s", folder_bytes, path, name);
    if (length < 0 || (size_t)length >= sizeof(text))
        return err_set(err, -ENAMETOOLONG, "disk '%s': the path of its backing file is too long",
                       path);
    *ret_path = strdup(text);
    return *ret_path != NULL ? 0 : err_set(err, -ENOMEM, "disk '%s': out of memory", path);
}

static bool is_below(const char *real, const char *folder)
{
    char *real_folder = realpath(folder, NULL);
    size_t length = real_folder != NULL ? strlen(real_folder) : 0;
    if (length == 1)
        length = 0; /* "/" */
    bool is_in = real_folder != NULL && strncmp(real, real_folder, length) == 0 &&
                 real[length] == '/';
    free(real_folder);
    return is_in;
}

static bool is_beside(const char *real, const char *image)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(image, '/');
    if (slash == NULL)
        return is_below(real, ".");
    int length = (int)max_u64((u64)(slash - image), 1);
    return snprintf(folder, sizeof(folder), "%.*s", length, image) < (int)sizeof(folder) &&
           is_below(real, folder);
}

int img_path_allow(char **ret_real, const char *path, const struct img_options *options,
                   struct err *err)
{
    char *real = realpath(path, NULL), *real_image;
    bool may = false;
    int result = real == NULL ? -errno : 0;
    real_image = realpath(options->path, NULL);
    if (result != 0) {
        err_set(err, result,
                "backing file '%s': %s; bring it back, or name another with 'atoll "
                "vol rebase'",
                path, strerror(-result));
    } else {
        may = is_beside(real, options->path) || (real_image != NULL && is_beside(real, real_image));
        for (unsigned i = 0; !may && options->folders != NULL && options->folders[i] != NULL; i++)
            may = is_below(real, options->folders[i]);
        if (!may)
            result = err_set(
                err, -EACCES,
                "disk '%s': its backing file '%s' lies outside the image's own folder; "
                "if that is meant, allow the folder with backing=FOLDER",
                options->path, real);
    }
    free(real_image);
    if (result == 0)
        *ret_real = real;
    else
        free(real);
    return result;
}
