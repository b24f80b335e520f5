/*
 * dbt/simd/table_test.c - every vector and x87 form of the decoder's table, run by simd and by the
 * host on the same random state, must leave the same state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "dbt/simd/rig_test.h"

enum { ROUNDS = 120 };

/* One instruction: memory at [rbx] (gathers: [rbx + vector * scale]), registers at random. */
struct form {
    u8 bytes[16];
    unsigned count;
    unsigned reg, rm, vvvv;
    bool memory, wide;
};

static void form_byte(struct form *form, unsigned byte)
{
    form->bytes[form->count++] = (u8)byte;
}

/* A register number that the current mode has, never that of RSP, which the rig does not exchange.
 */
static unsigned random_reg(void)
{
    unsigned reg = rig_random() & (rig_cpu->code_bytes == 8 ? 15 : 7);
    return reg == X86_RSP ? X86_RSI : reg;
}

static unsigned form_prefix_pp(const struct insn_desc *desc)
{
    switch (desc->pattern.prefix) {
    case PREFIX_66:
        return 1;
    case PREFIX_F3:
        return 2;
    case PREFIX_F2:
        return 3;
    default:
        return 0;
    }
}

static void form_make_opcode(struct form *form, const struct insn_desc *desc)
{
    const struct insn_pattern *pattern = &desc->pattern;
    unsigned pp = form_prefix_pp(desc);
    bool long_mode = rig_cpu->code_bytes == 8;
    unsigned w = pattern->w == PATTERN_ANY ? long_mode && rig_random() % 2 : pattern->w;
    unsigned l = pattern->l == PATTERN_ANY ? rig_random() & 1 : pattern->l;
    unsigned rex = w << 3 | (form->reg >> 3) << 2 | (form->memory ? 0 : form->rm >> 3);
    bool vsib = (desc->attr & ATTR_VSIB) != 0;

    if (vsib)
        rex |= (form->rm >> 3) << 1;
    if (pattern->vex) {
        form_byte(form, 0xc4);
        form_byte(form, (~rex & 7) << 5 | pattern->map);
        form_byte(form, w << 7 | (~form->vvvv & 15) << 3 | l << 2 | pp);
    } else {
        if (pp != 0)
            form_byte(form, (unsigned[]){0, 0x66, 0xf3, 0xf2}[pp]);
        if (rex != 0 && pattern->map != 0)
            form_byte(form, 0x40 | rex);
        if (pattern->map != 0)
            form_byte(form, 0x0f);
        if (pattern->map > 1)
            form_byte(form, pattern->map == 2 ? 0x38 : 0x3a);
    }
    form_byte(form, pattern->opcode + rig_random() % pattern->opcode_count);
    if ((desc->attr & ATTR_MODRM) == 0)
        return;
    unsigned modrm = (form->reg & 7) << 3;
    if (!form->memory)
        form_byte(form, modrm | 0xc0 | (form->rm & 7));
    else if (!vsib)
        form_byte(form, modrm | X86_RBX);
    else {
        form_byte(form, modrm | 4);
        form_byte(form, (rig_random() & 3) << 6 | (form->rm & 7) << 3 | X86_RBX);
    }
}

static bool desc_uses(const struct insn_desc *desc, enum operand_kind kind)
{
    for (unsigned i = 0; i < desc->operand_count; i++) {
        if (desc->operand[i].kind == kind)
            return true;
    }
    return false;
}

