/*
 * tests/fuzz/driver.c - runs a fuzzer on mutated seeds, without coverage: driver [ROUNDS [SEED]].
 * With --seeds FOLDER it writes the seeds there instead, for a fuzzer that starts from a corpus.
 *
 * The generator is seeded with a constant, so a finding can be had again; the round is printed
 * before the process dies.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "fuzz.h"

enum { ROUNDS = 4000, MUTATIONS_MAX = 12, HANG_SECONDS = 20 };

static u64 generator = 0x9e3779b97f4a7c15ull;
static u64 round_number;

/* xorshift64* */
static u64 next(void)
{
    generator ^= generator >> 12;
    generator ^= generator << 25;
    generator ^= generator >> 27;
    return generator * 0x2545f4914f6cdd1dull;
}

static void report(int signal_number)
{
    char text[96];
    int bytes = snprintf(text, sizeof(text), "fuzz: signal %d in round %llu\n", signal_number,
                         (unsigned long long)round_number);
    if (write(STDERR_FILENO, text, (size_t)bytes) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Values at which comparisons tip over. */
static u64 edge(void)
{
    static const u64 edges[] = {0,          1,          0x7f,       0x80,       0xff,
                                0x7fff,     0x8000,     0xffff,     0x7fffffff, 0x80000000,
                                0xffffffff, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 4095};
    return edges[next() % ARRAY_LEN(edges)] + (next() % 4 == 0 ? next() % 64 - 32 : 0);
}

static size_t mutate(u8 *data, size_t bytes)
{
    unsigned count = 1 + (unsigned)(next() % MUTATIONS_MAX);

    for (unsigned i = 0; i < count && bytes > 0; i++) {
        /* Headers are at the front: look there more often. */
        size_t limit = next() % 2 ? bytes : (bytes < 1024 ? bytes : 1024);
        size_t at = next() % limit;
        u64 value = next() % 2 ? edge() : next();
        size_t width = (size_t)1 << next() % 4;
        switch (next() % 8) {
        case 0:
            data[at] ^= (u8)(1u << next() % 8);
            break;
        case 1:
            bytes = at + 1;
            break;
        case 2:
            memmove(data + at, data + next() % bytes, bytes - at > 64 ? 64 : 0);
            break;
        default:
            if (at + width <= bytes)
                memcpy(data + at, &value, width);
        }
    }
    return bytes;
}

static int write_seeds(const char *folder)
{
    static u8 seed[FUZZ_INPUT_MAX_BYTES];
    size_t bytes;
    for (unsigned i = 0; (bytes = fuzz_seed(i, seed)) > 0; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/seed-%u", folder, i);
        FILE *file = fopen(path, "w");
        if (file == NULL || fwrite(seed, 1, bytes, file) != bytes || fclose(file) != 0) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    static u8 seed[FUZZ_INPUT_MAX_BYTES], input[FUZZ_INPUT_MAX_BYTES];
    u64 rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : ROUNDS;
    unsigned seed_count = 0;

    if (argc > 2)
        generator ^= strtoull(argv[2], NULL, 0) * 0x9e3779b97f4a7c15ull;
    setenv("ATOLL_LOG", "error", 0); /* what a hostile guest is told is no finding */
    signal(SIGSEGV, report);
    signal(SIGBUS, report);
    signal(SIGABRT, report);
    signal(SIGALRM, report);
    while (fuzz_seed(seed_count, seed) > 0)
        seed_count++;
    if (seed_count == 0) {
        fputs("fuzz: no seeds\n", stderr);
        return 1;
    }
    for (round_number = 0; round_number < rounds; round_number++) {
        size_t bytes = fuzz_seed((unsigned)(round_number % seed_count), seed);
        memcpy(input, seed, bytes);
        if (round_number >= seed_count) /* the seeds themselves come first, whole */
            bytes = mutate(input, bytes);
        /* An exact-size heap copy: a read past the end is seen by ASan. */
        u8 *copy = malloc(bytes ? bytes : 1);
        if (!copy)
            return 1;
        memcpy(copy, input, bytes);
        alarm(HANG_SECONDS);
        LLVMFuzzerTestOneInput(copy, bytes);
        free(copy);
    }
    printf("fuzz: %llu rounds over %u seeds\n", (unsigned long long)rounds, seed_count);
    return 0;
}
