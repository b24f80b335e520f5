/*
 * dev/ps2_keyboard.c - a PS/2 keyboard: scan code sets 1 and 2, repetition, lights, commands.
 *
 * Spec   IBM PS/2 Technical Reference, keyboard: commands, scan codes, typematic rates.
 * Runs   on vCPU threads, the loop (repetition) and the display's thread (keys), under the lock of
 *        the controller.
 * Trust  commands come from the guest, which may never fetch what the keyboard says: that waits in
 *        a queue of fixed size, and keys beyond it are lost, as they are in a real one.
 */
#include "dev/ps2_keyboard.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "dev/i8042.h"
#include "dev/ps2_queue.h"
#include "dev/scancodes.h"

enum { ANSWER_ACK = 0xfa, ANSWER_SELF_TEST = 0xaa, ANSWER_ECHO = 0xee, ANSWER_RESEND = 0xfe };
enum keyboard_command {
    COMMAND_LIGHTS = 0xed,
    COMMAND_ECHO = 0xee,
    COMMAND_SET = 0xf0,
    COMMAND_ID = 0xf2,
    COMMAND_RATE = 0xf3,
    COMMAND_ENABLE = 0xf4,
    COMMAND_DISABLE = 0xf5,
    COMMAND_DEFAULTS = 0xf6,
    COMMAND_KEYS_FIRST = 0xf7, /* to 0xfd: kinds of keys, for set 3 only */
    COMMAND_KEYS_LAST = 0xfd,
    COMMAND_RESEND = 0xfe,
    COMMAND_RESET = 0xff
};
enum { SET_1 = 1, SET_2 = 2, RATE_DEFAULT = 0x2b, KEY_NONE = 0 };
enum { DELAY_STEP_NS = 250000000, PERIOD_STEP_NS = 4166667 };

struct ps2_keyboard {
    struct i8042 *i8042; /* borrowed */
    struct timer repeat;
    struct ps2_queue queue;
    u8 is_enabled;
    u8 set;
    u8 command; /* that waits for its data byte; 0: none */
    u8 lights;
    u8 rate;  /* as the command has it: delay and period */
    u8 last;  /* the last byte told, for COMMAND_RESEND */
    u16 held; /* the key that is repeated */
};

static void pump(void *ctx)
{
    struct ps2_keyboard *keyboard = ctx;
    u8 byte;

    while (ps2_queue_peek(&keyboard->queue, &byte) &&
           i8042_input(keyboard->i8042, I8042_KEYBOARD, byte)) {
        ps2_queue_drop(&keyboard->queue);
        keyboard->last = byte;
    }
}

static void tell(struct ps2_keyboard *keyboard, u8 byte)
{
    ps2_queue_put(&keyboard->queue, &byte, 1);
}

static u64 delay_ns(const struct ps2_keyboard *keyboard)
{
    return ((keyboard->rate >> 5 & 3) + 1ull) * DELAY_STEP_NS;
}

/* (8 + low bits) times a power of two, in units of 1/240 second. */
static u64 period_ns(const struct ps2_keyboard *keyboard)
{
    return (u64)(8 + (keyboard->rate & 7)) * (1u << (keyboard->rate >> 3 & 3)) * PERIOD_STEP_NS;
}

static void key_tell(struct ps2_keyboard *keyboard, u16 code, bool is_down)
{
    u8 bytes[SCANCODES_MAX];
    unsigned count = keyboard->set == SET_1 ? scancodes_set1(code, is_down, bytes)
                                            : scancodes_set2(code, is_down, bytes);

    if (count > 0)
        ps2_queue_put(&keyboard->queue, bytes, count);
    pump(keyboard);
}

static void repeat_fire(void *ctx)
{
    struct ps2_keyboard *keyboard = ctx;

    if (keyboard->held == KEY_NONE)
        return;
    if (ps2_queue_is_empty(&keyboard->queue))
        key_tell(keyboard, keyboard->held, true);
    timer_arm(&keyboard->repeat, vm_clock_now(keyboard->repeat.clock) + period_ns(keyboard));
}

static void hold(struct ps2_keyboard *keyboard, u16 code)
{
    keyboard->held = code;
    timer_arm(&keyboard->repeat, code == KEY_NONE
                                     ? TIMER_NEVER
                                     : vm_clock_now(keyboard->repeat.clock) + delay_ns(keyboard));
}

void ps2_keyboard_key(struct ps2_keyboard *keyboard, u16 code, bool is_down)
{
    if (!keyboard->is_enabled)
        return;
    key_tell(keyboard, code, is_down);
    if (is_down)
        hold(keyboard, scancodes_repeats(code) ? code : KEY_NONE);
    else if (code == keyboard->held)
        hold(keyboard, KEY_NONE);
}

