/*
 * cli/rfb_client.h - the screen of a running VM, as `atoll screenshot` and `atoll sendkey` use it:
 * a viewer of the VM's own socket that waits for its answers.
 */
#ifndef CLI_RFB_CLIENT_H
#define CLI_RFB_CLIENT_H

#include "base/err.h"
#include "base/types.h"

struct rfb_client {
    int fd;
    u32 width, height;
};

/* Connects to the socket at PATH; answers are waited for up to 10 seconds each. */
MUST_CHECK int rfb_client_open(struct rfb_client *ret_client, const char *path, struct err *err);
void rfb_client_close(struct rfb_client *client);
/* The whole picture: width times height pixels 0x00RRGGBB in *RET_PIXELS, for free(). */
MUST_CHECK int rfb_client_picture(struct rfb_client *client, u32 **ret_pixels, struct err *err);
/* Presses or lets go of the key with an X11 keysym. */
MUST_CHECK int rfb_client_key(struct rfb_client *client, u32 keysym, bool is_down, struct err *err);
/* Returns when the VM has taken what was sent before. */
MUST_CHECK int rfb_client_sync(struct rfb_client *client, struct err *err);

#endif
