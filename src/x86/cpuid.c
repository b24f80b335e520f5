/*
 * x86/cpuid.c - builds the table of CPUID leaves, and looks leaves up in it.
 *
 * Spec   Intel SDM vol. 2A CPUID; AMD64 APM vol. 3 appendix E.
 * Runs   built once per VM, then read-only.
 */
#include "x86/cpuid_priv.h"

#include "base/bits.h"

/* Feature words: what may pass from the host to the guest, and what the engine makes itself. */
struct feature_word {
    u32 leaf, subleaf;
    u8 word;      /* enum cpuid_word */
    u32 pass;     /* shown when the host has it */
    u32 emulated; /* shown when the engine emulates the system, or the host has it */
    u32 always;
};

/* Leaf 1 EDX: FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36,
 * CLFSH, MMX, FXSR, SSE, SSE2. The base that no 64-bit processor lacks. */
enum { LEAF1_EDX_BASE = 0x078bfbfd };
/* Those of them that AMD repeats in leaf 0x80000001: all below SEP, MTRR to PSE36, MMX, FXSR. */
enum { EXT1_EDX_REPEATED = 0x0183f3fd };

static const struct feature_word feature_words[] = {
    /* ECX: SSE3, PCLMUL, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C,
     * RDRAND; PCID, x2APIC, TSC-deadline; HYPERVISOR. */
    {1, 0, CPUID_ECX, 0x76d83203, 0x01220000, 0x80000000},
    {1, 0, CPUID_EDX, 0, 0, LEAF1_EDX_BASE},
    /* EAX: ARAT, the APIC timer runs in any power state. */
    {6, 0, CPUID_EAX, 0, 0, 1 << 2},
    /* EBX: FPU data pointer only on exceptions, BMI1, AVX2, BMI2, no FPU CS and DS, RDSEED, ADX,
     * CLFLUSHOPT, CLWB, SHA; FSGSBASE, TSC_ADJUST, SMEP, ERMS, INVPCID, SMAP. */
    {7, 0, CPUID_EBX, 0x218c2168, 0x00100683, 0},
    {7, 0, CPUID_ECX, 1 << 22 /* RDPID */, 1 << 2 /* UMIP */, 0},
    /* FSRM; SERIALIZE, in place of which kernels use IRET, for each instruction they patch. Intel's
     * speculation controls come below. */
    {7, 0, CPUID_EDX, 1 << 4, 1 << 14, 0},
    /* XSAVEOPT, XSAVEC, XGETBV with ECX = 1. */
    {0xd, 1, CPUID_EAX, 7, 0, 0},
    /* LAHF in 64-bit code, LZCNT, PREFETCHW. */
    {0x80000001, 0, CPUID_ECX, 0x121, 0, 0},
    /* SYSCALL, NX, RDTSCP, long mode; 1 GiB pages. */
    {0x80000001, 0, CPUID_EDX, 1 << 27, 1 << 26, 0x20100800},
    /* Invariant TSC. */
    {0x80000007, 0, CPUID_EDX, 1 << 8, 0, 0},
};

static const u32 *entry_word(const struct cpuid_entry *entry, enum cpuid_word word)
{
    const u32 *words[] = {&entry->eax, &entry->ebx, &entry->ecx, &entry->edx};
    return words[word];
}

const struct cpuid_entry *cpuid_host_entry(const struct cpuid_config *config, u32 leaf, u32 subleaf)
{
    static const struct cpuid_entry none;

    for (unsigned i = 0; i < config->host_count; i++) {
        const struct cpuid_entry *entry = &config->host[i];
        if (entry->leaf == leaf && (!entry->indexed || entry->subleaf == subleaf))
            return entry;
    }
    return &none;
}

