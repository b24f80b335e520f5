/*
 * dbt/interp/run_test.c - tests of the run loop: modes, exits, exceptions, interrupts, changed
 * code.
 */
#include "dbt/interp/interp_test.h"

static int setup(void **state)
{
    *state = test_guest_new();
    return 0;
}

static int teardown(void **state)
{
    test_guest_free(*state);
    return 0;
}

static void real_mode_runs(void **state)
{
    struct test_guest *guest = *state;
    /* mov ax, 0x1234; mov ds, ax; mov [2], ax; hlt at 0x1000:0 */
    memcpy(guest->ram + TEST_CODE, "\xb8\x34\x12\x8e\xd8\xa3\x02\x00\xf4", 9);
    guest->state.seg[X86_CS].base = TEST_CODE;
    guest->state.seg[X86_CS].selector = TEST_CODE >> 4;
    guest->state.rip = 0;
    guest->state.activity = X86_ACTIVE;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.rip, 9);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xffff, 0x1234);
    assert_int_equal(test_get(guest, 0x12340 + 2) & 0xffff, 0x1234);
}

static void long_mode_loop(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov ecx, 1000; xor eax, eax; l: add rax, rcx; dec rcx; jnz l */
    test_code(guest, TEST_BYTES(0xb9, 0xe8, 3, 0, 0, 0x31, 0xc0, 0x48, 0x01, 0xc8, 0x48, 0xff, 0xc9,
                                0x75, 0xf8));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 500500);
    assert_int_equal(guest->state.gpr[X86_RCX], 0);
    assert_true(guest->state.rflags & X86_ZF);
    assert_int_equal(guest->cpu.counters.instructions, 2 + 3000 + 1);
}

static void port_exits_and_resumes(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov edx, 0x3f8; mov al, 0x55; out dx, al; in eax, dx */
    test_code(guest, TEST_BYTES(0xba, 0xf8, 3, 0, 0, 0xb0, 0x55, 0xee, 0xed));
    test_start(guest);
    test_run(guest, EXIT_PORT_WRITE);
    assert_int_equal(guest->cpu.exit.address, 0x3f8);
    assert_int_equal(guest->cpu.exit.bytes, 1);
    assert_int_equal(guest->cpu.exit.value, 0x55);
    test_run(guest, EXIT_PORT_READ);
    assert_int_equal(guest->cpu.exit.bytes, 4);
    guest->cpu.exit.value = 0x11223344;
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 0x11223344);
}

static void mmio_exits_and_resumes(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* One page at 1 MiB leads to a GPA without RAM. */
    test_put(guest, TEST_TABLES + 0x3000 + 256 * 8, 0xfee00000 | 7);
    /* mov rbx, 0x100010; add dword [rbx], 5: a read and a write of the device */
    test_code(guest, TEST_BYTES(0xbb, 0x10, 0, 0x10, 0, 0x83, 0x03, 0x05));
    test_start(guest);
    test_run(guest, EXIT_MMIO_READ);
    assert_int_equal(guest->cpu.exit.address, 0xfee00010);
    guest->cpu.exit.value = 37;
    test_run(guest, EXIT_MMIO_WRITE);
    assert_int_equal(guest->cpu.exit.address, 0xfee00010);
    assert_int_equal(guest->cpu.exit.bytes, 4);
    assert_int_equal(guest->cpu.exit.value, 42);
    test_run(guest, EXIT_HLT);
}

static void hypercalls_exit_and_resume(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* vmcall; vmmcall */
    test_code(guest, TEST_BYTES(0x0f, 0x01, 0xc1, 0x0f, 0x01, 0xd9));
    guest->state.gpr[X86_RAX] = 1ull << 40 | 10;
    guest->state.gpr[X86_RBX] = 1ull << 41 | 1;
    guest->state.gpr[X86_RCX] = 2;
    guest->state.gpr[X86_RDX] = 3;
    guest->state.gpr[X86_RSI] = 4;
    test_start(guest);
    test_run(guest, EXIT_HYPERCALL);
    assert_int_equal(guest->cpu.exit.address, 1ull << 40 | 10);
    assert_int_equal(guest->cpu.exit.bytes, 8);
    assert_int_equal(guest->cpu.exit.args[0], 1ull << 41 | 1);
    assert_int_equal(guest->cpu.exit.args[3], 4);
    guest->cpu.exit.value = 77;
    test_run(guest, EXIT_HYPERCALL);
    assert_int_equal(guest->cpu.exit.address, 77); /* the first one's answer */
    guest->cpu.exit.value = 78;
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 78);
    /* 32-bit code gives and gets 32 bits. */
    test_protected_mode(guest);
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HYPERCALL);
    assert_int_equal(guest->cpu.exit.address, 78);
    assert_int_equal(guest->cpu.exit.bytes, 4);
    assert_int_equal(guest->cpu.exit.args[0], 1);
}

