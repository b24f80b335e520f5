/*
 * tests/bench/screen_bench.c - what a viewer costs and how soon it sees: a VGA adapter in a mode of
 * 1280 by 800, the RFB server, and a viewer that decodes everything, in this process. No guest CPU.
 *
 * For each encoding two figures. "seen": a character changes at a random moment; how long until the
 * viewer's socket has the update (the goal is 20 ms). "scroll": the whole screen of text moves up
 * by a line 30 times a second; how much of a processor the server's thread takes (a quarter), how
 * many pictures arrive, and how many bytes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "back/display/rfb_decode.h"
#include "back/display/vnc.h"
#include "base/clock.h"
#include "core/clock.h"
#include "dev/vga/vga.h"
#include "host/thread.h"

enum { WIDTH = 1280, HEIGHT = 800, CELL_WIDTH = 8, CELL_HEIGHT = 16, COLUMNS = WIDTH / CELL_WIDTH };
enum { LINES = HEIGHT / CELL_HEIGHT, SAMPLES = 60, FRAMES = 90, FRAME_NS = 33333333 };

struct bench {
    struct vm_clock clock;
    struct vga *vga;
    u32 *pixels; /* the guest's frame buffer */
    u8 text[LINES][COLUMNS];
    struct display *display;
    char path[64];
    u32 random;
    u32 frame_count; /* atomic: frames drawn */
    u32 has_ended;   /* atomic */
};

static struct bench bench;

static u32 next_random(void)
{
    bench.random ^= bench.random << 13;
    bench.random ^= bench.random >> 17;
    bench.random ^= bench.random << 5;
    return bench.random;
}

static void sleep_ns(u64 ns)
{
    const struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&time, NULL);
}

/* Letters whose shapes are made up: about a third of their dots are set. */
static void cell_draw(unsigned column, unsigned line)
{
    u8 letter = bench.text[line][column];
    for (unsigned y = 0; y < CELL_HEIGHT; y++) {
        u32 bits = letter == ' ' || y < 3 || y > 12 ? 0 : (letter * 2654435761u) >> (y % 11);
        u32 *to = bench.pixels + (size_t)(line * CELL_HEIGHT + y) * WIDTH + column * CELL_WIDTH;
        for (unsigned x = 0; x < CELL_WIDTH; x++)
            to[x] = (bits >> x & 1) && (bits >> (x + 9) & 1) ? 0xaaaaaa : 0;
    }
}

/* A line as systems print them: words up to some length of it. */
static void line_fill(unsigned line)
{
    unsigned length = 20 + next_random() % 100;
    for (unsigned i = 0; i < COLUMNS; i++)
        bench.text[line][i] = i >= length || next_random() % 6 == 0
                                  ? ' '
                                  : (u8)('a' + next_random() % 26);
}

static void scroll(void)
{
    memmove(bench.text[0], bench.text[1], (LINES - 1) * COLUMNS);
    line_fill(LINES - 1);
    memmove(bench.pixels, bench.pixels + CELL_HEIGHT * WIDTH,
            (size_t)(HEIGHT - CELL_HEIGHT) * WIDTH * sizeof(u32));
    for (unsigned column = 0; column < COLUMNS; column++)
        cell_draw(column, LINES - 1);
}

static void guest_thread(void *ctx)
{
    u64 next_ns = clock_monotonic_ns();
    while (!__atomic_load_n(&bench.has_ended, __ATOMIC_ACQUIRE)) {
        scroll();
        __atomic_add_fetch(&bench.frame_count, 1, __ATOMIC_RELEASE);
        next_ns += FRAME_NS;
        u64 now_ns = clock_monotonic_ns();
        if (next_ns > now_ns)
            sleep_ns(next_ns - now_ns);
    }
}

/* Processor time of this process's thread NAME. */
static u64 thread_cpu_ns(const char *name)
{
    char path[320], comm[32];
    unsigned long long ns = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");

    while (tasks && (entry = readdir(tasks)) != NULL) {
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        bool is_it = fscanf(file, "%31s", comm) == 1 && strcmp(comm, name) == 0;
        fclose(file);
        snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", entry->d_name);
        file = is_it ? fopen(path, "r") : NULL;
        if (file != NULL) {
            if (fscanf(file, "%llu", &ns) != 1)
                ns = 0;
            fclose(file);
        }
    }
    if (tasks)
        closedir(tasks);
    return ns;
}

static int by_size(const void *a, const void *b)
{
    u64 first = *(const u64 *)a, second = *(const u64 *)b;
    return first < second ? -1 : first > second;
}

