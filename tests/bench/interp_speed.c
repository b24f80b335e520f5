/*
 * tests/bench/interp_speed.c - how fast the interpreter runs integer code: millions of guest
 * instructions a second for a few kernels, with no machine around them.
 *
 * The kernels are this program's own functions in a section of their own, copied into a guest in
 * 64-bit mode and called there.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "dbt/interp/interp_test.h"

#define GUEST __attribute__((section("guest_text"), noinline, used, target("general-regs-only")))
#define EXTERN_GUEST extern const u8

EXTERN_GUEST __start_guest_text[], __stop_guest_text[];

GUEST static u64 guest_sum(u64 *words, u64 rounds)
{
    u64 sum = 0;
    for (u64 round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < 4096; i++)
            sum += words[i] ^ round;
    }
    return sum;
}

GUEST static u64 guest_hash(u64 *words, u64 rounds)
{
    u32 a = 0x67452301, b = 0xefcdab89, c = 0x98badcfe;
    for (u64 i = 0; i < rounds * 1024; i++) {
        u32 t = (a << 5 | a >> 27) + (b ^ c) + (u32)i;
        c = b << 30 | b >> 2;
        b = a;
        a = t + 0x5a827999;
    }
    return a + b + c;
}

GUEST static u64 guest_fib(u64 n)
{
    return n < 2 ? n : guest_fib(n - 1) + guest_fib(n - 2);
}

GUEST static u64 guest_calls(u64 *words, u64 rounds)
{
    u64 sum = 0;
    for (u64 i = 0; i < rounds; i++)
        sum += guest_fib(12);
    return sum;
}

GUEST static u64 guest_sort(u64 *words, u64 rounds)
{
    u64 swaps = 0;
    for (u64 round = 0; round < rounds; round++) {
        u32 x = (u32)round | 1;
        for (unsigned i = 0; i < 256; i++)
            words[i] = x = x * 1664525 + 1013904223;
        for (unsigned i = 1; i < 256; i++) {
            u64 value = words[i];
            unsigned at = i;
            for (; at > 0 && words[at - 1] > value; at--, swaps++)
                words[at] = words[at - 1];
            words[at] = value;
        }
    }
    return swaps;
}

/* The shape of a bignum multiply-accumulate: most of a kernel's boot goes there. */
GUEST static u64 guest_mulacc(u64 *words, u64 rounds)
{
    u64 carry = 0;
    for (u64 round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < 1024; i++) {
            unsigned __int128 product = (unsigned __int128)words[i] * (round | 1) + carry;
            words[i + 1024] += (u64)product;
            carry = (u64)(product >> 64);
        }
    }
    return carry;
}

static void bench(struct test_guest *guest, const char *name, u64 (*kernel)(u64 *, u64), u64 rounds)
{
    test_long_mode(guest);
    memcpy(guest->ram + TEST_CODE, __start_guest_text,
           (size_t)(__stop_guest_text - __start_guest_text));
    guest->ram[TEST_CODE - 16] = 0xf4;
    test_put(guest, TEST_STACK, TEST_CODE - 16);
    guest->state.rip = TEST_CODE + (u64)((const u8 *)(uintptr_t)kernel - __start_guest_text);
    guest->state.gpr[X86_RDI] = 0x100000;
    guest->state.gpr[X86_RSI] = rounds;
    test_start(guest);
    u64 before = guest->cpu.counters.instructions, start_ns = clock_monotonic_ns();
    test_run(guest, EXIT_HLT);
    u64 took_ns = clock_monotonic_ns() - start_ns;
    u64 count = guest->cpu.counters.instructions - before;
    printf("%-8s %10llu instructions %7.1f ms %8.1f M/s  result %llx\n", name,
           (unsigned long long)count, (double)took_ns / 1e6, (double)count * 1e3 / (double)took_ns,
           (unsigned long long)guest->state.gpr[X86_RAX]);
}

int main(void)
{
    struct test_guest *guest = test_guest_new();
    bench(guest, "sum", guest_sum, 1500);
    bench(guest, "hash", guest_hash, 3000);
    bench(guest, "calls", guest_calls, 10000);
    bench(guest, "sort", guest_sort, 400);
    bench(guest, "mulacc", guest_mulacc, 4000);
    test_guest_free(guest);
    return 0;
}
