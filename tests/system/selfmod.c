/*
 * tests/system/selfmod.c - programs that change their own code, in every way that x86 promises to
 * notice. Runs in a guest, and on the host, whose processor is the judge of the tests themselves.
 *
 * Usage  selfmod [ROUNDS [DISK]]. Prints a line for each test and SELFMOD-OK at the end; exits 1 at
 *        the first wrong answer. DISK: page N of it holds a function that returns N; the pages are
 *        read into memory by direct I/O, where they are run.
 * Spec   Intel SDM vol. 3A 8.1.3 (self- and cross-modifying code), 11.6.
 */
#include "selfmod.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void fail(const char *test, const char *format, ...)
{
    va_list args;

    printf("SELFMOD-FAILED %s: ", test);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    _exit(1);
}

uint8_t *pages_new(size_t pages, int prot)
{
    void *at = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        fail("setup", "mmap");
    return at;
}

uint8_t *pages_map(void *at, int fd, size_t first, size_t pages, int prot)
{
    void *got = mmap(at, pages * PAGE, prot, MAP_SHARED | (at ? MAP_FIXED : 0), fd,
                     (off_t)(first * PAGE));
    if (got == MAP_FAILED)
        fail("setup", "mmap of a file");
    return got;
}

int file_new(size_t pages)
{
    int fd = memfd_create("code", 0);
    if (fd < 0 || ftruncate(fd, (off_t)(pages * PAGE)) < 0)
        fail("setup", "memfd_create");
    return fd;
}

