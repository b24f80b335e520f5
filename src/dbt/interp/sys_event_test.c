/*
 * dbt/interp/sys_event_test.c - tests of events: double and triple faults, NMI, interrupt shadows,
 * MSRs that the machine answers, VME.
 */
#include "dbt/interp/interp_test.h"
#include "x86/msr.h"

#include <signal.h>
#include <sys/time.h>

enum { IRQ_VECTOR = 0x30, TEST_TSS = 0x60000, TEST_STACK0 = 0x68000 };

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

/* ---- faults on the way to a handler ---- */

static void triple_fault_shuts_down(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x0f, 0x0b));
    guest->state.idtr.limit = 0;
    test_start(guest);
    test_run(guest, EXIT_SHUTDOWN);
    assert_int_equal(guest->state.activity, X86_SHUTDOWN);
    test_run(guest, EXIT_SHUTDOWN); /* and stays there */
}

static void contributory_faults_double(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* mov ax, 0xfff8; mov ds, ax: #GP, whose gate is not present: #NP, so #DF */
    test_code(guest, TEST_BYTES(0x66, 0xb8, 0xf8, 0xff, 0x8e, 0xd8));
    guest->state.gdtr.limit = 0xff;
    test_put(guest, TEST_IDT + 13 * 16, 8 << 16 | 0x0e00ull << 32);
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_DF_FAULT);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), 0);                 /* error */
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP] + 8), TEST_CODE + 4); /* RIP */
    assert_false(guest->state.event.pending);
}

static void page_faults_all_the_way_shut_down(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x0f, 0x0b)); /* #UD, its gate in a page that is not there */
    guest->state.idtr.base = 0x100000 - 6 * 16 - 8;
    guest->state.idtr.limit = 0xfff;
    memcpy(guest->ram + guest->state.idtr.base, guest->ram + TEST_IDT, 4096);
    test_put(guest, TEST_TABLES + 0x3000 + 256 * 8, 0); /* 1 MiB and 4 KiB more */
    test_start(guest);
    /* #PF's own gate is there no more than #UD's: page fault on page fault, then the third. */
    test_run(guest, EXIT_SHUTDOWN);
    assert_int_equal(guest->state.cr2 & ~0xfffull, 0x100000);
}

/* ---- NMI ---- */

/* Two that come before the first is taken are both taken; a third is one with the second. */
static void two_nmis_are_two(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0xf4));
    /* The handler: inc rax; iretq */
    memcpy(guest->ram + TEST_TRAP + 2 * 16, "\x48\xff\xc0\x48\xcf", 5);
    test_start(guest);
    cpu_request(&guest->cpu, ATTENTION_NMI | ATTENTION_NMI_AGAIN);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 2);
}

static void nmi_waits_for_iret(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x90, 0x90));
    /* The handler: hlt; inc rax; iretq */
    memcpy(guest->ram + TEST_TRAP + 2 * 16, "\xf4\x48\xff\xc0\x48\xcf", 6);
    test_start(guest);
    cpu_request(&guest->cpu, ATTENTION_NMI);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NMI);
    assert_true(guest->state.nmi_blocked);

    /* A second one stays pending, and does not even end the halt. */
    cpu_request(&guest->cpu, ATTENTION_NMI);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NMI);
    assert_true(guest->state.nmi_pending);
    assert_int_equal(guest->state.gpr[X86_RAX], 0);

    /* After IRET it comes at once; its handler then is the one that halts. */
    guest->state.activity = X86_ACTIVE;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NMI);
    assert_int_equal(guest->state.gpr[X86_RAX], 1);
    assert_false(guest->state.nmi_pending);
    guest->state.activity = X86_ACTIVE;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RAX], 2);
    assert_int_equal(guest->state.rip, TEST_CODE + 3);
    assert_false(guest->state.nmi_blocked);
}

/* ---- external interrupts ---- */

static bool irq_pending(void *ctx)
{
    return *(bool *)ctx;
}

static int irq_ack(void *ctx)
{
    *(bool *)ctx = false;
    return IRQ_VECTOR;
}

static void run_with_irq(struct test_guest *guest, bool *line, u64 return_rip)
{
    *line = true;
    guest->cpu.irq.pending = irq_pending;
    guest->cpu.irq.ack = irq_ack;
    guest->cpu.irq.ctx = line;
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), IRQ_VECTOR);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), return_rip);
    assert_false(guest->state.rflags & X86_IF);
    assert_false(*line);
}

static void sti_has_a_shadow(void **state)
{
    struct test_guest *guest = *state;
    static bool line;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0xfb, 0x90, 0x90)); /* sti; nop; nop */
    run_with_irq(guest, &line, TEST_CODE + 2);
}

