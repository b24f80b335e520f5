/*
 * tests/cpu/oracle.c - the CPU oracle's program.
 *
 * usage: oracle [--seed N] [--rounds N] [--sequences N] [--only MNEMONIC] [--case N] [--coverage]
 *        [--translate] [--exact] [--seconds N] [--cases N]
 *
 * Makes ROUNDS cases of every descriptor of the decoder's table and SEQUENCES cases of several
 * instructions, runs each on the processor and in the interpreter, and compares. Prints the number
 * of cases, how many opcodes ran to their end at least once, and each kind of difference with its
 * first case; --translate runs the guest translated, --exact so that all flags are right at faults;
 * --case N repeats one and shows all its state; --seconds N goes on with further seeds until N
 * seconds have passed, --cases N until there were N cases. Exits 1 if anything differs.
 *
 * Case numbers: descriptor * 2^32 + round; sequences have 2^63 set.
 */
#include "oracle.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEQUENCE_BIT (1ull << 63)

enum { SUSPECTS_MAX = 16 };

static struct {
    u64 seed;
    unsigned long rounds, sequences, seconds, cases;
    const char *only;
    u64 one;
    bool has_one, coverage;
    struct oracle_engine engine;
} options = {.seed = 1, .rounds = 100, .sequences = 20000};

static u64 batch_index[ORACLE_BATCH];
static unsigned batch_count;
static unsigned long cases, different, hangs, guest_failures;
static unsigned long *runs, *clean_runs; /* by descriptor */

static void count_coverage(const struct oracle_case *c, const struct oracle_outcome *native)
{
    for (unsigned i = 0; i < c->insn_count; i++) {
        size_t number = (size_t)(c->desc[i] - insn_descs);
        runs[number]++;
        if (native->vector == X86_BP)
            clean_runs[number]++;
    }
}

/* A case of the batch that differed: the processor is asked once more, because an interrupt of the
 * host, or a host that is a guest itself, may leave its mark on one run (RF at a fault). The
 * guest's outcome is kept, so that what it did wrong only once counts all the same. */
static struct suspect {
    unsigned at; /* in the batch */
    struct oracle_outcome guest;
} suspects[SUSPECTS_MAX];
static unsigned suspect_count;

static void ask_again(void)
{
    for (unsigned i = 0; i < suspect_count; i++) {
        struct suspect *one = &suspects[i];
        u64 index = batch_index[one->at];
        /* Rising positions: what is overwritten was judged before. */
        if (one->at != 0)
            oracle_cases[0] = oracle_cases[one->at];
        if (oracle_native_run(1) == 0)
            hangs++;
        else if (!oracle_compare(&oracle_cases[0], &oracle_outcomes[0], &one->guest, index, true))
            different++;
    }
    suspect_count = 0;
}

static void run_case(unsigned at, const struct oracle_outcome *native, u64 index)
{
    static struct oracle_outcome guest;
    const struct oracle_case *c = &oracle_cases[at];

    cases++;
    if (!oracle_guest_run(c, &guest)) {
        guest_failures++;
        printf("FAILED case %llu: the guest met no exception (%s)\n", (unsigned long long)index,
               c->desc[0]->mnemonic);
        return;
    }
    count_coverage(c, native);
    bool may_ask = suspect_count < SUSPECTS_MAX;
    if (!oracle_compare(c, native, &guest, index, !may_ask)) {
        if (may_ask)
            suspects[suspect_count++] = (struct suspect){.at = at, .guest = guest};
        else
            different++;
    }
    if (options.has_one)
        oracle_dump(c, native, &guest);
}

static void flush_batch(void)
{
    unsigned first = 0;

    while (first < batch_count) {
        if (first != 0) { /* after a hang: the rest moves to the front */
            memmove(oracle_cases, oracle_cases + first,
                    (batch_count - first) * sizeof(oracle_cases[0]));
            memmove(batch_index, batch_index + first,
                    (batch_count - first) * sizeof(batch_index[0]));
            batch_count -= first;
        }
        unsigned done = oracle_native_run(batch_count);
        for (unsigned i = 0; i < done; i++)
            run_case(i, &oracle_outcomes[i], batch_index[i]);
        ask_again();
        if (done < batch_count) {
            hangs++;
            printf("HUNG on the processor: case %llu (%s, %u-bit):",
                   (unsigned long long)batch_index[done], oracle_cases[done].desc[0]->mnemonic,
                   oracle_cases[done].code_bytes * 8);
            for (unsigned i = 0; i < oracle_cases[done].code_count; i++)
                printf(" %02x", oracle_cases[done].code[i]);
            printf("\n");
        }
        first = done + 1;
    }
    batch_count = 0;
}

