/*
 * dbt/interp/string_test.c - tests of string instructions with ports, devices, faults and
 * interrupts in their middle, and of fetches that fault.
 */
#include "dbt/interp/interp_test.h"

static int setup(void **state)
{
    *state = test_guest_new();
    test_long_mode(*state);
    return 0;
}

static int teardown(void **state)
{
    test_guest_free(*state);
    return 0;
}

static void page_set(struct test_guest *guest, gva_t gva, u64 entry)
{
    test_put(guest, TEST_TABLES + 0x3000 + (gva >> 12) * 8, entry);
}

static void outs_asks_for_each_element(void **state)
{
    struct test_guest *guest = *state;
    test_code(guest, TEST_BYTES(0xf3, 0x6e));
    memcpy(guest->ram + TEST_DATA, "abc", 3);
    guest->state.gpr[X86_RSI] = TEST_DATA;
    guest->state.gpr[X86_RCX] = 3;
    guest->state.gpr[X86_RDX] = 0x402;
    test_start(guest);
    for (unsigned i = 0; i < 3; i++) {
        test_run(guest, EXIT_PORT_WRITE);
        assert_int_equal(guest->cpu.exit.address, 0x402);
        assert_int_equal(guest->cpu.exit.value, 'a' + i);
        assert_int_equal(guest->state.gpr[X86_RCX], 3 - i);
    }
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RCX], 0);
    assert_int_equal(guest->state.gpr[X86_RSI], TEST_DATA + 3);
}

static void ins_faults_before_it_asks(void **state)
{
    struct test_guest *guest = *state;
    test_code(guest, TEST_BYTES(0xf3, 0x66, 0x6d)); /* rep insw */
    page_set(guest, TEST_DATA + 0x1000, 0);
    guest->state.gpr[X86_RDI] = TEST_DATA + 0xffe;
    guest->state.gpr[X86_RCX] = 2;
    guest->state.gpr[X86_RDX] = 0x1f0;
    test_start(guest);
    test_run(guest, EXIT_PORT_READ);
    assert_int_equal(guest->cpu.exit.bytes, 2);
    guest->cpu.exit.value = 0x1234;
    test_run(guest, EXIT_HLT); /* no second read: its target is not there */
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.cr2, TEST_DATA + 0x1000);
    assert_int_equal(guest->state.gpr[X86_RCX], 1);
    assert_int_equal(test_get(guest, TEST_DATA + 0xffe) & 0xffff, 0x1234);
}

static void movs_between_devices(void **state)
{
    struct test_guest *guest = *state;
    test_code(guest, TEST_BYTES(0xf3, 0xa5)); /* rep movsd */
    page_set(guest, 0x100000, 0xfe000000 | 7);
    page_set(guest, 0x101000, 0xfe001000 | 7);
    guest->state.gpr[X86_RSI] = 0x100010;
    guest->state.gpr[X86_RDI] = 0x101020;
    guest->state.gpr[X86_RCX] = 2;
    test_start(guest);
    for (unsigned i = 0; i < 2; i++) {
        test_run(guest, EXIT_MMIO_READ);
        assert_int_equal(guest->cpu.exit.address, 0xfe000010 + i * 4);
        guest->cpu.exit.value = 0x1000 + i;
        test_run(guest, EXIT_MMIO_WRITE);
        assert_int_equal(guest->cpu.exit.address, 0xfe001020 + i * 4);
        assert_int_equal(guest->cpu.exit.value, 0x1000 + i);
    }
    test_run(guest, EXIT_HLT);
}

static bool irq_pending(void *ctx)
{
    return *(int *)ctx != 0;
}

static int irq_ack(void *ctx)
{
    *(int *)ctx = 0;
    return 0x50;
}