void put_return(uint8_t *at, int value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

void put_branch(uint8_t *at, uint8_t opcode, const uint8_t *to)
{
    int32_t distance = (int32_t)(to - (at + 5));
    at[0] = opcode;
    memcpy(at + 1, &distance, 4);
}

int call(const void *code)
{
    code_fn fn;
    memcpy(&fn, &code, sizeof(fn));
    return fn();
}

void serialize(void)
{
    unsigned a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

void done(const char *name)
{
    printf("selfmod %s ok\n", name);
    fflush(stdout);
}

void expect(const char *test, unsigned round, int got, int wanted)
{
    if (got != wanted)
        fail(test, "round %u: %d instead of %d", round, got, wanted);
}

/* ---- stores into code --------------------------------------------------------------------------
 */

/* mov [rip + x], edi; nops; mov eax, x; ret: the store changes an instruction of its own block. */
static void same_block(unsigned rounds)
{
    static const unsigned distances[] = {0, 1, 2, 7, 57, 58, 61, 200, PAGE - 13, PAGE - 9};
    uint8_t *page = pages_new(3, RWX);

    for (unsigned i = 0; i < sizeof(distances) / sizeof(*distances); i++) {
        unsigned nops = distances[i];
        uint8_t *at = page + 40;
        int32_t to_value = (int32_t)nops + 1;
        memcpy(at, "\x89\x3d", 2);
        memcpy(at + 2, &to_value, 4);
        memset(at + 6, 0x90, nops);
        put_return(at + 6 + nops, -1);
        int (*fn)(int);
        memcpy(&fn, &at, sizeof(fn));
        for (unsigned round = 0; round < rounds; round++)
            expect("same-block", round, fn((int)(round * 7 + i)), (int)(round * 7 + i));
    }
    munmap(page, 3 * PAGE);
}

/* Each makes VALUE the four bytes at AT, and may rewrite the bytes around them with what is there.
 */

static void by_bytes(uint8_t *at, int value)
{
    for (unsigned i = 0; i < 4; i++)
        ((volatile uint8_t *)at)[i] = (uint8_t)((unsigned)value >> (8 * i));
}

static void by_words(uint8_t *at, int value)
{
    __asm__ volatile("movw %w1, (%0); shrl $16, %1; movw %w1, 2(%0)"
                     : "+r"(at), "+r"(value)::"memory", "cc");
}

static void by_double_word(uint8_t *at, int value)
{
    __asm__ volatile("movl %1, (%0)" : : "r"(at), "r"(value) : "memory");
}

static uint64_t quad_with(const uint8_t *at, int value)
{
    uint64_t quad;
    memcpy(&quad, at, 8);
    return (quad >> 32 << 32) | (unsigned)value;
}

static void by_quad_word(uint8_t *at, int value)
{
    __asm__ volatile("movq %1, (%0)" : : "r"(at), "r"(quad_with(at, value)) : "memory");
}

static void by_push(uint8_t *at, int value)
{
    __asm__ volatile("movq %%rsp, %%rbx; leaq 8(%0), %%rsp; pushq %1; movq %%rbx, %%rsp"
                     :
                     : "r"(at), "r"(quad_with(at, value))
                     : "memory", "rbx");
}

static void by_xchg(uint8_t *at, int value)
{
    __asm__ volatile("xchgl %1, (%0)" : "+r"(at), "+r"(value)::"memory");
}

static void by_xadd(uint8_t *at, int value)
{
    int change;
    memcpy(&change, at, 4);
    change = value - change;
    __asm__ volatile("lock xaddl %1, (%0)" : "+r"(at), "+r"(change)::"memory", "cc");
}

static void by_cmpxchg(uint8_t *at, int value)
{
    int before;
    memcpy(&before, at, 4);
    __asm__ volatile("lock cmpxchgl %2, (%1)"
                     : "+a"(before)
                     : "r"(at), "r"(value)
                     : "memory", "cc");
}

/* What is exchanged is aligned; a value that goes across the boundary is stored plainly. */
static void by_cmpxchg16b(uint8_t *at, int value)
{
    uint8_t *base = (uint8_t *)((uintptr_t)at & ~(uintptr_t)15);
    uint64_t now[2], then[2];

    if (at - base > 12) {
        by_bytes(at, value);
        return;
    }
    memcpy(now, base, 16);
    memcpy(then, base, 16);
    memcpy((uint8_t *)then + (at - base), &value, 4);
    __asm__ volatile("lock cmpxchg16b (%2)"
                     : "+a"(now[0]), "+d"(now[1])
                     : "r"(base), "b"(then[0]), "c"(then[1])
                     : "memory", "cc");
}

static void by_rep_stos(uint8_t *at, int value)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t count = 1;
        __asm__ volatile("rep stosb"
                         : "+D"(at), "+c"(count)
                         : "a"((unsigned)value >> (8 * i))
                         : "memory");
    }
}

enum { AROUND = 32 };

static void copy_around(uint8_t *to, const uint8_t *at, int value)
{
    memcpy(to, at, AROUND);
    memcpy(to, &value, 4);
}

static void by_rep_movs(uint8_t *at, int value)
{
    uint8_t around[AROUND], *from = around;
    uint64_t count = AROUND;

    copy_around(around, at, value);
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
}

static void by_movs(uint8_t *at, int value)
{
    int *from = &value;
    __asm__ volatile("movsl" : "+D"(at), "+S"(from) : : "memory");
}

static void by_sse(uint8_t *at, int value)
{
    uint8_t around[AROUND];

    copy_around(around, at, value);
    __asm__ volatile("movups %1, %%xmm1; movups %%xmm1, (%0)"
                     :
                     : "r"(at), "m"(around)
                     : "memory", "xmm1");
}

static void by_avx(uint8_t *at, int value)
{
    uint8_t around[AROUND];

    copy_around(around, at, value);
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vmovdqu %1, %%ymm1; vmovdqu %%ymm1, (%0); vzeroupper"
                         :
                         : "r"(at), "m"(around)
                         : "memory", "xmm1");
    else
        memcpy(at, around, AROUND);
}

static void by_movnti(uint8_t *at, int value)
{
    __asm__ volatile("movntil %1, (%0); sfence" : : "r"(at), "r"(value) : "memory");
}

