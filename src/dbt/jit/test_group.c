/*
 * dbt/jit/test_group.c - sequences whose memory operands can be tested together.
 */
#include "dbt/jit/test_group.h"

#include "base/bits.h"

enum { RAX = 0, RCX = 1, RDX = 2, BASES = 6, BODY_MAX = 14 };
/* Base registers: pinned ones, and some of those that translated code keeps in memory. */
static const u8 bases[BASES] = {3, 6, 7, 9, 11, 14};

static unsigned below(const struct test_group *group, unsigned limit)
{
    return (unsigned)((group->random() >> 32) % limit);
}

void test_group_state(const struct test_group *group, struct x86_state *state)
{
    for (unsigned i = 0; i < BASES; i++) {
        u64 page = group->pages[below(group, group->page_count)];
        state->gpr[bases[i]] = page + 4096 - below(group, below(group, 2) ? 80 : 1500);
    }
    state->gpr[RCX] = below(group, 20);
    state->gpr[RDX] = group->random();
}

struct code {
    const struct test_group *group;
    u8 *at;
};

static void put(struct code *code, const u8 *bytes, unsigned count)
{
    __builtin_memcpy(code->at, bytes, count);
    code->at += count;
}

/* ModRM, SIB and displacement for REG and a base register that is near to BASE's choice. */
static void put_operand(struct code *code, unsigned reg, unsigned base, bool indexed)
{
    const struct test_group *group = code->group;
    unsigned disp = below(group, 3) ? below(group, 96) : below(group, 300);
    *code->at++ = (u8)(0x80 | (reg & 7) << 3 | (indexed ? 4 : base & 7));
    if (indexed) /* rcx is the index */
        *code->at++ = (u8)(below(group, 4) << 6 | RCX << 3 | (base & 7));
    store_le32(code->at, disp);
    code->at += 4;
}

/* An instruction with a memory operand. */
static void put_access(struct code *code, unsigned base)
{
    static const u8 ops[] = {0x8b, 0x8b, 0x89, 0x89, 0x01, 0x03, 0x13, 0x11, 0x3b, 0x33, 0x29};
    const struct test_group *group = code->group;
    unsigned reg = (u8[]){RAX, RDX, 8, 10, 12, 13}[below(group, 6)];
    bool indexed = below(group, 6) == 0;
    u8 rex = (u8)(0x40 | (reg & 8) >> 1 | (base & 8) >> 3);
    u8 vex = (u8)(0xe0 & ~((reg & 8) << 4) & ~((base & 8) << 2));
    switch (below(group, 10)) {
    case 0: /* adcx, adox */
        put(code, (const u8[]){below(group, 2) ? 0x66 : 0xf3, rex | 8, 0x0f, 0x38, 0xf6}, 5);
        break;
    case 1: /* mulx, into rax as well */
        put(code, (const u8[]){0xc4, vex | 2, 0xfb, 0xf6}, 4);
        break;
    case 2: /* movdqu */
        put(code, (const u8[]){0xf3, rex, 0x0f, below(group, 2) ? 0x6f : 0x7f}, 4);
        break;
    case 3: /* vmovdqu of 32 bytes */
        put(code, (const u8[]){0xc4, vex | 1, 0x7e, below(group, 2) ? 0x6f : 0x7f}, 4);
        break;
    case 4: /* bytes */
        put(code, (const u8[]){rex, below(group, 2) ? 0x88 : 0x8a}, 2);
        break;
    case 5:
        if (below(group, 2)) {
            *code->at++ = 0x50; /* push rax, pop rdx */
            if (below(group, 2))
                *code->at++ = 0x5a;
            return;
        }
        /* fall through */
    default:
        put(code, (const u8[]){rex | (below(group, 4) ? 8u : 0u), ops[below(group, sizeof(ops))]},
            2);
        break;
    }
    put_operand(code, reg, base, indexed);
}

