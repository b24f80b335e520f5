/*
 * dbt/jit/test_ways.c - calls, returns and indirect branches with live flags, for jit_test.
 *
 * Each routine changes flags, reads them, or lets them pass, and goes to routines after it in each
 * way that there is: by direct and indirect calls, by jumps at its end, and with a return address
 * that no call has pushed. Half of the routines are in each page.
 */
#include "dbt/jit/test_ways.h"

#include "base/bits.h"

enum {
    PAGE_BYTES = 4096,
    ROUTINES = 8,
    ROUTINE_BYTES = 256,
    STEPS_MAX = 6,
    CALLS_MAX = 2,
    ROUNDS = 3,     /* the first links what the others use */
    MAIN = ROUTINES /* what calls them; its place is before theirs */
};

struct ways {
    u64 (*random)(void);
    u8 *page[2];
    unsigned at; /* from the first page's start */
};

static unsigned below(struct ways *ways, unsigned limit)
{
    return (unsigned)((ways->random() >> 32) % limit);
}

static void put(struct ways *ways, const u8 *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++, ways->at++)
        ways->page[ways->at / PAGE_BYTES][ways->at % PAGE_BYTES] = bytes[i];
}

#define PUT(ways, ...) put(ways, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* A displacement to TARGET, from its own end. */
static void put_distance(struct ways *ways, unsigned target)
{
    u8 bytes[4];
    store_le32(bytes, target - (ways->at + 4));
    put(ways, bytes, sizeof(bytes));
}

static unsigned place_of(unsigned routine)
{
    unsigned half = ROUTINES / 2;
    if (routine == MAIN)
        return 0;
    return routine < half ? ROUTINE_BYTES * (1 + routine)
                          : PAGE_BYTES + ROUTINE_BYTES * (routine - half);
}

static unsigned later(struct ways *ways, unsigned routine)
{
    return routine == MAIN ? below(ways, ROUTINES)
                           : routine + 1 + below(ways, ROUTINES - 1 - routine);
}

static void put_lea_rax(struct ways *ways, unsigned target)
{
    PUT(ways, 0x48, 0x8d, 0x05);
    put_distance(ways, target);
}

static void put_call(struct ways *ways, unsigned target)
{
    switch (below(ways, 4)) {
    case 0: /* call */
        PUT(ways, 0xe8);
        put_distance(ways, target);
        break;
    case 1: /* call rax */
        put_lea_rax(ways, target);
        PUT(ways, 0xff, 0xd0);
        break;
    case 2: /* push rax; call [rsp]; lea rsp, [rsp + 8] */
        put_lea_rax(ways, target);
        PUT(ways, 0x50, 0xff, 0x14, 0x24, 0x48, 0x8d, 0x64, 0x24, 0x08);
        break;
    default: /* lea rax, [behind the jump]; push rax; jmp */
        put_lea_rax(ways, ways->at + 7 + 6);
        PUT(ways, 0x50, 0xe9);
        put_distance(ways, target);
        break;
    }
}

/* Changes flags, reads them, or neither. */
static void put_step(struct ways *ways)
{
    u8 imm = (u8)ways->random();
    switch (below(ways, 12)) {
    case 0:
        PUT(ways, 0x83, 0xc0, imm); /* add eax */
        break;
    case 1:
        PUT(ways, 0x39, 0xcb); /* cmp ebx, ecx */
        break;
    case 2:
        PUT(ways, 0x85, 0xfe); /* test esi, edi */
        break;
    case 3:
        PUT(ways, 0xff, 0xc2); /* inc edx */
        break;
    case 4:
        PUT(ways, (u8)(imm & 1 ? 0xf9 : 0xf5)); /* stc, cmc */
        break;
    case 5:
        PUT(ways, 0x80, 0xc3, imm); /* add bl */
        break;
    case 6:
        PUT(ways, 0x83, 0xd5, 0x00); /* adc ebp, 0 */
        break;
    case 7:
        PUT(ways, 0x0f, (u8)(0x90 | (imm & 15)), 0xc1); /* setcc cl */
        break;
    case 8:
        PUT(ways, (u8)(0x70 | (imm & 15)), 0x04, 0x48, 0x8d, 0x76,
            0x01); /* jcc; lea rsi, [rsi + 1] */
        break;
    case 9:
        PUT(ways, 0x89, 0xc7); /* mov edi, eax */
        break;
    case 10:
        PUT(ways, 0x50, 0x59); /* push rax; pop rcx */
        break;
    default:
        PUT(ways, 0x41, 0x89, 0xd1); /* mov r9d, edx */
        break;
    }
}

static void put_routine(struct ways *ways, unsigned routine)
{
    unsigned frame = below(ways, 4), calls = routine == ROUTINES - 1 ? CALLS_MAX : 0;
    ways->at = place_of(routine);
    if (routine == MAIN)
        PUT(ways, 0x41, 0xbf, ROUNDS, 0, 0, 0); /* mov r15d, ROUNDS */
    unsigned begin = ways->at;
    if (frame & 1)
        PUT(ways, 0x53, 0x89, 0xc3, 0x41, 0x54); /* push rbx; mov ebx, eax; push r12 */
    if (frame & 2)
        PUT(ways, 0x48, 0x83, 0xec, 0x18); /* sub rsp, 24 */
    for (unsigned n = 1 + below(ways, STEPS_MAX); n > 0; n--) {
        put_step(ways);
        if (calls < CALLS_MAX && below(ways, 2)) {
            put_call(ways, place_of(later(ways, routine)));
            calls++;
        }
    }
    if (frame & 2)
        PUT(ways, 0x48, 0x83, 0xc4, 0x18);
    if (frame & 1)
        PUT(ways, 0x41, 0x5c, 0x5b); /* pop r12; pop rbx */
    if (routine == MAIN) { /* lea r15d, [r15 - 1]; push rcx; mov ecx, r15d; jrcxz; jmp; pop rcx */
        PUT(ways, 0x45, 0x8d, 0x7f, 0xff, 0x51, 0x44, 0x89, 0xf9, 0xe3, 0x06, 0x59, 0xe9);
        put_distance(ways, begin);
        PUT(ways, 0x59, 0xf4);
    } else if (calls < CALLS_MAX && below(ways, 3) == 0) {
        PUT(ways, 0xe9);
        put_distance(ways, place_of(later(ways, routine)));
    } else {
        PUT(ways, 0xc3);
    }
}

unsigned test_ways_make(u64 (*random)(void), u8 *first, u8 *second)
{
    struct ways ways = {.random = random, .page = {first, second}};
    for (unsigned routine = 0; routine <= ROUTINES; routine++)
        put_routine(&ways, routine);
    return place_of(MAIN);
}