static void form_make(struct form *form, const struct insn_desc *desc)
{
    const struct insn_pattern *pattern = &desc->pattern;

    memset(form, 0, sizeof(*form));
    form->memory = pattern->mod == MOD_MEMORY || (pattern->mod == MOD_ANY && rig_random() % 2 == 0);
    form->memory = form->memory && desc->memory != 0xff;
    form->reg = pattern->reg == PATTERN_ANY ? random_reg() : pattern->reg;
    form->rm = pattern->rm == PATTERN_ANY ? random_reg() : pattern->rm;
    if (desc_uses(desc, OPERAND_STI) && pattern->rm == PATTERN_ANY)
        form->rm = rig_random() & 7;
    form->vvvv = desc_uses(desc, OPERAND_H) || desc_uses(desc, OPERAND_B) ? random_reg() : 0;
    if (desc->op == OP_GATHER) { /* three registers, all different */
        unsigned last = rig_cpu->code_bytes == 8 ? 15 : 7;
        form->rm = (form->reg + 1 + rig_random() % (last / 2)) & last;
        form->vvvv = (form->reg + last / 2 + 1 + rig_random() % (last / 2)) & last;
    }
    form_make_opcode(form, desc);
    /* The top bit of a register number in an immediate counts only in 64-bit mode. */
    bool cut = rig_cpu->code_bytes != 8 && desc_uses(desc, OPERAND_L);
    if (desc->imm_form != IMM_NONE)
        form_byte(form, rig_random() & (cut ? 0x7f : 0xff));
}

/* Gathers need an index that stays near; the table's other forms take any. */
static void limit_index(const struct form *form, const struct insn_desc *desc,
                        struct rig_regs *regs)
{
    unsigned step = (desc->pattern.opcode & 1) ? 8 : 4;

    for (unsigned i = 0; i < 16; i += step) {
        u8 *low = regs->xsave + IMAGE_XMM + 16 * form->rm + i;
        u8 *high = regs->xsave + IMAGE_YMM + 16 * form->rm + i;
        memset(low, 0, step);
        memset(high, 0, step);
        low[0] = rig_random() & 0x7f;
        high[0] = rig_random() & 0x7f;
    }
}

/* What may differ: the host's last-instruction registers are its own. */
static void image_normalize(u8 *image)
{
    memset(image + IMAGE_FOP, 0, IMAGE_MXCSR - IMAGE_FOP);
    memset(image + IMAGE_MXCSR_MASK, 0, 4);
    memset(image + IMAGE_LEGACY_END, 0, IMAGE_YMM - IMAGE_LEGACY_END);
    for (unsigned i = 0; i < 8; i++)
        memset(image + IMAGE_ST + 16 * i + 10, 0, 6);
}

static void report(const struct insn_desc *desc, const struct form *form,
                   const struct rig_regs *before, const struct rig_regs *native,
                   const struct rig_regs *simd)
{
    printf("%s%s:", desc->mnemonic, form->memory ? " (memory)" : "");
    for (unsigned i = 0; i < form->count; i++)
        printf(" %02x", form->bytes[i]);
    printf("\n  trap: host %u, simd %u; flags %llx: host %llx, simd %llx\n", native->trap,
           simd->trap, (unsigned long long)before->rflags, (unsigned long long)native->rflags,
           (unsigned long long)simd->rflags);
    for (unsigned i = 0; i < sizeof(native->xsave); i++) {
        if (native->xsave[i] != simd->xsave[i])
            printf("  image byte %u: was %02x, host %02x, simd %02x\n", i, before->xsave[i],
                   native->xsave[i], simd->xsave[i]);
    }
    for (unsigned i = 0; i < X86_GPR_COUNT; i++) {
        if (native->gpr[i] != simd->gpr[i])
            printf("  gpr %u: host %llx, simd %llx\n", i, (unsigned long long)native->gpr[i],
                   (unsigned long long)simd->gpr[i]);
    }
}

