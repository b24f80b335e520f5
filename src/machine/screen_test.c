/*
 * machine/screen_test.c - a machine with a screen: its frame buffer as guest memory wherever the
 * guest puts it, what is typed, and the round trip of its state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "back/display.h"
#include "back/entropy.h"
#include "base/errno.h"
#include "core/mem.h"
#include "core/state.h"
#include "machine/boot_samples.h"
#include "machine/fake_engine.h"
#include "machine/machine.h"
#include "machine/memmap.h"

enum { RAM_BYTES = 64 << 20, SLOT_VGA = 27, VGA = MEMMAP_ECAM_BASE + (SLOT_VGA << 15) };
enum { COMMAND = 4, BAR0 = 0x10, DECODE_MEMORY = 2, FRAME_BYTES = 16 << 20, KEY_A = 30 };

struct bench {
    u8 *ram;
    struct engine engine;
    struct machine *machine;
    struct vcpu *vcpu;
    struct entropy entropy;
    struct display display;
    struct surface surface;
    unsigned remap_count, changed_count;
    u8 kernel[SAMPLE_BYTES];
};

static void entropy_zeroes(struct entropy *entropy, void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static const struct entropy_ops entropy_ops = {.fill = entropy_zeroes};

static void ignore_end(void *ctx, enum machine_end how, unsigned status)
{
}

static void ignore_wake(void *ctx, unsigned cpu)
{
}

static void ignore_yield(void *ctx)
{
}

static void note_remap(void *ctx)
{
    ((struct bench *)ctx)->remap_count++;
}

static int note_change(struct engine *engine, struct err *err)
{
    container_of(engine, struct bench, engine)->changed_count++;
    return 0;
}

static const struct engine_ops engine_ops = {.name = "fake", .memory_changed = note_change};

static void bench_boot(struct bench *bench)
{
    struct err err;
    const struct boot_request request = {
        .kernel = {.data = bench->kernel, .bytes = sample_pvh(bench->kernel)}, .command_line = ""};
    if (machine_boot(bench->machine, &request, &err) < 0)
        fail_msg("%s", err.text);
}

static struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct err err;
    assert_non_null(bench);
    bench->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(bench->ram != MAP_FAILED);
    bench->entropy.ops = &entropy_ops;
    struct machine_config config = {.ram_bytes = RAM_BYTES,
                                    .ram = bench->ram,
                                    .cpu_count = 1,
                                    .entropy = &bench->entropy,
                                    .display = &bench->display,
                                    .host = {.end = ignore_end,
                                             .wake = ignore_wake,
                                             .yield = ignore_yield,
                                             .remap = note_remap,
                                             .ctx = bench}};
    bench->machine = machine_build(&config, &err);
    if (!bench->machine)
        fail_msg("%s", err.text);
    bench->engine = (struct engine){.ops = &engine_ops, .mem = machine_mem(bench->machine)};
    bench->vcpu = fake_vcpu_new(&bench->engine, 0);
    machine_attach(bench->machine, bench->vcpu);
    surface_init(&bench->surface);
    bench_boot(bench);
    return bench;
}

static void bench_free(struct bench *bench)
{
    surface_fini(&bench->surface);
    machine_free(bench->machine);
    fake_free(bench->vcpu);
    munmap(bench->ram, RAM_BYTES);
    free(bench);
}

static u64 do_exit(struct bench *bench, enum vm_exit_kind kind, u64 address, unsigned bytes,
                   u64 value)
{
    bench->vcpu->exit = (struct vm_exit){
        .kind = kind, .bytes = (u8)bytes, .address = address, .value = value};
    assert_true(machine_dispatch(bench->machine, bench->vcpu));
    return bench->vcpu->exit.value;
}

static void config_put(struct bench *bench, unsigned at, unsigned bytes, u32 value)
{
    do_exit(bench, EXIT_MMIO_WRITE, VGA + at, bytes, value);
}

static u32 pixel(struct bench *bench, u32 x, u32 y)
{
    bench->display.source.refresh(bench->display.source.ctx, &bench->surface);
    return bench->surface.pixels[y * bench->surface.width + x] & 0xffffff;
}

/* Where the guest's memory holds the frame buffer; fails when it is not all there. */
static u32 *frame_at(struct bench *bench, gpa_t gpa)
{
    u32 *frame = mem_map(machine_mem(bench->machine), gpa, FRAME_BYTES, MEM_WRITE);
    assert_non_null(frame);
    return frame;
}

static bool has_memory(struct bench *bench, gpa_t gpa)
{
    return mem_map(machine_mem(bench->machine), gpa, 1, MEM_READ) != NULL;
}

static void follow(struct bench *bench)
{
    struct err err;
    assert_int_equal(machine_remap(bench->machine, &err), 0);
}

