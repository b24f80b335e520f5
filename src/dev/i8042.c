/*
 * dev/i8042.c - the keyboard controller: commands, the output port with A20 and reset, two PS/2
 * ports.
 *
 * Spec   Intel 8042 as the IBM PS/2 technical reference programs it; port 0x92: PS/2 system control
 * A. Runs   on vCPU threads, under the device's lock. Trust  commands and data come from the guest.
 *
 * A20 is remembered, never acted on: the address line is always open. Status, port 0x64:
 *   0 output full  1 input full  2 system flag  3 last write was a command  4 not locked
 *   5 output is the mouse's  6 timeout  7 parity
 */
#include "dev/i8042.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/scancodes.h"

enum { QUEUE_BYTES = 16, RAM_BYTES = 32 };
enum i8042_status {
    STATUS_OBF = 0x01,
    STATUS_SYS = 0x04,
    STATUS_COMMAND = 0x08,
    STATUS_UNLOCKED = 0x10,
    STATUS_AUX = 0x20,
    STATUS_TIMEOUT = 0x40
};
/* The mode byte, cell 0 of the controller's memory. */
enum i8042_mode {
    MODE_IRQ_KEYBOARD = 0x01,
    MODE_IRQ_MOUSE = 0x02,
    MODE_SYS = 0x04,
    MODE_NO_KEYBOARD = 0x10,
    MODE_NO_MOUSE = 0x20,
    MODE_TRANSLATE = 0x40
};
enum { OUTPUT_NOT_RESET = 0x01, OUTPUT_A20 = 0x02, OUTPUT_INITIAL = 0xcf };
enum { INPUT_PORT = 0x80 }; /* the keyboard is not locked */
enum { ANSWER_RESEND = 0xfe, KEY_UP = 0xf0, KEY_UP_BIT = 0x80 };
enum { PORT92_RESET = 0x01, PORT92_A20 = 0x02 };

enum i8042_command {
    COMMAND_READ = 0x20,
    COMMAND_WRITE = 0x60,
    COMMAND_MOUSE_OFF = 0xa7,
    COMMAND_MOUSE_ON = 0xa8,
    COMMAND_MOUSE_TEST = 0xa9,
    COMMAND_SELF_TEST = 0xaa,
    COMMAND_KEYBOARD_TEST = 0xab,
    COMMAND_KEYBOARD_OFF = 0xad,
    COMMAND_KEYBOARD_ON = 0xae,
    COMMAND_READ_INPUT = 0xc0,
    COMMAND_READ_OUTPUT = 0xd0,
    COMMAND_WRITE_OUTPUT = 0xd1,
    COMMAND_FAKE_KEYBOARD = 0xd2,
    COMMAND_FAKE_MOUSE = 0xd3,
    COMMAND_TO_MOUSE = 0xd4,
    COMMAND_A20_OFF = 0xdd,
    COMMAND_A20_ON = 0xdf,
    COMMAND_PULSE = 0xf0
};

struct queue {
    u8 data[QUEUE_BYTES];
    u8 first, count;
};

struct i8042 {
    struct irq_line irq[I8042_PORT_COUNT];
    struct power_sink power;
    struct i8042_attachment attachments[I8042_PORT_COUNT];
    struct queue
        queues[I8042_PORT_COUNT]; /* bytes from the ports that wait for the output buffer */
    u8 ram[RAM_BYTES];
    u8 status;
    u8 output;  /* the buffer that port 0x60 reads */
    u8 command; /* that waits for its data byte; 0: none */
    u8 output_port;
    u8 key_goes_up; /* translation: 0xf0 has come, the key has not */
};

static void update_lines(struct i8042 *i8042)
{
    bool full = i8042->status & STATUS_OBF;
    bool is_mouse = i8042->status & STATUS_AUX;

    irq_set(&i8042->irq[I8042_KEYBOARD], full && !is_mouse && (i8042->ram[0] & MODE_IRQ_KEYBOARD));
    irq_set(&i8042->irq[I8042_MOUSE], full && is_mouse && (i8042->ram[0] & MODE_IRQ_MOUSE));
}

static void put_output(struct i8042 *i8042, u8 byte, bool is_mouse, bool is_timeout)
{
    i8042->output = byte;
    i8042->status &= (u8) ~(STATUS_AUX | STATUS_TIMEOUT);
    i8042->status |= STATUS_OBF | (is_mouse ? STATUS_AUX : 0) | (is_timeout ? STATUS_TIMEOUT : 0);
}

/* Moves the next waiting byte of an enabled port into the empty output buffer. */
static void refill(struct i8042 *i8042)
{
    for (unsigned port = 0; port < I8042_PORT_COUNT; port++) {
        struct queue *queue = &i8042->queues[port];
        u8 off = port == I8042_KEYBOARD ? MODE_NO_KEYBOARD : MODE_NO_MOUSE;
        if ((i8042->status & STATUS_OBF) || queue->count == 0 || (i8042->ram[0] & off))
            continue;
        put_output(i8042, queue->data[queue->first], port == I8042_MOUSE, false);
        queue->first = (queue->first + 1) % QUEUE_BYTES;
        queue->count--;
    }
    update_lines(i8042);
}

