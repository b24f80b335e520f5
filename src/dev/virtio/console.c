/*
 * dev/virtio/console.c - moves bytes between guest ports and character back ends.
 *
 * Spec   virtio 1.2, section 5.3 "Console Device", with F_MULTIPORT.
 * Runs   on vCPU threads and on the loop, under the device's lock.
 * Trust  control messages and port numbers come from the guest.
 *
 * Queues: 0, 1 are port 0's (to the guest, from the guest); 2, 3 carry control messages; port N has
 * 2 + 2N and 3 + 2N.
 *
 * Nothing is held here: bytes that the back end does not take stay in the guest's buffer (its chain
 * goes back into the ring, sent_bytes remembers how far it got), bytes that the guest has no room
 * for stay in the back end, and control messages that find no buffer are bits in `pending`.
 */
#include "dev/virtio/console.h"

#include "back/chr.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dev/virtio/virtio.h"

enum { QUEUE_SIZE = 128, QUEUE_CONTROL_RX = 2, QUEUE_CONTROL_TX = 3 };
enum { F_SIZE = 0, F_MULTIPORT = 1, F_EMERG_WRITE = 2 }; /* feature bit numbers */
enum {
    CONFIG_COLS = 0,
    CONFIG_ROWS = 2,
    CONFIG_PORT_COUNT = 4,
    CONFIG_EMERG = 8,
    CONFIG_BYTES = 12
};

enum control_event {
    DEVICE_READY = 0,
    PORT_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};
enum { CONTROL_BYTES = 8, MESSAGE_MAX_BYTES = CONTROL_BYTES + VIRTIO_CONSOLE_NAME_MAX_BYTES };

struct port_saved {
    u8 guest_open;
    u8 guest_ready; /* the guest has made its side of the port */
    u8 pending;     /* control events to send: bit per enum control_event */
    u8 zero;
    u32 sent_bytes; /* of the chain that is next in the ring */
};

struct port {
    struct console *console; /* borrowed */
    unsigned number;
    struct chr *chr;  /* borrowed; may be NULL */
    const char *name; /* borrowed; may be NULL */
    bool host_open;
    bool rx_blocked;          /* the back end waits for chr rx_resume */
    struct port_saved *saved; /* borrowed: in the console */
};

struct console {
    struct virtio_dev vdev;
    u32 port_count;
    u16 cols, rows;
    struct port ports[VIRTIO_CONSOLE_PORTS_MAX];
    struct port_saved saved[VIRTIO_CONSOLE_PORTS_MAX];
};

static const struct field console_state[] = {FIELD(struct console, saved), FIELD_END};

static struct console *console_of(struct virtio_dev *vdev)
{
    return container_of(vdev, struct console, vdev);
}

static unsigned port_rx_queue(unsigned number)
{
    return number == 0 ? 0 : 2 + 2 * number;
}

/* ---- control messages ---- */

static size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0' && length < VIRTIO_CONSOLE_NAME_MAX_BYTES)
        length++;
    return length;
}

/* Writes the message EVENT of PORT into TO; returns its length. */
static size_t message_make(const struct port *port, enum control_event event, u8 *to)
{
    size_t bytes = CONTROL_BYTES;
    u16 value = 1;
    if (event == PORT_OPEN)
        value = port->host_open;
    store_le32(to, port->number);
    store_le16(to + 4, (u16)event);
    if (event == RESIZE) {
        store_le16(to + bytes, port->console->cols);
        store_le16(to + bytes + 2, port->console->rows);
        bytes += 4;
    } else if (event == PORT_NAME) {
        size_t name_bytes = text_length(port->name);
        __builtin_memcpy(to + bytes, port->name, name_bytes);
        bytes += name_bytes;
    }
    store_le16(to + 6, value);
    return bytes;
}

/* Sends the lowest pending event of PORT; false when the guest has given no buffer. */
static bool control_send(struct port *port)
{
    struct virtq *vq = port->console->vdev.queues[QUEUE_CONTROL_RX];
    struct chain chain;
    u8 message[MESSAGE_MAX_BYTES];
    if (!virtq_pop(vq, &chain))
        return false;
    enum control_event event = (enum control_event)__builtin_ctz(port->saved->pending);
    size_t bytes = message_make(port, event, message);
    port->saved->pending &= (u8)(port->saved->pending - 1);
    virtq_push(vq, &chain, (u32)chain_write(&chain, message, bytes));
    return true;
}

static void control_flush(struct console *console)
{
    if (!virtio_has(&console->vdev, F_MULTIPORT))
        return;
    for (unsigned i = 0; i < console->port_count; i++)
        while (console->saved[i].pending != 0 && control_send(&console->ports[i]))
            ;
    virtq_interrupt(console->vdev.queues[QUEUE_CONTROL_RX]);
}

