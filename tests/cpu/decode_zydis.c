/*
 * tests/cpu/decode_zydis.c - compares the decoder with Zydis: over the code of installed programs
 * and over seeded random bytes, in 16-, 32- and 64-bit code.
 *
 * usage: decode_zydis [--seed N] [--random COUNT] [--limit COUNT] [FILE...]
 *
 * COUNT random cases per code size; at most LIMIT instructions of each ELF64 FILE. Prints how many
 * instructions were compared and each kind of difference with one example; exits 1 if there is one.
 * What is meant to differ stands, with its reason, in decode_zydis_expect.c.
 */
#include "decode_zydis.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_MAX = 2000 };

/* One kind of difference: the field and the instruction, with an example. */
struct kind {
    char what[64];
    unsigned long count;
    char example[320];
};

static struct kind kinds[KIND_MAX];
static unsigned kind_count;
static unsigned long compared, both_invalid, expected_differences;

static void format_bytes(char *to, size_t size, const u8 *bytes, unsigned count)
{
    size_t at = 0;
    for (unsigned i = 0; i < count && at + 3 < size; i++)
        at += (size_t)snprintf(to + at, size - at, "%02x ", bytes[i]);
}

static void report(const struct comparison *c, const char *what, const char *ours,
                   const char *theirs)
{
    char key[64];
    unsigned i;

    snprintf(key, sizeof(key), "%s: %s", what, c->name);
    for (i = 0; i < kind_count && strcmp(kinds[i].what, key) != 0; i++)
        ;
    if (i == kind_count) {
        if (kind_count == KIND_MAX)
            return;
        kind_count++;
        snprintf(kinds[i].what, sizeof(kinds[i].what), "%s", key);
        char bytes[64] = "";
        format_bytes(bytes, sizeof(bytes), c->bytes, 15);
        snprintf(kinds[i].example, sizeof(kinds[i].example), "%u-bit %s| ours %.100s, Zydis %.100s",
                 c->code_bytes * 8, bytes, ours, theirs);
    }
    kinds[i].count++;
}

void compare_number(const struct comparison *c, const char *what, u64 ours, u64 theirs)
{
    char a[32], b[32];

    if (ours == theirs)
        return;
    if (expect_field(c, what)) {
        expected_differences++;
        return;
    }
    snprintf(a, sizeof(a), "%#llx", (unsigned long long)ours);
    snprintf(b, sizeof(b), "%#llx", (unsigned long long)theirs);
    report(c, what, a, b);
}

static const char *result_name(enum decode_result result)
{
    static const char *const names[] = {"ok", "invalid", "truncated", "too long"};
    return names[result];
}

static const ZydisDecoder *decoder_for(unsigned code_bytes)
{
    static ZydisDecoder decoders[9];
    static bool ready;

    if (!ready) {
        ZydisDecoderInit(&decoders[2], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
        ZydisDecoderInit(&decoders[4], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
        ZydisDecoderInit(&decoders[8], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
        for (unsigned i = 2; i <= 8; i *= 2) {
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        }
        ready = true;
    }
    return &decoders[code_bytes];
}

/* Compares one decode of 15 bytes. Returns how far to step. */
static unsigned compare_one(const u8 *bytes, unsigned code_bytes)
{
    struct comparison c = {.bytes = bytes, .code_bytes = code_bytes};
    enum decode_result result = decode(bytes, 15, code_bytes, &c.insn);
    ZyanStatus status = ZydisDecoderDecodeFull(decoder_for(code_bytes), bytes, 15, &c.theirs,
                                               c.operands);
    bool theirs_ok = ZYAN_SUCCESS(status) && !expect_hidden(&c);

    compared++;
    if (result != DECODE_OK && !theirs_ok) {
        both_invalid++;
        return 1;
    }
    if ((result == DECODE_OK) != theirs_ok) {
        const char *mnemonic = ZYAN_SUCCESS(status) ? ZydisMnemonicGetString(c.theirs.mnemonic)
                                                    : "";
        snprintf(c.name, sizeof(c.name), "%s/%s", c.insn.desc->mnemonic, mnemonic);
        report(&c, "validity", result_name(result), ZYAN_SUCCESS(status) ? "ok" : "invalid");
    } else {
        snprintf(c.name, sizeof(c.name), "%s", c.insn.desc->mnemonic);
        compare_decoded(&c);
    }
    return ZYAN_SUCCESS(status) ? c.theirs.length : 1;
}

static void sweep(const u8 *code, size_t bytes, unsigned long *budget)
{
    size_t at = 0;
    while (at + 15 <= bytes && *budget > 0) {
        at += compare_one(code + at, 8);
        --*budget;
    }
}

/* Reads the whole file; NULL when that fails. */
static u8 *read_file(const char *path, size_t *ret_bytes)
{
    FILE *file = fopen(path, "rb");
    u8 *data = NULL;
    if (file == NULL)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        data = size > 0 ? malloc((size_t)size) : NULL;
        if (data != NULL && fread(data, 1, (size_t)size, file) != (size_t)size) {
            free(data);
            data = NULL;
        }
        *ret_bytes = size > 0 ? (size_t)size : 0;
    }
    fclose(file);
    return data;
}

static void sweep_file(const char *path, unsigned long limit)
{
    size_t bytes = 0;
    u8 *data = read_file(path, &bytes);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)data;

    if (data == NULL || bytes < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_shoff + header->e_shnum * sizeof(Elf64_Shdr) > bytes) {
        printf("%s: skipped, no ELF64 file\n", path);
    } else {
        const Elf64_Shdr *sections = (const Elf64_Shdr *)(data + header->e_shoff);
        for (unsigned i = 0; i < header->e_shnum; i++) {
            const Elf64_Shdr *s = &sections[i];
            if (s->sh_type == SHT_PROGBITS && (s->sh_flags & SHF_EXECINSTR) &&
                s->sh_offset <= bytes && s->sh_size <= bytes - s->sh_offset)
                sweep(data + s->sh_offset, s->sh_size, &limit);
        }
    }
    free(data);
}

static u64 random_state;

static u64 random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1dull >> 8;
}

