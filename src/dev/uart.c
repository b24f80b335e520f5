/*
 * dev/uart.c - the 16550A serial port.
 *
 * Spec   National Semiconductor PC16550D data sheet.
 * Runs   on vCPU threads and the loop, under the device's lock.
 * Trust  register values come from the guest, bytes from the peer.
 *
 * There is no baud rate: a byte leaves at once, unless the back end is full; then it waits in the
 * transmit FIFO, and THRE stays clear until writable() has emptied that. The interrupt is not gated
 * by OUT2, which boards differ about and drivers always set.
 *
 *   0 RBR/THR (DLAB: DLL)  1 IER (DLAB: DLM)  2 IIR/FCR  3 LCR  4 MCR  5 LSR  6 MSR  7 SCR
 */
#include "dev/uart.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { FIFO_BYTES = 16, UART_PORT_COUNT = 8 };
enum uart_register { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };
enum { IER_RDI = 1, IER_THRI = 2, IER_RLSI = 4, IER_MSI = 8 };
enum { IIR_NONE = 1, IIR_MSI = 0, IIR_THRI = 2, IIR_RDI = 4, IIR_RLSI = 6, IIR_TIMEOUT = 12 };
enum { IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_WRITABLE = 31 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_ERRORS = 0x1e, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_TERI = 4 };
enum { TIMEOUT_NS = 350000 }; /* four characters at 115200 baud */

struct fifo {
    u8 data[FIFO_BYTES];
    u8 first, count;
};

struct uart {
    struct vm_clock *clock; /* borrowed */
    struct irq_line irq;
    struct chr *chr;    /* borrowed; may be NULL */
    struct timer timer; /* receive timeout */
    struct fifo rx, tx;
    u8 ier, fcr, lcr, mcr, lsr_errors, msr, scr, dll, dlm;
    u8 thre_pending; /* the "transmitter empty" interrupt waits */
    u8 rx_timeout;   /* bytes below the trigger level have lain long enough */
    u8 rx_refused;   /* the back end has more and waits for rx_resume */
};

static bool fifo_put(struct fifo *fifo, unsigned capacity, u8 byte)
{
    if (fifo->count >= capacity)
        return false;
    fifo->data[(fifo->first + fifo->count++) % FIFO_BYTES] = byte;
    return true;
}

static u8 fifo_take(struct fifo *fifo)
{
    if (fifo->count == 0)
        return 0;
    u8 byte = fifo->data[fifo->first];
    fifo->first = (fifo->first + 1) % FIFO_BYTES;
    fifo->count--;
    return byte;
}

static unsigned capacity(const struct uart *uart)
{
    return uart->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned rx_trigger(const struct uart *uart)
{
    static const u8 levels[] = {1, 4, 8, 14};
    return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

static u8 uart_iir(const struct uart *uart)
{
    if ((uart->ier & IER_RLSI) && (uart->lsr_errors & LSR_ERRORS))
        return IIR_RLSI;
    if ((uart->ier & IER_RDI) && uart->rx.count >= rx_trigger(uart))
        return IIR_RDI;
    if ((uart->ier & IER_RDI) && uart->rx_timeout)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_THRI) && uart->thre_pending)
        return IIR_THRI;
    if ((uart->ier & IER_MSI) && (uart->msr & 0x0f))
        return IIR_MSI;
    return IIR_NONE;
}

static void uart_update(struct uart *uart)
{
    irq_set(&uart->irq, uart_iir(uart) != IIR_NONE);
}

/* Bytes that lie below the trigger level are announced after a while without new ones. */
static void rx_settle(struct uart *uart)
{
    uart->rx_timeout = 0;
    if (uart->rx.count > 0 && uart->rx.count < rx_trigger(uart))
        timer_arm(&uart->timer, vm_clock_now(uart->clock) + TIMEOUT_NS);
    else
        timer_cancel(&uart->timer);
    uart_update(uart);
}

static void uart_timeout(void *ctx)
{
    struct uart *uart = ctx;

    uart->rx_timeout = uart->rx.count > 0;
    uart_update(uart);
}

