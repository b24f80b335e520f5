/*
 * dev/virtio/input.c - keyboard and tablet as Linux input devices: events in a queue.
 *
 * Spec   virtio 1.2, section 5.8 "Input Device": queue 0 takes events to the driver, queue 1 brings
 *        lights from it; the configuration answers what the driver has selected.
 * Runs   on vCPU threads, the loop and the display's thread, under this device's lock.
 * Trust  the driver selects anything: what there is not has size 0. Events wait in a queue of fixed
 *        size for buffers that the driver may never give.
 */
#include "dev/virtio/input.h"

#include "back/display.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/virtio/virtio.h"

enum { QUEUE_EVENTS = 0, QUEUE_STATUS = 1, QUEUE_COUNT = 2, QUEUE_SIZE = 64 };
enum { CONFIG_SELECT = 0, CONFIG_SUBSELECT = 1, CONFIG_SIZE = 2, CONFIG_DATA = 8 };
enum { CONFIG_DATA_BYTES = 128, CONFIG_BYTES = CONFIG_DATA + CONFIG_DATA_BYTES };
enum input_select {
    SELECT_NAME = 0x01,
    SELECT_SERIAL = 0x02,
    SELECT_IDS = 0x03,
    SELECT_PROPERTIES = 0x10,
    SELECT_EVENTS = 0x11,
    SELECT_AXIS = 0x12
};
enum input_type {
    TYPE_SYNC = 0,
    TYPE_KEY = 1,
    TYPE_RELATIVE = 2,
    TYPE_ABSOLUTE = 3,
    TYPE_LED = 0x11
};
enum { KEY_LAST = 247, RELATIVE_WHEEL = 8, ABSOLUTE_X = 0, ABSOLUTE_Y = 1, LEDS = 7 };
enum { BUTTON_LEFT = 0x110, BUTTON_RIGHT = 0x111, BUTTON_MIDDLE = 0x112 };
enum { BUS_VIRTUAL = 6, EVENTS_MAX = 128, GROUP_MAX = 8 };

struct input_event {
    u16 type, code;
    u32 value;
};
_Static_assert(sizeof(struct input_event) == 8, "an event on the wire");

struct input {
    struct virtio_dev vdev;
    enum virtio_input_kind kind;
    struct input_event events[EVENTS_MAX]; /* a ring of what no buffer was there for */
    u32 first, count;
    u32 lost_count;
    u8 buttons; /* enum display_button, as last told */
};

static struct input *input_of(struct virtio_dev *vdev)
{
    return container_of(vdev, struct input, vdev);
}

/* ---- events ---- */

static void events_send(struct input *input)
{
    struct virtq *vq = input->vdev.queues[QUEUE_EVENTS];
    bool has_sent = false;
    struct chain chain;

    while (input->count > 0 && virtq_pop(vq, &chain)) {
        const struct input_event *event = &input->events[input->first];
        if (chain_write(&chain, event, sizeof(*event)) != sizeof(*event)) {
            virtio_broken(&input->vdev, "buffer too small for an event");
            return;
        }
        virtq_push(vq, &chain, sizeof(*event));
        input->first = (input->first + 1) % EVENTS_MAX;
        input->count--;
        has_sent = true;
    }
    if (has_sent)
        virtq_interrupt(vq);
}

/* Events that belong together, with the mark of their end; all of them or none. */
static void group_send(struct input *input, struct input_event *group, unsigned count)
{
    if (!virtio_running(&input->vdev) || count == 0)
        return;
    group[count++] = (struct input_event){.type = TYPE_SYNC};
    if (input->count + count > EVENTS_MAX) {
        input->lost_count++;
        return;
    }
    for (unsigned i = 0; i < count; i++)
        input->events[(input->first + input->count++) % EVENTS_MAX] = group[i];
    events_send(input);
}

void virtio_input_key(struct virtio_dev *vdev, u16 code, bool is_down)
{
    struct input_event group[GROUP_MAX] = {{TYPE_KEY, code, is_down}};

    if (code > 0 && code <= KEY_LAST)
        group_send(input_of(vdev), group, 1);
}

void virtio_input_point(struct virtio_dev *vdev, const struct display_pointer *pointer)
{
    static const u16 codes[3] = {BUTTON_LEFT, BUTTON_MIDDLE, BUTTON_RIGHT};
    struct input *input = input_of(vdev);
    struct input_event group[GROUP_MAX] = {{TYPE_ABSOLUTE, ABSOLUTE_X, pointer->x},
                                           {TYPE_ABSOLUTE, ABSOLUTE_Y, pointer->y}};
    unsigned count = 2;

    for (unsigned i = 0; i < ARRAY_LEN(codes); i++)
        if ((pointer->buttons ^ input->buttons) >> i & 1)
            group[count++] = (struct input_event){TYPE_KEY, codes[i], pointer->buttons >> i & 1u};
    if (pointer->wheel != 0)
        group[count++] = (struct input_event){TYPE_RELATIVE, RELATIVE_WHEEL,
                                              (u32)(s32)pointer->wheel};
    input->buttons = pointer->buttons;
    group_send(input, group, count);
}

