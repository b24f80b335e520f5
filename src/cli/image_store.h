/*
 * cli/image_store.h - the images of this user: $XDG_DATA_HOME/atoll/images/NAME/.
 *
 * An image is a folder with disk.raw, vmlinuz, initrd.img and image.json. Its name has the form
 * "debian/12". A folder without image.json is no image: it is written last.
 */
#ifndef CLI_IMAGE_STORE_H
#define CLI_IMAGE_STORE_H

#include "base/err.h"
#include "base/types.h"

enum { IMAGE_PATH_BYTES = 1024, IMAGE_NAME_BYTES = 64 };

/* True for one to three parts of lower-case letters, digits, '.', '-' and '_', parted by '/'. */
bool image_name_valid(const char *name);
/* The file that keeps the firmware variables of the VM called NAME. */
MUST_CHECK int image_store_variables(const char *name, char ret_path[IMAGE_PATH_BYTES],
                                     struct err *err);
/* The folder that holds all images; -ENOENT when neither XDG_DATA_HOME nor HOME says where. */
MUST_CHECK int image_store_path(char ret_path[IMAGE_PATH_BYTES], struct err *err);
/* The folder of the image NAME, which need not exist. */
MUST_CHECK int image_path(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err);
/* As image_path, and -ENOENT with what mends it when there is no such image. */
MUST_CHECK int image_find(const char *name, char ret_path[IMAGE_PATH_BYTES], struct err *err);
/* Makes PATH and the folders above it. */
MUST_CHECK int folder_make(const char *path, struct err *err);
/* Removes PATH and all in it; what is not there is no error. */
MUST_CHECK int folder_remove(const char *path, struct err *err);

/* `atoll image ls` and `atoll image rm NAME`: 0 or a negative error. NAMES_ONLY: a name a line. */
MUST_CHECK int image_list(bool names_only, struct err *err);
MUST_CHECK int image_remove(const char *name, struct err *err);

#endif
