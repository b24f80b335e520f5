/*
 * dev/ps2_mouse.c - a PS/2 mouse: stream and remote mode, and the IntelliMouse's wheel.
 *
 * Spec   IBM PS/2 Technical Reference, mouse; Microsoft's IntelliMouse extension: sample rates 200,
 *        100 and 80 in a row give it a wheel and ID 3.
 * Runs   on vCPU threads and the display's thread, under the lock of the controller.
 * Trust  commands come from the guest, which may fetch nothing: movement is added up meanwhile.
 *
 * A packet: buttons, signs and overflows; dx; dy upwards; with a wheel its notches, towards the
 * person positive.
 */
#include "dev/ps2_mouse.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "dev/i8042.h"
#include "dev/ps2_queue.h"

enum { ANSWER_ACK = 0xfa, ANSWER_SELF_TEST = 0xaa, ANSWER_ERROR = 0xfc, ANSWER_RESEND = 0xfe };
enum mouse_command {
    COMMAND_SCALE_1 = 0xe6,
    COMMAND_SCALE_2 = 0xe7,
    COMMAND_RESOLUTION = 0xe8,
    COMMAND_STATUS = 0xe9,
    COMMAND_STREAM = 0xea,
    COMMAND_READ = 0xeb,
    COMMAND_WRAP_OFF = 0xec,
    COMMAND_WRAP = 0xee,
    COMMAND_REMOTE = 0xf0,
    COMMAND_ID = 0xf2,
    COMMAND_RATE = 0xf3,
    COMMAND_ENABLE = 0xf4,
    COMMAND_DISABLE = 0xf5,
    COMMAND_DEFAULTS = 0xf6,
    COMMAND_RESEND = 0xfe,
    COMMAND_RESET = 0xff
};
enum { ID_PLAIN = 0, ID_WHEEL = 3, STEP_MAX = 127, PENDING_MAX = 4096, WHEEL_MAX = 7 };
enum { STATUS_SCALE_2 = 0x10, STATUS_ENABLED = 0x20, STATUS_REMOTE = 0x40 };
enum { PACKET_ALWAYS = 0x08, PACKET_X_SIGN = 0x10, PACKET_Y_SIGN = 0x20 };
/* Bits of enum display_button, whose order is not a packet's. */
enum { LEFT = 1, MIDDLE = 2, RIGHT = 4 };

struct ps2_mouse {
    struct i8042 *i8042; /* borrowed */
    struct ps2_queue queue;
    s32 dx, dy, wheel; /* not yet told */
    u8 buttons, told_buttons;
    u8 is_enabled, is_remote, is_wrapping, has_scale_2;
    u8 resolution, rate;
    u8 rates[3]; /* the last ones set, for the wheel's knock */
    u8 id;
    u8 command; /* that waits for its data byte; 0: none */
};

static s32 clamp(s32 value, s32 max)
{
    return value > max ? max : value < -max ? -max : value;
}

static u8 button_bits(const struct ps2_mouse *mouse)
{
    return (u8)((mouse->buttons & LEFT ? 1 : 0) | (mouse->buttons & RIGHT ? 2 : 0) |
                (mouse->buttons & MIDDLE ? 4 : 0));
}

static bool has_news(const struct ps2_mouse *mouse)
{
    return mouse->dx != 0 || mouse->dy != 0 || mouse->wheel != 0 ||
           mouse->buttons != mouse->told_buttons;
}

/* Takes a step out of what is to be told. */
static void packet_put(struct ps2_mouse *mouse)
{
    s32 dx = clamp(mouse->dx, STEP_MAX), dy = clamp(mouse->dy, STEP_MAX);
    s32 wheel = clamp(mouse->wheel, WHEEL_MAX);
    const u8 packet[4] = {(u8)(PACKET_ALWAYS | button_bits(mouse) | (dx < 0 ? PACKET_X_SIGN : 0) |
                               (dy > 0 ? PACKET_Y_SIGN : 0)),
                          (u8)dx, (u8)-dy, (u8)-wheel};

    if (!ps2_queue_put(&mouse->queue, packet, mouse->id == ID_WHEEL ? 4 : 3))
        return;
    mouse->dx -= dx;
    mouse->dy -= dy;
    mouse->wheel = mouse->id == ID_WHEEL ? mouse->wheel - wheel : 0;
    mouse->told_buttons = mouse->buttons;
}