/* Something that changes a base register, or flags, or leads forwards over an instruction. */
static void put_other(struct code *code, unsigned base)
{
    const struct test_group *group = code->group;
    u8 rex = (u8)(0x48 | (base & 8) >> 3), low = base & 7;
    u8 step = (u8)(below(group, 2) ? 8 * below(group, 9) : below(group, 256));
    unsigned other = bases[below(group, BASES)];
    switch (below(group, 8)) {
    case 0: /* add, sub */
        put(code, (const u8[]){rex, 0x83, (below(group, 2) ? 0xc0 : 0xe8) | low, step & 0x7f}, 4);
        break;
    case 1: /* lea base, [base + step] */
        put(code, (const u8[]){rex | (base & 8) >> 1, 0x8d, (u8)(0x40 | low << 3 | low), step}, 4);
        break;
    case 2: /* inc, dec */
        put(code, (const u8[]){rex, 0xff, (below(group, 2) ? 0xc0 : 0xc8) | low}, 3);
        break;
    case 3: /* mov base, other */
        put(code, (const u8[]){rex | (other & 8) >> 1, 0x89, (u8)(0xc0 | (other & 7) << 3 | low)},
            3);
        break;
    case 4: { /* jcc over an access */
        u8 *jump = code->at;
        put(code, (const u8[]){0x70 | below(group, 16), 0}, 2);
        put_access(code, base);
        jump[1] = (u8)(code->at - jump - 2);
        break;
    }
    case 5: /* mov rax, [base]; and the low bits, so that it is near by; mov base, or not */
        put(code, (const u8[]){0x31, 0xc0}, 2);
        break;
    case 6: /* lea edx, [rdx + 1]: leaves flags */
        put(code, (const u8[]){0x8d, 0x52, 1}, 3);
        break;
    default: /* cmp rax, rdx */
        put(code, (const u8[]){0x48, 0x39, 0xd0}, 3);
        break;
    }
}

static void put_body(struct code *code, unsigned count)
{
    const struct test_group *group = code->group;
    unsigned base = bases[below(group, BASES)];
    while (count-- > 0) {
        if (below(group, 5) == 0)
            base = bases[below(group, BASES)];
        if (below(group, 4))
            put_access(code, base);
        else
            put_other(code, base);
    }
}

/* A loop of up to some hundred rounds, counted in ecx or rcx, in which two bases move. */
static void put_loop(struct code *code)
{
    static const u8 strides[] = {0, 1, 4, 8, 16, 32, 64, 24, 0xf8, 0xf0, 0xff};
    const struct test_group *group = code->group;
    unsigned stay = below(group, 2);
    *code->at++ = 0xb9; /* mov ecx */
    store_le32(code->at, 1 + below(group, below(group, 2) ? 8 : 200));
    code->at += 4;
    u8 *start = code->at;
    put_body(code, 1 + below(group, 5));
    for (unsigned i = 0; i < 2; i++) {
        unsigned base = bases[below(group, BASES)];
        put(code,
            (const u8[]){0x48 | (base & 8) >> 3, 0x83, 0xc0 | (base & 7),
                         strides[below(group, sizeof(strides))]},
            4);
    }
    if (stay)
        put_body(code, below(group, 3));
    if (below(group, 2))
        *code->at++ = 0x48;
    put(code, (const u8[]){0xff, 0xc9, 0x0f, 0x85}, 4); /* dec ecx; jnz */
    code->at += 4;
    store_le32(code->at - 4, (u32)(start - code->at));
}

unsigned test_group_sequence(const struct test_group *group, u8 *at, unsigned limit)
{
    struct code code = {group, at};
    enum { LONGEST = 40 * BODY_MAX };
    do {
        if (below(group, 2))
            put_loop(&code);
        else
            put_body(&code, 2 + below(group, BODY_MAX - 2));
    } while (below(group, 3) && (unsigned)(code.at - at) + LONGEST < limit);
    return (unsigned)(code.at - at);
}
