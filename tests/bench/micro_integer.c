/*
 * tests/bench/micro_integer.c - integer work: checksums, sorting, pointers, calls, hashing,
 * matching.
 */
#include <stdlib.h>
#include <string.h>

#include "micro.h"

static uint8_t buffer[1 << 16];

static void buffer_fill(void)
{
    uint64_t seed = 88172645463325252ull;
    if (buffer[0] != 0)
        return;
    for (size_t i = 0; i < sizeof(buffer); i++)
        buffer[i] = (uint8_t)(micro_random(&seed) >> (i % 7 == 0 ? 8 : 60));
    buffer[0] = 1;
}

static uint64_t run_crc(uint64_t count)
{
    static uint32_t table[256];
    uint32_t crc = ~0u;
    buffer_fill();
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = (c & 1) ? 0xedb88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    for (uint64_t n = 0; n < count; n++)
        for (size_t i = 0; i < 1024; i++)
            crc = table[(crc ^ buffer[i]) & 0xff] ^ (crc >> 8);
    return crc;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t run_sort(uint64_t count)
{
    static uint32_t values[1024];
    uint64_t sum = 0, seed = 12345;
    for (uint64_t n = 0; n < count; n++) {
        for (size_t i = 0; i < 1024; i++)
            values[i] = (uint32_t)micro_random(&seed);
        qsort(values, 1024, sizeof(values[0]), compare_u32);
        sum += values[n % 1024];
    }
    return sum;
}

static uint64_t run_chase(uint64_t count)
{
    enum { NODES = 1 << 15 };
    static struct node {
        struct node *next;
        uint64_t payload[3];
    } nodes[NODES];
    static uint32_t order[NODES];
    if (nodes[0].next == NULL) {
        uint64_t seed = 99;
        for (uint32_t i = 0; i < NODES; i++)
            order[i] = i;
        for (uint32_t i = NODES - 1; i > 0; i--) {
            uint32_t j = (uint32_t)(micro_random(&seed) % (i + 1)), t = order[i];
            order[i] = order[j];
            order[j] = t;
        }
        for (uint32_t i = 0; i < NODES; i++)
            nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
    }
    struct node *node = nodes;
    for (uint64_t n = 0; n < count * 1024; n++)
        node = node->next;
    return (uint64_t)(node - nodes);
}

static __attribute__((noinline)) uint64_t fibonacci(uint64_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t run_calls(uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t n = 0; n < count; n++)
        sum += fibonacci(14 + (n & 1));
    return sum;
}

static uint64_t add_one(uint64_t x)
{
    return x + 1;
}
static uint64_t twist(uint64_t x)
{
    return (x << 7) ^ (x >> 9);
}
static uint64_t times_three(uint64_t x)
{
    return x * 3;
}
static uint64_t flip(uint64_t x)
{
    return ~x;
}

static uint64_t run_indirect(uint64_t count)
{
    static uint64_t (*volatile const table[4])(uint64_t) = {add_one, twist, times_three, flip};
    uint64_t x = 1, seed = 7;
    for (uint64_t n = 0; n < count * 256; n++)
        x = table[(micro_random(&seed) >> 33) & 3](x);
    return x;
}

/* A mixed load like CoreMark's: list walk, matrix of integers, state machine over text. */
static uint64_t run_coremark_like(uint64_t count)
{
    static int16_t a[16][16], b[16][16];
    static const char text[] = "5012,+3.5e-3,-0x1F,T0.3e-1F,--T++Tq,1T3.4e4z,34.0e-T^,0123,-875";
    uint64_t sum = 0;
    for (uint64_t n = 0; n < count; n++) {
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                a[i][j] = (int16_t)(i * j + (int)n);
                b[i][j] = (int16_t)(i - j);
            }
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                int32_t cell = 0;
                for (int k = 0; k < 16; k++)
                    cell += a[i][k] * b[k][j];
                sum += (uint32_t)cell >> (n & 7);
            }
        unsigned state = 0;
        for (size_t i = 0; i < sizeof(text); i++) {
            char c = text[i];
            switch (state) {
            case 0:
                state = c >= '0' && c <= '9' ? 1 : c == '+' || c == '-' ? 2 : c == ',' ? 0 : 4;
                break;
            case 1:
                state = c == '.' ? 3 : c >= '0' && c <= '9' ? 1 : c == ',' ? 0 : 4;
                break;
            case 2:
                state = c == '.' ? 3 : c >= '0' && c <= '9' ? 1 : 4;
                break;
            case 3:
                state = c == 'e' ? 2 : c >= '0' && c <= '9' ? 3 : c == ',' ? 0 : 4;
                break;
            default:
                state = c == ',' ? 0 : 4;
            }
            sum = sum * 5 + state;
        }
    }
    return sum;
}

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