struct cpuid_entry *cpuid_add(struct cpuid_model *model, u32 leaf, u32 subleaf, bool indexed)
{
    /* The table has room for every leaf and eight caches; the bound is here for a change of that.
     */
    if (model->count < CPUID_ENTRIES_MAX)
        model->count++;
    struct cpuid_entry *entry = &model->entry[model->count - 1];
    *entry = (struct cpuid_entry){.leaf = leaf, .subleaf = subleaf, .indexed = indexed};
    return entry;
}

static struct cpuid_entry *model_find(struct cpuid_model *model, u32 leaf, u32 subleaf)
{
    for (unsigned i = 0; i < model->count; i++) {
        struct cpuid_entry *entry = &model->entry[i];
        if (entry->leaf == leaf && (!entry->indexed || entry->subleaf == subleaf))
            return entry;
    }
    return NULL;
}

/* All feature words, in entries that exist by now. */
static void fill_features(struct cpuid_model *model, const struct cpuid_config *config)
{
    for (unsigned i = 0; i < ARRAY_LEN(feature_words); i++) {
        const struct feature_word *w = &feature_words[i];
        struct cpuid_entry *entry = model_find(model, w->leaf, w->subleaf);
        if (entry == NULL)
            continue;
        u32 host = *entry_word(cpuid_host_entry(config, w->leaf, w->subleaf), w->word);
        u32 value = (host & (w->pass | w->emulated)) | w->always;
        if (config->system_emulated)
            value |= w->emulated;
        *(u32 *)entry_word(entry, w->word) |= value;
    }
}

/*
 * Intel's own ways to say which mitigations a guest need not spend time on; AMD's are in
 * cpuid_leaves.c. ARCH_CAPABILITIES is the MSR that lists what does no harm (dbt/interp/sys_msr.c).
 * SPEC_CTRL is the MSR in which a guest turns on enhanced IBRS once, in place of detours around
 * each indirect branch (retpolines); BHI_CTRL gives it a bit there, in place of a loop over
 * branches at each system call.
 *
 * Why this is right where the engine translates: the processor never runs guest code as the guest
 * wrote it, so what such code does about the processor's predictors and buffers has no effect, but
 * costs time. What it is not: a promise that guest programs cannot learn of their kernel's memory
 * by timing. A guest's programs and its kernel run in one host process, at one privilege level, and
 * the host's own protection stands around that process, not inside of it.
 */
static void fill_arch_capabilities(struct cpuid_model *model, const struct cpuid_config *config)
{
    enum { SPEC_CTRL = 1 << 26, ARCH_CAPABILITIES = 1 << 29, BHI_CTRL = 1 << 4 };

    if (model->vendor != CPUID_VENDOR_INTEL)
        return;
    if (config->system_emulated) {
        model_find(model, 7, 0)->eax = 2; /* the highest subleaf */
        model_find(model, 7, 0)->edx |= SPEC_CTRL;
        cpuid_add(model, 7, 2, true)->edx = BHI_CTRL;
    }
    if (config->system_emulated || (cpuid_host_entry(config, 7, 0)->edx & ARCH_CAPABILITIES))
        model_find(model, 7, 0)->edx |= ARCH_CAPABILITIES;
}

/* AVX needs XSAVE, and what is built on AVX needs AVX. */
static void settle_dependencies(struct cpuid_model *model, const struct cpuid_config *config)
{
    enum { AVX = 1 << 28, XSAVE = 1 << 26, ON_AVX = 1 << 12 | 1 << 29 };
    struct cpuid_entry *leaf1 = model_find(model, 1, 0);
    struct cpuid_entry *leaf7 = model_find(model, 7, 0);
    bool host_state = (cpuid_host_entry(config, 0xd, 0)->eax & 4) != 0;

    if (!(leaf1->ecx & XSAVE) || !host_state)
        leaf1->ecx &= ~(u32)AVX;
    if (!(leaf1->ecx & AVX)) {
        leaf1->ecx &= ~(u32)ON_AVX;
        leaf7->ebx &= ~(1u << 5);
    }
}