/* Half of the cases are plain noise, the others have likely prefixes and escapes in front. */
static void random_bytes(u8 bytes[15])
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x26, 0x3e, 0x64,
                                  0x65, 0x40, 0x41, 0x44, 0x48, 0x4c, 0x49, 0x4f, 0x42, 0x66};
    unsigned at = 0;

    for (unsigned i = 0; i < 15; i++)
        bytes[i] = (u8)random_next();
    u64 shape = random_next();
    if (shape & 1)
        return;
    for (unsigned n = shape >> 1 & 3; n > 0 && (shape >> 3 & 1); n--)
        bytes[at++] = prefixes[random_next() % sizeof(prefixes)];
    switch (shape >> 4 & 7) {
    case 0:
    case 1:
        bytes[at++] = 0x0f;
        break;
    case 2:
        bytes[at++] = 0x0f;
        bytes[at++] = 0x38;
        break;
    case 3:
        bytes[at++] = 0x0f;
        bytes[at++] = 0x3a;
        break;
    case 4:
        bytes[at++] = 0xc5;
        bytes[at] |= (shape & 0x100) ? 0x78 : 0xc0;
        break;
    case 5:
        bytes[at++] = 0xc4;
        bytes[at] = (u8)((bytes[at] & 0xe0) | (1 + random_next() % 3));
        bytes[at] |= (shape & 0x200) ? 0xc0 : 0;
        bytes[at + 1] |= (shape & 0x100) ? 0x78 : 0;
        break;
    default:
        break;
    }
}

static void compare_random(u64 seed, unsigned long count)
{
    u8 bytes[15];

    random_state = seed * 2 + 1;
    for (unsigned long i = 0; i < count; i++)
        for (unsigned code_bytes = 2; code_bytes <= 8; code_bytes *= 2) {
            random_bytes(bytes);
            compare_one(bytes, code_bytes);
        }
}

static int kind_order(const void *a, const void *b)
{
    return strcmp(((const struct kind *)a)->what, ((const struct kind *)b)->what);
}

int main(int argc, char **argv)
{
    unsigned long limit = 20000, random = 0;
    u64 seed = 1;

    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (has_value && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--random") == 0)
            random = strtoul(argv[++i], NULL, 0);
        else if (has_value && strcmp(argv[i], "--limit") == 0)
            limit = strtoul(argv[++i], NULL, 0);
        else
            sweep_file(argv[i], limit);
    }
    compare_random(seed, random);
    qsort(kinds, kind_count, sizeof(kinds[0]), kind_order);
    for (unsigned i = 0; i < kind_count; i++)
        printf("DIFFERENT %s (%lu times): %s\n", kinds[i].what, kinds[i].count, kinds[i].example);
    printf("%lu instructions compared (%lu invalid for both, %lu fields differ as explained), "
           "%u kinds of difference\n",
           compared, both_invalid, expected_differences, kind_count);
    return kind_count != 0 || compared == 0;
}
