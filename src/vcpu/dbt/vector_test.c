/*
 * vcpu/dbt/vector_test.c - vector and x87 instructions in the running engine: with its MMU, its
 * devices, its exceptions and its interrupts, where dbt/simd's own tests have toys.
 */
#include "base/bits.h"
#include "dbt/interp/interp_test.h"
#include "vcpu/dbt/trap.h"

enum { XMM0 = 160, XMM1 = 176, YMM0 = 576, ST0 = 32, FSW = 2, MXCSR = 24 };
enum { DEVICE = 0x100000, ABSENT = 0x101000 };

static int setup(void **state)
{
    struct test_guest *guest = test_guest_new();

    test_long_mode(guest);
    guest->state.cr4 |= X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    guest->state.xcr0 = 7;
    guest->state.gpr[X86_RBX] = TEST_DATA;
    test_put(guest, TEST_TABLES + 0x3000 + (DEVICE >> 12) * 8, 0xfee00000 | 7);
    test_put(guest, TEST_TABLES + 0x3000 + (ABSENT >> 12) * 8, 0);
    *state = guest;
    return trap_thread_begin(&guest->cpu, NULL);
}

static int teardown(void **state)
{
    trap_thread_end();
    test_guest_free(*state);
    return 0;
}

static void put_double(struct test_guest *guest, gpa_t gpa, double value)
{
    memcpy(guest->ram + gpa, &value, sizeof(value));
}

static void test_loop_sums(void **state)
{
    struct test_guest *guest = *state;
    double sum;

    for (unsigned i = 0; i < 1000; i++)
        put_double(guest, TEST_DATA + 8 * i, i + 0.25);
    /* xorps xmm0,xmm0; loop: addsd xmm0,[rbx]; add rbx,8; dec ecx; jnz loop */
    test_code(guest, TEST_BYTES(0x0f, 0x57, 0xc0, 0xf2, 0x0f, 0x58, 0x03, 0x48, 0x83, 0xc3, 0x08,
                                0xff, 0xc9, 0x75, 0xf4));
    guest->state.gpr[X86_RCX] = 1000;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    memcpy(&sum, guest->state.xsave + XMM0, sizeof(sum));
    assert_true(sum == 999 * 500 + 250);
}

/* The flags of UCOMISD, PTEST and FCOMI reach the branches that follow. */
static void test_flags_flow(void **state)
{
    struct test_guest *guest = *state;

    put_double(guest, TEST_DATA, 2.5);
    /* movsd xmm0,[rbx]; xorps xmm1,xmm1; xor eax,eax; ucomisd xmm0,xmm1; seta al;
     * ptest xmm1,xmm1; setz ah; fninit; fld1; fldz; fcomi st0,st1; adc eax,0x10000 */
    test_code(guest,
              TEST_BYTES(0xf2, 0x0f, 0x10, 0x03, 0x0f, 0x57, 0xc9, 0x31, 0xc0, 0x66, 0x0f, 0x2e,
                         0xc1, 0x0f, 0x97, 0xc0, 0x66, 0x0f, 0x38, 0x17, 0xc9, 0x0f, 0x94, 0xc4,
                         0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xee, 0xdb, 0xf1, 0x15, 0, 0, 1, 0));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 0x10102);
}

/* A callback of the machine may use vector registers; the guest must not see it. */
static bool irq_pending(void *ctx)
{
    __asm__ volatile("pxor %%xmm0, %%xmm0; ldmxcsr %0" : : "m"((u32){0x1f80}) : "xmm0");
    return *(int *)ctx != 0;
}

static int irq_ack(void *ctx)
{
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0" : : : "xmm0");
    *(int *)ctx = 0;
    return 0x41;
}

static void test_interrupt_keeps_registers(void **state)
{
    struct test_guest *guest = *state;
    int pending = 1;

    test_put(guest, TEST_DATA, 0x1122334455667788);
    test_put(guest, TEST_DATA + 8, 0x7fa0);
    /* movsd xmm0,[rbx]; ldmxcsr [rbx+8]; sti; nop; nop: the interrupt comes after the shadow */
    test_code(guest, TEST_BYTES(0xf2, 0x0f, 0x10, 0x03, 0x0f, 0xae, 0x53, 0x08, 0xfb, 0x90, 0x90));
    guest->cpu.irq.pending = irq_pending;
    guest->cpu.irq.ack = irq_ack;
    guest->cpu.irq.ctx = &pending;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), 0x41);
    assert_int_equal(load_le64(guest->state.xsave + XMM0), 0x1122334455667788);
    assert_int_equal(load_le32(guest->state.xsave + MXCSR), 0x7fa0);
}

/* Other code where some has run, as a device would write it. */
static void replace_code(struct test_guest *guest, const void *code, size_t bytes)
{
    assert_int_equal(mem_write(&guest->mem, TEST_CODE, code, bytes), 0);
    assert_int_equal(mem_write(&guest->mem, TEST_CODE + bytes, "\xf4", 1), 0);
}

