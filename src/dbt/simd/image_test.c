/*
 * dbt/simd/image_test.c - the state instructions: against the host's own on random state and
 * images, and the last-instruction fields, which the host cannot vouch for, against the manual.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "dbt/simd/rig_test.h"
#include "x86/cpuid.h"

enum { ROUNDS = 400, IMAGE_AT = 1024, AREA_BYTES = 896 };

struct code {
    const char *name;
    u8 bytes[5];
    unsigned count;
    unsigned pointers, pointers_end; /* bytes of the image that hold the host's own addresses */
};

/* All with [rbx]; the second of a pair with REX.W or the 16-bit format. */
static const struct code saves[] = {
    {"fxsave", {0x0f, 0xae, 0x03}, 3, IMAGE_FOP, IMAGE_MXCSR},
    {"fxsave64", {0x48, 0x0f, 0xae, 0x03}, 4, IMAGE_FOP, IMAGE_MXCSR},
    {"xsave", {0x0f, 0xae, 0x23}, 3, IMAGE_FOP, IMAGE_MXCSR},
    {"xsave64", {0x48, 0x0f, 0xae, 0x23}, 4, IMAGE_FOP, IMAGE_MXCSR},
    {"xsaveopt64", {0x48, 0x0f, 0xae, 0x33}, 4, IMAGE_FOP, IMAGE_MXCSR},
    {"xsavec", {0x0f, 0xc7, 0x23}, 3, IMAGE_FOP, IMAGE_MXCSR},
    {"xsavec64", {0x48, 0x0f, 0xc7, 0x23}, 4, IMAGE_FOP, IMAGE_MXCSR},
    {"fnstenv", {0xd9, 0x33}, 2, 12, 28},
    {"fnstenv 16", {0x66, 0xd9, 0x33}, 3, 6, 14},
    {"fnsave", {0xdd, 0x33}, 2, 12, 28},
    {"fnsave 16", {0x66, 0xdd, 0x33}, 3, 6, 14},
};

static const struct code restores[] = {
    {"fxrstor", {0x0f, 0xae, 0x0b}, 3, 0, 0}, {"fxrstor64", {0x48, 0x0f, 0xae, 0x0b}, 4, 0, 0},
    {"xrstor", {0x0f, 0xae, 0x2b}, 3, 0, 0},  {"xrstor64", {0x48, 0x0f, 0xae, 0x2b}, 4, 0, 0},
    {"fldenv", {0xd9, 0x23}, 2, 0, 0},        {"fldenv 16", {0x66, 0xd9, 0x23}, 3, 0, 0},
    {"frstor", {0xdd, 0x23}, 2, 0, 0},        {"frstor 16", {0x66, 0xdd, 0x23}, 3, 0, 0},
};

static void registers_normalize(struct rig_regs *regs)
{
    memset(regs->xsave + IMAGE_FOP, 0, IMAGE_MXCSR - IMAGE_FOP);
    memset(regs->xsave + IMAGE_MXCSR_MASK, 0, 4);
    memset(regs->xsave + IMAGE_LEGACY_END, 0, IMAGE_YMM - IMAGE_LEGACY_END);
    regs->rflags = 0;
}

static bool bytes_agree(const char *name, const char *what, const u8 *native, const u8 *simd,
                        size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (native[i] != simd[i]) {
            printf("%s: %s byte %zu: host %02x, simd %02x\n", name, what, i, native[i], simd[i]);
            return false;
        }
    }
    return true;
}

/* The image as a program would see it, but for the fields that hold host addresses and the mask, in
 * which a feature of some hosts is hidden. */
static void image_normalize(const struct code *code, u8 *image)
{
    memset(image + code->pointers, 0, code->pointers_end - code->pointers);
    if (code->pointers == IMAGE_FOP && load_le32(image + IMAGE_MXCSR_MASK) == 0x2ffff)
        store_le32(image + IMAGE_MXCSR_MASK, MXCSR_VALID);
}