static size_t uart_rx(void *ctx, const void *data, size_t bytes)
{
    struct uart *uart = ctx;
    size_t taken = 0;

    if (!(uart->mcr & MCR_LOOP))
        while (taken < bytes && fifo_put(&uart->rx, capacity(uart), ((const u8 *)data)[taken]))
            taken++;
    uart->rx_refused = taken < bytes;
    if (taken > 0)
        rx_settle(uart);
    return taken;
}

static void rx_resume(struct uart *uart)
{
    if (!uart->rx_refused || (uart->mcr & MCR_LOOP) || uart->rx.count >= capacity(uart))
        return;
    uart->rx_refused = 0;
    if (uart->chr)
        uart->chr->ops->rx_resume(uart->chr);
}

/* Hands what waits to the back end. */
static void tx_flush(struct uart *uart)
{
    while (uart->tx.count > 0) {
        u8 *byte = &uart->tx.data[uart->tx.first];
        if (uart->chr && uart->chr->ops->write(uart->chr, byte, 1) == 0)
            return;
        fifo_take(&uart->tx);
    }
    uart->thre_pending = 1;
}

static void uart_writable(void *ctx)
{
    struct uart *uart = ctx;

    if (uart->tx.count > 0)
        tx_flush(uart);
    uart_update(uart);
}

/* The modem's lines: a peer that is always there, or in loopback our own outputs. */
static void msr_update(struct uart *uart, u8 lines)
{
    u8 changed = (uart->msr ^ lines) & 0xf0;
    u8 delta = changed >> 4;

    if ((changed & MSR_RI) && (lines & MSR_RI)) /* TERI tells falling edges only */
        delta &= ~MSR_TERI;
    uart->msr = (uart->msr & 0x0f) | delta | lines;
}