static void defaults(struct ps2_keyboard *keyboard)
{
    keyboard->set = SET_2;
    keyboard->rate = RATE_DEFAULT;
    hold(keyboard, KEY_NONE);
    ps2_queue_clear(&keyboard->queue);
}

/* The data byte of a command. */
static void data_take(struct ps2_keyboard *keyboard, u8 byte)
{
    u8 command = keyboard->command;

    keyboard->command = 0;
    tell(keyboard, ANSWER_ACK);
    if (command == COMMAND_LIGHTS)
        keyboard->lights = byte & 7;
    else if (command == COMMAND_RATE)
        keyboard->rate = byte & 0x7f;
    else if (byte == 0)
        tell(keyboard, keyboard->set);
    else if (byte == SET_1 || byte == SET_2)
        keyboard->set = byte;
}

static void command_take(struct ps2_keyboard *keyboard, u8 command)
{
    switch (command) {
    case COMMAND_LIGHTS:
    case COMMAND_RATE:
    case COMMAND_SET:
        keyboard->command = command;
        tell(keyboard, ANSWER_ACK);
        break;
    case COMMAND_ECHO:
        tell(keyboard, ANSWER_ECHO);
        break;
    case COMMAND_ID:
        tell(keyboard, ANSWER_ACK);
        tell(keyboard, 0xab);
        tell(keyboard, 0x83);
        break;
    case COMMAND_ENABLE:
        ps2_queue_clear(&keyboard->queue);
        keyboard->is_enabled = 1;
        tell(keyboard, ANSWER_ACK);
        break;
    case COMMAND_DISABLE:
    case COMMAND_DEFAULTS:
        defaults(keyboard);
        keyboard->is_enabled = command == COMMAND_DEFAULTS;
        tell(keyboard, ANSWER_ACK);
        break;
    case COMMAND_RESEND:
        tell(keyboard, keyboard->last);
        break;
    case COMMAND_RESET:
        defaults(keyboard);
        keyboard->is_enabled = 1;
        keyboard->lights = 0;
        tell(keyboard, ANSWER_ACK);
        tell(keyboard, ANSWER_SELF_TEST);
        break;
    default:
        tell(keyboard, command >= COMMAND_KEYS_FIRST && command <= COMMAND_KEYS_LAST
                           ? ANSWER_ACK
                           : ANSWER_RESEND);
        break;
    }
}

/* A byte with its top bit set is a command, even where data is expected. */
static void take(void *ctx, u8 byte)
{
    struct ps2_keyboard *keyboard = ctx;

    if (keyboard->command != 0 && byte < 0x80)
        data_take(keyboard, byte);
    else {
        keyboard->command = 0;
        command_take(keyboard, byte);
    }
    pump(keyboard);
}

static void reset(void *device)
{
    struct ps2_keyboard *keyboard = device;

    defaults(keyboard);
    keyboard->is_enabled = 1;
    keyboard->command = keyboard->lights = keyboard->last = 0;
}

static int loaded(void *device, struct err *err)
{
    struct ps2_keyboard *keyboard = device;

    if (!ps2_queue_is_sound(&keyboard->queue))
        return err_set(err, -EINVAL, "its queue holds more than it can");
    if (keyboard->set != SET_1 && keyboard->set != SET_2)
        return err_set(err, -EINVAL, "it speaks a set of scan codes that there is not");
    return 0;
}

static void keyboard_free(void *device)
{
    struct ps2_keyboard *keyboard = device;

    if (keyboard)
        timer_cancel(&keyboard->repeat);
    alloc_free(keyboard);
}

struct ps2_keyboard *ps2_keyboard_new(struct vm_clock *clock, struct lock *lock,
                                      struct i8042 *i8042)
{
    struct ps2_keyboard *keyboard = new0(struct ps2_keyboard);

    if (keyboard == NULL)
        return NULL;
    const struct i8042_attachment attachment = {.write = take, .ready = pump, .ctx = keyboard};
    keyboard->i8042 = i8042;
    timer_init(&keyboard->repeat, clock, lock, repeat_fire, keyboard);
    reset(keyboard);
    i8042_attach(i8042, I8042_KEYBOARD, &attachment);
    return keyboard;
}

static const struct field fields[] = {
    FIELD_TIMER(struct ps2_keyboard, repeat), FIELD(struct ps2_keyboard, queue),
    FIELD(struct ps2_keyboard, is_enabled),   FIELD(struct ps2_keyboard, set),
    FIELD(struct ps2_keyboard, command),      FIELD(struct ps2_keyboard, lights),
    FIELD(struct ps2_keyboard, rate),         FIELD(struct ps2_keyboard, last),
    FIELD(struct ps2_keyboard, held),         FIELD_END,
};

const struct device_ops ps2_keyboard_device = {
    .name = "ps2-keyboard",
    .fields = fields,
    .reset = reset,
    .loaded = loaded,
    .free = keyboard_free,
};
