/*
 * cli/image_store.c - the images of this user.
 *
 * Runs   on the main thread.
 */
#include "cli/image_store.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fmt.h"
#include "cli/size.h"

enum { FTW_FDS = 16, NAME_PARTS_MAX = 3 };

bool image_name_valid(const char *name)
{
    unsigned parts = 0;
    if (strlen(name) >= IMAGE_NAME_BYTES)
        return false;
    for (const char *part = name; part != NULL; parts++) {
        size_t length = strspn(part, "abcdefghijklmnopqrstuvwxyz0123456789._-");
        if (length == 0 || part[0] == '.' || part[0] == '-' ||
            (part[length] != '\0' && part[length] != '/'))
            return false;
        part = part[length] == '/' ? part + length + 1 : NULL;
    }
    return parts <= NAME_PARTS_MAX;
}

static int path_join(char ret_path[IMAGE_PATH_BYTES], const char *folder, const char *name,
                     struct err *err)
{
    if (fmt_text(ret_path, IMAGE_PATH_BYTES, "%s/%s", folder, name) >= IMAGE_PATH_BYTES)
        return err_set(err, -ENAMETOOLONG, "the path '%.100s...' is too long", folder);
    return 0;
}

/* NAME in the folder of all that this user's VMs keep. */
static int data_path(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char folder[IMAGE_PATH_BYTES];
    if (data != NULL && data[0] == '/')
        data = path_join(folder, data, "atoll", err) == 0 ? folder : NULL;
    else if (home == NULL || home[0] != '/')
        return err_set(err, -ENOENT, "no place for images: set HOME or XDG_DATA_HOME");
    else
        data = path_join(folder, home, ".local/share/atoll", err) == 0 ? folder : NULL;
    return data == NULL ? -ENAMETOOLONG : path_join(ret_path, data, name, err);
}

int image_store_path(char ret_path[IMAGE_PATH_BYTES], struct err *err)
{
    return data_path("images", ret_path, err);
}

int image_store_variables(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err)
{
    char folder[IMAGE_PATH_BYTES], vm[IMAGE_PATH_BYTES];
    int result = data_path("vms", folder, err);
    if (result == 0)
        result = path_join(vm, folder, name, err);
    return result != 0 ? result : path_join(ret_path, vm, "uefi-vars.fd", err);
}

int image_path(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err)
{
    char store[IMAGE_PATH_BYTES];
    if (!image_name_valid(name))
        return err_set(err, -EINVAL,
                       "'%s' is no image name: those look like debian/12 ('atoll image ls' shows "
                       "yours)",
                       name);
    int result = image_store_path(store, err);
    return result != 0 ? result : path_join(ret_path, store, name, err);
}

static bool folder_is_image(const char *path)
{
    char file[IMAGE_PATH_BYTES + 16];
    fmt_text(file, sizeof(file), "%s/image.json", path);
    return access(file, R_OK) == 0;
}

int image_find(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err)
{
    int result = image_path(name, ret_path, err);
    if (result == 0 && !folder_is_image(ret_path))
        return err_set(err, -ENOENT,
                       "image '%s' is not here; 'atoll image build debian/12' makes that one, "
                       "'atoll image ls' shows what there is",
                       name);
    return result;
}

int folder_make(const char *path, struct err *err)
{
    char part[IMAGE_PATH_BYTES];
    size_t length = strlen(path);
    if (length >= sizeof(part))
        return err_set(err, -ENAMETOOLONG, "'%.100s...': the path is too long", path);
    memcpy(part, path, length + 1);
    for (char *slash = part + 1; slash != NULL; *slash++ = '/') {
        slash = strchr(slash, '/');
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return err_set(err, -errno, "making the folder '%s': %s", part, strerror(errno));
        if (slash == NULL)
            break;
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    return remove(path) != 0 && errno != ENOENT ? -1 : 0;
}

int folder_remove(const char *path, struct err *err)
{
    if (nftw(path, remove_one, FTW_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return err_set(err, -errno, "removing '%s': %s", path, strerror(errno));
    return 0;
}

static void list_one(const char *name, const char *folder)
{
    char path[IMAGE_PATH_BYTES + 16], size[16], used[16];
    struct stat info = {0};
    json_error_t problem;

    fmt_text(path, sizeof(path), "%s/image.json", folder);
    json_t *about = json_load_file(path, 0, &problem);
    const char *kernel = json_string_value(json_object_get(about, "kernel_version"));
    const char *built = json_string_value(json_object_get(about, "built"));
    fmt_text(path, sizeof(path), "%s/disk.raw", folder);
    stat(path, &info);
    size_print((u64)info.st_size, size);
    size_print((u64)info.st_blocks * 512, used);
    printf("%-20s %10s %10s  %-22s %s\n", name, size, used, built != NULL ? built : "-",
           kernel != NULL ? kernel : "-");
    json_decref(about);
}

/* Images in FOLDER, whose names begin with PREFIX; returns how many. */
static unsigned list_folder(const char *folder, const char *prefix, unsigned depth, bool names_only)
{
    unsigned count = 0;
    struct dirent **entries = NULL;
    int entry_count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < entry_count; i++) {
        char path[IMAGE_PATH_BYTES], name[IMAGE_NAME_BYTES];
        const char *entry = entries[i]->d_name;
        bool fits = fmt_text(path, sizeof(path), "%s/%s", folder, entry) < sizeof(path) &&
                    fmt_text(name, sizeof(name), "%s%s", prefix, entry) < sizeof(name);
        if (fits && image_name_valid(name) && folder_is_image(path)) {
            if (names_only)
                printf("%s\n", name);
            else
                list_one(name, path);
            count++;
        } else if (fits && image_name_valid(name) && depth + 1 < NAME_PARTS_MAX) {
            fmt_text(name, sizeof(name), "%s%s/", prefix, entry);
            count += list_folder(path, name, depth + 1, names_only);
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

int image_list(bool names_only, struct err *err)
{
    char store[IMAGE_PATH_BYTES];
    int result = image_store_path(store, err);
    if (result != 0)
        return result;
    if (!names_only)
        printf("%-20s %10s %10s  %-22s %s\n", "IMAGE", "SIZE", "USED", "BUILT", "KERNEL");
    if (list_folder(store, "", 0, names_only) == 0 && !names_only)
        fprintf(stderr, "no image is here yet; 'atoll image build debian/12' makes one\n");
    return 0;
}

int image_remove(const char *name, struct err *err)
{
    char path[IMAGE_PATH_BYTES];
    int result = image_find(name, path, err);
    if (result != 0)
        return result;
    result = folder_remove(path, err);
    /* The folder above goes too when this was its last image. */
    char *slash = strrchr(path, '/');
    *slash = '\0';
    rmdir(path);
    return result;
}