static void mov_ss_has_a_shadow(void **state)
{
    struct test_guest *guest = *state;
    static bool line;
    test_long_mode(guest);
    /* sti; mov ss, ax; nop; nop: the shadow of STI covers MOV SS, whose own covers a NOP */
    test_code(guest, TEST_BYTES(0xfb, 0x8e, 0xd0, 0x90, 0x90));
    guest->state.gpr[X86_RAX] = 16;
    run_with_irq(guest, &line, TEST_CODE + 4);
}

static void interrupts_of_exception_vectors_do_not_double(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x90));
    /* Vector 13 from outside, with a gate that is not present: #NP, and no double fault. */
    test_put(guest, TEST_IDT + 13 * 16, 8 << 16 | 0x0e00ull << 32);
    guest->state.event = (struct x86_event){
        .pending = true, .vector = 13, .kind = X86_EVENT_INTERRUPT};
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_NP);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP]), 13 * 8 + 3); /* IDT, EXT */
}

/* ---- MSRs of the machine ---- */

static void msr_exits_and_resumes(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    test_code(guest, TEST_BYTES(0x0f, 0x32, 0x0f, 0x30)); /* rdmsr; wrmsr */
    guest->state.gpr[X86_RCX] = 0x830;
    test_start(guest);
    test_run(guest, EXIT_MSR_READ);
    assert_int_equal(guest->cpu.exit.address, 0x830);
    guest->cpu.exit.value = 0x1122334455667788;
    test_run(guest, EXIT_MSR_WRITE);
    assert_int_equal(guest->cpu.exit.value, 0x1122334455667788);
    assert_int_equal(guest->state.gpr[X86_RAX], 0x55667788);
    assert_int_equal(guest->state.gpr[X86_RDX], 0x11223344);
    guest->cpu.exit.msr_fault = true;
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_GP);
    assert_int_equal(test_get(guest, guest->state.gpr[X86_RSP] + 8), TEST_CODE + 2);
}

static void disabled_apic_leaves_cpuid(void **state)
{
    struct test_guest *guest = *state;
    test_long_mode(guest);
    /* wrmsr; mov eax, 1; cpuid */
    test_code(guest, TEST_BYTES(0x0f, 0x30, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2));
    guest->state.gpr[X86_RCX] = X86_MSR_APIC_BASE;
    guest->state.gpr[X86_RAX] = 0xfee00000;
    test_start(guest);
    test_run(guest, EXIT_MSR_WRITE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RDX] & 1 << 9, 0);
    guest->state.gpr[X86_RCX] = X86_MSR_APIC_BASE;
    guest->state.gpr[X86_RAX] = 0xfee00000 | X86_APIC_BASE_ENABLE;
    guest->state.gpr[X86_RDX] = 0;
    test_restart(guest, TEST_CODE);
    test_run(guest, EXIT_MSR_WRITE);
    test_run(guest, EXIT_HLT);
    assert_int_equal(guest->state.gpr[X86_RDX] & 1 << 9, 1 << 9);
}

/* ---- virtual-8086 mode with VME ---- */

static void protected_idt(struct test_guest *guest)
{
    for (u64 vector = 0; vector < 256; vector++) {
        u64 target = TEST_TRAP + vector * 16;
        test_put(guest, TEST_IDT + vector * 8,
                 (target & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (target >> 16 & 0xffff) << 48);
    }
}

static void offer_vme(struct test_guest *guest)
{
    for (unsigned i = 0; i < guest->cpuid.count; i++) {
        if (guest->cpuid.entry[i].leaf == 1)
            guest->cpuid.entry[i].edx |= 1 << 1;
    }
}

/* A program at 0x1000:0 with IOPL 0; INT n goes by the bitmap, all zeros: to the program itself. */
static void start_v86(struct test_guest *guest, u32 rflags)
{
    struct x86_state *s = &guest->state;
    test_protected_mode(guest);
    test_put(guest, TEST_GDT + 8, 0x00cf9b000000ffffull);
    protected_idt(guest);
    offer_vme(guest);
    s->cr4 = X86_CR4_VME;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        s->seg[i] = (struct x86_seg){TEST_CODE, 0xffff, TEST_CODE >> 4, 0xf3};
    s->tr = (struct x86_seg){TEST_TSS, 0x200, 0x28, 0x8b};
    test_put(guest, TEST_TSS + 4, TEST_STACK0 | 16ull << 32);
    test_put(guest, TEST_TSS + 102, 0x88); /* the I/O bitmap; the interrupt bitmap lies before it */
    s->rip = 0;
    s->gpr[X86_RSP] = 0x8000;
    s->rflags = X86_FLAG_FIXED | X86_VM | rflags;
    test_put(guest, 0x21 * 4, (u32)(TEST_CODE >> 4) << 16 | 0x100);
    guest->ram[TEST_CODE + 0x100] = 0xf4; /* HLT: #GP here */
}

static void vme_redirects_interrupts(void **state)
{
    struct test_guest *guest = *state;
    start_v86(guest, X86_VIF);
    test_code(guest, TEST_BYTES(0xcd, 0x21));
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_GP);
    /* The monitor's frame: error, EIP, CS, EFLAGS, ESP. VIF was cleared, IF untouched. */
    u64 rsp = guest->state.gpr[X86_RSP];
    assert_int_equal((u32)test_get(guest, rsp + 4), 0x100);
    assert_int_equal((u32)test_get(guest, rsp + 12) & (X86_VM | X86_VIF | X86_IF), X86_VM);
    assert_int_equal((u32)test_get(guest, rsp + 16), 0x8000 - 6);
    /* The program's frame: IP, CS, and flags that show VIF as IF and IOPL as 3. */
    u16 frame[3];
    memcpy(frame, guest->ram + TEST_CODE + 0x8000 - 6, sizeof(frame));
    assert_int_equal(frame[0], 2);
    assert_int_equal(frame[1], TEST_CODE >> 4);
    assert_int_equal(frame[2] & 0x3200, 0x3200);
}

