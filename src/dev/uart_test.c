/*
 * dev/uart_test.c - the 16550A through its ports, with a back end that can be full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "dev/dev_test.h"
#include "dev/uart.h"

struct bench {
    struct vm_clock clock;
    struct bus bus;
    struct wire irq;
    struct lock lock;
    struct chr chr;
    char sent[64];
    size_t sent_bytes;
    size_t room; /* how much the back end still takes */
    unsigned resume_count;
    struct uart *uart;
};

static struct bench bench;

static size_t chr_take(struct chr *chr, const void *data, size_t bytes)
{
    struct bench *b = container_of(chr, struct bench, chr);

    if (bytes > b->room)
        bytes = b->room;
    memcpy(b->sent + b->sent_bytes, data, bytes);
    b->sent_bytes += bytes;
    b->room -= bytes;
    return bytes;
}

static void chr_resume(struct chr *chr)
{
    container_of(chr, struct bench, chr)->resume_count++;
}

static const struct chr_ops chr_ops = {.write = chr_take, .rx_resume = chr_resume};

static int setup(void **state)
{
    struct irq_line line = wire_line(&bench.irq, 0);

    bench = (struct bench){.chr.ops = &chr_ops, .room = 60};
    vm_clock_init(&bench.clock);
    bus_init(&bench.bus);
    bench.uart = uart_new(&bench.clock, &bench.lock, &line, &bench.chr);
    assert_int_equal(device_map(&uart_device, bench.uart, &bench.bus, UART_COM1, &bench.lock, NULL),
                     0);
    return 0;
}

static int teardown(void **state)
{
    uart_device.free(bench.uart);
    return 0;
}

static u8 get(unsigned reg)
{
    return in8(&bench.bus, UART_COM1 + reg);
}

static void put(unsigned reg, u8 value)
{
    out8(&bench.bus, UART_COM1 + reg, value);
}

static size_t receive(const char *text)
{
    return bench.chr.client.rx(bench.chr.client.ctx, text, strlen(text));
}

static void test_transmit(void **state)
{
    put(1, 0x02);
    assert_true(bench.irq.level);
    assert_int_equal(get(2), 0x02);
    assert_int_equal(get(2), 0x01); /* reading took it back */
    assert_false(bench.irq.level);
    put(0, 'h');
    assert_int_equal(get(5), 0x60);
    assert_int_equal(get(2), 0x02);
    put(0, 'i');
    assert_memory_equal(bench.sent, "hi", 2);
}

static void test_transmit_waits_for_room(void **state)
{
    bench.room = 1;
    put(2, 0x01);
    put(1, 0x02);
    for (const char *c = "abc"; *c; c++)
        put(0, (u8)*c);
    assert_int_equal(bench.sent_bytes, 1);
    assert_int_equal(get(5) & 0x60, 0);
    assert_false(bench.irq.level);
    bench.room = 1;
    bench.chr.client.writable(bench.chr.client.ctx);
    assert_int_equal(get(5) & 0x60, 0);
    bench.room = 10;
    bench.chr.client.writable(bench.chr.client.ctx);
    assert_int_equal(get(5) & 0x60, 0x60);
    assert_true(bench.irq.level);
    assert_memory_equal(bench.sent, "abc", 3);
}

static void test_receive(void **state)
{
    put(1, 0x01);
    assert_int_equal(receive("xy"), 1); /* no FIFO: one at a time */
    assert_int_equal(get(5), 0x61);
    assert_int_equal(get(2), 0x04);
    assert_int_equal(get(0), 'x');
    assert_int_equal(bench.resume_count, 1);
    assert_false(bench.irq.level);
    put(2, 0x81); /* FIFO, trigger 8 */
    assert_int_equal(receive("1234567"), 7);
    assert_false(bench.irq.level);
    step(&bench.clock, 400000);
    assert_int_equal(get(2), 0xcc); /* timeout */
    assert_int_equal(get(0), '1');
    assert_int_equal(get(2), 0xc1);
    assert_int_equal(receive("89"), 2);
    assert_int_equal(get(2), 0xc4);
    for (const char *c = "23456789"; *c; c++)
        assert_int_equal(get(0), *c);
    assert_int_equal(get(5), 0x60);
    assert_int_equal(receive("0123456789abcdefg"), 16);
    put(2, 0x83); /* clears the receiver */
    assert_int_equal(bench.resume_count, 2);
    assert_int_equal(get(5), 0x60);
}

static void test_loopback_and_modem(void **state)
{
    assert_int_equal(get(6), 0xb0);
    put(4, 0x1a); /* what Linux probes with */
    assert_int_equal(get(6) & 0xf0, 0x90);
    assert_int_equal(get(6) & 0x0f, 0);
    put(1, 0x08);
    put(4, 0x1b);
    assert_int_equal(get(2), 0x00);
    assert_int_equal(get(6), 0xb2);
    assert_int_equal(get(2), 0x01);
    put(0, 'q');
    assert_int_equal(bench.sent_bytes, 0);
    assert_int_equal(get(0), 'q');
    put(0, 'r');
    put(0, 's');
    put(1, 0x04);
    assert_int_equal(get(2), 0x06);
    assert_int_equal(get(5), 0x63); /* overrun */
    assert_int_equal(get(5), 0x61);
    assert_int_equal(receive("z"), 0); /* the peer waits outside */
    put(4, 0x03);
    assert_int_equal(bench.resume_count, 0);
    assert_int_equal(get(0), 'r');
    assert_int_equal(bench.resume_count, 1);
}

static void test_registers(void **state)
{
    put(7, 0x5a);
    assert_int_equal(get(7), 0x5a);
    put(3, 0x83);
    put(0, 12);
    put(1, 1);
    assert_int_equal(get(0), 12);
    assert_int_equal(get(1), 1);
    put(3, 0x03);
    assert_int_equal(get(1), 0);
    put(1, 0xff);
    assert_int_equal(get(1), 0x0f);
    assert_int_equal(get(3), 0x03);
    assert_int_equal(bench.sent_bytes, 0);
}

static void test_nothing_plugged_in(void **state)
{
    struct irq_line line = wire_line(&bench.irq, 0);
    struct uart *lonely = uart_new(&bench.clock, &bench.lock, &line, NULL);

    assert_int_equal(device_map(&uart_device, lonely, &bench.bus, UART_COM2, NULL, NULL), 0);
    out8(&bench.bus, UART_COM2, 'x');
    assert_int_equal(in8(&bench.bus, UART_COM2 + 5), 0x60);
    assert_int_equal(in8(&bench.bus, UART_COM2 + 6), 0);
    device_unmap(&uart_device, lonely, &bench.bus, UART_COM2);
    assert_false(bus_claims(&bench.bus, BUS_PORT, UART_COM2));
    uart_device.free(lonely);
}

static void test_state(void **state)
{
    struct wire irq = {0};
    struct irq_line line = wire_line(&irq, 0);
    struct uart *other = uart_new(&bench.clock, &bench.lock, &line, NULL);

    put(2, 0x81);
    put(1, 0x01);
    receive("abc");
    put(4, 3);
    assert_true(round_trip(&uart_device, bench.uart, other));
    assert_false(irq.level);
    step(&bench.clock, 400000);
    assert_true(irq.level); /* the timeout was under way */
    uart_device.free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_transmit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transmit_waits_for_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_receive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loopback_and_modem, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_plugged_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
    };
    return cmocka_run_group_tests_name("uart", tests, NULL, NULL);
}