/* A new packet is made when the last has left the mouse, so that movement adds up in between. */
static void pump(void *ctx)
{
    struct ps2_mouse *mouse = ctx;
    u8 byte;

    for (;;) {
        if (ps2_queue_is_empty(&mouse->queue) && mouse->is_enabled && !mouse->is_remote &&
            !mouse->is_wrapping && has_news(mouse))
            packet_put(mouse);
        if (!ps2_queue_peek(&mouse->queue, &byte) || !i8042_input(mouse->i8042, I8042_MOUSE, byte))
            return;
        ps2_queue_drop(&mouse->queue);
    }
}

static void tell(struct ps2_mouse *mouse, u8 byte)
{
    ps2_queue_put(&mouse->queue, &byte, 1);
}

void ps2_mouse_move(struct ps2_mouse *mouse, s32 dx, s32 dy, s32 wheel, u8 buttons)
{
    mouse->buttons = buttons & (LEFT | MIDDLE | RIGHT);
    if (!mouse->is_enabled) {
        mouse->told_buttons = mouse->buttons;
        return;
    }
    mouse->dx = clamp(mouse->dx + clamp(dx, PENDING_MAX), PENDING_MAX);
    mouse->dy = clamp(mouse->dy + clamp(dy, PENDING_MAX), PENDING_MAX);
    mouse->wheel = clamp(mouse->wheel + clamp(wheel, WHEEL_MAX), WHEEL_MAX);
    pump(mouse);
}

static void defaults(struct ps2_mouse *mouse)
{
    ps2_queue_clear(&mouse->queue);
    mouse->dx = mouse->dy = mouse->wheel = 0;
    mouse->told_buttons = mouse->buttons;
    mouse->is_enabled = mouse->is_remote = mouse->is_wrapping = mouse->has_scale_2 = 0;
    mouse->resolution = 2;
    mouse->rate = 100;
    mouse->command = 0;
}

static void rate_take(struct ps2_mouse *mouse, u8 rate)
{
    mouse->rate = rate;
    mouse->rates[0] = mouse->rates[1];
    mouse->rates[1] = mouse->rates[2];
    mouse->rates[2] = rate;
    if (mouse->rates[0] == 200 && mouse->rates[1] == 100 && mouse->rates[2] == 80)
        mouse->id = ID_WHEEL;
}

static void status_tell(struct ps2_mouse *mouse)
{
    /* Here the buttons stand in another order than in packets. */
    u8 buttons = (u8)((mouse->buttons & LEFT ? 4 : 0) | (mouse->buttons & MIDDLE ? 2 : 0) |
                      (mouse->buttons & RIGHT ? 1 : 0));
    tell(mouse,
         (u8)(buttons | (mouse->has_scale_2 ? STATUS_SCALE_2 : 0) |
              (mouse->is_enabled ? STATUS_ENABLED : 0) | (mouse->is_remote ? STATUS_REMOTE : 0)));
    tell(mouse, mouse->resolution);
    tell(mouse, mouse->rate);
}

static void mode_take(struct ps2_mouse *mouse, u8 command)
{
    switch (command) {
    case COMMAND_SCALE_1:
    case COMMAND_SCALE_2:
        mouse->has_scale_2 = command == COMMAND_SCALE_2;
        break;
    case COMMAND_STREAM:
    case COMMAND_REMOTE:
        mouse->is_remote = command == COMMAND_REMOTE;
        break;
    case COMMAND_WRAP:
    case COMMAND_WRAP_OFF:
        mouse->is_wrapping = command == COMMAND_WRAP;
        break;
    case COMMAND_ENABLE:
    case COMMAND_DISABLE:
        mouse->is_enabled = command == COMMAND_ENABLE;
        break;
    case COMMAND_RESOLUTION:
    case COMMAND_RATE:
        mouse->command = command;
        break;
    default:
        break;
    }
}