static bool code_agrees_once(const struct code *code, struct rig_regs *before, const u8 *memory)
{
    static u8 native_image[AREA_BYTES];
    u8 *image = rig_memory + IMAGE_AT;
    struct rig_regs native, simd;

    before->gpr[X86_RBX] = (u64)(uintptr_t)image;
    memcpy(image, memory, AREA_BYTES);
    native = *before;
    rig_native(code->bytes, code->count, &native);
    memcpy(native_image, image, AREA_BYTES);
    memcpy(image, memory, AREA_BYTES);
    simd = *before;
    rig_simd(code->bytes, code->count, &simd);
    image_normalize(code, native_image);
    image_normalize(code, image);
    registers_normalize(&native);
    registers_normalize(&simd);
    if (native.trap != simd.trap) {
        printf("%s: trap: host %u, simd %u\n", code->name, native.trap, simd.trap);
        return false;
    }
    return bytes_agree(code->name, "register", native.xsave, simd.xsave, sizeof(simd.xsave)) &&
           bytes_agree(code->name, "memory", native_image, image, AREA_BYTES);
}

/* Whether a component that holds its initial values counts as in use changes when the host switches
 * threads right then, so a difference counts only when it comes again. */
static bool code_agrees(const struct code *code, struct rig_regs *before)
{
    static u8 memory[AREA_BYTES];

    memcpy(memory, rig_memory + IMAGE_AT, AREA_BYTES);
    for (unsigned i = 0; i < 4; i++) {
        if (code_agrees_once(code, before, memory))
            return true;
    }
    return false;
}

static void random_components(struct rig_regs *regs)
{
    regs->gpr[X86_RAX] = rig_random() & 7;
    regs->gpr[X86_RDX] = 0;
    if (rig_random() % 4 == 0)
        store_le32(regs->xsave + IMAGE_MXCSR, MXCSR_DEFAULT);
    regs->xsave[IMAGE_XSTATE_BV] = rig_random() & 7;
}

static void test_saves(void **state)
{
    rig_catch_traps();
    for (unsigned i = 0; i < ARRAY_LEN(saves) * ROUNDS; i++) {
        struct rig_regs regs;
        rig_randomize(&regs, i % 5 == 0);
        random_components(&regs);
        for (unsigned j = 0; j < AREA_BYTES; j++)
            rig_memory[IMAGE_AT + j] = (u8)rig_random();
        rig_memory[IMAGE_AT + IMAGE_XSTATE_BV] &= 7;
        assert_true(code_agrees(&saves[i % ARRAY_LEN(saves)], &regs));
    }
}

/* Mostly an image that can be loaded. */
static void random_image(u8 *image)
{
    struct rig_regs other;

    rig_randomize(&other, rig_random() % 4 == 0);
    memcpy(image, other.xsave, sizeof(other.xsave));
    memset(image + IMAGE_HEADER, 0, 64);
    image[IMAGE_XSTATE_BV] = rig_random() & 7;
    if (rig_random() % 2 == 0) { /* compacted */
        store_le64(image + IMAGE_XCOMP_BV, BIT(63) | (rig_random() & 7));
        if (rig_random() % 8 != 0)
            image[IMAGE_XSTATE_BV] &= image[IMAGE_XCOMP_BV];
    }
    switch (rig_random() % 16) {
    case 0:
        image[IMAGE_MXCSR + 2] = 0x10;
        break;
    case 1:
        image[IMAGE_XSTATE_BV + 7] = 0x40;
        break;
    case 2:
        image[IMAGE_XCOMP_BV + 1 + rig_random() % 7] |= 0x40; /* below are the host's */
        break;
    case 3:
        image[IMAGE_XCOMP_BV + 8 + rig_random() % 8] = 1;
        break;
    }
}

static void test_restores(void **state)
{
    unsigned refused = 0;

    rig_catch_traps();
    for (unsigned i = 0; i < ARRAY_LEN(restores) * ROUNDS; i++) {
        const struct code *code = &restores[i % ARRAY_LEN(restores)];
        struct rig_regs regs;
        rig_randomize(&regs, false);
        random_components(&regs);
        random_image(rig_memory + IMAGE_AT);
        if (code->bytes[0] == 0xd9 || code->bytes[1] == 0xd9) /* the upper half of FCW and others */
            store_le16(rig_memory + IMAGE_AT, (u16)(rig_random() | 0x7f));
        assert_true(code_agrees(code, &regs));
    }
    /* That images are refused is part of what agrees. */
    struct rig_regs regs;
    rig_randomize(&regs, false);
    random_image(rig_memory + IMAGE_AT);
    rig_memory[IMAGE_AT + IMAGE_XSTATE_BV + 7] = 0x40;
    regs.gpr[X86_RBX] = (u64)(uintptr_t)rig_memory + IMAGE_AT;
    rig_simd(restores[2].bytes, restores[2].count, &regs);
    refused += regs.trap == X86_GP;
    assert_int_equal(refused, 1);
}