/* Runs one form both ways, at OFFSET in the toy memory. False when they differ. */
static bool form_agrees(const struct insn_desc *desc, const struct form *form, u64 offset,
                        bool unmasked)
{
    static u8 before_memory[RIG_ABSENT], native_memory[RIG_ABSENT];
    struct rig_regs before, native, simd;

    rig_randomize(&before, unmasked);
    for (unsigned i = 0; i < 256 && offset - 64 + i + 8 <= RIG_ABSENT; i += 8)
        store_le64(rig_memory + offset - 64 + i, before.gpr[rig_random() & 15] ^ rig_random() % 3);
    if (desc->op == OP_LDMXCSR && offset + 4 <= RIG_ABSENT && rig_random() % 8 != 0)
        store_le32(rig_memory + offset, rig_random() & 0xffff);
    before.gpr[X86_RBX] = (u64)(uintptr_t)rig_memory + offset;
    before.gpr[X86_RDI] = before.gpr[X86_RBX];
    if (desc->op == OP_GATHER)
        limit_index(form, desc, &before);
    memcpy(before_memory, rig_memory, RIG_ABSENT);
    native = before;
    rig_native(form->bytes, form->count, &native);
    memcpy(native_memory, rig_memory, RIG_ABSENT);
    memcpy(rig_memory, before_memory, RIG_ABSENT);
    simd = before;
    rig_simd(form->bytes, form->count, &simd);

    image_normalize(native.xsave);
    image_normalize(simd.xsave);
    native.rflags &= X86_ARITH_FLAGS;
    simd.rflags &= X86_ARITH_FLAGS;
    bool same = native.trap == simd.trap && native.rflags == simd.rflags &&
                memcmp(native.xsave, simd.xsave, sizeof(native.xsave)) == 0 &&
                memcmp(native.gpr, simd.gpr, sizeof(native.gpr)) == 0 &&
                memcmp(native_memory, rig_memory, RIG_ABSENT) == 0;
    if (!same) {
        report(desc, form, &before, &native, &simd);
        if (memcmp(native_memory, rig_memory, RIG_ABSENT) != 0)
            printf("  memory differs\n");
    }
    return same;
}

static bool desc_uses_size(const struct insn_desc *desc, enum operand_size size)
{
    for (unsigned i = 0; i < desc->operand_count; i++) {
        if (desc->operand[i].size == size)
            return true;
    }
    return false;
}

/* State images are image_test.c's. */
static bool desc_is_tested(const struct insn_desc *desc)
{
    switch (desc->op) {
    case OP_FLDENV:
    case OP_FSTENV:
    case OP_FRSTOR:
    case OP_FSAVE:
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_XSAVE:
    case OP_XSAVEC:
    case OP_XSAVEOPT:
    case OP_XSAVES:
    case OP_XRSTOR:
    case OP_XRSTORS:
        return false;
    default:
        break;
    }
    if (desc->op < OP_X87 || (desc->attr & ATTR_NO64) != 0)
        return false;
    if (rig_cpu->code_bytes == 8)
        return true;
    /* What has the same bytes and means the same in both: no W in the legacy form, no VZEROxxx. */
    return (desc->attr & ATTR_ONLY64) == 0 && desc->op != OP_VZEROUPPER &&
           (desc->pattern.vex != 0 || desc->pattern.w != 1) &&
           !(desc_uses_size(desc, SIZE_Y) && desc->pattern.w == 1);
}

static void test_table(bool unmasked, u64 (*place)(const struct insn_desc *desc))
{
    unsigned tested = 0, failed = 0;

    rig_catch_traps();
    for (unsigned i = 0; i < insn_desc_count; i++) {
        const struct insn_desc *desc = &insn_descs[i];
        if (!desc_is_tested(desc))
            continue;
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct form form;
            form_make(&form, desc);
            if (!form_agrees(desc, &form, place(desc), unmasked)) {
                failed++;
                break;
            }
        }
        tested++;
    }
    printf("%u descriptors, %u failed\n", tested, failed);
    assert_true(tested > 900);
    assert_int_equal(failed, 0);
}

/* Mostly aligned, so that aligned forms get somewhere; else anywhere in the first page. */
static u64 place_in_page(const struct insn_desc *desc)
{
    u64 offset = 128 + rig_random() % 2048;
    return rig_random() % 4 != 0 ? offset & ~31ull : offset;
}