static u64 feature_mask(struct cpuid_model *model)
{
    static const struct {
        u32 leaf, subleaf;
        u8 word, bit, feature;
    } map[] = {
        {1, 0, CPUID_ECX, 0, FEATURE_SSE3},
        {1, 0, CPUID_ECX, 1, FEATURE_PCLMUL},
        {1, 0, CPUID_ECX, 9, FEATURE_SSSE3},
        {1, 0, CPUID_ECX, 12, FEATURE_FMA},
        {1, 0, CPUID_ECX, 13, FEATURE_CX16},
        {1, 0, CPUID_ECX, 19, FEATURE_SSE41},
        {1, 0, CPUID_ECX, 20, FEATURE_SSE42},
        {1, 0, CPUID_ECX, 22, FEATURE_MOVBE},
        {1, 0, CPUID_ECX, 23, FEATURE_POPCNT},
        {1, 0, CPUID_ECX, 25, FEATURE_AES},
        {1, 0, CPUID_ECX, 26, FEATURE_XSAVE},
        {1, 0, CPUID_ECX, 28, FEATURE_AVX},
        {1, 0, CPUID_ECX, 29, FEATURE_F16C},
        {1, 0, CPUID_ECX, 30, FEATURE_RDRAND},
        {7, 0, CPUID_EBX, 0, FEATURE_FSGSBASE},
        {7, 0, CPUID_EBX, 3, FEATURE_BMI1},
        {7, 0, CPUID_EBX, 5, FEATURE_AVX2},
        {7, 0, CPUID_EBX, 8, FEATURE_BMI2},
        {7, 0, CPUID_EBX, 10, FEATURE_INVPCID},
        {7, 0, CPUID_EBX, 18, FEATURE_RDSEED},
        {7, 0, CPUID_EBX, 19, FEATURE_ADX},
        {7, 0, CPUID_EBX, 20, FEATURE_SMAP},
        {7, 0, CPUID_EBX, 23, FEATURE_CLFLUSHOPT},
        {7, 0, CPUID_EBX, 24, FEATURE_CLWB},
        {7, 0, CPUID_EBX, 29, FEATURE_SHA},
        {7, 0, CPUID_ECX, 22, FEATURE_RDPID},
        {7, 0, CPUID_EDX, 14, FEATURE_SERIALIZE},
        {0xd, 1, CPUID_EAX, 0, FEATURE_XSAVEOPT},
        {0xd, 1, CPUID_EAX, 1, FEATURE_XSAVEC},
        {0x80000001, 0, CPUID_ECX, 5, FEATURE_LZCNT},
        {0x80000001, 0, CPUID_EDX, 27, FEATURE_RDTSCP},
    };
    u64 mask = BIT(FEATURE_NONE);

    for (unsigned i = 0; i < ARRAY_LEN(map); i++) {
        const struct cpuid_entry *entry = model_find(model, map[i].leaf, map[i].subleaf);
        if (entry != NULL && (*entry_word(entry, map[i].word) >> map[i].bit & 1))
            mask |= BIT(map[i].feature);
    }
    return mask;
}

static enum cpuid_vendor vendor_of(const struct cpuid_entry *leaf0)
{
    if (leaf0->ebx == 0x756e6547) /* "Genu" */
        return CPUID_VENDOR_INTEL;
    if (leaf0->ebx == 0x68747541 || leaf0->ebx == 0x6f677948) /* "Auth", "Hygo" */
        return CPUID_VENDOR_AMD;
    return CPUID_VENDOR_OTHER;
}

static unsigned physical_bits(const struct cpuid_config *config)
{
    unsigned bits = cpuid_host_entry(config, 0x80000008, 0)->eax & 0xff;

    if (config->physical_bits != 0 && (bits == 0 || config->physical_bits < bits))
        bits = config->physical_bits;
    return bits < 36 ? 36 : bits > 46 ? 46 : bits;
}