bool i8042_input(struct i8042 *i8042, enum i8042_port port, u8 byte)
{
    struct queue *queue = &i8042->queues[port];

    if (queue->count == QUEUE_BYTES)
        return false;
    if (port == I8042_KEYBOARD && (i8042->ram[0] & MODE_TRANSLATE)) {
        if (byte == KEY_UP) {
            i8042->key_goes_up = 1;
            return true;
        }
        byte = scancodes_translate(byte) | (i8042->key_goes_up ? KEY_UP_BIT : 0);
        i8042->key_goes_up = 0;
    }
    queue->data[(queue->first + queue->count++) % QUEUE_BYTES] = byte;
    refill(i8042);
    return true;
}

void i8042_attach(struct i8042 *i8042, enum i8042_port port,
                  const struct i8042_attachment *attachment)
{
    i8042->attachments[port] = *attachment;
}

static void send(struct i8042 *i8042, enum i8042_port port, u8 byte)
{
    const struct i8042_attachment *attachment = &i8042->attachments[port];

    i8042->ram[0] &= port == I8042_KEYBOARD ? (u8)~MODE_NO_KEYBOARD : (u8)~MODE_NO_MOUSE;
    if (attachment->write)
        attachment->write(attachment->ctx, byte);
    else
        put_output(i8042, ANSWER_RESEND, port == I8042_MOUSE, true);
}

static void write_output_port(struct i8042 *i8042, u8 value)
{
    if (!(value & OUTPUT_NOT_RESET))
        power_ask(&i8042->power, POWER_RESET);
    i8042->output_port = value | OUTPUT_NOT_RESET;
}

static void command_write(struct i8042 *i8042, u8 command)
{
    i8042->command = 0;
    i8042->status |= STATUS_COMMAND;
    if (command >= COMMAND_READ && command < COMMAND_READ + RAM_BYTES) {
        put_output(i8042, i8042->ram[command - COMMAND_READ], false, false);
        return;
    }
    if (command >= COMMAND_PULSE) {
        /* The low half names output lines to be pulled down for a moment; line 0 is reset. */
        if (!(command & 1))
            power_ask(&i8042->power, POWER_RESET);
        return;
    }
    switch (command) {
    case COMMAND_MOUSE_OFF:
        i8042->ram[0] |= MODE_NO_MOUSE;
        break;
    case COMMAND_MOUSE_ON:
        i8042->ram[0] &= (u8)~MODE_NO_MOUSE;
        break;
    case COMMAND_MOUSE_TEST:
    case COMMAND_KEYBOARD_TEST:
        put_output(i8042, 0x00, false, false); /* the wires are sound */
        break;
    case COMMAND_SELF_TEST:
        i8042->status |= STATUS_SYS;
        put_output(i8042, 0x55, false, false);
        break;
    case COMMAND_KEYBOARD_OFF:
        i8042->ram[0] |= MODE_NO_KEYBOARD;
        break;
    case COMMAND_KEYBOARD_ON:
        i8042->ram[0] &= (u8)~MODE_NO_KEYBOARD;
        break;
    case COMMAND_READ_INPUT:
        put_output(i8042, INPUT_PORT, false, false);
        break;
    case COMMAND_READ_OUTPUT:
        put_output(i8042, i8042->output_port, false, false);
        break;
    case COMMAND_A20_OFF:
        i8042->output_port &= (u8)~OUTPUT_A20;
        break;
    case COMMAND_A20_ON:
        i8042->output_port |= OUTPUT_A20;
        break;
    default:
        if ((command >= COMMAND_WRITE && command < COMMAND_WRITE + RAM_BYTES) ||
            (command >= COMMAND_WRITE_OUTPUT && command <= COMMAND_TO_MOUSE))
            i8042->command = command;
        break;
    }
}

static void data_write(struct i8042 *i8042, u8 value)
{
    u8 command = i8042->command;

    i8042->command = 0;
    i8042->status &= (u8)~STATUS_COMMAND;
    switch (command) {
    case 0:
        send(i8042, I8042_KEYBOARD, value);
        break;
    case COMMAND_WRITE_OUTPUT:
        write_output_port(i8042, value);
        break;
    case COMMAND_FAKE_KEYBOARD:
        put_output(i8042, value, false, false);
        break;
    case COMMAND_FAKE_MOUSE:
        put_output(i8042, value, true, false);
        break;
    case COMMAND_TO_MOUSE:
        send(i8042, I8042_MOUSE, value);
        break;
    default:
        i8042->ram[(command - COMMAND_WRITE) % RAM_BYTES] = value;
        if (command == COMMAND_WRITE)
            i8042->status = (i8042->status & (u8)~STATUS_SYS) | (value & MODE_SYS);
        break;
    }
}