static void input_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct virtq *vq = vdev->queues[queue];
    struct chain chain;

    if (queue == QUEUE_EVENTS) {
        events_send(input_of(vdev));
        return;
    }
    while (virtq_pop(vq, &chain)) /* lights: nobody sees them */
        virtq_push(vq, &chain, 0);
    virtq_interrupt(vq);
}

/* ---- configuration ---- */

static void bit_set(u8 *bits, unsigned bit)
{
    bits[bit / 8] |= (u8)(1u << (bit % 8));
}

static unsigned text_fill(u8 *to, const char *text)
{
    size_t bytes = __builtin_strlen(text);
    __builtin_memcpy(to, text, bytes);
    return (unsigned)bytes;
}

/* The codes of events of TYPE that there are, as bits; returns how many bytes of them. */
static unsigned codes_fill(const struct input *input, unsigned type, u8 *to)
{
    bool is_tablet = input->kind == VIRTIO_INPUT_TABLET;

    if (type == TYPE_KEY && is_tablet) {
        bit_set(to, BUTTON_LEFT);
        bit_set(to, BUTTON_RIGHT);
        bit_set(to, BUTTON_MIDDLE);
        return BUTTON_MIDDLE / 8 + 1;
    }
    if (type == TYPE_KEY) {
        for (unsigned code = 1; code <= KEY_LAST; code++)
            bit_set(to, code);
        return KEY_LAST / 8 + 1;
    }
    if (type == TYPE_RELATIVE && is_tablet) {
        bit_set(to, RELATIVE_WHEEL);
        return RELATIVE_WHEEL / 8 + 1;
    }
    if ((type == TYPE_ABSOLUTE && is_tablet) || (type == TYPE_LED && !is_tablet)) {
        to[0] = is_tablet ? 1 << ABSOLUTE_X | 1 << ABSOLUTE_Y : LEDS;
        return 1;
    }
    return 0;
}

static unsigned data_fill(const struct input *input, unsigned select, unsigned subselect, u8 *to)
{
    bool is_tablet = input->kind == VIRTIO_INPUT_TABLET;

    switch (select) {
    case SELECT_NAME:
        return subselect ? 0 : text_fill(to, is_tablet ? "Atoll Tablet" : "Atoll Keyboard");
    case SELECT_SERIAL:
        return 0;
    case SELECT_IDS:
        if (subselect)
            return 0;
        store_le16(to, BUS_VIRTUAL);
        store_le16(to + 2, 0x1af4);
        store_le16(to + 4, is_tablet ? 3 : 1);
        store_le16(to + 6, 1);
        return 8;
    case SELECT_EVENTS:
        return codes_fill(input, subselect, to);
    case SELECT_AXIS:
        if (!is_tablet || subselect > ABSOLUTE_Y)
            return 0;
        store_le32(to + 4, DISPLAY_AXIS_MAX);
        return 20; /* least, most, fuzz, flat, resolution */
    default:
        return 0;
    }
}

static void config_answer(struct input *input)
{
    u8 *config = input->vdev.config;

    __builtin_memset(config + CONFIG_SIZE, 0, CONFIG_BYTES - CONFIG_SIZE);
    config[CONFIG_SIZE] = (u8)data_fill(input, config[CONFIG_SELECT], config[CONFIG_SUBSELECT],
                                        config + CONFIG_DATA);
}

static void input_config_write(struct virtio_dev *vdev, unsigned offset, unsigned bytes, u64 value)
{
    for (unsigned i = 0; i < bytes; i++)
        if (offset + i <= CONFIG_SUBSELECT)
            vdev->config[offset + i] = (u8)(value >> (8 * i));
    config_answer(input_of(vdev));
}

/* ---- life and state ---- */

static void input_reset(struct virtio_dev *vdev)
{
    struct input *input = input_of(vdev);

    input->first = input->count = 0;
    vdev->config[CONFIG_SELECT] = vdev->config[CONFIG_SUBSELECT] = 0;
    config_answer(input);
}

static int input_loaded(struct virtio_dev *vdev, struct err *err)
{
    struct input *input = input_of(vdev);

    if (input->first >= EVENTS_MAX || input->count > EVENTS_MAX)
        return err_set(err, -EINVAL, "virtio-input: more events than there can be");
    config_answer(input);
    return 0;
}

static void input_free(struct virtio_dev *vdev)
{
    alloc_free(input_of(vdev));
}

static const struct field input_state[] = {
    FIELD(struct input, events),     FIELD(struct input, first),   FIELD(struct input, count),
    FIELD(struct input, lost_count), FIELD(struct input, buttons), FIELD_END,
};
static const struct virtio_ops input_ops = {
    .name = "virtio-input",
    .device_id = VIRTIO_ID_INPUT,
    .queue_count = QUEUE_COUNT,
    .queue_size = QUEUE_SIZE,
    .state = input_state,
    .notify = input_notify,
    .reset = input_reset,
    .config_write = input_config_write,
    .loaded = input_loaded,
    .free = input_free,
};

struct virtio_dev *virtio_input_new(enum virtio_input_kind kind)
{
    struct input *input = new0(struct input);

    if (input == NULL)
        return NULL;
    input->kind = kind;
    input->vdev.ops = &input_ops;
    input->vdev.config_bytes = CONFIG_BYTES;
    config_answer(input);
    return &input->vdev;
}