static void vme_bitmap_sends_to_the_monitor(void **state)
{
    struct test_guest *guest = *state;
    start_v86(guest, 0);
    test_code(guest, TEST_BYTES(0xcd, 0x21));
    guest->ram[TEST_TSS + 0x88 - 32 + 0x21 / 8] = 1 << (0x21 % 8);
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_GP);
    assert_int_equal((u32)test_get(guest, guest->state.gpr[X86_RSP] + 4), 0); /* at INT itself */
}

static void vme_sti_sets_vif(void **state)
{
    struct test_guest *guest = *state;
    start_v86(guest, 0);
    test_code(guest, TEST_BYTES(0xfb)); /* sti; hlt */
    test_start(guest);
    test_run(guest, EXIT_HLT);
    assert_int_equal(test_trapped(guest), X86_GP);
    u64 rsp = guest->state.gpr[X86_RSP];
    assert_int_equal((u32)test_get(guest, rsp + 4), 1);
    assert_int_equal((u32)test_get(guest, rsp + 12) & (X86_VIF | X86_IF), X86_VIF);
}

/* ---- events without end ---- */

static struct cpu *kicked_cpu;

static void kick(int signal)
{
    cpu_request(kicked_cpu, ATTENTION_EXIT);
}

static void endless_faults_can_be_kicked(void **state)
{
    struct test_guest *guest = *state;
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    test_protected_mode(guest);
    protected_idt(guest);
    /* #AC goes to code of level 3, so its frame lies on the same unaligned stack. */
    test_put(guest, TEST_GDT + 24, 0x00cffb000000ffffull);
    test_put(guest, TEST_IDT + 17 * 8, 24ull << 16 | 0x8e00ull << 32 | (u64)TEST_CODE >> 16 << 48);
    test_code(guest, TEST_BYTES(0x50)); /* push eax */
    guest->state.cr0 |= X86_CR0_AM;
    guest->state.rflags |= X86_AC;
    guest->state.seg[X86_CS] = (struct x86_seg){0, 0xffffffff, 24 | 3, 0xc0fb};
    guest->state.seg[X86_SS] = (struct x86_seg){0, 0xffffffff, 32 | 3, 0xc0f3};
    guest->state.gpr[X86_RSP] = TEST_STACK + 1;
    test_start(guest);
    kicked_cpu = &guest->cpu;
    signal(SIGALRM, kick);
    setitimer(ITIMER_REAL, &soon, NULL);
    test_run(guest, EXIT_KICKED);
    assert_true(guest->state.event.pending);
    assert_int_equal(guest->state.event.vector, X86_AC_FAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(triple_fault_shuts_down, setup, teardown),
        cmocka_unit_test_setup_teardown(contributory_faults_double, setup, teardown),
        cmocka_unit_test_setup_teardown(page_faults_all_the_way_shut_down, setup, teardown),
        cmocka_unit_test_setup_teardown(nmi_waits_for_iret, setup, teardown),
        cmocka_unit_test_setup_teardown(two_nmis_are_two, setup, teardown),
        cmocka_unit_test_setup_teardown(sti_has_a_shadow, setup, teardown),
        cmocka_unit_test_setup_teardown(mov_ss_has_a_shadow, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupts_of_exception_vectors_do_not_double, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(msr_exits_and_resumes, setup, teardown),
        cmocka_unit_test_setup_teardown(disabled_apic_leaves_cpuid, setup, teardown),
        cmocka_unit_test_setup_teardown(vme_redirects_interrupts, setup, teardown),
        cmocka_unit_test_setup_teardown(vme_bitmap_sends_to_the_monitor, setup, teardown),
        cmocka_unit_test_setup_teardown(vme_sti_sets_vif, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_faults_can_be_kicked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
