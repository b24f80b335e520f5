/*
 * tests/cpu/oracle_compare.c - finds and reports where the interpreter and the processor differ.
 */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

enum { KIND_MAX = 1000 };

struct kind {
    char what[80];
    unsigned long count;
    u64 first_seed, first_index;
    char example[200];
};

static struct kind kinds[KIND_MAX];
static unsigned kind_count;

static void case_name(const struct oracle_case *c, char *to, size_t size)
{
    if (c->insn_count == 1)
        snprintf(to, size, "%s/%u", c->desc[0]->mnemonic, c->code_bytes * 8);
    else
        snprintf(to, size, "sequence/%u", c->code_bytes * 8);
}

static void report(const struct oracle_case *c, u64 index, const char *what, u64 guest, u64 native)
{
    char key[80], name[40];
    unsigned i;

    case_name(c, name, sizeof(name));
    snprintf(key, sizeof(key), "%s: %s", name, what);
    for (i = 0; i < kind_count && strcmp(kinds[i].what, key) != 0; i++)
        ;
    if (i == KIND_MAX)
        return;
    if (i == kind_count) {
        struct kind *k = &kinds[kind_count++];
        int at = snprintf(k->example, sizeof(k->example), "guest %#llx, processor %#llx, code",
                          (unsigned long long)guest, (unsigned long long)native);
        snprintf(k->what, sizeof(k->what), "%s", key);
        for (unsigned b = 0; b < c->code_count && at + 4 < (int)sizeof(k->example); b++)
            at += snprintf(k->example + at, sizeof(k->example) - (size_t)at, " %02x", c->code[b]);
        k->first_index = index;
        k->first_seed = c->seed;
    }
    kinds[i].count++;
}

/* XSAVE leaves out what is in its initial state: writes that out, and drops what may differ (the
 * addresses of the last x87 instruction, reserved bytes). */
static void normalize(const u8 *from, u8 *to)
{
    u64 present = load_le64(from + 512);

    memcpy(to, from, X86_XSAVE_BYTES);
    if (!(present & 1)) {
        memset(to, 0, 24);
        memset(to + 32, 0, 128);
        store_le16(to, 0x37f);
    }
    if (!(present & 2))
        memset(to + 160, 0, 256);
    if (!(present & 4))
        memset(to + 576, 0, 256);
    memset(to + 5, 0, 19);    /* reserved, FOP, FIP, FDP */
    memset(to + 28, 0, 4);    /* MXCSR_MASK */
    memset(to + 416, 0, 160); /* not used, header */
    for (unsigned i = 0; i < 8; i++)
        memset(to + 32 + 16 * i + 10, 0, 6);
}

struct check {
    const struct oracle_case *c;
    const struct oracle_outcome *native, *guest;
    u64 index;
    bool is_noted, same;
};

static void check_equal(struct check *check, enum oracle_field field, const char *what, u64 guest,
                        u64 native)
{
    if (guest == native || oracle_tolerated(check->c, check->native, check->guest, field))
        return;
    if (check->is_noted)
        report(check->c, check->index, what, guest, native);
    check->same = false;
}

static void check_vectors(struct check *check)
{
    static const struct {
        const char *name;
        enum oracle_field field;
        u16 at, bytes;
    } parts[] = {{"x87 control", FIELD_X87, 0, 2},     {"x87 status", FIELD_X87, 2, 2},
                 {"x87 tags", FIELD_X87, 4, 1},        {"MXCSR", FIELD_VECTORS, 24, 4},
                 {"x87 stack", FIELD_X87, 32, 128},    {"XMM", FIELD_VECTORS, 160, 256},
                 {"YMM high", FIELD_VECTORS, 576, 256}};
    static u8 a[X86_XSAVE_BYTES], b[X86_XSAVE_BYTES];

    normalize(check->guest->after.xsave, a);
    normalize(check->native->after.xsave, b);
    if (memcmp(a, b, sizeof(a)) == 0)
        return;
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        unsigned at = parts[i].at, end = at + parts[i].bytes;
        while (at < end && a[at] == b[at])
            at++;
        if (at < end)
            check_equal(check, parts[i].field, parts[i].name, load_le64(a + (at & ~7u)),
                        load_le64(b + (at & ~7u)));
    }
}

static bool is_ignored(const struct oracle_case *c, unsigned at)
{
    unsigned offset = at - c->ignore_at;
    return offset < c->ignore_count[0] ||
           (c->ignore_count[1] != 0 && offset - c->ignore_count[1] < 4);
}

static void check_memory(struct check *check)
{
    const u8 *guest = check->guest->memory, *native = check->native->memory;
    unsigned at = 0;

    if (memcmp(guest, native, ORACLE_MEMORY_BYTES) == 0)
        return;
    while (at < ORACLE_MEMORY_BYTES && (guest[at] == native[at] || is_ignored(check->c, at)))
        at++;
    if (at == ORACLE_MEMORY_BYTES)
        return;
    at &= ~7u;
    check_equal(check, FIELD_MEMORY, "memory", load_le64(guest + at), load_le64(native + at));
}

static void check_fault(struct check *check)
{
    const struct oracle_outcome *native = check->native, *guest = check->guest;
    u32 ignored = 0;

    check_equal(check, FIELD_VECTOR, "vector", guest->vector, native->vector);
    if (guest->vector != native->vector)
        return;
    if (native->vector == X86_PF_FAULT) {
        check_equal(check, FIELD_CR2, "CR2", guest->cr2, native->cr2);
        /* Linux says "present" of every address in its half. */
        if (native->cr2 >= 0x7ffffffff000)
            ignored = X86_PF_P;
    }
    check_equal(check, FIELD_ERROR, "error code", guest->error & ~ignored,
                native->error & ~ignored);
}

