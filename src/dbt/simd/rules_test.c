/*
 * dbt/simd/rules_test.c - when an instruction must not run: CR0, CR4, XCR0, modes, alignment; what
 * happens to unmasked exceptions; faults in the middle of masked moves and gathers; the bounded
 * store of thunks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "dbt/simd/rig_test.h"

static unsigned run_regs(struct rig_regs *regs, const char *bytes, unsigned count)
{
    rig_simd((const u8 *)bytes, count, regs);
    return regs->trap;
}

/* The trap of BYTES with RBX at a plain place. */
static unsigned run(const char *bytes, unsigned count)
{
    struct rig_regs regs;

    rig_randomize(&regs, false);
    memset(rig_memory + 1024, 0, 1024);
    regs.gpr[X86_RBX] = (u64)(uintptr_t)rig_memory + 1024;
    return run_regs(&regs, bytes, count);
}

/* ---- CR0, CR4, XCR0 ---- */

struct rule {
    const char *bytes;
    unsigned count;
    unsigned em, ts, no_osfxsr, no_osxsave, xcr0_sse,
        real; /* trap with this and nothing else wrong */
};

enum { OK = RIG_NO_TRAP, UD = X86_UD, NM = X86_NM };

static const struct rule rules[] = {
    {"\xd9\xe8", 2, NM, NM, OK, OK, OK, OK},         /* fld1 */
    {"\x9b", 1, OK, NM, OK, OK, OK, OK},             /* fwait, with MP */
    {"\x0f\xfe\xc1", 3, UD, NM, OK, OK, OK, OK},     /* paddd mm */
    {"\x0f\x77", 2, UD, NM, OK, OK, OK, OK},         /* emms */
    {"\x0f\x58\xc1", 3, UD, NM, UD, OK, OK, OK},     /* addps */
    {"\x0f\xae\x13", 3, UD, NM, UD, OK, OK, OK},     /* ldmxcsr */
    {"\xc5\xf8\x58\xc1", 4, OK, NM, OK, UD, UD, UD}, /* vaddps */
    {"\xc5\xf8\x77", 3, OK, NM, OK, UD, UD, UD},     /* vzeroupper */
    {"\xc5\xf8\xae\x13", 4, OK, NM, OK, UD, UD, UD}, /* vldmxcsr */
    {"\x0f\xae\x03", 3, NM, NM, OK, OK, OK, OK},     /* fxsave */
    {"\x0f\xae\x0b", 3, NM, NM, OK, OK, OK, OK},     /* fxrstor */
    {"\x0f\xae\x23", 3, OK, NM, OK, UD, OK, OK},     /* xsave */
    {"\x0f\xae\x2b", 3, OK, NM, OK, UD, OK, OK},     /* xrstor */
    {"\x0f\xc7\x2b", 3, UD, UD, UD, UD, UD, UD},     /* xsaves: hidden */
};

static void test_gates(void **state)
{
    u64 cr0 = rig_cpu->cr0, cr4 = rig_cpu->cr4;

    rig_catch_traps();
    for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *rule = &rules[i];
        assert_int_equal(run(rule->bytes, rule->count), i == 13 ? UD : OK);
        rig_cpu->cr0 = cr0 | X86_CR0_EM;
        assert_int_equal(run(rule->bytes, rule->count), rule->em);
        rig_cpu->cr0 = cr0 | X86_CR0_TS;
        assert_int_equal(run(rule->bytes, rule->count), rule->ts);
        rig_cpu->cr0 = cr0;
        rig_cpu->cr4 = cr4 & ~(u64)X86_CR4_OSFXSR;
        assert_int_equal(run(rule->bytes, rule->count), rule->no_osfxsr);
        rig_cpu->cr4 = cr4 & ~(u64)X86_CR4_OSXSAVE;
        assert_int_equal(run(rule->bytes, rule->count), rule->no_osxsave);
        rig_cpu->cr4 = cr4;
        rig_cpu->xcr0 = 3;
        assert_int_equal(run(rule->bytes, rule->count), rule->xcr0_sse);
        rig_cpu->xcr0 = 7;
        rig_cpu->cr0 = cr0 & ~(u64)X86_CR0_PE;
        assert_int_equal(run(rule->bytes, rule->count), rule->real);
        rig_cpu->cr0 = cr0;
    }
    rig_cpu->cr0 = (cr0 | X86_CR0_TS) & ~(u64)X86_CR0_MP;
    assert_int_equal(run("\x9b", 1), OK); /* fwait without MP */
    rig_cpu->cr0 = cr0;
}

