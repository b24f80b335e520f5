/*
 * x86/decode_test.c - what the comparison with Zydis (tests/cpu) does not see: short input, limits,
 * LOCK, encodings that depend on the code size, and the table's own consistency.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "x86/decode.h"

static struct insn insn;

#define DECODE(code_bytes, ...) \
    decode((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), code_bytes, &insn)

static void test_fields(void **state)
{
    /* lock add qword fs:[r12 + r9*4 - 0x10], 0x7f */
    assert_int_equal(DECODE(8, 0x64, 0xf0, 0x4b, 0x83, 0x44, 0x8c, 0xf0, 0x7f), DECODE_OK);
    assert_int_equal(insn.op, OP_ADD);
    assert_int_equal(insn.length, 8);
    assert_int_equal(insn.base, X86_R12);
    assert_int_equal(insn.index, X86_R9);
    assert_int_equal(insn.scale, 2);
    assert_int_equal(insn.disp, -16);
    assert_int_equal(insn.segment, X86_FS);
    assert_int_equal(insn.operand_bytes, 8);
    assert_int_equal(insn.imm, 0x7f);
    assert_int_equal(insn.opcode_offset, 3);
    assert_int_equal(insn.modrm_offset, 4);
    assert_int_equal(insn.disp_offset, 6);
    assert_int_equal(insn.imm_offset, 7);
    assert_int_equal(insn_memory_access(&insn), ACCESS_RW);
    assert_int_equal(insn_memory_bytes(&insn), 8);
    u32 read, written;
    insn_gprs(&insn, &read, &written);
    assert_int_equal(read, 1 << X86_R12 | 1 << X86_R9);
    assert_int_equal(written, 0);

    /* mov ah, imm8 is a high byte, mov spl, imm8 is not */
    assert_int_equal(DECODE(8, 0xb4, 0x01), DECODE_OK);
    assert_true(insn_high_byte(&insn, insn.reg));
    assert_int_equal(DECODE(8, 0x40, 0xb4, 0x01), DECODE_OK);
    assert_false(insn_high_byte(&insn, insn.reg));
    /* add eax, -1: sign-extended to 64 bits */
    assert_int_equal(DECODE(8, 0x83, 0xc0, 0xff), DECODE_OK);
    assert_true(insn.imm == UINT64_MAX);
    /* far pointer and ENTER have two immediates */
    assert_int_equal(DECODE(2, 0xea, 0x34, 0x12, 0x78, 0x56), DECODE_OK);
    assert_int_equal(insn.imm, 0x1234);
    assert_int_equal(insn.imm2, 0x5678);
    assert_int_equal(DECODE(4, 0xc8, 0x10, 0x00, 0x02), DECODE_OK);
    assert_int_equal(insn.imm, 0x10);
    assert_int_equal(insn.imm2, 2);
    /* moffs: the whole address is in disp */
    assert_int_equal(DECODE(8, 0xa1, 8, 7, 6, 5, 4, 3, 2, 1), DECODE_OK);
    assert_true(insn.has_memory && insn.base == INSN_NO_REG);
    assert_true((u64)insn.disp == 0x0102030405060708);
}

static void test_limits(void **state)
{
    u8 prefixes[20];

    memset(prefixes, 0x66, sizeof(prefixes));
    assert_int_equal(decode(prefixes, 20, 8, &insn), DECODE_TOO_LONG);
    assert_int_equal(decode(prefixes, 14, 8, &insn), DECODE_TRUNCATED);
    assert_int_equal(decode(prefixes, 0, 8, &insn), DECODE_TRUNCATED);
    prefixes[14] = 0x90;
    assert_int_equal(decode(prefixes, 20, 8, &insn), DECODE_OK);
    assert_int_equal(insn.length, 15);
    prefixes[14] = 0xb8; /* MOV, whose immediate would be bytes 16 and 17 */
    assert_int_equal(decode(prefixes, 20, 8, &insn), DECODE_TOO_LONG);
}

