/*
 * core/core_test.c - memory slots, buses, VM clock and state tables, through their headers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/errno.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/state.h"

/* ---- memory ---- */

struct code_watch {
    unsigned calls;
    gpa_t gpa;
    u64 bytes;
};

static void watch_code(void *ctx, gpa_t gpa, u64 bytes)
{
    struct code_watch *watch = ctx;
    watch->calls++;
    watch->gpa = gpa;
    watch->bytes = bytes;
}

static void test_mem_slots(void **state)
{
    static u8 low[8192], high[4096], rom[4096];
    struct mem mem;
    mem_init(&mem);
    assert_int_equal(mem_add(&mem, 0x3000, sizeof(high), high, false), 0);
    assert_int_equal(mem_add(&mem, 0x1000, sizeof(low), low, false), 0);
    assert_int_equal(mem_add(&mem, 0x8000, sizeof(rom), rom, true), 0);
    assert_int_equal(mem_add(&mem, 0x2000, 4096, high, false), -EINVAL);
    assert_int_equal(mem_add(&mem, 0x0, 0x2000, high, false), -EINVAL);
    assert_int_equal(mem_add(&mem, 0x10, 4096, high, false), -EINVAL);
    assert_int_equal(mem_add(&mem, ~0xfffull, 8192, high, false), -EINVAL);
    assert_int_equal(mem_ram_bytes(&mem), sizeof(low) + sizeof(high));

    /* A copy may span slots, but a pointer may not. */
    assert_int_equal(mem_write(&mem, 0x2ffe, "abcd", 4), 0);
    assert_memory_equal(low + 8190, "ab", 2);
    assert_memory_equal(high, "cd", 2);
    assert_null(mem_map(&mem, 0x2ffe, 4, MEM_READ));
    assert_ptr_equal(mem_map(&mem, 0x2ffe, 2, MEM_READ), low + 8190);
    assert_null(mem_map(&mem, 0x1000, 0, MEM_READ));
    assert_null(mem_map(&mem, 0x3000, UINT64_MAX, MEM_READ));

    /* A write that is not wholly RAM changes nothing. */
    assert_int_equal(mem_write(&mem, 0x3ffe, "xyzw", 4), -EFAULT);
    assert_int_equal(high[4094], 0);
    assert_int_equal(mem_write(&mem, 0x8000, "x", 1), -EFAULT);
    assert_int_equal(mem_read(&mem, UINT64_MAX, low, 2), -EFAULT);
    assert_int_equal(mem_remove(&mem, 0x3000), 0);
    assert_int_equal(mem_remove(&mem, 0x3000), -ENOENT);
    mem_fini(&mem);
}

static void test_mem_flags(void **state)
{
    static u8 ram[16384];
    struct mem mem;
    struct code_watch watch = {0};
    mem_init(&mem);
    mem.code_written = watch_code;
    mem.code_written_ctx = &watch;
    assert_int_equal(mem_add(&mem, 0, sizeof(ram), ram, false), 0);
    assert_int_equal(mem_write(&mem, 0x1ffc, "01234567", 8), 0);
    assert_int_equal(watch.calls, 0);
    assert_false(mem_flag_clear(&mem, 0x0, MEM_DIRTY));
    assert_true(mem_flag_clear(&mem, 0x1000, MEM_DIRTY));
    assert_true(mem_flag_clear(&mem, 0x2fff, MEM_DIRTY));
    assert_false(mem_flag_set(&mem, 0x2000, MEM_CODE));
    assert_int_equal(mem_write(&mem, 0x1ffc, "01234567", 8), 0);
    assert_int_equal(watch.calls, 1);
    assert_int_equal(watch.gpa, 0x1ffc);
    assert_int_equal(watch.bytes, 8);
    mem_fini(&mem);
}

/* ---- bus ---- */

struct echo {
    u64 last_offset, last_value;
    unsigned last_bytes, calls;
};

static u64 echo_read(void *device, u64 offset, unsigned bytes)
{
    struct echo *echo = device;
    echo->calls++;
    return 0x1111111111111111ull * (offset + 1);
}

static void echo_write(void *device, u64 offset, unsigned bytes, u64 value)
{
    struct echo *echo = device;
    echo->calls++;
    echo->last_offset = offset;
    echo->last_bytes = bytes;
    echo->last_value = value;
}

static const struct bus_ops echo_ops = {echo_read, echo_write};

static void test_bus(void **state)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    struct echo echo = {0};
    struct bus_range range = {0x100, 4, &echo_ops, &echo, NULL, "echo"};
    bus_init(bus);
    assert_int_equal(bus_add(bus, BUS_PORT, &range), 0);
    assert_int_equal(bus_add(bus, BUS_PORT, &range), -EBUSY);
    range.base = 0xff;
    range.bytes = 2;
    assert_int_equal(bus_add(bus, BUS_PORT, &range), -EBUSY);
    range.base = 0xffff;
    assert_int_equal(bus_add(bus, BUS_PORT, &range), -EINVAL);
    range.bytes = 0;
    assert_int_equal(bus_add(bus, BUS_PORT, &range), -EINVAL);

    assert_int_equal(bus_read(bus, BUS_PORT, 0x100, 2), 0x1111);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x200, 4), 0xffffffff);
    /* The last byte of the range and one that nobody claims. */
    assert_int_equal(bus_read(bus, BUS_PORT, 0x103, 2), 0xff44);
    bus_write(bus, BUS_PORT, 0x102, 2, 0xabcdef);
    assert_int_equal(echo.last_offset, 2);
    assert_int_equal(echo.last_value, 0xcdef);
    unsigned calls = echo.calls;
    bus_write(bus, BUS_PORT, 0xff, 4, 0x04030201);
    assert_int_equal(echo.calls, calls + 3);
    assert_int_equal(echo.last_value, 4);
    bus_remove(bus, BUS_PORT, 0x100, bus);
    assert_true(bus_claims(bus, BUS_PORT, 0x103));
    bus_remove(bus, BUS_PORT, 0x100, &echo);
    assert_false(bus_claims(bus, BUS_PORT, 0x103));
    free(bus);
}