/* ---- unmasked exceptions ---- */

static void test_simd_exception(void **state)
{
    struct rig_regs regs;

    rig_catch_traps();
    rig_randomize(&regs, false);
    memset(regs.xsave + IMAGE_XMM, 0, 32);
    store_le64(regs.xsave + IMAGE_XMM, 0x3ff0000000000000ull); /* 1.0 / 0.0 */
    store_le32(regs.xsave + IMAGE_MXCSR, MXCSR_DEFAULT & ~0x200u);
    struct rig_regs again = regs;
    assert_int_equal(run_regs(&regs, "\xf2\x0f\x5e\xc1", 4), X86_XM); /* divsd xmm0, xmm1 */
    assert_int_equal(load_le32(regs.xsave + IMAGE_MXCSR), (MXCSR_DEFAULT & ~0x200u) | 4);
    assert_int_equal(load_le64(regs.xsave + IMAGE_XMM), 0x3ff0000000000000ull);
    rig_cpu->cr4 &= ~(u64)X86_CR4_OSXMMEXCPT;
    assert_int_equal(run_regs(&again, "\xf2\x0f\x5e\xc1", 4), X86_UD);
    rig_cpu->cr4 |= X86_CR4_OSXMMEXCPT;
}

/* fld1; fldz; fdivp with division by zero unmasked: the next waiting instruction faults. */
static void test_x87_exception(void **state)
{
    struct rig_regs regs;

    rig_catch_traps();
    rig_randomize(&regs, false);
    assert_int_equal(run_regs(&regs, "\xdb\xe3", 2), OK);
    store_le16(regs.xsave + IMAGE_FCW, FCW_DEFAULT & ~4);
    assert_int_equal(run_regs(&regs, "\xd9\xe8", 2), OK);
    assert_int_equal(run_regs(&regs, "\xd9\xee", 2), OK);
    assert_int_equal(run_regs(&regs, "\xde\xf9", 2), OK);
    assert_int_equal(run_regs(&regs, "\xdf\xe0", 2), OK); /* fnstsw ax does not wait */
    assert_int_equal(regs.gpr[X86_RAX] & 0x84, 0x84);
    assert_int_equal(run_regs(&regs, "\x9b", 1), X86_MF);
    assert_int_equal(run_regs(&regs, "\xd9\xe8", 2), X86_MF);
    assert_int_equal(run_regs(&regs, "\x0f\x77", 2), X86_MF);
    /* Without CR0.NE the exception is ignored, and stays pending. */
    rig_cpu->cr0 &= ~(u64)X86_CR0_NE;
    assert_int_equal(run_regs(&regs, "\xd9\xe8", 2), OK);
    assert_int_equal(load_le16(regs.xsave + IMAGE_FCW), FCW_DEFAULT & ~4);
    rig_cpu->cr0 |= X86_CR0_NE;
    assert_int_equal(run_regs(&regs, "\x9b", 1), X86_MF);
    assert_int_equal(run_regs(&regs, "\xdb\xe2", 2), OK); /* fnclex */
    assert_int_equal(run_regs(&regs, "\x9b", 1), OK);
}

/* A trap elsewhere, or of another kind, is not a thunk's. */
static void test_trap_elsewhere(void **state)
{
    u64 stack = 0x1111, sp = (u64)(uintptr_t)&stack, result = 7;
    u64 pc = (u64)(uintptr_t)rig_cpu->simd->code.execute + 100;

    assert_false(simd_trap(rig_cpu, X86_PF_FAULT, &pc, &sp, &result));
    assert_false(simd_trap(NULL, X86_XM, &pc, &sp, &result));
    pc += CODE_BYTES;
    assert_false(simd_trap(rig_cpu, X86_XM, &pc, &sp, &result));
    pc -= CODE_BYTES;
    assert_true(simd_trap(rig_cpu, X86_XM, &pc, &sp, &result));
    assert_int_equal(pc, 0x1111);
    assert_int_equal(sp, (u64)(uintptr_t)(&stack + 1));
    assert_int_equal(result, X86_XM);
}

/* ---- memory ---- */

static void test_alignment(void **state)
{
    rig_catch_traps();
    assert_int_equal(run("\x0f\x28\x43\x08", 4), X86_GP);     /* movaps xmm0, [rbx+8] */
    assert_int_equal(run("\x0f\x10\x43\x08", 4), OK);         /* movups */
    assert_int_equal(run("\x0f\x58\x43\x08", 4), X86_GP);     /* addps */
    assert_int_equal(run("\xc5\xf8\x58\x43\x08", 5), OK);     /* vaddps */
    assert_int_equal(run("\xc5\xfc\x28\x43\x10", 5), X86_GP); /* vmovaps ymm */
    assert_int_equal(run("\x0f\xae\x43\x08", 4), X86_GP);     /* fxsave [rbx+8] */
    assert_int_equal(run("\x0f\xae\x63\x10", 4), X86_GP);     /* xsave [rbx+16] */
}