static void interrupts_come_in_between(void **state)
{
    struct test_guest *guest = *state;
    int pending = 1;
    /* rep stosb of more than one slice, with an address size whose count wraps late */
    test_code(guest, TEST_BYTES(0xfb, 0xf3, 0xaa));
    guest->cpu.irq.pending = irq_pending;
    guest->cpu.irq.ack = irq_ack;
    guest->cpu.irq.ctx = &pending;
    guest->state.gpr[X86_RAX] = 0x5a;
    guest->state.gpr[X86_RDI] = 0x100000;
    guest->state.gpr[X86_RCX] = 0x80000;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), 0x50);
    u64 left = guest->state.gpr[X86_RCX];
    assert_true(left > 0 && left < 0x80000);
    assert_int_equal(guest->state.gpr[X86_RDI], 0x100000 + 0x80000 - left);
    /* The saved RIP is the instruction's own: it resumes. */
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 1);
    guest->state.gpr[X86_RSP] = TEST_STACK;
    guest->state.rflags = X86_FLAG_FIXED;
    test_restart(guest, TEST_CODE + 1);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RCX], 0);
    for (unsigned i = 0; i < 0x80000; i++)
        assert_int_equal(guest->ram[0x100000 + i], 0x5a);
}

static void overlapping_moves_repeat(void **state)
{
    struct test_guest *guest = *state;
    test_code(guest, TEST_BYTES(0xf3, 0xa4));
    memcpy(guest->ram + TEST_DATA, "xy", 2);
    guest->state.gpr[X86_RSI] = TEST_DATA;
    guest->state.gpr[X86_RDI] = TEST_DATA + 2;
    guest->state.gpr[X86_RCX] = 0x1800;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    for (unsigned i = 0; i < 0x1802; i++)
        assert_int_equal(guest->ram[TEST_DATA + i], i % 2 ? 'y' : 'x');
}

static void moves_over_code_are_noticed(void **state)
{
    struct test_guest *guest = *state;
    /* rep movsb puts a new immediate into the instruction that follows: mov al, 1 */
    test_code(guest, TEST_BYTES(0xf3, 0xa4, 0xb0, 1));
    guest->ram[TEST_DATA] = 0xb0;
    guest->ram[TEST_DATA + 1] = 9;
    guest->state.gpr[X86_RSI] = TEST_DATA;
    guest->state.gpr[X86_RDI] = TEST_CODE + 2;
    guest->state.gpr[X86_RCX] = 2;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 9);
}

static void fetch_faults(void **state)
{
    struct test_guest *guest = *state;
    /* An instruction that begins on a page and ends on one that is not there. */
    page_set(guest, TEST_CODE + 0x1000, 0);
    memcpy(guest->ram + TEST_CODE + 0xffe, "\xb8\x01", 2);
    guest->state.rip = TEST_CODE + 0xffe;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.cr2, TEST_CODE + 0x1000);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), X86_PF_I);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP] + 8), TEST_CODE + 0xffe);
    /* A page that must not be executed. */
    page_set(guest, TEST_DATA, TEST_DATA | 7 | 1ull << 63);
    guest->state.gpr[X86_RSP] = TEST_STACK;
    test_restart(guest, TEST_DATA);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), X86_PF_I | X86_PF_P);
}

static void nmi_is_taken_once(void **state)
{
    struct test_guest *guest = *state;
    test_code(guest, TEST_BYTES(0x90, 0x90));
    test_start(guest);
    cpu_request(&guest->cpu, ATTENTION_NMI);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NMI);
    assert_true(guest->state.nmi_blocked);
    cpu_request(&guest->cpu, ATTENTION_NMI);
    test_run(guest, EXIT_HLT); /* blocked until IRET */
    assert_true(guest->state.nmi_pending);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(outs_asks_for_each_element),
        TEST(ins_faults_before_it_asks),
        TEST(movs_between_devices),
        TEST(interrupts_come_in_between),
        TEST(overlapping_moves_repeat),
        TEST(moves_over_code_are_noticed),
        TEST(fetch_faults),
        TEST(nmi_is_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
