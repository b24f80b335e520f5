/*
 * x86/cpuid_vendor.c - turns one vendor's leaves into those of a processor of another.
 *
 * Spec   Intel SDM vol. 2A CPUID, leaves 0, 1, 4; AMD64 APM vol. 3, Fn0000_0000, Fn0000_0001,
 *        Fn8000_001D.
 * Runs   once per VM, before its vCPUs exist.
 *
 * Guests choose code and mitigations by vendor, family and model. The models here are recent ones
 * that run everything that a guest may be shown.
 */
#include "x86/cpuid.h"

struct identity {
    u32 ebx, edx, ecx; /* the name, in the order of leaf 0 */
    u32 signature;     /* leaf 1, EAX */
    u32 cache_leaf;
};

static const struct identity identities[] = {
    /* "GenuineIntel", family 6, model 0x8f */
    [CPUID_VENDOR_INTEL] = {0x756e6547, 0x49656e69, 0x6c65746e, 0x000806f8, 4},
    /* "AuthenticAMD", family 0x1a, model 2 */
    [CPUID_VENDOR_AMD] = {0x68747541, 0x69746e65, 0x444d4163, 0x00b00f21, 0x8000001d},
};

/* Caches are described in the same words, under another number: who has the other vendor's leaf
 * says nothing in its own. */
static unsigned rename_caches(struct cpuid_entry *entries, unsigned count, u32 from, u32 to)
{
    unsigned kept = 0;
    bool has_from = false;

    for (unsigned i = 0; i < count; i++)
        has_from |= entries[i].leaf == from && (entries[i].eax & 31) != 0;
    for (unsigned i = 0; i < count; i++) {
        struct cpuid_entry entry = entries[i];
        if (has_from && entry.leaf == to)
            continue;
        if (entry.leaf == from)
            entry.leaf = to;
        entries[kept++] = entry;
    }
    return kept;
}

unsigned cpuid_as_vendor(struct cpuid_entry *entries, unsigned count, enum cpuid_vendor vendor)
{
    const struct identity *to = &identities[vendor];

    for (unsigned i = 0; i < count; i++) {
        struct cpuid_entry *entry = &entries[i];
        if (entry->leaf == 0) {
            entry->ebx = to->ebx;
            entry->ecx = to->ecx;
            entry->edx = to->edx;
        } else if (entry->leaf == 1) {
            entry->eax = to->signature;
        }
    }
    return rename_caches(entries, count, to->cache_leaf == 4 ? 0x8000001d : 4, to->cache_leaf);
}
