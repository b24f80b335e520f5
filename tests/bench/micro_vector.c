/*
 * tests/bench/micro_vector.c - floating point, x87, SIMD integer work and block copies.
 */
#include <emmintrin.h>
#include <math.h>
#include <string.h>

#include "micro.h"

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t run_fp_scalar(uint64_t count)
{
    static double p[5][3], v[5][3];
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++) {
            p[i][k] = i * 1.7 + k * 0.9;
            v[i][k] = 0.01 * (k - i);
        }
    for (uint64_t n = 0; n < count * 8; n++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = p[i][k] - p[j][k];
                    square += d[k] * d[k];
                }
                double scale = 0.001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * scale;
                    v[j][k] += d[k] * scale;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                p[i][k] += 0.001 * v[i][k];
    }
    return bits_of(p[0][0]);
}

static uint64_t run_fp_packed(uint64_t count)
{
    enum { N = 32 };
    static float a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (float)(i + j) * 0.01f;
            b[i][j] = (float)(i - j) * 0.02f;
        }
    for (uint64_t n = 0; n < count; n++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j += 4) {
                __m128 sum = _mm_set1_ps((float)n);
                for (int k = 0; k < N; k++)
                    sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(a[i][k]), _mm_loadu_ps(&b[k][j])));
                _mm_storeu_ps(&c[i][j], sum);
            }
    return bits_of(c[3][5]);
}

static uint64_t run_x87(uint64_t count)
{
    long double x = 1.0L, sum = 0;
    for (uint64_t n = 1; n <= count * 256; n++) {
        x = x * 1.0000001L + 0.5L / (long double)n;
        sum += x - (long double)n;
    }
    return bits_of((double)sum);
}

static uint64_t run_simd_integer(uint64_t count)
{
    static uint8_t a[4096 + 16], b[4096];
    __m128i sum = _mm_setzero_si128();
    for (unsigned i = 0; i < 4096; i++) {
        a[i] = (uint8_t)(i * 7);
        b[i] = (uint8_t)(i * 13);
    }
    for (uint64_t n = 0; n < count; n++)
        for (unsigned i = 0; i < 4096; i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(a + i + (n & 15)));
            __m128i y = _mm_loadu_si128((const __m128i *)(b + i));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_avg_epu8(x, y), y));
        }
    return (uint64_t)_mm_cvtsi128_si64(sum);
}

static uint64_t run_memcpy(uint64_t count)
{
    static uint8_t from[1 << 18], to[1 << 18];
    for (uint64_t n = 0; n < count; n++) {
        from[n % sizeof(from)] = (uint8_t)n;
        memcpy(to, from, sizeof(to));
        __asm__ volatile("" ::: "memory");
    }
    return to[(count - 1) % sizeof(to)];
}

const struct micro micro_vector[] = {
    {"fp-scalar", "vector", run_fp_scalar},
    {"fp-packed", "vector", run_fp_packed},
    {"x87", "vector", run_x87},
    {"simd-int", "vector", run_simd_integer},
    {"memcpy", "vector", run_memcpy},
    {0},
};