static void add_case(const struct insn_desc *desc, u64 index)
{
    struct oracle_case *c = &oracle_cases[batch_count];
    bool made = (index & SEQUENCE_BIT) ? oracle_make_sequence(c, options.seed, index)
                                       : oracle_make(c, desc, options.seed, index);
    if (!made)
        return;
    c->seed = options.seed;
    batch_index[batch_count++] = index;
    if (batch_count == ORACLE_BATCH)
        flush_batch();
}

static void run_all(void)
{
    for (unsigned long round = 0; round < options.rounds; round++)
        for (unsigned i = 1; i < insn_desc_count; i++) {
            if (oracle_excluded(&insn_descs[i]) != NULL)
                continue;
            if (options.only == NULL || strcmp(options.only, insn_descs[i].mnemonic) == 0)
                add_case(&insn_descs[i], (u64)i << 32 | round);
        }
    for (unsigned long n = 0; n < options.sequences && options.only == NULL; n++)
        add_case(NULL, SEQUENCE_BIT | n);
    flush_batch();
}

static void print_coverage(void)
{
    unsigned covered = 0, faulting = 0, missing = 0, excluded = 0;

    for (unsigned i = 1; i < insn_desc_count; i++) {
        const struct insn_desc *desc = &insn_descs[i];
        const char *why = oracle_excluded(desc);
        const char *state = "";
        if (why != NULL)
            excluded++;
        else if (runs[i] == 0)
            missing++, state = "never made";
        else if (clean_runs[i] == 0)
            faulting++, state = "always faults";
        else
            covered++;
        if (options.coverage && (why != NULL || state[0] != 0))
            printf("%-12s %u %02x: %s%s\n", desc->mnemonic, desc->pattern.map, desc->pattern.opcode,
                   why != NULL ? "not run: " : state, why != NULL ? why : "");
    }
    printf(
        "forms: %u ran to their end, %u only to a fault (privileged, undefined), %u not runnable, "
        "%u missed\n",
        covered, faulting, excluded, missing);
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--coverage") == 0)
            options.coverage = true;
        else if (strcmp(argv[i], "--translate") == 0)
            options.engine.translate = true;
        else if (strcmp(argv[i], "--exact") == 0)
            options.engine.translate = options.engine.exact = true;
        else if (has_value && strcmp(argv[i], "--seed") == 0)
            options.seed = strtoull(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--rounds") == 0)
            options.rounds = strtoul(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--sequences") == 0)
            options.sequences = strtoul(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--seconds") == 0)
            options.seconds = strtoul(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--cases") == 0)
            options.cases = strtoul(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--only") == 0)
            options.only = argv[++i];
        else if (has_value && strcmp(argv[i], "--case") == 0) {
            options.has_one = true;
            options.one = strtoull(argv[++i], NULL, 0);
        } else {
            return false;
        }
    }
    return true;
}

/* Linux tells programs the CPU's number through a segment descriptor: it must stay the same. */
static void stay_on_this_cpu(void)
{
    int cpu = sched_getcpu();
    cpu_set_t set;

    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof(set), &set);
    }
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: oracle [--seed N] [--rounds N] [--sequences N] [--only MNEMONIC] "
                "[--case N] [--coverage] [--translate] [--exact] [--seconds N] [--cases N]\n");
        return 2;
    }
    stay_on_this_cpu();
    runs = calloc(insn_desc_count, sizeof(*runs));
    clean_runs = calloc(insn_desc_count, sizeof(*clean_runs));
    oracle_make_images(options.seed);
    if (runs == NULL || clean_runs == NULL || !oracle_native_start() ||
        !oracle_guest_start(&options.engine)) {
        printf("skipped: this host cannot run the oracle\n");
        return 77;
    }
    if (options.has_one) {
        add_case(&insn_descs[(options.one >> 32) % insn_desc_count], options.one);
        flush_batch();
    } else {
        time_t end = time(NULL) + (time_t)options.seconds;
        do {
            run_all();
            options.seed++;
        } while (time(NULL) < end || cases < options.cases);
        options.seed--;
        print_coverage();
    }
    unsigned kinds = oracle_report();
    printf("%lu cases, %lu differ in %u kinds, %lu hung, %lu failed (seed %llu)\n", cases,
           different, kinds, hangs, guest_failures, (unsigned long long)options.seed);
    oracle_native_stop();
    oracle_guest_stop();
    free(runs);
    free(clean_runs);
    return different != 0 || hangs != 0 || guest_failures != 0 || (cases == 0 && !options.has_one);
}