static void hypercalls_of_programs_and_without_hypervisor(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* vmcall; out 0x80, al: a program that may use ports */
    test_code(guest, TEST_BYTES(0x0f, 0x01, 0xc1, 0xe6, 0x80));
    guest->state.seg[X86_CS].attr |= 0x60;
    guest->state.seg[X86_SS].attr |= 0x60;
    guest->state.seg[X86_CS].selector |= 3;
    guest->state.seg[X86_SS].selector |= 3;
    guest->state.rflags |= 3 << 12; /* IOPL */
    test_start(guest);
    test_run(guest, EXIT_PORT_WRITE);
    assert_int_equal(guest->state.gpr[X86_RAX], -1); /* EPERM */
    test_long_mode(guest);
    guest->cpuid.has_hypercalls = false;
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_UD);
}

/* A long wait in a loop leaves, but a short one, and one without other vCPUs, does not. */
static void long_waits_leave(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* pause; dec ecx; jnz */
    test_code(guest, TEST_BYTES(0xf3, 0x90, 0xff, 0xc9, 0x75, 0xfa));
    guest->state.gpr[X86_RCX] = 20000;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    guest->group.cpu_count = 2; /* the other one has not joined yet */
    guest->state.gpr[X86_RCX] = 4;
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    guest->state.gpr[X86_RCX] = 20000;
    test_restart(guest, TEST_CODE);
    unsigned spins = 0;
    for (cpu_run(&guest->cpu); guest->cpu.exit.kind == EXIT_SPIN; cpu_run(&guest->cpu))
        spins++;
    assert_int_equal(guest->cpu.exit.kind, EXIT_HLT);
    assert_in_range(spins, 2, 10000);
    cpu_get_state(&guest->cpu, &guest->state);
    assert_int_equal(guest->state.gpr[X86_RCX], 0);
}

/* ATTENTION_TLB: a page table entry changed in memory is seen from then on, and not before. */
static void tlb_is_dropped_on_request(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov rax, [TEST_DATA]; hlt; mov rax, [TEST_DATA]; hlt */
    test_code(guest, TEST_BYTES(0x48, 0x8b, 0x04, 0x25, 0, 0, 2, 0, 0xf4, 0x48, 0x8b, 0x04, 0x25, 0,
                                0, 2, 0));
    test_put(guest, TEST_DATA, 11);
    test_put(guest, TEST_DATA + 0x1000, 22);
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 11);
    test_put(guest, TEST_TABLES + 0x3000 + (TEST_DATA >> 12) * 8, (TEST_DATA + 0x1000) | 7);
    guest->cpu.activity = X86_ACTIVE;
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 11);
    cpu_request(&guest->cpu, ATTENTION_TLB);
    guest->cpu.rip = TEST_CODE;
    guest->cpu.activity = X86_ACTIVE;
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 22);
}

static void page_fault_is_delivered(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_put(guest, TEST_TABLES + 0x3000 + 257 * 8, 0);
    /* mov [0x101004], eax */
    test_code(guest, TEST_BYTES(0x89, 0x04, 0x25, 0x04, 0x10, 0x10, 0));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.cr2, 0x101004);
    u64 rsp = guest->state.gpr[X86_RSP];
    assert_int_equal(test_get(guest, rsp), X86_PF_W);
    assert_int_equal(test_get(guest, rsp + 8), TEST_CODE);
}

static void undefined_opcode_is_delivered(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x90, 0x0f, 0x0b));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_UD);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 1);
}

static void changed_code_is_seen(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov byte [rip+0], 7 changes the next instruction's immediate: mov al, 1 */
    test_code(guest, TEST_BYTES(0xc6, 0x05, 1, 0, 0, 0, 7, 0xb0, 1));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 7);
    /* A device changes it now. */
    u8 nine = 9;
    assert_int_equal(mem_write(&guest->mem, TEST_CODE + 1, "\x05\x01\0\0\0", 5), 0);
    assert_int_equal(mem_write(&guest->mem, TEST_CODE + 6, &nine, 1), 0);
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 9);
}

static bool irq_pending(void *ctx)
{
    return *(int *)ctx != 0;
}

static int irq_ack(void *ctx)
{
    *(int *)ctx = 0;
    return 0x41;
}

static void interrupt_waits_for_the_shadow(void **state)
{
    struct test_guest *guest = *state;
    int pending = 1;
    test_long_mode(guest);
    /* mov al, 1; sti; mov al, 2; mov al, 3 */
    test_code(guest, TEST_BYTES(0xb0, 1, 0xfb, 0xb0, 2, 0xb0, 3));
    guest->cpu.irq.pending = irq_pending;
    guest->cpu.irq.ack = irq_ack;
    guest->cpu.irq.ctx = &pending;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), 0x41);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 2);
    assert_int_equal(pending, 0);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 5);
}