/* A kernel without firmware finds a mode that is on already. */
static void test_start(void **state)
{
    struct bench *bench = bench_new();
    gpa_t base = do_exit(bench, EXIT_MMIO_READ, VGA + BAR0, 4, 0) & ~15ull;

    assert_int_equal(bench->remap_count, 0); /* nothing ran yet: no pause was needed */
    assert_int_equal(bench->changed_count, 1);
    frame_at(bench, base)[1280 * 3 + 5] = 0x123456;
    assert_int_equal(pixel(bench, 5, 3), 0x123456);
    assert_int_equal(bench->surface.width, 1280);
    assert_int_equal(bench->surface.height, 800);
    bench_boot(bench); /* a reset: the same again */
    assert_int_equal(bench->remap_count, 0);
    frame_at(bench, base)[0] = 0x654321;
    assert_int_equal(pixel(bench, 0, 0), 0x654321);
    bench_free(bench);
}

static void test_moves(void **state)
{
    struct bench *bench = bench_new();
    gpa_t base = do_exit(bench, EXIT_MMIO_READ, VGA + BAR0, 4, 0) & ~15ull, next = 0xd8000000;

    frame_at(bench, base)[7] = 0xabcdef;
    config_put(bench, BAR0, 4, 0xffffffff); /* sized, with decoding on */
    assert_int_equal(do_exit(bench, EXIT_MMIO_READ, VGA + BAR0, 4, 0) & ~15u, 0xff000000);
    assert_true(bench->remap_count > 0);
    follow(bench);
    config_put(bench, BAR0, 4, (u32)next);
    follow(bench);
    assert_false(has_memory(bench, base));
    assert_int_equal(frame_at(bench, next)[7], 0xabcdef);
    assert_int_equal(pixel(bench, 7, 0), 0xabcdef);
    /* Switched off and on. */
    config_put(bench, COMMAND, 2, 0);
    follow(bench);
    assert_false(has_memory(bench, next));
    config_put(bench, COMMAND, 2, DECODE_MEMORY);
    /* Before the pause the device answers access by access. */
    assert_int_equal(do_exit(bench, EXIT_MMIO_READ, next + 28, 4, 0), 0xabcdef);
    do_exit(bench, EXIT_MMIO_WRITE, next + 28, 4, 0x111111);
    follow(bench);
    assert_int_equal(frame_at(bench, next)[7], 0x111111);
    unsigned changed = bench->changed_count, asked = bench->remap_count;
    config_put(bench, COMMAND, 2, DECODE_MEMORY | 4); /* nothing moves */
    follow(bench);
    assert_int_equal(bench->changed_count, changed);
    assert_int_equal(bench->remap_count, asked);
    bench_free(bench);
}

/* Across RAM, and at the end of what a BAR can name. */
static void test_moves_onto_ram(void **state)
{
    struct bench *bench = bench_new();

    bench->ram[32 << 20] = 0x77;
    config_put(bench, BAR0, 4, 32 << 20);
    follow(bench);
    u8 byte;
    assert_int_equal(mem_read(machine_mem(bench->machine), 32 << 20, &byte, 1), 0);
    assert_int_equal(byte, 0x77);
    assert_int_equal(mem_ram_bytes(machine_mem(bench->machine)), RAM_BYTES - (128 << 10));
    config_put(bench, BAR0, 4, 0xff000000);
    follow(bench);
    config_put(bench, BAR0, 4, 0xd0000000);
    follow(bench);
    frame_at(bench, 0xd0000000);
    bench_free(bench);
}

static void test_typing(void **state)
{
    struct bench *bench = bench_new();
    const struct display_input *input = &bench->display.input;
    const struct display_pointer pointer = {.dx = 3, .dy = 4, .buttons = DISPLAY_LEFT};

    do_exit(bench, EXIT_PORT_WRITE, 0x64, 1, 0xae);
    input->key(input->ctx, KEY_A, true);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 0x1e);
    input->key(input->ctx, KEY_A, false);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 0x9e);
    do_exit(bench, EXIT_PORT_WRITE, 0x64, 1, 0xd4);
    do_exit(bench, EXIT_PORT_WRITE, 0x60, 1, 0xf4);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 0xfa);
    input->pointer(input->ctx, &pointer);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 0x29);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 3);
    assert_int_equal(do_exit(bench, EXIT_PORT_READ, 0x60, 1, 0), 0xfc);
    bench_free(bench);
}

static void test_state(void **state)
{
    struct bench *from = bench_new(), *to = bench_new();
    struct state_writer first = {0}, second = {0};
    struct err err;

    config_put(from, BAR0, 4, 0xd4000000);
    follow(from);
    frame_at(from, 0xd4000000)[99] = 0x998877;
    from->display.input.key(from->display.input.ctx, KEY_A, true);
    assert_int_equal(machine_save(from->machine, &first, &err), 0);
    struct state_reader reader = {.data = first.data, .bytes = first.bytes};
    if (machine_load(to->machine, &reader, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(to->remap_count, 0);
    assert_int_equal(frame_at(to, 0xd4000000)[99], 0x998877);
    assert_int_equal(pixel(to, 99, 0), 0x998877);
    assert_int_equal(machine_save(to->machine, &second, &err), 0);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    state_writer_fini(&first);
    state_writer_fini(&second);
    bench_free(from);
    bench_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),          cmocka_unit_test(test_moves),
        cmocka_unit_test(test_moves_onto_ram), cmocka_unit_test(test_typing),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests_name("screen", tests, NULL, NULL);
}
