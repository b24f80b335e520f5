/*
 * x86/cpuid_test.c - CPU models: what is hidden, what is made, topology, frequencies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "host/cpu.h"
#include "x86/cpuid.h"

/* A host with every feature bit there is, of either vendor. */
static struct cpuid_entry rich_host[CPUID_HOST_MAX];
static unsigned rich_count;

static void rich_add(u32 leaf, u32 subleaf, bool indexed, const u32 words[4])
{
    rich_host[rich_count++] = (struct cpuid_entry){.leaf = leaf,
                                                   .subleaf = subleaf,
                                                   .indexed = indexed,
                                                   .eax = words[0],
                                                   .ebx = words[1],
                                                   .ecx = words[2],
                                                   .edx = words[3]};
}

static void make_rich_host(bool intel)
{
    static const u32 all[4] = {~0u, ~0u, ~0u, ~0u};
    u32 vendor[4] = {0x20, 0x68747541, 0x444d4163, 0x69746e65};
    u32 intel_vendor[4] = {0x20, 0x756e6547, 0x6c65746e, 0x49656e69};
    u32 sizes[4] = {0x3034, ~0u, ~0u, ~0u};
    u32 cache[4] = {0x7c004161, 0x02c0003f, 63, 0};

    rich_count = 0;
    rich_add(0, 0, false, intel ? intel_vendor : vendor);
    for (u32 leaf = 1; leaf <= 0x20; leaf++)
        if (leaf != 4)
            rich_add(leaf, 0, leaf == 7 || leaf == 0xb, all);
    rich_add(0xd, 1, true, all);
    rich_add(intel ? 4 : 0x8000001d, 0, true, cache);
    for (u32 leaf = 0x80000000; leaf <= 0x80000007; leaf++)
        rich_add(leaf, 0, false, all);
    rich_add(0x80000008, 0, false, sizes);
}

static struct cpuid_config rich_config(bool intel)
{
    make_rich_host(intel);
    return (struct cpuid_config){.host = rich_host,
                                 .host_count = rich_count,
                                 .system_emulated = true,
                                 .cpu_count = 4,
                                 .tsc_hz = 2595192000};
}

static struct cpuid_result look(const struct cpuid_model *model, u32 leaf, u32 subleaf)
{
    struct cpuid_context context = {.apic_id = 3, .cr4 = 0, .xcr0 = 1};
    struct cpuid_result result;
    cpuid_lookup(model, leaf, subleaf, &context, &result);
    return result;
}

static void test_hidden(void **state)
{
    for (int intel = 0; intel <= 1; intel++) {
        struct cpuid_config config = rich_config(intel);
        struct cpuid_model model;
        cpuid_model_init(&model, &config);

        u32 ecx1 = look(&model, 1, 0).ecx;
        assert_int_equal(ecx1 & BIT(3), 0); /* MONITOR */
        assert_int_equal(ecx1 & BIT(5), 0); /* VMX */
        assert_true(ecx1 & BIT(31));
        struct cpuid_result seven = look(&model, 7, 0);
        static const unsigned avx512[] = {16, 17, 21, 26, 27, 28, 30, 31};
        for (unsigned i = 0; i < ARRAY_LEN(avx512); i++)
            assert_int_equal(seven.ebx & BIT(avx512[i]), 0);
        assert_int_equal(seven.ebx & (BIT(4) | BIT(11) | BIT(14)), 0); /* TSX, MPX */
        /* Only UMIP and RDPID: no AVX-512 parts, PKU, shadow stacks, LA57. */
        assert_int_equal(seven.ecx, BIT(2) | BIT(22));
        /* No IBT; of speculation controls, what spares Intel guests retpolines and branch loops. */
        assert_int_equal(seven.edx, BIT(4) | BIT(14) | (intel ? BIT(26) | BIT(29) : 0));
        assert_int_equal(look(&model, 0x80000001, 0).ecx & BIT(2), 0); /* SVM */
        assert_int_equal(look(&model, 0x80000008, 0).ebx, intel ? 0 : BIT(2) | BIT(26) | BIT(29));
        assert_int_equal(look(&model, 0xd, 0).eax, 7);
        assert_int_equal(look(&model, 0xd, 1).eax, 7); /* no XSAVES */
        assert_int_equal(look(&model, 7, 1).eax, 0);
    }
}