/* ---- last-instruction fields ---- */

static void run(struct rig_regs *regs, const char *bytes, unsigned count)
{
    rig_simd((const u8 *)bytes, count, regs);
    assert_int_equal(regs->trap, RIG_NO_TRAP);
}

/* fld qword [rbx + 8] at CS:RIP, then FNINIT-clean state otherwise. */
static void run_fld(struct rig_regs *regs)
{
    rig_randomize(regs, false);
    regs->gpr[X86_RBX] = (u64)(uintptr_t)rig_memory + IMAGE_AT;
    run(regs, "\xdb\xe3", 2);
    run(regs, "\xdd\x43\x08", 3);
}

static void test_pointers(void **state)
{
    u8 *image = rig_memory + IMAGE_AT;
    struct rig_regs regs;

    rig_catch_traps();
    run_fld(&regs);
    u64 fdp = regs.gpr[X86_RBX] + 8;
    /* The exchange image: 64-bit offsets. */
    assert_int_equal(load_le16(regs.xsave + IMAGE_FOP), 0x543);
    assert_int_equal(load_le64(regs.xsave + IMAGE_FIP), rig_cpu->rip);
    assert_int_equal(load_le64(regs.xsave + IMAGE_FDP), fdp);
    run(&regs, "\x48\x0f\xae\x03", 4); /* fxsave64 [rbx] */
    assert_int_equal(load_le64(image + IMAGE_FIP), rig_cpu->rip);
    assert_int_equal(load_le64(image + IMAGE_FDP), fdp);
    run(&regs, "\x0f\xae\x03", 3); /* fxsave: 32-bit offsets and selectors */
    assert_int_equal(load_le64(image + IMAGE_FIP), (u32)rig_cpu->rip | 0x33ull << 32);
    assert_int_equal(load_le64(image + IMAGE_FDP), (u32)fdp | 0x2bull << 32);
    run(&regs, "\xd9\x33", 2); /* fnstenv */
    assert_int_equal(load_le32(image + 12), (u32)rig_cpu->rip);
    assert_int_equal(load_le32(image + 16), 0x33 | 0x543 << 16);
    assert_int_equal(load_le32(image + 20), (u32)fdp);
    assert_int_equal(load_le16(image + 24), 0x2b);
    run(&regs, "\x66\xd9\x33", 3);
    assert_int_equal(load_le16(image + 6), (u16)rig_cpu->rip);
    assert_int_equal(load_le16(image + 8), 0x33);
    assert_int_equal(load_le16(image + 10), (u16)fdp);
    assert_int_equal(load_le16(image + 12), 0x2b);
    /* A processor whose CPUID says that it keeps no selectors shows none. */
    static struct cpuid_model model = {.count = 2,
                                       .entry = {{.eax = 7}, {.leaf = 7, .ebx = 1 << 13}}};
    rig_cpu->cpuid = &model;
    run(&regs, "\x66\xd9\x33", 3);
    assert_int_equal(load_le16(image + 8), 0);
    assert_int_equal(load_le16(image + 12), 0);
    run(&regs, "\x0f\xae\x03", 3);
    assert_int_equal(load_le64(image + IMAGE_FIP), (u32)rig_cpu->rip);
    rig_cpu->cpuid = NULL;
    /* A control instruction moves nothing; FNINIT clears. */
    run(&regs, "\xd9\x2b", 2); /* fldcw [rbx] */
    assert_int_equal(load_le64(regs.xsave + IMAGE_FIP), rig_cpu->rip);
    run(&regs, "\xdb\xe3", 2);
    assert_int_equal(load_le64(regs.xsave + IMAGE_FIP), 0);
    assert_int_equal(load_le16(regs.xsave + IMAGE_FOP), 0);
}