/* A store whose second page is absent changes neither memory nor state. */
static void test_store_fault(void **state)
{
    struct rig_regs regs;
    u8 *edge = rig_memory + RIG_ABSENT;

    rig_catch_traps();
    rig_randomize(&regs, false);
    assert_int_equal(run_regs(&regs, "\xdb\xe3", 2), OK);
    assert_int_equal(run_regs(&regs, "\xd9\xe8", 2), OK);
    memset(edge - 16, 0x5a, 16);
    regs.gpr[X86_RBX] = (u64)(uintptr_t)edge - 4;
    struct rig_regs before = regs;
    assert_int_equal(run_regs(&regs, "\xdd\x1b", 2), X86_PF_FAULT); /* fstp qword [rbx] */
    assert_int_equal(regs.fault_address, (u64)(uintptr_t)edge);
    assert_int_equal(regs.error, X86_PF_W);
    assert_memory_equal(regs.xsave, before.xsave, 160);
    for (unsigned i = 1; i <= 16; i++)
        assert_int_equal(edge[-(int)i], 0x5a);
}

/* Eight floats, of which the last two lie on the absent page. */
static void test_masked_move_fault(void **state)
{
    struct rig_regs regs;
    u8 *edge = rig_memory + RIG_ABSENT;

    rig_catch_traps();
    for (unsigned active = 0; active < 8; active++) {
        rig_randomize(&regs, false);
        memset(edge - 24, (int)active + 1, 24);
        memset(regs.xsave + IMAGE_XMM + 16, 0, 16); /* ymm1: the mask */
        memset(regs.xsave + IMAGE_YMM + 16, 0, 16);
        u8 *half = regs.xsave + (active < 4 ? IMAGE_XMM : IMAGE_YMM) + 16;
        half[4 * (active % 4) + 3] = 0x80;
        regs.gpr[X86_RBX] = (u64)(uintptr_t)edge - 24;
        struct rig_regs load = regs;
        unsigned trap = run_regs(&load, "\xc4\xe2\x75\x2c\x03", 5); /* vmaskmovps ymm0,ymm1,[rbx] */
        assert_int_equal(trap, active < 6 ? OK : X86_PF_FAULT);
        if (active >= 6) {
            assert_int_equal(load.fault_address, (u64)(uintptr_t)edge + 4 * (active - 6));
            continue;
        }
        for (unsigned i = 0; i < 8; i++) {
            u8 *at = load.xsave + (i < 4 ? IMAGE_XMM : IMAGE_YMM) + 4 * (i % 4);
            assert_int_equal(load_le32(at), i == active ? 0x01010101u * (active + 1) : 0);
        }
        /* vmaskmovps [rbx], ymm1, ymm0 */
        assert_int_equal(run_regs(&regs, "\xc4\xe2\x75\x2e\x03", 5), OK);
        for (unsigned i = 0; i < 6; i++) {
            u8 *from = regs.xsave + (i < 4 ? IMAGE_XMM : IMAGE_YMM) + 4 * (i % 4);
            assert_int_equal(load_le32(edge - 24 + 4 * i),
                             i == active ? load_le32(from) : 0x01010101u * (active + 1));
        }
    }
}

/* vgatherdps xmm0, [rbx + xmm2 * 4], xmm1: the third element faults, two are done, and it can
 * resume. */