static void kick_leaves_an_endless_loop(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0xeb, 0xfe));
    test_start(guest);
    cpu_request(&guest->cpu, ATTENTION_EXIT);
    test_run(guest, EXIT_KICKED);
    assert_int_equal(guest->state.rip, TEST_CODE);
}

static void single_step_traps(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0xb0, 1, 0xb0, 2));
    guest->state.rflags |= X86_TF;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_DB);
    assert_int_equal(guest->state.gpr[X86_RAX] & 0xff, 1);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 2);
    assert_true(guest->state.dr[6] & 1 << 14);
}

static void data_breakpoint_traps(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov eax, [TEST_DATA]; mov [TEST_DATA], eax; nop */
    test_code(guest, TEST_BYTES(0x8b, 0x04, 0x25, 0, 0, 2, 0, 0x89, 0x04, 0x25, 0, 0, 2, 0, 0x90));
    guest->state.dr[0] = TEST_DATA + 2;
    guest->state.dr[7] = 0x400 | 1 | 1 << 16; /* DR0, writes, one byte */
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_DB);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), TEST_CODE + 14);
    assert_true(guest->state.dr[6] & 1);
}

static void triple_fault_shuts_down(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    guest->state.idtr.limit = 0;
    test_code(guest, TEST_BYTES(0x0f, 0x0b));
    test_start(guest);
    test_run(guest, EXIT_SHUTDOWN);
}

static void instruction_on_two_pages(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov eax, 0x11223344 begins 2 bytes before a page's end; then jmp back once by dec ebx. */
    gpa_t at = TEST_CODE + 0xffe;
    memcpy(guest->ram + at, "\xb8\x44\x33\x22\x11\xff\xcb\x75\xf7\xf4", 10);
    guest->state.rip = at;
    guest->state.gpr[X86_RBX] = 3;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 0x11223344);
    assert_int_equal(guest->state.gpr[X86_RBX], 0);
    /* The part on the second page changes. */
    assert_int_equal(mem_write(&guest->mem, at + 2, "\x55", 1), 0);
    guest->state.gpr[X86_RBX] = 1;
    test_restart(guest, at);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 0x11225544);
}

static void rep_movs_moves_and_resumes(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    for (unsigned i = 0; i < 8192; i++)
        guest->ram[TEST_DATA + i] = (u8)(i * 7);
    test_put(guest, TEST_TABLES + 0x3000 + 0x82 * 8, 0); /* the target's third page is missing */
    test_code(guest, TEST_BYTES(0xf3, 0x48, 0xa5));
    guest->state.gpr[X86_RSI] = TEST_DATA;
    guest->state.gpr[X86_RDI] = 0x80ff0;
    guest->state.gpr[X86_RCX] = 1024;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_PF_FAULT);
    assert_int_equal(guest->state.cr2, 0x82000);
    assert_int_equal(guest->state.gpr[X86_RDI], 0x82000);
    assert_int_equal(guest->state.gpr[X86_RCX], 1024 - (0x1010 / 8));
    assert_memory_equal(guest->ram + 0x80ff0, guest->ram + TEST_DATA, 0x1010);
}

static void protected_mode_runs(void **state)
{
    struct test_guest *guest = *state;
    test_protected_mode(guest);
    /* push 5; pop eax; call f; hlt; f: inc eax; ret */
    test_code(guest, TEST_BYTES(0x6a, 5, 0x58, 0xe8, 1, 0, 0, 0, 0xf4, 0x40, 0xc3));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 6);
    assert_int_equal(guest->state.gpr[X86_RSP], TEST_STACK);
    assert_int_equal(guest->state.rip, TEST_CODE + 9);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(real_mode_runs),
        TEST(long_mode_loop),
        TEST(port_exits_and_resumes),
        TEST(mmio_exits_and_resumes),
        TEST(hypercalls_exit_and_resume),
        TEST(hypercalls_of_programs_and_without_hypervisor),
        TEST(long_waits_leave),
        TEST(tlb_is_dropped_on_request),
        TEST(page_fault_is_delivered),
        TEST(undefined_opcode_is_delivered),
        TEST(changed_code_is_seen),
        TEST(interrupt_waits_for_the_shadow),
        TEST(kick_leaves_an_endless_loop),
        TEST(single_step_traps),
        TEST(data_breakpoint_traps),
        TEST(triple_fault_shuts_down),
        TEST(instruction_on_two_pages),
        TEST(rep_movs_moves_and_resumes),
        TEST(protected_mode_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
