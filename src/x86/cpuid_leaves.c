/*
 * x86/cpuid_leaves.c - the leaves of a CPU model that are not feature words: identity, caches,
 * topology, frequencies, paravirtualization.
 *
 * Spec   Intel SDM vol. 2A CPUID; AMD64 APM vol. 3 appendix E; kvm/x86/cpuid.rst.
 * Runs   once per VM, before its vCPUs exist.
 *
 * Topology: one socket, CPU_COUNT cores of one thread; the APIC id is the core's number.
 */
#include "x86/cpuid_priv.h"

#include "base/bits.h"

enum { MAX_BASIC = 0x16, MAX_HYPERVISOR = 0x40000010 };
#define MAX_EXTENDED_INTEL 0x80000008u
#define MAX_EXTENDED_AMD 0x80000021u
enum { CACHE_LINE_BYTES = 64, DEFAULT_APIC_KHZ = 1000000 };

/* Bits that an APIC id needs for COUNT processors. */
static unsigned id_bits(unsigned count)
{
    unsigned bits = 0;
    while (1u << bits < count)
        bits++;
    return bits;
}

static void copy_host(struct cpuid_entry *entry, const struct cpuid_config *config)
{
    const struct cpuid_entry *host = cpuid_host_entry(config, entry->leaf, entry->subleaf);

    entry->eax = host->eax;
    entry->ebx = host->ebx;
    entry->ecx = host->ecx;
    entry->edx = host->edx;
}