static void measure_seen(struct rfb_peer *peer)
{
    u64 samples[SAMPLES];

    for (unsigned i = 0; i < SAMPLES; i++) {
        rfb_request(peer, true);
        sleep_ns(40000000 + next_random() % 30000000);
        unsigned column = next_random() % COLUMNS, line = next_random() % LINES;
        bench.text[line][column] = (u8)(bench.text[line][column] == 'x' ? 'y' : 'x');
        u64 start_ns = clock_monotonic_ns();
        cell_draw(column, line);
        if (!rfb_has_input(peer, 2000)) {
            printf("no update came\n");
            exit(1);
        }
        samples[i] = clock_monotonic_ns() - start_ns;
        rfb_take(peer);
    }
    qsort(samples, SAMPLES, sizeof(samples[0]), by_size);
    printf("seen: median %.1f ms, 95 %% %.1f ms, most %.1f ms; ",
           (double)samples[SAMPLES / 2] / 1e6, (double)samples[SAMPLES * 95 / 100] / 1e6,
           (double)samples[SAMPLES - 1] / 1e6);
}

static void measure_scroll(struct rfb_peer *peer)
{
    struct err err;
    unsigned updates = 0;

    bench.has_ended = 0;
    bench.frame_count = 0;
    struct thread *guest = thread_new("guest", guest_thread, NULL, &err);
    u64 cpu_ns = thread_cpu_ns("vnc"), start_ns = clock_monotonic_ns();
    u64 bytes = peer->received_bytes;
    while (__atomic_load_n(&bench.frame_count, __ATOMIC_ACQUIRE) < FRAMES) {
        rfb_request(peer, true);
        rfb_take(peer);
        updates++;
    }
    double seconds = (double)(clock_monotonic_ns() - start_ns) / 1e9;
    cpu_ns = thread_cpu_ns("vnc") - cpu_ns;
    printf(
        "scroll: %.0f %% of a processor, %.1f frames drawn and %.1f updates a second, %.2f MB/s\n",
        (double)cpu_ns / 1e7 / seconds, FRAMES / seconds, updates / seconds,
        (double)(peer->received_bytes - bytes) / 1e6 / seconds);
    __atomic_store_n(&bench.has_ended, 1, __ATOMIC_RELEASE);
    thread_join(guest);
}

static void measure(const char *name, const s32 *encodings, unsigned count)
{
    struct rfb_peer peer;

    rfb_peer_open(&peer, bench.path, 8);
    rfb_set_encodings(&peer, encodings, count);
    rfb_request(&peer, false);
    rfb_take(&peer);
    printf("%-10s ", name);
    measure_seen(&peer);
    measure_scroll(&peer);
    fflush(stdout);
    rfb_peer_close(&peer);
}

int main(void)
{
    static const s32 raw[] = {0}, hextile[] = {5}, zrle[] = {16}, tight[] = {7}, jpeg[] = {7, -26};
    char address[80];
    struct err err = {0};

    bench.random = 1;
    vm_clock_init(&bench.clock);
    bench.vga = vga_new(&bench.clock);
    bench.pixels = (u32 *)(void *)vga_function(bench.vga)->bars[VGA_BAR_MEMORY].ram;
    vga_set_linear(bench.vga, WIDTH, HEIGHT);
    for (unsigned i = 0; i < LINES; i++)
        scroll();
    snprintf(bench.path, sizeof(bench.path), "/tmp/atoll-screen-bench.%d", (int)getpid());
    snprintf(address, sizeof(address), "unix:%s", bench.path);
    const char *addresses[1] = {address};
    const struct vnc_options options = {
        .name = "bench", .addresses = addresses, .address_count = 1};
    const struct display_source source = vga_source(bench.vga);
    const struct display_input input = {0};
    bench.display = vnc_new(&options, &err);
    if (bench.display == NULL) {
        fprintf(stderr, "screen_bench: %s\n", err.text);
        return 1;
    }
    display_attach(bench.display, &source, &input);
    if (bench.display->ops->start(bench.display, &err) < 0) {
        fprintf(stderr, "screen_bench: %s\n", err.text);
        return 1;
    }
    measure("raw", raw, 1);
    measure("hextile", hextile, 1);
    measure("zrle", zrle, 1);
    measure("tight", tight, 1);
    measure("tight+jpeg", jpeg, 2);
    bench.display->ops->free(bench.display);
    vga_function(bench.vga)->ops->free(vga_function(bench.vga));
    return 0;
}