static u8 msr_lines(const struct uart *uart)
{
    u8 mcr = uart->mcr;

    if (!(mcr & MCR_LOOP))
        return uart->chr ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
           (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void thr_write(struct uart *uart, u8 byte)
{
    uart->thre_pending = 0;
    if (uart->mcr & MCR_LOOP) {
        if (!fifo_put(&uart->rx, capacity(uart), byte))
            uart->lsr_errors |= LSR_OE;
        uart->thre_pending = 1;
        rx_settle(uart);
        return;
    }
    fifo_put(&uart->tx, capacity(uart), byte); /* a full FIFO loses the byte, as on the part */
    tx_flush(uart);
}

static void fcr_write(struct uart *uart, u8 value)
{
    bool switched = (uart->fcr ^ value) & FCR_ENABLE;

    uart->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
    if (switched || (value & FCR_CLEAR_RX))
        uart->rx.count = 0;
    if ((switched || (value & FCR_CLEAR_TX)) && uart->tx.count > 0) {
        uart->tx.count = 0;
        uart->thre_pending = 1;
    }
    rx_settle(uart);
    rx_resume(uart);
}

static u8 lsr_read(struct uart *uart)
{
    u8 lsr = uart->lsr_errors;

    uart->lsr_errors = 0;
    if (uart->rx.count > 0)
        lsr |= LSR_DR;
    if (uart->tx.count == 0)
        lsr |= LSR_THRE | LSR_TEMT;
    return lsr;
}

static u8 uart_read_byte(void *device, u64 offset)
{
    struct uart *uart = device;
    u8 value;

    switch ((enum uart_register)offset) {
    case REG_DATA:
        if (uart->lcr & LCR_DLAB)
            return uart->dll;
        value = fifo_take(&uart->rx);
        rx_settle(uart);
        rx_resume(uart);
        return value;
    case REG_IER:
        return uart->lcr & LCR_DLAB ? uart->dlm : uart->ier;
    case REG_IIR_FCR:
        value = uart_iir(uart);
        if (value == IIR_THRI)
            uart->thre_pending = 0;
        uart_update(uart);
        return value | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        value = lsr_read(uart);
        uart_update(uart);
        return value;
    case REG_MSR:
        value = uart->msr;
        uart->msr &= 0xf0;
        uart_update(uart);
        return value;
    default:
        return uart->scr;
    }
}

static void ier_write(struct uart *uart, u8 value)
{
    /* Enabling the interrupt while the transmitter is empty raises it. */
    if ((value & ~uart->ier & IER_THRI) && uart->tx.count == 0)
        uart->thre_pending = 1;
    uart->ier = value & 0x0f;
}

static void uart_write_byte(void *device, u64 offset, u8 value)
{
    struct uart *uart = device;

    switch ((enum uart_register)offset) {
    case REG_DATA:
        if (uart->lcr & LCR_DLAB)
            uart->dll = value;
        else
            thr_write(uart, value);
        break;
    case REG_IER:
        if (uart->lcr & LCR_DLAB)
            uart->dlm = value;
        else
            ier_write(uart, value);
        break;
    case REG_IIR_FCR:
        fcr_write(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        uart->mcr = value & MCR_WRITABLE;
        msr_update(uart, msr_lines(uart));
        rx_resume(uart);
        break;
    case REG_LSR:
    case REG_MSR: /* read-only outside factory test */
        break;
    default:
        uart->scr = value;
        break;
    }
    uart_update(uart);
}

static u64 uart_read(void *device, u64 offset, unsigned bytes)
{
    return device_read_bytes(device, offset, bytes, uart_read_byte);
}

static void uart_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    device_write_bytes(device, offset, bytes, value, uart_write_byte);
}

static void uart_reset(void *device)
{
    struct uart *uart = device;

    uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->lsr_errors = uart->scr = 0;
    uart->dll = 1; /* 115200 baud */
    uart->dlm = 0;
    uart->thre_pending = uart->rx_timeout = 0;
    uart->rx.count = uart->tx.count = 0;
    uart->msr = msr_lines(uart);
    timer_cancel(&uart->timer);
    rx_resume(uart);
    uart_update(uart);
}

static int uart_loaded(void *device, struct err *err)
{
    struct uart *uart = device;

    if (uart->rx.count > FIFO_BYTES || uart->tx.count > FIFO_BYTES ||
        uart->rx.first >= FIFO_BYTES || uart->tx.first >= FIFO_BYTES)
        return err_set(err, -EINVAL, "a FIFO holds more than it can");
    uart_update(uart);
    return 0;
}

static void uart_free(void *device)
{
    struct uart *uart = device;

    if (uart)
        timer_cancel(&uart->timer);
    alloc_free(uart);
}

struct uart *uart_new(struct vm_clock *clock, struct lock *lock, const struct irq_line *irq,
                      struct chr *chr)
{
    struct uart *uart = new0(struct uart);

    if (uart == NULL)
        return NULL;
    uart->clock = clock;
    uart->irq = *irq;
    uart->chr = chr;
    timer_init(&uart->timer, clock, lock, uart_timeout, uart);
    if (chr) {
        struct chr_client client = {
            .rx = uart_rx, .writable = uart_writable, .ctx = uart, .lock = lock};
        chr_attach(chr, &client);
    }
    uart_reset(uart);
    return uart;
}

static const struct bus_ops uart_ops = {.read = uart_read, .write = uart_write};
static const struct device_region uart_regions[] = {{BUS_PORT, 0, UART_PORT_COUNT, &uart_ops}};
static const struct field uart_fields[] = {
    FIELD(struct uart, rx),          FIELD(struct uart, tx),
    FIELD(struct uart, ier),         FIELD(struct uart, fcr),
    FIELD(struct uart, lcr),         FIELD(struct uart, mcr),
    FIELD(struct uart, lsr_errors),  FIELD(struct uart, msr),
    FIELD(struct uart, scr),         FIELD(struct uart, dll),
    FIELD(struct uart, dlm),         FIELD(struct uart, thre_pending),
    FIELD(struct uart, rx_timeout),  FIELD(struct uart, rx_refused),
    FIELD_TIMER(struct uart, timer), FIELD_END,
};

const struct device_ops uart_device = {
    .name = "uart",
    .regions = uart_regions,
    .region_count = ARRAY_LEN(uart_regions),
    .fields = uart_fields,
    .reset = uart_reset,
    .loaded = uart_loaded,
    .free = uart_free,
};