/* The host's kernel has returned to user mode since: null selectors have lost their RPL. */
static u16 plain_selector(unsigned segment, u16 selector)
{
    return segment != X86_CS && segment != X86_SS && selector <= 3 ? 0 : selector;
}

bool oracle_compare(const struct oracle_case *c, const struct oracle_outcome *native,
                    const struct oracle_outcome *guest, u64 index, bool is_noted)
{
    static const char *const names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const selectors[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    struct check check = {.c = c,
                          .native = native,
                          .guest = guest,
                          .index = index,
                          .is_noted = is_noted,
                          .same = true};
    const struct oracle_state *a = &guest->after, *b = &native->after;
    u64 flags = ~(u64)c->undefined_flags;

    check_fault(&check);
    check_equal(&check, FIELD_RIP, "RIP", a->rip, b->rip);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++) {
        /* On the way to a 16-bit stack Linux leaves bits of its own in the upper half of RSP. */
        u64 mask = i == X86_RSP && c->code_bytes == 2 ? UINT32_MAX : UINT64_MAX;
        /* RETF's immediate carries into it on some processors. */
        if (i == X86_RSP && c->code_bytes == 2 && c->desc[0]->op == OP_RETF)
            mask = UINT16_MAX;
        /* A jump to 32-bit code leaves the upper halves undefined (SDM vol. 1, 3.4.1.1): the
         * exception there saves no more of RSP on some processors. */
        if (i == X86_RSP && c->code_bytes == 8 && b->selector[X86_CS] == ORACLE_CS32)
            mask = UINT32_MAX;
        check_equal(&check, FIELD_GPR, names[i], a->gpr[i] & mask, b->gpr[i] & mask);
    }
    check_equal(&check, FIELD_FLAGS, "flags", a->rflags & flags, b->rflags & flags);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        check_equal(&check, FIELD_SEGMENT, selectors[i], plain_selector(i, a->selector[i]),
                    plain_selector(i, b->selector[i]));
    check_equal(&check, FIELD_SEGMENT, "FS base", a->fs_base, b->fs_base);
    check_equal(&check, FIELD_SEGMENT, "GS base", a->gs_base, b->gs_base);
    check_vectors(&check);
    check_memory(&check);
    return check.same;
}

static void dump_state(const char *name, const struct oracle_state *s)
{
    printf("%s\n", name);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        printf("  r%-2u %016llx%s", i, (unsigned long long)s->gpr[i], i % 4 == 3 ? "\n" : "");
    printf("  rip %llx rflags %llx fs %llx gs %llx sel", (unsigned long long)s->rip,
           (unsigned long long)s->rflags, (unsigned long long)s->fs_base,
           (unsigned long long)s->gs_base);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        printf(" %x", s->selector[i]);
    printf("\n  fcw %04x fsw %04x ftw %02x mxcsr %08x\n", load_le16(s->xsave),
           load_le16(s->xsave + 2), s->xsave[4], load_le32(s->xsave + 24));
    for (unsigned i = 0; i < 8; i++)
        printf("  st%u %04x %016llx\n", i, load_le16(s->xsave + 40 + 16 * i),
               (unsigned long long)load_le64(s->xsave + 32 + 16 * i));
    for (unsigned i = 0; i < 16; i++)
        printf("  ymm%-2u %016llx %016llx %016llx %016llx\n", i,
               (unsigned long long)load_le64(s->xsave + 584 + 16 * i),
               (unsigned long long)load_le64(s->xsave + 576 + 16 * i),
               (unsigned long long)load_le64(s->xsave + 168 + 16 * i),
               (unsigned long long)load_le64(s->xsave + 160 + 16 * i));
}

static void dump_outcome(const char *name, const struct oracle_outcome *o)
{
    dump_state(name, &o->after);
    printf("  vector %u error %x cr2 %llx\n", o->vector, o->error, (unsigned long long)o->cr2);
}

void oracle_dump(const struct oracle_case *c, const struct oracle_outcome *native,
                 const struct oracle_outcome *guest)
{
    printf("%u-bit code:", c->code_bytes * 8);
    for (unsigned i = 0; i < c->code_count; i++)
        printf(" %02x", c->code[i]);
    printf("  (");
    for (unsigned i = 0; i < c->insn_count; i++)
        printf("%s%s", i ? ", " : "", c->desc[i]->mnemonic);
    printf(")\n");
    dump_state("before", &c->before);
    dump_outcome("processor", native);
    dump_outcome("guest", guest);
    for (unsigned i = 0; i < ORACLE_MEMORY_BYTES; i++)
        if (native->memory[i] != guest->memory[i])
            printf("  memory %x: processor %02x, guest %02x\n",
                   i < ORACLE_DATA_BYTES ? ORACLE_DATA + i : ORACLE_STACK + i - ORACLE_DATA_BYTES,
                   native->memory[i], guest->memory[i]);
}

static int kind_order(const void *a, const void *b)
{
    return strcmp(((const struct kind *)a)->what, ((const struct kind *)b)->what);
}

unsigned oracle_report(void)
{
    qsort(kinds, kind_count, sizeof(kinds[0]), kind_order);
    for (unsigned i = 0; i < kind_count; i++)
        printf("DIFFERENT %s (%lu times, first --seed %llu --case %llu): %s\n", kinds[i].what,
               kinds[i].count, (unsigned long long)kinds[i].first_seed,
               (unsigned long long)kinds[i].first_index, kinds[i].example);
    return kind_count;
}
