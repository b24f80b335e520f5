/*
 * back/display/vnc_priv.h - the server and its viewers, for the files that share them.
 *
 * All of it lives on the display's thread.
 */
#ifndef BACK_DISPLAY_VNC_PRIV_H
#define BACK_DISPLAY_VNC_PRIV_H

#include "back/display.h"
#include "back/display/encode.h"
#include "back/display/keymap.h"
#include "back/display/vnc.h"
#include "host/loop.h"

enum { VNC_VIEWERS_MAX = 16, VNC_CHALLENGE_BYTES = 16, VNC_PASSWORD_BYTES = 8 };
/* The longest message is SetDesktopSize with 255 screens. */
enum { VIEWER_IN_BYTES = 8192, VIEWER_OUT_BYTES = 24 << 20 };

enum viewer_state {
    VIEWER_VERSION,  /* waits for the viewer's version */
    VIEWER_SECURITY, /* for its choice of a security type */
    VIEWER_RESPONSE, /* for its answer to the challenge */
    VIEWER_INIT,     /* for ClientInit */
    VIEWER_RUNNING
};

/* What a viewer has said it understands. */
enum viewer_feature {
    FEATURE_DESKTOP_SIZE = 0x01,
    FEATURE_EXTENDED_SIZE = 0x02,
    FEATURE_CURSOR = 0x04,
    FEATURE_FENCE = 0x08,
    FEATURE_CONTINUOUS = 0x10,
    FEATURE_EXTENDED_KEY = 0x20
};

enum pseudo_encoding {
    PSEUDO_CURSOR = -239,
    PSEUDO_DESKTOP_SIZE = -223,
    PSEUDO_EXTENDED_KEY = -258,
    PSEUDO_EXTENDED_SIZE = -308,
    PSEUDO_FENCE = -312,
    PSEUDO_CONTINUOUS = -313,
    PSEUDO_QUALITY_0 = -32,
    PSEUDO_QUALITY_9 = -23,
    PSEUDO_LEVEL_0 = -256,
    PSEUDO_LEVEL_9 = -247
};

struct vnc;

struct viewer {
    struct vnc *vnc;      /* borrowed; NULL: this place is free */
    struct loop_fd watch; /* its descriptor is owned */
    bool is_closing;      /* to be dropped when the loop's callback has returned */
    enum viewer_state state;
    bool needs_password;
    unsigned minor; /* 3, 7 or 8 of the protocol version */
    u8 challenge[VNC_CHALLENGE_BYTES];

    u8 in[VIEWER_IN_BYTES];
    size_t in_bytes;
    u64 skip_bytes; /* of a message that nobody wants */
    struct buffer out;
    size_t out_sent; /* of out */

    struct encoder encoder;
    enum encoding encoding;
    unsigned features;
    u32 width, height; /* as the viewer knows the screen */
    u32 size_count;    /* of the surface, when it was told */
    bool wants_update; /* an update was asked for and not yet sent */
    bool is_continuous;
    bool owes_cursor, owes_size, owes_extended_key;
    u16 size_reason, size_status; /* of the ExtendedDesktopSize that is owed */
    struct surface_damage damage; /* what the viewer has not seen */

    u64 pressed[KEYMAP_CODES / 64]; /* keys that this viewer holds down */
    u16 x, y;
    u8 buttons; /* as last told */
};

enum { VNC_LISTENERS_MAX = 4 };

struct vnc_listener {
    struct vnc *vnc; /* borrowed */
    struct loop_fd watch;
    char path[108]; /* of a unix socket, to be taken away; or empty */
    bool needs_password;
};

struct vnc {
    struct display display;
    struct loop *loop;     /* owned: the display's own */
    struct thread *thread; /* owned; NULL while it does not run */
    struct vnc_listener listeners[VNC_LISTENERS_MAX];
    unsigned listener_count;
    char name[64];
    char password[VNC_PASSWORD_BYTES]; /* filled up with zeroes */
    struct surface surface;
    struct viewer viewers[VNC_VIEWERS_MAX];
    bool is_ticking; /* the alarm is set */
    u64 last_tick_ns;
};

/* vnc.c: brings the picture up to date soon, because a viewer waits for it. */
void vnc_tick_soon(struct vnc *vnc);
/* Does it now; CTX is the server. */
void vnc_tick(void *ctx);

/* viewer.c */
void viewer_open(struct viewer *viewer, struct vnc *vnc, int fd, bool needs_password);
void viewer_close(struct viewer *viewer);
/* Sends what is in out as far as the socket takes it. */
void viewer_flush(struct viewer *viewer);

/* handshake.c: false when the host has no random bytes for a challenge. */
bool handshake_begin(struct viewer *viewer);
/* Takes a message of the handshake; returns the bytes it had, 0: more are needed, -1: the viewer
 * goes. */
int handshake_take(struct viewer *viewer, const u8 *message, size_t bytes);

/* message.c: the same, for what comes after it. */
int message_take(struct viewer *viewer, const u8 *message, size_t bytes);
/* Lets go of every key and button that the viewer holds. */
void message_release_all(struct viewer *viewer);

/* update.c: whether the viewer would take an update now or later; and sends it one, if there is
 * something to send and it has taken the last one. */
bool update_is_wanted(const struct viewer *viewer);
void update_send(struct viewer *viewer);

#endif