static void rx_resume(struct port *port)
{
    if (!port->rx_blocked || port->chr == NULL)
        return;
    port->rx_blocked = 0;
    port->chr->ops->rx_resume(port->chr);
}

static void port_ready(struct port *port, bool is_ready)
{
    port->saved->guest_ready = is_ready;
    if (!is_ready)
        return;
    if (port->number == 0)
        port->saved->pending |= 1 << CONSOLE_PORT | 1 << RESIZE;
    if (port->name)
        port->saved->pending |= 1 << PORT_NAME;
    if (port->host_open)
        port->saved->pending |= 1 << PORT_OPEN;
}

static void control_handle(struct console *console, u32 number, u16 event, u16 value)
{
    if (event == DEVICE_READY) {
        for (unsigned i = 0; i < console->port_count && value == 1; i++)
            console->saved[i].pending |= 1 << PORT_ADD;
        return;
    }
    if (number >= console->port_count)
        return;
    struct port *port = &console->ports[number];
    if (event == PORT_READY) {
        port_ready(port, value == 1);
    } else if (event == PORT_OPEN) {
        port->saved->guest_open = value == 1;
        if (port->saved->guest_open)
            rx_resume(port);
    }
}

static void control_receive(struct console *console)
{
    struct virtq *vq = console->vdev.queues[QUEUE_CONTROL_TX];
    struct chain chain;
    u8 message[CONTROL_BYTES];
    while (virtq_pop(vq, &chain)) {
        if (chain_read(&chain, message, CONTROL_BYTES) == CONTROL_BYTES)
            control_handle(console, load_le32(message), load_le16(message + 4),
                           load_le16(message + 6));
        virtq_push(vq, &chain, 0);
    }
    virtq_interrupt(vq);
    control_flush(console);
}

/* ---- data ---- */

/* Sends CHAIN, whose first port->saved->sent_bytes went out before; false when the back end is
 * full. */
static bool chain_send(struct port *port, struct chain *chain)
{
    u64 skip = port->saved->sent_bytes;
    size_t part;
    while (skip > 0 && chain_take_readable(chain, skip, &part))
        skip -= part;
    for (;;) {
        const void *data = chain_take_readable(chain, SIZE_MAX, &part);
        if (data == NULL)
            break;
        size_t taken = port->chr ? port->chr->ops->write(port->chr, data, part) : part;
        port->saved->sent_bytes += (u32)taken;
        if (taken < part)
            return false;
    }
    port->saved->sent_bytes = 0;
    return true;
}

static void port_transmit(struct port *port)
{
    struct virtq *vq = port->console->vdev.queues[port_rx_queue(port->number) + 1];
    struct chain chain;
    while (virtq_pop(vq, &chain)) {
        if (!chain_send(port, &chain)) {
            virtq_unpop(vq, 1);
            break;
        }
        virtq_push(vq, &chain, 0);
    }
    virtq_interrupt(vq);
}

/* A driver without F_MULTIPORT has port 0 only, and it is open. */
static bool guest_listens(const struct port *port)
{
    const struct virtio_dev *vdev = &port->console->vdev;
    return virtio_running(vdev) && (port->saved->guest_open || !virtio_has(vdev, F_MULTIPORT));
}

static size_t port_receive(void *ctx, const void *data, size_t bytes)
{
    struct port *port = ctx;
    struct virtq *vq = port->console->vdev.queues[port_rx_queue(port->number)];
    struct chain chain;
    size_t done = 0;
    while (done < bytes && guest_listens(port) && virtq_pop(vq, &chain)) {
        size_t written = chain_write(&chain, (const u8 *)data + done, bytes - done);
        virtq_push(vq, &chain, (u32)written);
        done += written;
        if (written == 0)
            virtio_broken(&port->console->vdev, "a receive buffer with no writable byte");
    }
    virtq_interrupt(vq);
    port->rx_blocked = done < bytes;
    return done;
}

static void port_writable(void *ctx)
{
    struct port *port = ctx;
    virtio_notify(&port->console->vdev, port_rx_queue(port->number) + 1);
}

static void port_connected(void *ctx, bool is_on)
{
    struct port *port = ctx;
    if (port->number == 0 || port->host_open == is_on)
        return;
    port->host_open = is_on;
    if (port->saved->guest_ready)
        port->saved->pending |= 1 << PORT_OPEN;
    control_flush(port->console);
}

