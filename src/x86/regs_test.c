/*
 * x86/regs_test.c - the state after power-up and after INIT with a start-up IPI.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "x86/msr.h"
#include "x86/regs.h"

static void test_reset(void **unused)
{
    struct x86_state state;

    memset(&state, 0xa5, sizeof(state));
    x86_state_reset(&state, true);
    assert_int_equal(state.rip, 0xfff0);
    assert_int_equal(state.rflags, 2);
    assert_int_equal(state.cr0, 0x60000010);
    assert_int_equal(state.cr3 | state.cr4 | state.cr8 | state.msr.efer, 0);
    assert_int_equal(state.seg[X86_CS].selector, 0xf000);
    assert_int_equal(state.seg[X86_CS].base, 0xffff0000);
    assert_int_equal(state.seg[X86_CS].limit, 0xffff);
    assert_int_equal(state.seg[X86_CS].attr & 0xff, 0x9b);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        if (i == X86_CS)
            continue;
        assert_int_equal(state.seg[i].base, 0);
        assert_int_equal(state.seg[i].attr, 0x93);
    }
    assert_int_equal(state.tr.attr & X86_SEG_PRESENT, X86_SEG_PRESENT);
    assert_int_equal(state.idtr.limit, 0xffff);
    assert_int_equal(state.dr[6], 0xffff0ff0);
    assert_int_equal(state.dr[7], 0x400);
    assert_int_equal(state.xcr0, 1);
    assert_int_equal(state.msr.pat, 0x0007040600070406);
    assert_int_equal(state.msr.apic_base, 0xfee00000 | X86_APIC_BASE_ENABLE | X86_APIC_BASE_BSP);
    assert_int_equal(load_le16(state.xsave), 0x40);
    assert_int_equal(load_le32(state.xsave + 24), 0x1f80);
    assert_int_equal(state.activity, X86_ACTIVE);
    assert_false(state.event.pending);

    x86_state_reset(&state, false);
    assert_int_equal(state.activity, X86_WAIT_FOR_SIPI);
    assert_int_equal(state.msr.apic_base & X86_APIC_BASE_BSP, 0);
}

static void test_init_sipi(void **unused)
{
    struct x86_state state;

    x86_state_reset(&state, false);
    state.cr0 = X86_CR0_PG | X86_CR0_PE | X86_CR0_CD;
    state.cr3 = 0x1000;
    state.msr.efer = X86_EFER_LME | X86_EFER_LMA;
    state.msr.pat = 0x0606060606060606;
    state.gpr[X86_RSI] = 7;
    state.xsave[160] = 0x5a;
    state.tsc = 123456;
    state.nmi_pending = true;
    x86_state_init_sipi(&state, 0x9a);
    assert_int_equal(state.seg[X86_CS].selector, 0x9a00);
    assert_int_equal(state.seg[X86_CS].base, 0x9a000);
    assert_int_equal(state.rip, 0);
    assert_int_equal(state.cr0, X86_CR0_CD | X86_CR0_ET); /* CD and NW are kept */
    assert_int_equal(state.cr3 | state.msr.efer | state.gpr[X86_RSI], 0);
    assert_int_equal(state.msr.pat, 0x0606060606060606);
    assert_int_equal(state.xsave[160], 0x5a);
    assert_int_equal(state.tsc, 123456);
    assert_int_equal(state.activity, X86_ACTIVE);
    assert_false(state.nmi_pending);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reset),
                                       cmocka_unit_test(test_init_sipi)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