void cpuid_model_init(struct cpuid_model *ret_model, const struct cpuid_config *config)
{
    struct cpuid_model *model = ret_model;

    *model = (struct cpuid_model){.vendor = vendor_of(cpuid_host_entry(config, 0, 0)),
                                  .physical_bits = physical_bits(config)};
    cpuid_add_basic(model, config);
    cpuid_add_xsave(model);
    cpuid_add_topology(model, config);
    cpuid_add_hypervisor(model, config);
    cpuid_add_extended(model, config);
    fill_features(model, config);
    fill_arch_capabilities(model, config);
    settle_dependencies(model, config);
    if (model->vendor == CPUID_VENDOR_AMD)
        model_find(model, 0x80000001, 0)->edx |= LEAF1_EDX_BASE & EXT1_EDX_REPEATED;
    if (config->cpu_count > 1)
        model_find(model, 1, 0)->edx |= 1u << 28; /* HTT */
    model->features = feature_mask(model);
    model->large_1g = (model_find(model, 0x80000001, 0)->edx & 1 << 26) != 0;
    cpuid_trim_xsave(model_find(model, 0xd, 0), model);
}

/* ---- looking up
 * ------------------------------------------------------------------------------------ */

/* Bytes of the standard XSAVE area for the components of XCR0. */
static u32 xsave_bytes(u64 xcr0)
{
    return (xcr0 & 4) ? X86_XSAVE_BYTES : 576;
}

static void apply_context(struct cpuid_entry *entry, const struct cpuid_context *context)
{
    switch (entry->leaf) {
    case 1:
        entry->ebx |= context->apic_id << 24;
        if ((entry->ecx & 1u << 26) && (context->cr4 & X86_CR4_OSXSAVE))
            entry->ecx |= 1u << 27;
        break;
    case 0xb:
        entry->edx = context->apic_id;
        break;
    case 0xd:
        if (entry->subleaf <= 1 && entry->ebx != 0)
            entry->ebx = xsave_bytes(context->xcr0);
        break;
    case 0x8000001e:
        entry->eax = context->apic_id;
        entry->ebx |= context->apic_id & 0xff;
        break;
    default:
        break;
    }
}

struct cpuid_entry cpuid_entry_at(const struct cpuid_model *model, unsigned i,
                                  const struct cpuid_context *context)
{
    struct cpuid_entry entry = model->entry[i];

    apply_context(&entry, context);
    return entry;
}

/* The leaf that one beyond the highest of its range reads as; 0xffffffff: zeros. */
static u32 clamp_leaf(const struct cpuid_model *model, u32 leaf)
{
    u32 range = leaf & 0xffff0000;

    for (unsigned i = 0; i < model->count; i++) {
        const struct cpuid_entry *entry = &model->entry[i];
        if (entry->leaf == range && leaf <= entry->eax &&
            (range == 0 || range == 0x40000000 || range == 0x80000000))
            return leaf;
    }
    return model->vendor == CPUID_VENDOR_INTEL ? model->entry[0].eax : UINT32_MAX;
}

void cpuid_lookup(const struct cpuid_model *model, u32 leaf, u32 subleaf,
                  const struct cpuid_context *context, struct cpuid_result *ret_result)
{
    u32 clamped = clamp_leaf(model, leaf);

    *ret_result = (struct cpuid_result){0};
    for (unsigned i = 0; i < model->count; i++) {
        struct cpuid_entry entry = model->entry[i];
        if (entry.leaf != clamped || (entry.indexed && entry.subleaf != subleaf))
            continue;
        apply_context(&entry, context);
        *ret_result = (struct cpuid_result){entry.eax, entry.ebx, entry.ecx, entry.edx};
        return;
    }
    if (clamped == 0xb) { /* a level that does not exist */
        ret_result->ecx = subleaf & 0xff;
        ret_result->edx = context->apic_id;
    }
}