/* ---- clock ---- */

struct alarm {
    struct timer timer;
    unsigned *order;
    unsigned fired_at, count;
};

static void alarm_fire(void *ctx)
{
    struct alarm *alarm = ctx;
    alarm->count++;
    alarm->fired_at = ++*alarm->order;
}

static void test_clock(void **state)
{
    static struct vm_clock clock;
    unsigned order = 0;
    struct lock lock = {0};
    struct alarm alarms[20];
    vm_clock_init(&clock);
    vm_clock_set(&clock, 1000);
    assert_int_equal(vm_clock_now(&clock), 1000);
    for (unsigned i = 0; i < ARRAY_LEN(alarms); i++) {
        alarms[i] = (struct alarm){.order = &order};
        timer_init(&alarms[i].timer, &clock, &lock, alarm_fire, &alarms[i]);
        timer_arm(&alarms[i].timer, 1000 + (i * 7) % ARRAY_LEN(alarms));
    }
    timer_cancel(&alarms[3].timer);
    timer_arm(&alarms[4].timer, UINT64_MAX - 1);
    vm_clock_run(&clock);
    assert_int_equal(order, 0); /* a stopped clock fires nothing */
    vm_clock_start(&clock);
    u64 give_up_ns = clock_monotonic_ns() + 5000000000ull;
    while (order < ARRAY_LEN(alarms) - 2 && clock_monotonic_ns() < give_up_ns)
        vm_clock_run(&clock);
    vm_clock_stop(&clock);
    for (unsigned i = 0; i < ARRAY_LEN(alarms); i++) {
        assert_int_equal(alarms[i].count, i == 3 || i == 4 ? 0 : 1);
        for (unsigned j = 0; j < ARRAY_LEN(alarms); j++)
            if (alarms[i].count && alarms[j].count && (i * 7) % 20 < (j * 7) % 20)
                assert_true(alarms[i].fired_at < alarms[j].fired_at);
    }
    u64 stopped_ns = vm_clock_now(&clock);
    assert_int_equal(vm_clock_now(&clock), stopped_ns);
    timer_cancel(&alarms[4].timer);
    assert_int_equal(clock.heap_count, 0);
}

/* ---- state ---- */

struct thing {
    u8 small;
    u32 array[3];
    struct timer timer;
    u64 not_saved;
};

static const struct field thing_fields[] = {FIELD(struct thing, small), FIELD(struct thing, array),
                                            FIELD_TIMER(struct thing, timer), FIELD_END};

static void test_state(void **state)
{
    static struct vm_clock clock;
    struct thing saved = {7, {1, 2, 3}, {0}, 99}, loaded = {0};
    struct state_writer writer = {0};
    struct err err;
    vm_clock_init(&clock);
    timer_init(&saved.timer, &clock, NULL, alarm_fire, NULL);
    timer_init(&loaded.timer, &clock, NULL, alarm_fire, NULL);
    timer_arm(&saved.timer, 123456);
    state_save(&writer, thing_fields, &saved);
    assert_false(writer.failed);
    struct state_reader reader = {writer.data, writer.bytes, 0};
    assert_int_equal(state_load(&reader, thing_fields, &loaded, &err), 0);
    assert_int_equal(loaded.small, 7);
    assert_memory_equal(loaded.array, saved.array, sizeof(saved.array));
    assert_int_equal(loaded.timer.deadline_ns, 123456);
    assert_int_equal(loaded.not_saved, 0);
    /* Every cut and every flipped byte of the frame is refused or harmless, never read beyond. */
    for (size_t bytes = 0; bytes < writer.bytes; bytes++) {
        u8 *cut = malloc(bytes + 1);
        memcpy(cut, writer.data, bytes);
        struct state_reader short_reader = {cut, bytes, 0};
        assert_int_equal(state_load(&short_reader, thing_fields, &loaded, &err), -EPROTO);
        free(cut);
    }
    for (size_t at = 0; at < writer.bytes; at++) {
        writer.data[at] ^= 0x81;
        struct state_reader bad_reader = {writer.data, writer.bytes, 0};
        int result = state_load(&bad_reader, thing_fields, &loaded, &err);
        assert_true(result == 0 || result == -EPROTO);
        writer.data[at] ^= 0x81;
    }
    state_writer_fini(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_slots), cmocka_unit_test(test_mem_flags),
        cmocka_unit_test(test_bus),       cmocka_unit_test(test_clock),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
