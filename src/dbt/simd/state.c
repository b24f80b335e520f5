/*
 * dbt/simd/state.c - the guest's x87, SSE and AVX state between the host's registers and memory.
 *
 * Spec   Intel SDM vol. 1 chapter 13 (XSAVE), 8.1.8 (last-instruction registers).
 * Runs   on the vCPU's thread.
 * Trust  cpu->xsave may come from a snapshot: what XRSTOR would refuse is cut before it is loaded.
 */
#include "base/bits.h"
#include "dbt/simd/simd_priv.h"
#include "x86/cpuid.h"

static void image_store(void *image, u64 components)
{
    __asm__ volatile("xsave64 (%0)" : : "r"(image), "a"((u32)components), "d"(0) : "memory");
}

static void image_load(const void *image, u64 components)
{
    __asm__ volatile("xrstor64 (%0)" : : "r"(image), "a"((u32)components), "d"(0) : "memory");
}

u16 simd_selector(const struct cpu *cpu, u16 selector)
{
    enum { NO_FPU_CS_DS = 1 << 13 }; /* CPUID leaf 7, EBX */
    struct cpuid_context context = {.cr4 = cpu->cr4, .xcr0 = cpu->xcr0};
    struct cpuid_result leaf7;

    if (cpu->cpuid == NULL)
        return selector;
    cpuid_lookup(cpu->cpuid, 7, 0, &context, &leaf7);
    return leaf7.ebx & NO_FPU_CS_DS ? 0 : selector;
}

void simd_capture(struct cpu *cpu)
{
    struct simd *simd = cpu->simd;
    u8 *image = cpu->xsave;

    if (!cpu->vector_live)
        return;
    simd_zero(image + IMAGE_HEADER, IMAGE_YMM - IMAGE_HEADER);
    image_store(image, simd->components);
    store_le16(image + IMAGE_FOP, simd->last.fop);
    store_le64(image + IMAGE_FIP, simd->last.fip);
    store_le64(image + IMAGE_FDP, simd->last.fdp);
    store_le32(image + IMAGE_MXCSR_MASK, MXCSR_VALID);
    store_le16(image + IMAGE_FCS, simd->last.fcs);
    store_le16(image + IMAGE_FDS, simd->last.fds);
    if ((simd->last.fop | simd->last.fip | simd->last.fdp | simd->last.fcs | simd->last.fds) != 0)
        image[IMAGE_XSTATE_BV] |= COMPONENT_X87;
    if ((simd->components & COMPONENT_AVX) == 0)
        simd_zero(image + IMAGE_YMM, IMAGE_END - IMAGE_YMM);
}

void simd_save(struct cpu *cpu)
{
    u32 mxcsr = MXCSR_DEFAULT;

    if (!cpu->vector_live)
        return;
    simd_capture(cpu);
    /* What the C ABI promises to the code that runs next; cheaper than an XRSTOR of an initial
     * image. */
    if (cpu->xsave[IMAGE_XSTATE_BV] & COMPONENT_X87)
        __asm__ volatile("fninit");
    if (cpu->simd->components & COMPONENT_AVX)
        __asm__ volatile("vzeroupper");
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    cpu->vector_live = false;
}

/* Takes the last-instruction registers from the image. It has no room for the selectors: they are
 * kept when the image is that of this same state. */
static void pointers_load(struct simd *simd, const u8 *image)
{
    struct simd_pointers last = {0};

    if (image[IMAGE_XSTATE_BV] & COMPONENT_X87) {
        last.fop = load_le16(image + IMAGE_FOP) & 0x7ff;
        last.fip = load_le64(image + IMAGE_FIP);
        last.fdp = load_le64(image + IMAGE_FDP);
        last.fcs = load_le16(image + IMAGE_FCS);
        last.fds = load_le16(image + IMAGE_FDS);
    }
    simd->last = last;
}

void simd_load(struct cpu *cpu)
{
    struct simd *simd = cpu->simd;
    u8 *image = cpu->xsave;

    u64 in_use = load_le64(image + IMAGE_XSTATE_BV) & simd->components;
    simd_zero(image + IMAGE_HEADER, IMAGE_YMM - IMAGE_HEADER);
    store_le64(image + IMAGE_XSTATE_BV, in_use);
    store_le32(image + IMAGE_MXCSR, load_le32(image + IMAGE_MXCSR) & MXCSR_VALID);
    pointers_load(simd, image);
    simd_zero(image + IMAGE_FOP, IMAGE_MXCSR - IMAGE_FOP); /* not the host's affair */
    image_load(image, simd->host_components);
    cpu->vector_live = true;
}