static void test_exceptions(void **state)
{
    struct test_guest *guest = *state;

    assert_int_equal(trap_install(NULL),
                     0); /* not before: cmocka catches SIGFPE around each test */
    /* movups [rbx-8],xmm0 into an absent second page: nothing is written */
    test_code(guest, TEST_BYTES(0x0f, 0x11, 0x43, 0xf8));
    guest->state.gpr[X86_RBX] = ABSENT;
    test_put(guest, TEST_TABLES + 0x3000 + (DEVICE >> 12) * 8, (ABSENT - 0x1000) | 7);
    memset(guest->ram + ABSENT - 8, 0x77, 8);
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.cr2, ABSENT);
    assert_int_equal(test_get(guest, ABSENT - 8), 0x7777777777777777);
    /* #NM with CR0.TS */
    guest->state.cr0 |= X86_CR0_TS;
    guest->state.gpr[X86_RBX] = TEST_DATA;
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NM);
    guest->state.cr0 &= ~(u64)X86_CR0_TS;
    /* ldmxcsr [rbx] (all unmasked); xorps xmm0,xmm0; divsd xmm0,xmm0: invalid */
    store_le32(guest->ram + TEST_DATA, 0);
    replace_code(guest, TEST_BYTES(0x0f, 0xae, 0x13, 0x0f, 0x57, 0xc0, 0xf2, 0x0f, 0x5e, 0xc0));
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_XM);
    assert_int_equal(load_le32(guest->state.xsave + MXCSR), 1);
    /* fninit; fldcw [rbx] (all unmasked); fldz; fdiv st0,st0; nop; fwait */
    store_le16(guest->ram + TEST_DATA, 0x340);
    replace_code(guest, TEST_BYTES(0xdb, 0xe3, 0xd9, 0x2b, 0xd9, 0xee, 0xd8, 0xf0, 0x90, 0x9b));
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_MF);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 9);
}

/* fstp qword to a device: one write of eight bytes, one pop, although the instruction runs twice.
 */
static void test_device_store(void **state)
{
    struct test_guest *guest = *state;

    /* fninit; fld1; fldpi; fstp qword [rbx+8]; movq xmm0,[rbx+16]; movups xmm1,[rbx+32] */
    test_code(guest, TEST_BYTES(0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xeb, 0xdd, 0x5b, 0x08, 0xf3, 0x0f,
                                0x7e, 0x43, 0x10, 0x0f, 0x10, 0x4b, 0x20));
    guest->state.gpr[X86_RBX] = DEVICE;
    test_start(guest);
    test_run(guest, EXIT_MMIO_WRITE);
    assert_int_equal(guest->cpu.exit.address, 0xfee00008);
    assert_int_equal(guest->cpu.exit.bytes, 8);
    assert_int_equal(guest->cpu.exit.value, 0x400921fb54442d18);
    test_run(guest, EXIT_MMIO_READ);
    assert_int_equal(guest->cpu.exit.address, 0xfee00010);
    guest->cpu.exit.value = 0x123456789;
    for (unsigned i = 0; i < 2; i++) {
        test_run(guest, EXIT_MMIO_READ);
        assert_int_equal(guest->cpu.exit.address, 0xfee00020 + 8 * i);
        assert_int_equal(guest->cpu.exit.bytes, 8);
        guest->cpu.exit.value = 1000 + i;
    }
    test_run(guest, EXIT_HLT);
    assert_int_equal(load_le16(guest->state.xsave + FSW) >> 11 & 7, 7); /* one is left */
    assert_int_equal(load_le64(guest->state.xsave + ST0), 1ull << 63);
    assert_int_equal(load_le64(guest->state.xsave + XMM0), 0x123456789);
    assert_int_equal(load_le64(guest->state.xsave + XMM1), 1000);
    assert_int_equal(load_le64(guest->state.xsave + XMM1 + 8), 1001);
}

/* What XSAVE writes another program can XRSTOR, upper halves included. */
static void test_xsave_xrstor(void **state)
{
    struct test_guest *guest = *state;

    for (unsigned i = 0; i < 32; i += 8)
        test_put(guest, TEST_DATA + i, 0x0101010101010101 * (i + 1));
    /* vmovdqu ymm0,[rbx]; mov eax,7; xor edx,edx; xsave [rbx+0x40]; vzeroall; xrstor [rbx+0x40] */
    test_code(guest, TEST_BYTES(0xc5, 0xfe, 0x6f, 0x03, 0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae,
                                0x63, 0x40, 0xc5, 0xfc, 0x77, 0x0f, 0xae, 0x6b, 0x40));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), -1);
    assert_memory_equal(guest->state.xsave + XMM0, guest->ram + TEST_DATA, 16);
    assert_memory_equal(guest->state.xsave + YMM0, guest->ram + TEST_DATA + 16, 16);
}

/* MOVUPS over the code that follows it: the new code runs. */
static void test_store_into_code(void **state)
{
    struct test_guest *guest = *state;

    /* movups xmm0,[rbx]; lea rcx,[rip+4]; movups [rcx],xmm0; nop: here is mov al,1; hlt */
    test_code(guest, TEST_BYTES(0x0f, 0x10, 0x03, 0x48, 0x8d, 0x0d, 4, 0, 0, 0, 0x0f, 0x11, 0x01,
                                0x90, 0xb0, 1, 0xf4));
    memcpy(guest->ram + TEST_DATA, "\xb0\x09\xf4", 3);
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 9);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_loop_sums),       TEST(test_flags_flow),   TEST(test_interrupt_keeps_registers),
        TEST(test_exceptions),      TEST(test_device_store), TEST(test_xsave_xrstor),
        TEST(test_store_into_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