static void test_poor_host(void **state)
{
    /* A host that shows nothing: what is emulated is there all the same, and only that. */
    static const struct cpuid_entry host[] = {{.leaf = 0, .ebx = 0x68747541}};
    struct cpuid_config config = {
        .host = host, .host_count = 1, .system_emulated = true, .cpu_count = 1};
    struct cpuid_model model;
    cpuid_model_init(&model, &config);

    assert_true(cpuid_has(&model, FEATURE_INVPCID));
    assert_true(cpuid_has(&model, FEATURE_SMAP));
    assert_true(cpuid_has(&model, FEATURE_FSGSBASE));
    assert_false(cpuid_has(&model, FEATURE_AVX));
    assert_false(cpuid_has(&model, FEATURE_SSE3));
    assert_false(cpuid_has(&model, FEATURE_XSAVE));
    assert_int_equal(look(&model, 0xd, 0).eax, 0);
    assert_int_equal(look(&model, 0xd, 0).ecx, 0);
    assert_int_equal(model.physical_bits, 36);
    config.system_emulated = false;
    cpuid_model_init(&model, &config);
    assert_false(cpuid_has(&model, FEATURE_INVPCID));
    assert_int_equal(look(&model, 1, 0).ecx, BIT(31));
}

static void test_avx_needs_state(void **state)
{
    struct cpuid_config config = rich_config(true);
    struct cpuid_model model;

    for (unsigned i = 0; i < rich_count; i++)
        if (rich_host[i].leaf == 0xd)
            rich_host[i].eax = 3;
    cpuid_model_init(&model, &config);
    assert_false(cpuid_has(&model, FEATURE_AVX));
    assert_false(cpuid_has(&model, FEATURE_AVX2));
    assert_false(cpuid_has(&model, FEATURE_FMA));
    assert_int_equal(look(&model, 0xd, 0).ecx, 576);
    assert_int_equal(look(&model, 0xd, 2).eax, 0);
}

static void test_context(void **state)
{
    struct cpuid_config config = rich_config(false);
    struct cpuid_model model;
    struct cpuid_context context = {.apic_id = 2, .cr4 = X86_CR4_OSXSAVE, .xcr0 = 7};
    struct cpuid_result result;

    cpuid_model_init(&model, &config);
    cpuid_lookup(&model, 1, 0, &context, &result);
    assert_true(result.ecx & BIT(27));
    assert_int_equal(result.ebx >> 24, 2);
    cpuid_lookup(&model, 0xd, 0, &context, &result);
    assert_int_equal(result.ebx, X86_XSAVE_BYTES);
    context = (struct cpuid_context){.apic_id = 1, .cr4 = 0, .xcr0 = 3};
    cpuid_lookup(&model, 1, 0, &context, &result);
    assert_false(result.ecx & BIT(27));
    cpuid_lookup(&model, 0xd, 0, &context, &result);
    assert_int_equal(result.ebx, 576);
    cpuid_lookup(&model, 0x8000001e, 0, &context, &result);
    assert_int_equal(result.eax, 1);
    for (unsigned i = 0; i < model.count; i++) {
        struct cpuid_entry entry = cpuid_entry_at(&model, i, &context);
        cpuid_lookup(&model, entry.leaf, entry.subleaf, &context, &result);
        assert_int_equal(result.eax, entry.eax);
        assert_int_equal(result.ebx, entry.ebx);
        assert_int_equal(result.ecx, entry.ecx);
        assert_int_equal(result.edx, entry.edx);
    }
}

/* Either vendor's leaves make a model of the other, caches included, and of itself. */
static void test_other_vendor(void **state)
{
    for (int from = 0; from <= 1; from++) {
        for (int intel = 0; intel <= 1; intel++) {
            struct cpuid_config config = rich_config(from);
            struct cpuid_model model;
            config.host_count = cpuid_as_vendor(rich_host, rich_count,
                                                intel ? CPUID_VENDOR_INTEL : CPUID_VENDOR_AMD);
            cpuid_model_init(&model, &config);
            assert_int_equal(model.vendor, intel ? CPUID_VENDOR_INTEL : CPUID_VENDOR_AMD);
            assert_int_equal(look(&model, intel ? 4 : 0x8000001d, 0).ecx, 63);
            assert_int_equal(look(&model, 1, 0).eax, intel ? 0x806f8 : 0xb00f21);
            assert_int_equal(look(&model, 0x80000000, 0).eax, intel ? 0x80000008 : 0x80000021);
        }
    }
}