static void command_take(struct ps2_mouse *mouse, u8 command)
{
    if (command < COMMAND_SCALE_1 || command == 0xed || command == 0xef || command == 0xf1 ||
        (command > COMMAND_DEFAULTS && command < COMMAND_RESEND)) {
        tell(mouse, ANSWER_RESEND);
        return;
    }
    if (command == COMMAND_RESET || command == COMMAND_DEFAULTS)
        defaults(mouse);
    tell(mouse, ANSWER_ACK);
    switch (command) {
    case COMMAND_STATUS:
        status_tell(mouse);
        break;
    case COMMAND_READ:
        packet_put(mouse);
        break;
    case COMMAND_ID:
        tell(mouse, mouse->id);
        break;
    case COMMAND_RESET:
        mouse->id = ID_PLAIN;
        tell(mouse, ANSWER_SELF_TEST);
        tell(mouse, ID_PLAIN);
        break;
    default:
        mode_take(mouse, command);
        break;
    }
}

static void take(void *ctx, u8 byte)
{
    struct ps2_mouse *mouse = ctx;
    u8 command = mouse->command;

    mouse->command = 0;
    if (mouse->is_wrapping && byte != COMMAND_RESET && byte != COMMAND_WRAP_OFF)
        tell(mouse, byte);
    else if (command == COMMAND_RATE) {
        rate_take(mouse, byte);
        tell(mouse, ANSWER_ACK);
    } else if (command == COMMAND_RESOLUTION) {
        mouse->resolution = byte & 3;
        tell(mouse, byte <= 3 ? ANSWER_ACK : ANSWER_ERROR);
    } else
        command_take(mouse, byte);
    pump(mouse);
}

static void reset(void *device)
{
    struct ps2_mouse *mouse = device;

    defaults(mouse);
    mouse->id = ID_PLAIN;
    __builtin_memset(mouse->rates, 0, sizeof(mouse->rates));
}

static int loaded(void *device, struct err *err)
{
    struct ps2_mouse *mouse = device;

    if (!ps2_queue_is_sound(&mouse->queue))
        return err_set(err, -EINVAL, "its queue holds more than it can");
    mouse->dx = clamp(mouse->dx, PENDING_MAX);
    mouse->dy = clamp(mouse->dy, PENDING_MAX);
    mouse->wheel = clamp(mouse->wheel, WHEEL_MAX);
    return 0;
}

static void mouse_free(void *device)
{
    alloc_free(device);
}

struct ps2_mouse *ps2_mouse_new(struct i8042 *i8042)
{
    struct ps2_mouse *mouse = new0(struct ps2_mouse);

    if (mouse == NULL)
        return NULL;
    const struct i8042_attachment attachment = {.write = take, .ready = pump, .ctx = mouse};
    mouse->i8042 = i8042;
    reset(mouse);
    i8042_attach(i8042, I8042_MOUSE, &attachment);
    return mouse;
}

static const struct field fields[] = {
    FIELD(struct ps2_mouse, queue),       FIELD(struct ps2_mouse, dx),
    FIELD(struct ps2_mouse, dy),          FIELD(struct ps2_mouse, wheel),
    FIELD(struct ps2_mouse, buttons),     FIELD(struct ps2_mouse, told_buttons),
    FIELD(struct ps2_mouse, is_enabled),  FIELD(struct ps2_mouse, is_remote),
    FIELD(struct ps2_mouse, is_wrapping), FIELD(struct ps2_mouse, has_scale_2),
    FIELD(struct ps2_mouse, resolution),  FIELD(struct ps2_mouse, rate),
    FIELD(struct ps2_mouse, rates),       FIELD(struct ps2_mouse, id),
    FIELD(struct ps2_mouse, command),     FIELD_END,
};

const struct device_ops ps2_mouse_device = {
    .name = "ps2-mouse",
    .fields = fields,
    .reset = reset,
    .loaded = loaded,
    .free = mouse_free,
};