static void by_x87(uint8_t *at, int value)
{
    __asm__ volatile("fildl %1; fistpl (%0)" : : "r"(at), "m"(value) : "memory");
}

static void by_bits(uint8_t *at, int value)
{
    for (unsigned i = 0; i < 32; i++)
        if ((unsigned)value >> i & 1)
            __asm__ volatile("btsl %1, (%0)" : : "r"(at), "r"(i) : "memory", "cc");
        else
            __asm__ volatile("btrl %1, (%0)" : : "r"(at), "r"(i) : "memory", "cc");
}

static void by_counting(uint8_t *at, int value)
{
    int now;

    for (memcpy(&now, at, 4); now < value; now++)
        __asm__ volatile("incl (%0)" : : "r"(at) : "memory", "cc");
    for (; now > value; now--)
        __asm__ volatile("subl $1, (%0)" : : "r"(at) : "memory", "cc");
}

static const struct {
    const char *name;
    void (*store)(uint8_t *at, int value);
} stores[] = {{"bytes", by_bytes},
              {"words", by_words},
              {"double word", by_double_word},
              {"quad word", by_quad_word},
              {"push", by_push},
              {"xchg", by_xchg},
              {"xadd", by_xadd},
              {"cmpxchg", by_cmpxchg},
              {"cmpxchg16b", by_cmpxchg16b},
              {"rep stos", by_rep_stos},
              {"rep movs", by_rep_movs},
              {"movs", by_movs},
              {"sse", by_sse},
              {"avx", by_avx},
              {"movnti", by_movnti},
              {"x87", by_x87},
              {"bits", by_bits},
              {"counting", by_counting}};

/* Every kind of store into a function's immediate, then the function: with the function at the
 * start of a granule, across granules, and across pages. */
static void every_store(unsigned rounds)
{
    static const unsigned places[] = {15, 63, 60, 127, PAGE - 1, PAGE - 2, PAGE - 3, PAGE - 5};
    uint8_t *page = pages_new(3, RWX);

    for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
        for (unsigned kind = 0; kind < sizeof(stores) / sizeof(*stores); kind++) {
            uint8_t *fn = page + places[i];
            put_return(fn, 5);
            for (unsigned round = 0; round < rounds / 8 + 2; round++) {
                int value = (int)(round * 3 % 100 + kind);
                stores[kind].store(fn + 1, value);
                int got = call(fn);
                if (got != value)
                    fail("every-store", "kind %u at %u, round %u: %d instead of %d", kind,
                         places[i], round, got, value);
            }
        }
    }
    munmap(page, 3 * PAGE);
}

/* Code whose stack is in its own page. */
static void stack_beside_code(unsigned rounds)
{
    uint8_t *page = pages_new(1, RWX);

    put_return(page + 1024, 77);
    put_branch(page + 1040, 0xe8, page + 1024); /* a call and a return of its own */
    page[1045] = 0xc3;
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t result;
        uint8_t *stack = page + (round % 3 == 0 ? 1024 : round % 3 == 1 ? 4096 : 2048);
        __asm__ volatile("movq %%rsp, %%rbx; movq %1, %%rsp; callq *%2; movq %%rbx, %%rsp"
                         : "=&a"(result)
                         : "r"(stack), "r"(page + 1040)
                         : "memory", "cc", "rbx");
        expect("stack-beside-code", round, (int)result, 77);
        put_return(page + 1024, 77);
    }
    munmap(page, PAGE);
}

void selfmod_stores(unsigned rounds)
{
    same_block(rounds);
    done("same-block");
    every_store(rounds);
    done("every-store");
    stack_beside_code(rounds);
    done("stack-beside-code");
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 200;

    selfmod_stores(rounds);
    selfmod_maps(rounds, argc > 2 ? argv[2] : NULL);
    selfmod_threads(rounds);
    puts("SELFMOD-OK");
    return 0;
}