static u32 greatest_divisor(u32 a, u32 b)
{
    while (b != 0) {
        u32 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void add_frequencies(struct cpuid_model *model, const struct cpuid_config *config)
{
    u32 tsc_khz = (u32)(config->tsc_hz / 1000);
    u32 apic_khz = config->apic_hz != 0 ? (u32)(config->apic_hz / 1000) : DEFAULT_APIC_KHZ;

    if (tsc_khz == 0)
        return;
    /* TSC = crystal * EBX / EAX. Guests take the crystal for the APIC timer's input as well. */
    struct cpuid_entry *entry = cpuid_add(model, 0x15, 0, false);
    u32 divisor = greatest_divisor(tsc_khz, apic_khz);
    entry->eax = apic_khz / divisor;
    entry->ebx = tsc_khz / divisor;
    entry->ecx = apic_khz <= UINT32_MAX / 1000 ? apic_khz * 1000 : 0;
    entry = cpuid_add(model, 0x16, 0, false);
    entry->eax = entry->ebx = tsc_khz / 1000;
    entry->ecx = 100;
}

void cpuid_add_basic(struct cpuid_model *model, const struct cpuid_config *config)
{
    struct cpuid_entry *entry = cpuid_add(model, 0, 0, false);

    copy_host(entry, config);
    entry->eax = MAX_BASIC;
    entry = cpuid_add(model, 1, 0, false);
    entry->eax = cpuid_host_entry(config, 1, 0)->eax;
    entry->ebx = CACHE_LINE_BYTES / 8 << 8;
    if (config->cpu_count > 1)
        entry->ebx |= (1u << id_bits(config->cpu_count)) << 16 & 0xff0000;
    if (model->vendor == CPUID_VENDOR_INTEL) {
        entry = cpuid_add(model, 2, 0, false);
        entry->eax = 0x00feff01; /* see leaf 4 for caches and leaf 0x18 for TLBs */
    }
    cpuid_add(model, 6, 0, false);
    cpuid_add(model, 7, 0, true);
    add_frequencies(model, config);
}

/* ---- XSAVE
 * ------------------------------------------------------------------------------------------ */

enum { XSAVE_LEGACY_BYTES = 576, AVX_BYTES = 256 };

void cpuid_add_xsave(struct cpuid_model *model)
{
    struct cpuid_entry *entry = cpuid_add(model, 0xd, 0, true);
    entry->eax = 7; /* x87, SSE, AVX */
    entry->ebx = XSAVE_LEGACY_BYTES;
    entry->ecx = X86_XSAVE_BYTES;
    entry = cpuid_add(model, 0xd, 1, true);
    entry->ebx = XSAVE_LEGACY_BYTES;
    entry = cpuid_add(model, 0xd, 2, true);
    entry->eax = AVX_BYTES;
    entry->ebx = XSAVE_LEGACY_BYTES; /* its offset */
}

void cpuid_trim_xsave(struct cpuid_entry *leaf_d, struct cpuid_model *model)
{
    struct cpuid_entry *sub1 = leaf_d + 1, *sub2 = leaf_d + 2;

    if (cpuid_has(model, FEATURE_AVX))
        return;
    sub2->eax = sub2->ebx = 0;
    leaf_d->eax = 3;
    leaf_d->ecx = XSAVE_LEGACY_BYTES;
    if (!cpuid_has(model, FEATURE_XSAVE)) {
        leaf_d->eax = leaf_d->ebx = leaf_d->ecx = 0;
        sub1->eax = sub1->ebx = 0;
        model->features &= ~(BIT(FEATURE_XSAVEOPT) | BIT(FEATURE_XSAVEC));
    }
}

/* ---- caches and topology
 * ---------------------------------------------------------------------------- */

/* One leaf of caches: 4 (Intel) or 0x8000001D (AMD), in the same form. Sizes are the host's; only
 * the last level is shared. */
static void add_caches(struct cpuid_model *model, const struct cpuid_config *config, u32 leaf)
{
    for (u32 i = 0; i < 8; i++) {
        const struct cpuid_entry *host = cpuid_host_entry(config, leaf, i);
        if (!host->indexed || (host->eax & 31) == 0)
            break;
        struct cpuid_entry *entry = cpuid_add(model, leaf, i, true);
        unsigned level = host->eax >> 5 & 7;
        u32 sharing = level >= 3 ? config->cpu_count - 1 : 0;
        entry->eax = (host->eax & 0x3ff) | sharing << 14;
        if (leaf == 4)
            entry->eax |= ((1u << id_bits(config->cpu_count)) - 1) << 26;
        entry->ebx = host->ebx;
        entry->ecx = host->ecx;
        entry->edx = host->edx & 3;
    }
}

void cpuid_add_topology(struct cpuid_model *model, const struct cpuid_config *config)
{
    struct cpuid_entry *entry = cpuid_add(model, 0xb, 0, true);
    entry->ebx = 1;
    entry->ecx = 1 << 8; /* threads of a core */
    entry = cpuid_add(model, 0xb, 1, true);
    entry->eax = id_bits(config->cpu_count);
    entry->ebx = config->cpu_count;
    entry->ecx = 2 << 8 | 1; /* cores of the socket */
    if (model->vendor == CPUID_VENDOR_INTEL)
        add_caches(model, config, 4);
}

/* ---- hypervisor
 * ------------------------------------------------------------------------------------- */

static void put_text(u32 *words, const char *text, unsigned bytes)
{
    char *to = (char *)words;
    for (unsigned i = 0; i < bytes; i++)
        to[i] = *text != 0 ? *text++ : 0;
}

void cpuid_add_hypervisor(struct cpuid_model *model, const struct cpuid_config *config)
{
    const char *signature = config->hide_kvm ? "AtollAtollAt" : "KVMKVMKVM";
    struct cpuid_entry *entry = cpuid_add(model, 0x40000000, 0, false);
    u32 words[3];

    put_text(words, signature, sizeof(words));
    entry->eax = MAX_HYPERVISOR;
    entry->ebx = words[0];
    entry->ecx = words[1];
    entry->edx = words[2];
    model->has_hypercalls = !config->hide_kvm;
    if (!config->hide_kvm) {
        entry = cpuid_add(model, 0x40000001, 0, false);
        entry->eax = CPUID_KVM_CLOCKSOURCE2 | CPUID_KVM_CLOCKSOURCE_STABLE |
                     CPUID_KVM_NOP_IO_DELAY | config->kvm_features;
    }
    entry = cpuid_add(model, 0x40000010, 0, false);
    entry->eax = (u32)(config->tsc_hz / 1000);
    entry->ebx = config->apic_hz != 0 ? (u32)(config->apic_hz / 1000) : DEFAULT_APIC_KHZ;
}

/* ---- extended
 * --------------------------------------------------------------------------------------- */

static void add_brand(struct cpuid_model *model, const struct cpuid_config *config)
{
    u32 words[12] = {0};

    if (config->brand != NULL)
        put_text(words, config->brand, sizeof(words) - 1);
    for (u32 i = 0; i < 3; i++) {
        struct cpuid_entry *entry = cpuid_add(model, 0x80000002 + i, 0, false);
        copy_host(entry, config);
        if (config->brand != NULL) {
            entry->eax = words[i * 4];
            entry->ebx = words[i * 4 + 1];
            entry->ecx = words[i * 4 + 2];
            entry->edx = words[i * 4 + 3];
        }
    }
}

static void add_amd(struct cpuid_model *model, const struct cpuid_config *config)
{
    add_caches(model, config, 0x8000001d);
    /* APIC and core number come with the vCPU; one thread a core, one node. */
    cpuid_add(model, 0x8000001e, 0, false);
    /* LFENCE serializes, a null selector clears the base, returns are not steered (SRSO_NO). Where
     * EFER is ours, automatic IBRS as well: it spares the guest its detours around indirect
     * branches, which mean nothing to translated code. */
    u32 auto_ibrs = config->system_emulated ? 1u << 8 : 0;
    struct cpuid_entry *entry = cpuid_add(model, 0x80000021, 0, false);
    entry->eax = 1u << 2 | 1u << 6 | 1u << 29 | auto_ibrs;
    entry->ecx = 1u << 1 | 1u << 2; /* TSA_SQ_NO, TSA_L1_NO: no VERW on the way to programs */
}

void cpuid_add_extended(struct cpuid_model *model, const struct cpuid_config *config)
{
    bool amd = model->vendor == CPUID_VENDOR_AMD;
    struct cpuid_entry *entry = cpuid_add(model, 0x80000000, 0, false);

    copy_host(entry, config);
    entry->eax = amd ? MAX_EXTENDED_AMD : MAX_EXTENDED_INTEL;
    entry = cpuid_add(model, 0x80000001, 0, false);
    if (amd) {
        entry->eax = cpuid_host_entry(config, 1, 0)->eax;
        entry->ecx = 1u << 22; /* topology extensions: 0x8000001D and 0x8000001E */
        if (config->cpu_count > 1)
            entry->ecx |= 1u << 1; /* the logical processors of leaf 1 are cores */
        entry->edx = 1u << 22;     /* MMX extensions, which are part of SSE */
    }
    add_brand(model, config);
    copy_host(cpuid_add(model, 0x80000005, 0, false), config);
    copy_host(cpuid_add(model, 0x80000006, 0, false), config);
    cpuid_add(model, 0x80000007, 0, false);
    entry = cpuid_add(model, 0x80000008, 0, false);
    entry->eax = model->physical_bits | 48 << 8;
    if (amd) {
        /* SSB_NO: no speculative store bypass to switch off. BTC_NO: no return thunks. Why this may
         * be said, and what it does not say, stands in cpuid.c. */
        entry->ebx = 1u << 26 | 1u << 29;
        /* FXSAVE and XSAVE hold the last instruction's address always (dbt/simd/image.c), not only
         * after exceptions: no clearing of it at each task switch. */
        u32 host = cpuid_host_entry(config, 0x80000008, 0)->ebx;
        entry->ebx |= config->system_emulated ? 1u << 2 : host & 1u << 2;
        entry->ecx = (config->cpu_count - 1) | id_bits(config->cpu_count) << 12;
        add_amd(model, config);
    }
}