/* Real-address mode shows linear addresses, and FLDENV takes them back. */
static void test_pointers_real(void **state)
{
    u8 *image = rig_memory + IMAGE_AT;
    struct rig_regs regs;

    rig_catch_traps();
    run_fld(&regs);
    u32 fip = (u32)rig_cpu->rip + 0x330;
    u32 fdp = (u32)regs.gpr[X86_RBX] + 8 + 0x2b0;
    rig_cpu->cr0 &= ~(u64)X86_CR0_PE;
    run(&regs, "\xd9\x33", 2);
    assert_int_equal(load_le32(image + 12), fip & 0xffff);
    assert_int_equal(load_le32(image + 16), 0x543 | fip >> 16 << 12);
    assert_int_equal(load_le16(image + 20), fdp & 0xffff);
    assert_int_equal(load_le32(image + 24), fdp >> 16 << 12);
    run(&regs, "\xdb\xe3", 2);
    run(&regs, "\xd9\x23", 2); /* fldenv [rbx] */
    assert_int_equal(load_le64(regs.xsave + IMAGE_FIP), fip);
    assert_int_equal(load_le64(regs.xsave + IMAGE_FDP), fdp);
    assert_int_equal(load_le16(regs.xsave + IMAGE_FOP), 0x543);
    rig_cpu->cr0 |= X86_CR0_PE;
}

/* Outside 64-bit mode XMM8-15 are neither saved nor restored nor zeroed. */
static void test_eight_registers(void **state)
{
    u8 *image = rig_memory + IMAGE_AT;
    struct rig_regs regs, before;

    rig_catch_traps();
    rig_randomize(&regs, false);
    before = regs;
    regs.gpr[X86_RBX] = (u64)(uintptr_t)image;
    memset(image, 0xee, AREA_BYTES);
    rig_cpu->code_bytes = 4;
    run(&regs, "\x0f\xae\x03", 3); /* fxsave [ebx] */
    assert_memory_equal(image + IMAGE_XMM, before.xsave + IMAGE_XMM, 128);
    assert_int_equal(image[IMAGE_XMM + 128], 0xee);
    memset(image, 0, AREA_BYTES);
    regs.gpr[X86_RAX] = 7;
    regs.gpr[X86_RDX] = 0;
    run(&regs, "\x0f\xae\x2b", 3); /* xrstor [ebx]: all to the initial state */
    for (unsigned i = 0; i < 128; i++) {
        assert_int_equal(regs.xsave[IMAGE_XMM + i], 0);
        assert_int_equal(regs.xsave[IMAGE_YMM + i], 0);
    }
    assert_memory_equal(regs.xsave + IMAGE_XMM + 128, before.xsave + IMAGE_XMM + 128, 128);
    assert_memory_equal(regs.xsave + IMAGE_YMM + 128, before.xsave + IMAGE_YMM + 128, 128);
    regs = before;
    run(&regs, "\xc5\xf8\x77", 3); /* vzeroupper */
    assert_memory_equal(regs.xsave + IMAGE_XMM, before.xsave + IMAGE_XMM, 256);
    assert_int_equal(load_le64(regs.xsave + IMAGE_YMM + 112), 0);
    assert_memory_equal(regs.xsave + IMAGE_YMM + 128, before.xsave + IMAGE_YMM + 128, 128);
    run(&regs, "\xc5\xfc\x77", 3); /* vzeroall */
    assert_int_equal(load_le64(regs.xsave + IMAGE_XMM + 112), 0);
    assert_memory_equal(regs.xsave + IMAGE_XMM + 128, before.xsave + IMAGE_XMM + 128, 128);
    rig_cpu->code_bytes = 8;
}

/* A state from outside cannot make XRSTOR fault: what it would refuse is cut. */
static void test_hostile_state(void **state)
{
    struct rig_regs regs;

    rig_catch_traps();
    rig_randomize(&regs, false);
    memset(regs.xsave + IMAGE_HEADER, 0xff, 64);
    memset(regs.xsave + IMAGE_MXCSR, 0xff, 4);
    store_le64(regs.xsave + IMAGE_FIP, 0x8000000000000001ull);
    run(&regs, "\x0f\x57\xc0", 3); /* xorps xmm0, xmm0 */
    assert_int_equal(load_le32(regs.xsave + IMAGE_MXCSR), MXCSR_VALID);
    assert_int_equal(load_le64(regs.xsave + IMAGE_FIP), 0x8000000000000001ull);
    assert_int_equal(load_le64(regs.xsave + IMAGE_XCOMP_BV), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saves),           cmocka_unit_test(test_restores),
        cmocka_unit_test(test_pointers),        cmocka_unit_test(test_pointers_real),
        cmocka_unit_test(test_eight_registers), cmocka_unit_test(test_hostile_state),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