static void test_validity(void **state)
{
    assert_int_equal(DECODE(8, 0xf0, 0x01, 0x18), DECODE_OK);      /* lock add [rax], ebx */
    assert_int_equal(DECODE(8, 0xf0, 0x01, 0xd8), DECODE_INVALID); /* a register */
    assert_int_equal(DECODE(8, 0xf0, 0x03, 0x18), DECODE_INVALID); /* memory is the source */
    assert_int_equal(DECODE(8, 0xf0, 0x39, 0x18), DECODE_INVALID); /* cmp */
    assert_int_equal(DECODE(8, 0xf0, 0x90), DECODE_INVALID);
    assert_int_equal(insn.op, OP_INVALID);
    assert_true(insn.length >= 1);
    assert_int_equal(DECODE(8, 0x06), DECODE_INVALID); /* push es */
    assert_int_equal(DECODE(4, 0x06), DECODE_OK);
    assert_int_equal(DECODE(8, 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1), DECODE_INVALID); /* EVEX */
    assert_int_equal(DECODE(4, 0x62, 0x01), DECODE_OK);                              /* bound */
    assert_int_equal(insn.op, OP_BOUND);
    assert_int_equal(DECODE(4, 0xc5, 0x06, 0, 0, 0, 0), DECODE_OK); /* lds, not VEX */
    assert_int_equal(insn.op, OP_LDS);
    assert_int_equal(DECODE(4, 0xc5, 0xf8, 0x58, 0xc1), DECODE_OK); /* vaddps */
    assert_int_equal(insn.desc->class, CLASS_AVX);
    assert_int_equal(DECODE(8, 0x66, 0xc5, 0xf8, 0x58, 0xc1), DECODE_INVALID);
    assert_int_equal(DECODE(8, 0x48, 0xc5, 0xf8, 0x58, 0xc1), DECODE_INVALID);
    assert_int_equal(DECODE(8, 0x0f, 0x20, 0xc8), DECODE_INVALID);  /* cr1 */
    assert_int_equal(DECODE(8, 0x44, 0x0f, 0x20, 0xc0), DECODE_OK); /* cr8 */
    assert_int_equal(insn.reg, 8);
    assert_int_equal(DECODE(8, 0x44, 0x0f, 0x21, 0xc0), DECODE_INVALID); /* dr8 */
    assert_int_equal(DECODE(8, 0x8e, 0xc8), DECODE_INVALID);             /* mov cs, eax */
    assert_int_equal(DECODE(8, 0xf3, 0x0f, 0x1e, 0xfa), DECODE_OK);      /* endbr64 */
    assert_int_equal(insn.op, OP_NOP);
    assert_int_equal(DECODE(8, 0x0f, 0x0f, 0xc0, 0xb4), DECODE_INVALID); /* 3DNow! */
}

/* Every cut of an instruction is truncated, and says nothing about bytes that it may not read. */
static void test_truncation(void **state)
{
    static const u8 long_mov[] = {0x64, 0x67, 0x66, 0x4c, 0xc7, 0x84, 0x8c, 1, 2, 3, 4, 5, 6, 7, 8};
    static const u8 vex[] = {0xc4, 0xe3, 0x6d, 0x4a, 0x84, 0x88, 1, 2, 3, 4, 0x50};

    for (unsigned i = 0; i < sizeof(long_mov); i++)
        assert_int_equal(decode(long_mov, i, 8, &insn), DECODE_TRUNCATED);
    assert_int_equal(DECODE(8, 0x64, 0x67, 0x66, 0x48, 0xc7, 0x84, 0x8c, 1, 2, 3, 4, 5, 6, 7, 8),
                     DECODE_OK);
    assert_int_equal(insn.length, 15);
    for (unsigned i = 0; i < sizeof(vex); i++)
        assert_int_equal(decode(vex, i, 8, &insn), DECODE_TRUNCATED);
    assert_int_equal(decode(vex, sizeof(vex), 8, &insn), DECODE_OK);
    assert_int_equal(insn.length, sizeof(vex));
}

static void test_table(void **state)
{
    const struct insn_desc *none = &insn_descs[0];

    assert_int_equal(none->op, OP_INVALID);
    for (unsigned i = 1; i < insn_desc_count; i++) {
        const struct insn_desc *d = &insn_descs[i];
        assert_true(d->op > OP_INVALID && d->op < OP_COUNT);
        assert_true(d->operand_count <= 4 && d->feature < FEATURE_COUNT);
        assert_true(d->memory == 0xff || d->memory < d->operand_count);
        assert_int_equal(d->flags_cleared & ~d->flags_written, 0);
        assert_int_equal(d->flags_set & ~d->flags_written, 0);
        assert_int_equal(d->flags_written & d->flags_undefined, 0);
        assert_int_equal(d->flags_written & d->flags_maybe, 0);
        for (unsigned k = 0; k < 4; k++)
            assert_true((d->operand[k].kind != OPERAND_NONE) == (k < d->operand_count));
        assert_string_not_equal(insn_feature_name((enum insn_feature)d->feature), "?");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_validity), cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