static u64 data_port_read(void *device, u64 offset, unsigned bytes)
{
    struct i8042 *i8042 = device;
    u8 value = i8042->output;

    i8042->status &= (u8) ~(STATUS_OBF | STATUS_AUX | STATUS_TIMEOUT);
    update_lines(i8042); /* the next byte is another edge */
    refill(i8042);
    for (unsigned port = 0; port < I8042_PORT_COUNT; port++)
        if (i8042->attachments[port].ready && i8042->queues[port].count < QUEUE_BYTES)
            i8042->attachments[port].ready(i8042->attachments[port].ctx);
    return value;
}

static void data_port_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    data_write(device, (u8)value);
    refill(device);
}

static u64 status_port_read(void *device, u64 offset, unsigned bytes)
{
    struct i8042 *i8042 = device;
    return i8042->status;
}

static void status_port_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    command_write(device, (u8)value);
    refill(device);
}

static u64 port92_read(void *device, u64 offset, unsigned bytes)
{
    struct i8042 *i8042 = device;
    return i8042->output_port & OUTPUT_A20 ? PORT92_A20 : 0;
}

static void port92_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct i8042 *i8042 = device;

    if (value & PORT92_A20)
        i8042->output_port |= OUTPUT_A20;
    else
        i8042->output_port &= (u8)~OUTPUT_A20;
    if (value & PORT92_RESET)
        power_ask(&i8042->power, POWER_RESET);
}

static void i8042_reset(void *device)
{
    struct i8042 *i8042 = device;

    for (unsigned i = 0; i < RAM_BYTES; i++)
        i8042->ram[i] = 0;
    for (unsigned i = 0; i < I8042_PORT_COUNT; i++)
        i8042->queues[i].first = i8042->queues[i].count = 0;
    i8042->ram[0] = MODE_IRQ_KEYBOARD | MODE_SYS | MODE_NO_MOUSE | MODE_TRANSLATE;
    i8042->status = STATUS_UNLOCKED | STATUS_SYS;
    i8042->output = 0;
    i8042->command = 0;
    i8042->key_goes_up = 0;
    i8042->output_port = OUTPUT_INITIAL;
    update_lines(i8042);
}

static int i8042_loaded(void *device, struct err *err)
{
    struct i8042 *i8042 = device;
    u8 command = i8042->command;

    for (unsigned i = 0; i < I8042_PORT_COUNT; i++)
        if (i8042->queues[i].first >= QUEUE_BYTES || i8042->queues[i].count > QUEUE_BYTES)
            return err_set(err, -EINVAL, "a queue holds more than it can");
    if (command != 0 && !(command >= COMMAND_WRITE && command < COMMAND_WRITE + RAM_BYTES) &&
        !(command >= COMMAND_WRITE_OUTPUT && command <= COMMAND_TO_MOUSE))
        return err_set(err, -EINVAL, "a command waits for data that takes none");
    update_lines(i8042);
    return 0;
}

static void i8042_free(void *device)
{
    alloc_free(device);
}

struct i8042 *i8042_new(const struct irq_line *irq_keyboard, const struct irq_line *irq_mouse,
                        const struct power_sink *power)
{
    struct i8042 *i8042 = new0(struct i8042);

    if (i8042 == NULL)
        return NULL;
    i8042->irq[I8042_KEYBOARD] = *irq_keyboard;
    i8042->irq[I8042_MOUSE] = *irq_mouse;
    i8042->power = *power;
    i8042_reset(i8042);
    return i8042;
}

static const struct bus_ops data_ops = {.read = data_port_read, .write = data_port_write};
static const struct bus_ops status_ops = {.read = status_port_read, .write = status_port_write};
static const struct bus_ops port92_ops = {.read = port92_read, .write = port92_write};
static const struct device_region i8042_regions[] = {
    {BUS_PORT, 0x60, 1, &data_ops},
    {BUS_PORT, 0x64, 1, &status_ops},
    {BUS_PORT, 0x92, 1, &port92_ops},
};
static const struct field i8042_fields[] = {
    FIELD(struct i8042, queues),      FIELD(struct i8042, ram),
    FIELD(struct i8042, status),      FIELD(struct i8042, output),
    FIELD(struct i8042, command),     FIELD(struct i8042, output_port),
    FIELD(struct i8042, key_goes_up), FIELD_END,
};

const struct device_ops i8042_device = {
    .name = "i8042",
    .regions = i8042_regions,
    .region_count = ARRAY_LEN(i8042_regions),
    .fields = i8042_fields,
    .reset = i8042_reset,
    .loaded = i8042_loaded,
    .free = i8042_free,
};