static void test_topology(void **state)
{
    struct cpuid_config config = rich_config(true);
    struct cpuid_model model;

    config.cpu_count = 6;
    cpuid_model_init(&model, &config);
    assert_int_equal(look(&model, 0xb, 0).ebx, 1);
    assert_int_equal(look(&model, 0xb, 1).eax, 3);
    assert_int_equal(look(&model, 0xb, 1).ebx, 6);
    assert_int_equal(look(&model, 0xb, 1).edx, 3);
    assert_int_equal(look(&model, 0xb, 2).ecx, 2);
    assert_int_equal(look(&model, 0xb, 2).ebx, 0);
    assert_int_equal(look(&model, 4, 0).eax >> 26, 7);
    assert_int_equal(look(&model, 4, 0).eax >> 14 & 0xfff, 5); /* the L3 is shared by all */
    assert_true(look(&model, 1, 0).edx & BIT(28));
    config = rich_config(false);
    config.cpu_count = 6;
    cpuid_model_init(&model, &config);
    assert_int_equal(look(&model, 0x80000008, 0).ecx, 3 << 12 | 5);
    assert_int_equal(look(&model, 0x8000001d, 0).eax >> 14 & 0xfff, 5);
    assert_int_equal(look(&model, 4, 0).eax, 0);
    config.cpu_count = 1;
    cpuid_model_init(&model, &config);
    assert_false(look(&model, 1, 0).edx & BIT(28));
    assert_int_equal(look(&model, 0xb, 1).eax, 0);
}

static void test_frequency(void **state)
{
    struct cpuid_config config = rich_config(true);
    struct cpuid_model model;

    cpuid_model_init(&model, &config);
    struct cpuid_result r = look(&model, 0x15, 0);
    assert_int_equal(r.ecx, 1000000000);
    assert_int_equal((u64)r.ecx * r.ebx / r.eax, 2595192000);
    assert_int_equal(look(&model, 0x16, 0).eax, 2595);
    assert_int_equal(look(&model, 0x40000010, 0).eax, 2595192);
    assert_int_equal(look(&model, 0x40000010, 0).ebx, 1000000);
    assert_true(look(&model, 0x80000007, 0).edx & BIT(8));
}

static void test_identity(void **state)
{
    struct cpuid_config config = rich_config(true);
    struct cpuid_model model;
    char text[49] = "";

    config.brand = "Atoll virtual processor";
    cpuid_model_init(&model, &config);
    assert_int_equal(model.vendor, CPUID_VENDOR_INTEL);
    for (u32 i = 0; i < 3; i++) {
        struct cpuid_result r = look(&model, 0x80000002 + i, 0);
        memcpy(text + i * 16, &r, 16);
    }
    assert_string_equal(text, config.brand);
    struct cpuid_result r = look(&model, 0x40000000, 0);
    assert_memory_equal(&r.ebx, "KVMKVMKVM\0\0", 12);
    assert_int_equal(r.eax, 0x40000010);
    assert_int_equal(look(&model, 0x40000001, 0).eax, 0x0100000a);
    config.hide_kvm = true;
    cpuid_model_init(&model, &config);
    assert_int_equal(look(&model, 0x40000001, 0).eax, 0);
    /* Beyond the highest leaf: Intel repeats the highest basic one, AMD gives zeros. */
    assert_int_equal(look(&model, 0x20, 0).eax, look(&model, 0x16, 0).eax);
    assert_int_equal(look(&model, 0x80000030, 0).eax, look(&model, 0x16, 0).eax);
    config = rich_config(false);
    cpuid_model_init(&model, &config);
    assert_int_equal(look(&model, 0x20, 0).eax, 0);
    assert_int_equal(look(&model, 0x12345678, 0).ebx, 0);
}

/* This machine: what the guest gets is a part of what the host has. */
static void test_this_host(void **state)
{
    struct cpuid_entry host[CPUID_HOST_MAX];
    struct cpuid_config config = {.host = host, .cpu_count = 2};
    struct cpuid_model model;

    config.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
    assert_true(config.host_count > 10 && config.host_count < CPUID_HOST_MAX);
    cpuid_model_init(&model, &config);
    u32 words[4];
    cpu_cpuid(1, 0, words);
    assert_int_equal(look(&model, 1, 0).ecx & ~words[2] & ~(u32)BIT(31), 0);
    assert_int_equal(look(&model, 1, 0).eax, words[0]);
    cpu_cpuid(7, 0, words);
    assert_int_equal(look(&model, 7, 0).ebx & ~words[1], 0);
    assert_int_equal(look(&model, 7, 0).ecx & ~words[2], 0);
    assert_true(model.count < CPUID_ENTRIES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hidden),          cmocka_unit_test(test_poor_host),
        cmocka_unit_test(test_avx_needs_state), cmocka_unit_test(test_context),
        cmocka_unit_test(test_other_vendor),    cmocka_unit_test(test_topology),
        cmocka_unit_test(test_frequency),       cmocka_unit_test(test_identity),
        cmocka_unit_test(test_this_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