/* The SHA-256 compression function with round constants from the generator: the same work. */
static uint64_t run_sha256(uint64_t count)
{
    static uint32_t k[64];
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
    uint64_t seed = 42;
    buffer_fill();
    for (int i = 0; i < 64; i++)
        k[i] = (uint32_t)micro_random(&seed);
    for (uint64_t n = 0; n < count * 16; n++) {
        uint32_t s[8];
        memcpy(w, buffer + (n % 1024) * 64, 64);
        for (int i = 16; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (ROTATE(x, 7) ^ ROTATE(x, 18) ^ (x >> 3)) +
                   (ROTATE(y, 17) ^ ROTATE(y, 19) ^ (y >> 10));
        }
        memcpy(s, h, sizeof(s));
        for (int i = 0; i < 64; i++) {
            uint32_t e = s[4], a = s[0];
            uint32_t t1 = s[7] + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) +
                          ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
            uint32_t t2 = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) +
                          ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof(s[0]));
            s[4] += t1;
            s[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            h[i] += s[i];
    }
    return h[0] ^ ((uint64_t)h[7] << 32);
}

/* Greedy matching over a hash of three bytes, as fast LZ compressors do. */
static uint64_t run_lz(uint64_t count)
{
    static uint16_t last[1 << 12];
    uint64_t sum = 0;
    buffer_fill();
    for (uint64_t n = 0; n < count; n++) {
        memset(last, 0, sizeof(last));
        for (size_t at = 0; at + 8 < 16384;) {
            uint32_t three;
            memcpy(&three, buffer + at, 4);
            uint32_t slot = ((three & 0xffffff) * 2654435761u) >> 20;
            size_t candidate = last[slot], length = 0;
            last[slot] = (uint16_t)at;
            if (candidate < at)
                while (length < 255 && at + length < 16384 &&
                       buffer[candidate + length] == buffer[at + length])
                    length++;
            sum += length;
            at += length > 3 ? length : 1;
        }
    }
    return sum;
}

/* A byte-code interpreter with computed goto. */
static uint64_t run_interpreter(uint64_t count)
{
    static const uint8_t code[] = {0, 1, 2, 3, 1, 4, 0, 5, 2, 1, 3, 6};
    static const void *const labels[] = {&&op_add, &&op_xor,  &&op_shift, &&op_swap,
                                         &&op_mul, &&op_test, &&op_loop};
    uint64_t a = 1, b = 2, left = count * 64;
    const uint8_t *pc = code;
#define NEXT goto *labels[*pc++]
    NEXT;
op_add:
    a += b + *pc;
    NEXT;
op_xor:
    b ^= a;
    NEXT;
op_shift:
    a = (a << 3) | (a >> 61);
    NEXT;
op_swap : {
    uint64_t t = a;
    a = b;
    b = t;
    NEXT;
}
op_mul:
    a *= 0x9e3779b97f4a7c15ull;
    NEXT;
op_test:
    if (a & 1)
        b++;
    NEXT;
op_loop:
    pc = code;
    if (left-- != 0)
        NEXT;
#undef NEXT
    return a ^ b;
}

const struct micro micro_integer[] = {
    {"crc", "integer", run_crc},
    {"sort", "integer", run_sort},
    {"chase", "integer", run_chase},
    {"calls", "integer", run_calls},
    {"indirect", "integer", run_indirect},
    {"coremark", "integer", run_coremark_like},
    {"sha256", "integer", run_sha256},
    {"lz", "integer", run_lz},
    {"interp", "integer", run_interpreter},
    {0},
};
