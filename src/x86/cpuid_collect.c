/*
 * x86/cpuid_collect.c - reads the leaves of a processor into a list.
 *
 * Spec   Intel SDM vol. 2A CPUID; AMD64 APM vol. 3 appendix E.
 */
#include "x86/cpuid.h"

enum { SUBLEAVES_MAX = 8 };

static bool is_indexed(u32 leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x8000001d;
}

static unsigned collect_leaf(void (*read)(u32 leaf, u32 subleaf, u32 ret[4]), u32 leaf,
                             struct cpuid_entry *to, unsigned room)
{
    unsigned count = is_indexed(leaf) ? SUBLEAVES_MAX : 1;

    if (count > room)
        count = room;
    for (u32 i = 0; i < count; i++) {
        u32 words[4];
        read(leaf, i, words);
        to[i] = (struct cpuid_entry){.leaf = leaf,
                                     .subleaf = i,
                                     .indexed = is_indexed(leaf),
                                     .eax = words[0],
                                     .ebx = words[1],
                                     .ecx = words[2],
                                     .edx = words[3]};
    }
    return count;
}

unsigned cpuid_collect(void (*read)(u32 leaf, u32 subleaf, u32 ret[4]),
                       struct cpuid_entry *ret_entries, unsigned max)
{
    static const u32 leaves[] = {0,          1,          4,          6,          7,
                                 0xb,        0xd,        0x80000000, 0x80000001, 0x80000002,
                                 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x80000007,
                                 0x80000008, 0x8000001d};
    unsigned count = 0;
    u32 highest[4];

    for (unsigned i = 0; i < ARRAY_LEN(leaves); i++) {
        read(leaves[i] & 0x80000000u, 0, highest);
        if (leaves[i] <= highest[0])
            count += collect_leaf(read, leaves[i], ret_entries + count, max - count);
    }
    return count;
}