static void console_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct console *console = console_of(vdev);
    if (queue == QUEUE_CONTROL_RX) {
        control_flush(console);
    } else if (queue == QUEUE_CONTROL_TX) {
        control_receive(console);
    } else {
        struct port *port = &console->ports[queue < 2 ? 0 : queue / 2 - 1];
        if (queue % 2 == 0)
            rx_resume(port);
        else
            port_transmit(port);
    }
}

/* ---- configuration and life ---- */

static void config_fill(struct console *console)
{
    u8 *config = console->vdev.config;
    store_le16(config + CONFIG_COLS, console->cols);
    store_le16(config + CONFIG_ROWS, console->rows);
    store_le32(config + CONFIG_PORT_COUNT, console->port_count);
}

void virtio_console_resize(struct virtio_dev *vdev, u16 cols, u16 rows)
{
    struct console *console = console_of(vdev);
    if (console->cols == cols && console->rows == rows)
        return;
    console->cols = cols;
    console->rows = rows;
    config_fill(console);
    virtio_config_changed(vdev);
    if (console->saved[0].guest_ready)
        console->saved[0].pending |= 1 << RESIZE;
    control_flush(console);
}

/* A driver may print one character before it has set anything up. */
static void console_config_write(struct virtio_dev *vdev, unsigned offset, unsigned bytes,
                                 u64 value)
{
    struct chr *chr = console_of(vdev)->ports[0].chr;
    u8 character = (u8)value;
    if (offset == CONFIG_EMERG && chr)
        (void)chr->ops->write(chr, &character, 1);
}

static void console_reset(struct virtio_dev *vdev)
{
    struct console *console = console_of(vdev);
    __builtin_memset(console->saved, 0, sizeof(console->saved));
}

static void console_started(struct virtio_dev *vdev)
{
    if (!virtio_has(vdev, F_MULTIPORT))
        rx_resume(&console_of(vdev)->ports[0]);
}

static int console_loaded(struct virtio_dev *vdev, struct err *err)
{
    struct console *console = console_of(vdev);
    for (unsigned i = 0; i < VIRTIO_CONSOLE_PORTS_MAX; i++) {
        struct port_saved *saved = &console->saved[i];
        u8 known = i < console->port_count ? 1 << PORT_ADD | 1 << PORT_OPEN : 0;
        if (i == 0)
            known |= 1 << CONSOLE_PORT | 1 << RESIZE;
        if (console->ports[i].name)
            known |= 1 << PORT_NAME;
        saved->pending &= known;
        /* The guest may have been told of another peer, or of another terminal size. */
        if (i < console->port_count && saved->guest_ready)
            saved->pending |= (i == 0 ? 1 << RESIZE : 0) | 1 << PORT_OPEN;
        console->ports[i].rx_blocked = true;
    }
    return 0;
}

static void console_free(struct virtio_dev *vdev)
{
    alloc_free(console_of(vdev));
}

static const struct virtio_ops console_ops = {
    .name = "virtio-console",
    .device_id = VIRTIO_ID_CONSOLE,
    .queue_size = QUEUE_SIZE,
    .state = console_state,
    .notify = console_notify,
    .reset = console_reset,
    .config_write = console_config_write,
    .started = console_started,
    .loaded = console_loaded,
    .free = console_free,
};

static void port_init(struct console *console, unsigned number,
                      const struct virtio_console_port *from)
{
    struct port *port = &console->ports[number];
    *port = (struct port){.console = console,
                          .number = number,
                          .chr = from->chr,
                          .name = from->name,
                          .host_open = number == 0,
                          .saved = &console->saved[number]};
    struct chr_client client = {.rx = port_receive,
                                .writable = port_writable,
                                .connected = port_connected,
                                .ctx = port,
                                .lock = &console->vdev.lock};
    if (port->chr)
        chr_attach(port->chr, &client);
}

struct virtio_dev *virtio_console_new(const struct virtio_console_port *ports, unsigned port_count)
{
    struct console *console = new0(struct console);
    if (console == NULL)
        return NULL;
    struct virtio_dev *vdev = &console->vdev;
    vdev->ops = &console_ops;
    console->port_count = (u32)max_u64(1, min_u64(port_count, VIRTIO_CONSOLE_PORTS_MAX));
    vdev->queue_count = (u16)(2 + 2 * console->port_count);
    vdev->offered_features = BIT(F_SIZE) | BIT(F_MULTIPORT) | BIT(F_EMERG_WRITE);
    vdev->config_bytes = CONFIG_BYTES;
    console->cols = 80;
    console->rows = 25;
    for (unsigned i = 0; i < console->port_count; i++)
        port_init(console, i, &ports[i]);
    config_fill(console);
    return vdev;
}
