/*
 * cli/screenshot.c - `atoll screenshot`: the screen of a running VM as a PNG file.
 *
 * Runs   on the main thread.
 */
#include "cli/screenshot.h"

#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/exit_status.h"
#include "cli/help.h"
#include "cli/rfb_client.h"
#include "cli/vm_folder.h"

static int png_write(const char *path, const struct rfb_client *client, const u32 *pixels,
                     struct err *err)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = client->width,
                       .height = client->height,
                       .format = PNG_FORMAT_RGB};
    size_t count = (size_t)client->width * client->height;
    u8 *bytes = malloc(count * 3);

    if (bytes == NULL)
        return err_set(err, -ENOMEM, "no memory for the picture");
    for (size_t i = 0; i < count; i++) {
        bytes[3 * i] = (u8)(pixels[i] >> 16);
        bytes[3 * i + 1] = (u8)(pixels[i] >> 8);
        bytes[3 * i + 2] = (u8)pixels[i];
    }
    bool is_written = strcmp(path, "-") == 0
                          ? png_image_write_to_stdio(&image, stdout, 0, bytes, 0, NULL)
                          : png_image_write_to_file(&image, path, 0, bytes, 0, NULL);
    free(bytes);
    return is_written ? 0 : err_set(err, -EIO, "picture '%s': %s", path, image.message);
}

int screenshot_main(const char *const *argv, struct err *err)
{
    char path[VM_FOLDER_PATH_BYTES];
    struct rfb_client client;
    u32 *pixels = NULL;

    if (argv[0] != NULL && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0))
        return fputs(help_screenshot, stdout) >= 0 ? 0 : EXIT_STATUS_HOST;
    if (argv[0] == NULL || argv[1] == NULL || argv[2] != NULL) {
        err_set(err, -EINVAL, "give a VM and a file: atoll screenshot debian-12 screen.png");
        return EXIT_STATUS_ARGUMENT;
    }
    if (vm_folder_screen(argv[0], false, path, err) < 0 || rfb_client_open(&client, path, err) < 0)
        return EXIT_STATUS_FILE;
    int r = rfb_client_picture(&client, &pixels, err);
    if (r == 0)
        r = png_write(argv[1], &client, pixels, err);
    free(pixels);
    rfb_client_close(&client);
    return r == 0 ? 0 : EXIT_STATUS_HOST;
}