static void test_gather_fault(void **state)
{
    struct rig_regs regs;
    const char code[] = "\xc4\xe2\x71\x92\x04\x93";
    u8 *xmm;

    rig_catch_traps();
    rig_randomize(&regs, false);
    regs.gpr[X86_RBX] = (u64)(uintptr_t)rig_memory;
    xmm = regs.xsave + IMAGE_XMM;
    memset(xmm + 16, 0xff, 16);
    const u32 index[4] = {1, 5, RIG_ABSENT / 4 + 3, 9};
    for (unsigned i = 0; i < 4; i++) {
        store_le32(rig_memory + 4 * (index[i] & 15), 1000 + i);
        store_le32(xmm + 32 + 4 * i, index[i]);
    }
    u64 old = load_le64(xmm + 8);
    assert_int_equal(run_regs(&regs, code, 6), X86_PF_FAULT);
    assert_int_equal(regs.fault_address, (u64)(uintptr_t)rig_memory + RIG_ABSENT + 12);
    assert_int_equal(load_le32(xmm), 1000);
    assert_int_equal(load_le32(xmm + 4), 1001);
    assert_int_equal(load_le64(xmm + 8), old);
    assert_int_equal(load_le64(xmm + 16), 0);
    assert_int_equal(load_le64(xmm + 24), UINT64_MAX);
    store_le32(xmm + 32 + 8, 3); /* as if the page had come */
    assert_int_equal(run_regs(&regs, code, 6), OK);
    assert_int_equal(load_le32(xmm + 8), 1002);
    assert_int_equal(load_le32(xmm + 12), 1003);
    assert_int_equal(load_le64(xmm + 24), 0);
}

/* ---- the store of thunks ---- */

/* More forms than fit, each run twice: plans are dropped and made again, and still compute. */
static void test_endless_forms(void **state)
{
    u32 generation = rig_cpu->simd->generation;
    struct rig_regs regs;

    rig_catch_traps();
    rig_randomize(&regs, false);
    for (unsigned i = 0; i < 2 * PLAN_COUNT; i++) {
        /* vpshufd xmm(i), xmm(i), imm8 */
        u8 code[] = {0xc4,
                     (u8)(0x41 | (i & 1) << 7 | (i & 2) << 4 | 0x40),
                     0x79,
                     0x70,
                     (u8)(0xc0 | (i >> 2 & 63)),
                     (u8)(i >> 8)};
        struct rig_regs native = regs;
        rig_simd(code, sizeof(code), &regs);
        assert_int_equal(regs.trap, OK);
        assert_true(rig_cpu->simd->plan_count <= PLAN_COUNT);
        if (i % 1000 == 0) {
            rig_native(code, sizeof(code), &native);
            assert_memory_equal(native.xsave + IMAGE_XMM, regs.xsave + IMAGE_XMM, 256);
        }
    }
    assert_true(rig_cpu->simd->generation > generation);
}

/* ---- hostile bytes ---- */

/* Anything that decodes may run, in any mode and state, and at worst faults: a thunk that strayed
 * from its operand would end the test by a page fault of this process. */
static void test_random_bytes(void **state)
{
    static const u8 starts[] = {0x0f, 0x0f, 0x66, 0xf2, 0xf3, 0xc4, 0xc5, 0xd8, 0xd9,
                                0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0x48, 0x67, 0x9b};
    u64 cr0 = rig_cpu->cr0;
    unsigned ran = 0;

    rig_catch_traps();
    for (unsigned i = 0; i < 200000; i++) {
        struct rig_regs regs;
        struct insn insn;
        u8 code[16];

        rig_randomize(&regs, i % 2 == 0);
        for (unsigned j = 0; j < sizeof(code); j += 8)
            store_le64(code + j, rig_random() << 32 ^ rig_random());
        code[0] = starts[rig_random() % sizeof(starts)];
        if (code[0] == 0x66 || code[0] == 0xf2 || code[0] == 0xf3 || code[0] == 0x48)
            code[1] = 0x0f;
        if (code[0] == 0xc4)
            code[1] = (u8)((code[1] & 0xe0) | (1 + code[1] % 3));
        for (unsigned j = 0; j < X86_GPR_COUNT; j++) {
            if (rig_random() % 2 == 0)
                regs.gpr[j] = (u64)(uintptr_t)rig_memory + 1024 + rig_random() % (RIG_BYTES + 2048);
        }
        rig_cpu->code_bytes = (u8[]){2, 4, 8, 8}[rig_random() % 4];
        rig_device_exits = rig_random() % 4;
        rig_cpu->cr0 = (cr0 & ~(u64)X86_CR0_NE) | (rig_random() & X86_CR0_NE);
        if (decode(code, 15, rig_cpu->code_bytes, &insn) == DECODE_OK && simd_handles(&insn)) {
            rig_simd(code, insn.length, &regs);
            ran++;
        }
    }
    rig_cpu->code_bytes = 8;
    rig_cpu->cr0 = cr0;
    rig_device_exits = 0;
    assert_true(ran > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_simd_exception),
        cmocka_unit_test(test_x87_exception),
        cmocka_unit_test(test_trap_elsewhere),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_store_fault),
        cmocka_unit_test(test_masked_move_fault),
        cmocka_unit_test(test_gather_fault),
        cmocka_unit_test(test_endless_forms),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