static void test_masked(void **state)
{
    test_table(false, place_in_page);
}

static void test_unmasked(void **state)
{
    test_table(true, place_in_page);
}

/* Over the boundary of the two plain pages. */
static u64 place_across(const struct insn_desc *desc)
{
    return RIG_PAGE - rig_random() % 32;
}

static void test_across_pages(void **state)
{
    test_table(false, place_across);
    test_table(true, place_across);
}

/* On the page without host pointer, where each access leaves to the machine and starts over. */
static u64 place_device(const struct insn_desc *desc)
{
    rig_device_exits = 100;
    return RIG_DEVICE + 128 + ((rig_random() % 1024) & ~31ull);
}

static void test_device(void **state)
{
    test_table(false, place_device);
    test_table(true, place_device);
    rig_device_exits = 0;
}

/* Before and over the edge of the absent page: the same faults, and nothing half done. */
static u64 place_at_edge(const struct insn_desc *desc)
{
    /* Hosts may touch the x87 state before MASKMOVQ's fault, and need not fault for bytes masked
     * off. */
    if (desc->op == OP_MASKMOV)
        return 128;
    return RIG_ABSENT - rig_random() % 48;
}

static void test_absent_page(void **state)
{
    test_table(false, place_at_edge);
    test_table(true, place_at_edge);
}

/* With EFLAGS.AC. */
static void test_alignment_checked(void **state)
{
    rig_checks_alignment = true;
    test_table(false, place_in_page);
    test_table(true, place_at_edge);
    rig_checks_alignment = false;
}

/* The same code in 32-bit mode. */
static void test_legacy_mode(void **state)
{
    rig_cpu->code_bytes = 4;
    test_table(false, place_in_page);
    test_table(true, place_across);
    rig_cpu->code_bytes = 8;
}

/* Outside 64-bit mode W does not widen general registers, and the fourth bit of a register number
 * in an immediate is ignored. */
static void test_legacy_fields(void **state)
{
    static const struct {
        const char *legacy, *native; /* the second means in 64-bit mode what the first does here */
        unsigned count;
    } pairs[] = {
        {"\xc4\xe1\xf9\x7e\xc1", "\xc4\xe1\x79\x7e\xc1", 5},         /* vmovd ecx, xmm0 */
        {"\xc4\xe1\xfb\x2c\xc1", "\xc4\xe1\x7b\x2c\xc1", 5},         /* vcvttsd2si */
        {"\xc4\xe3\xf9\x16\xc1\x01", "\xc4\xe3\x79\x16\xc1\x01", 6}, /* vpextrd */
        {"\xc4\xe3\x71\x4a\xc2\xb0", "\xc4\xe3\x71\x4a\xc2\x30", 6}, /* vblendvps is4 */
        {"\xc4\xe1\x31\x58\xc2", "\xc4\xe1\x71\x58\xc2", 5},         /* vvvv's top bit */
    };

    rig_catch_traps();
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        struct rig_regs native, simd;
        rig_randomize(&native, false);
        simd = native;
        rig_native((const u8 *)pairs[i].native, pairs[i].count, &native);
        rig_cpu->code_bytes = 4;
        rig_simd((const u8 *)pairs[i].legacy, pairs[i].count, &simd);
        rig_cpu->code_bytes = 8;
        assert_int_equal(native.trap, simd.trap);
        assert_memory_equal(native.gpr, simd.gpr, sizeof(native.gpr));
        assert_memory_equal(native.xsave + IMAGE_XMM, simd.xsave + IMAGE_XMM, 256);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked),       cmocka_unit_test(test_unmasked),
        cmocka_unit_test(test_across_pages), cmocka_unit_test(test_device),
        cmocka_unit_test(test_absent_page),  cmocka_unit_test(test_alignment_checked),
        cmocka_unit_test(test_legacy_mode),  cmocka_unit_test(test_legacy_fields),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
