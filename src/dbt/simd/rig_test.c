/*
 * dbt/simd/rig_test.c - see rig_test.h.
 */
#include "dbt/simd/rig_test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/bits.h"

/* Whatever runs while the guest's vector state is live must not touch it. */
#define NO_VECTOR __attribute__((target("general-regs-only")))

u8 *rig_memory;
struct cpu *rig_cpu;
unsigned rig_device_exits;
bool rig_checks_alignment;

/* ---- the host's execution ---- */

struct native_frame {
    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
    u64 gpr[X86_GPR_COUNT];
    u64 rflags;
    u64 host_rsp;
};

/* Copied to executable memory with its frame behind it, so that all is reached from RIP. */
extern const u8 native_begin[], native_slot[], native_after[], native_end[];
__asm__(".text\n"
        ".balign 64\n"
        "native_begin:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        ".set native_frame, native_begin + 4096\n"
        "mov %rsp, native_frame+968(%rip)\n"
        "mov $7, %eax; xor %edx, %edx\n"
        "xrstor64 native_frame(%rip)\n"
        "push native_frame+960(%rip); popfq\n"
        "mov native_frame+832(%rip), %rax; mov native_frame+840(%rip), %rcx\n"
        "mov native_frame+848(%rip), %rdx; mov native_frame+856(%rip), %rbx\n"
        "mov native_frame+872(%rip), %rbp; mov native_frame+880(%rip), %rsi\n"
        "mov native_frame+888(%rip), %rdi; mov native_frame+896(%rip), %r8\n"
        "mov native_frame+904(%rip), %r9; mov native_frame+912(%rip), %r10\n"
        "mov native_frame+920(%rip), %r11; mov native_frame+928(%rip), %r12\n"
        "mov native_frame+936(%rip), %r13; mov native_frame+944(%rip), %r14\n"
        "mov native_frame+952(%rip), %r15\n"
        "native_slot:\n"
        ".fill 16, 1, 0x90\n"
        "native_after:\n"
        "mov %rax, native_frame+832(%rip); mov %rcx, native_frame+840(%rip)\n"
        "mov %rdx, native_frame+848(%rip); mov %rbx, native_frame+856(%rip)\n"
        "mov %rbp, native_frame+872(%rip); mov %rsi, native_frame+880(%rip)\n"
        "mov %rdi, native_frame+888(%rip); mov %r8, native_frame+896(%rip)\n"
        "mov %r9, native_frame+904(%rip); mov %r10, native_frame+912(%rip)\n"
        "mov %r11, native_frame+920(%rip); mov %r12, native_frame+928(%rip)\n"
        "mov %r13, native_frame+936(%rip); mov %r14, native_frame+944(%rip)\n"
        "mov %r15, native_frame+952(%rip)\n"
        "mov native_frame+968(%rip), %rsp\n"
        "pushfq; pop native_frame+960(%rip); pushq $2; popfq\n"
        "mov $7, %eax; xor %edx, %edx\n"
        "xsave64 native_frame(%rip)\n"
        "fninit\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
        "native_end:\n");

_Static_assert(offsetof(struct native_frame, gpr) == 832, "as in the assembly");
_Static_assert(offsetof(struct native_frame, rflags) == 960, "as in the assembly");
_Static_assert(offsetof(struct native_frame, host_rsp) == 968, "as in the assembly");

static u8 *native_code;
static volatile unsigned native_trap;

static void on_trap(int number, siginfo_t *info, void *context)
{
    __asm__ volatile("pushq $2; popfq" : : : "cc"); /* the test may have set AC */
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    u64 pc = (u64)regs[REG_RIP], sp = (u64)regs[REG_RSP], result = (u64)regs[REG_RAX];

    if (simd_trap(rig_cpu, (unsigned)regs[REG_TRAPNO], &pc, &sp, &result)) {
        regs[REG_RIP] = (greg_t)pc;
        regs[REG_RSP] = (greg_t)sp;
        regs[REG_RAX] = (greg_t)result;
    } else if (pc - (u64)(uintptr_t)native_code < RIG_PAGE) {
        native_trap = (unsigned)regs[REG_TRAPNO];
        regs[REG_RIP] = (greg_t)(uintptr_t)(native_code + (native_after - native_begin));
    } else {
        abort();
    }
}

void rig_native(const u8 *bytes, unsigned count, struct rig_regs *regs)
{
    struct native_frame *frame = (struct native_frame *)(void *)(native_code + RIG_PAGE);
    u8 *slot = native_code + (native_slot - native_begin);

    memset(slot, 0x90, 16);
    memcpy(slot, bytes, count);
    memcpy(frame->xsave, regs->xsave, sizeof(frame->xsave));
    memcpy(frame->gpr, regs->gpr, sizeof(frame->gpr));
    frame->rflags = regs->rflags;
    native_trap = RIG_NO_TRAP;
    u32 mxcsr = MXCSR_DEFAULT;
    __asm__ volatile("call *%0\n\tldmxcsr %1"
                     :
                     : "r"(native_code), "m"(mxcsr)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
    memcpy(regs->xsave, frame->xsave, sizeof(frame->xsave));
    memcpy(regs->gpr, frame->gpr, sizeof(frame->gpr));
    regs->rflags = frame->rflags;
    regs->trap = native_trap;
}

/* ---- the toy MMU and what else the engine gives ---- */

NO_VECTOR NO_RETURN void cpu_raise(struct cpu *cpu, unsigned vector)
{
    cpu->fault.vector = (u8)vector;
    __builtin_longjmp(cpu->jump, 1);
}

NO_VECTOR NO_RETURN void cpu_raise_error(struct cpu *cpu, unsigned vector, u32 error)
{
    cpu->fault.error = error;
    cpu_raise(cpu, vector);
}

/* Where GVA is; raises #PF for the page that is absent and for all outside. */
NO_VECTOR static u8 *toy_byte(struct cpu *cpu, gva_t gva, enum cpu_access access)
{
    u64 offset = gva - (u64)(uintptr_t)rig_memory;
    if (offset >= RIG_ABSENT) {
        cpu->fault.cr2 = gva;
        cpu_raise_error(cpu, X86_PF_FAULT, access == ACCESS_WRITE ? X86_PF_W : 0);
    }
    return rig_memory + offset;
}

/* A device access leaves to the machine first, as often as the test wants, and starts over. */
NO_VECTOR static void toy_exit(struct cpu *cpu, gva_t gva)
{
    u64 offset = gva - (u64)(uintptr_t)rig_memory;
    if (offset < RIG_DEVICE || offset >= RIG_ABSENT)
        return;
    cpu->replay.next++;
    if (cpu->replay.next > cpu->replay.done && rig_device_exits != 0) {
        rig_device_exits--;
        cpu->replay.done = cpu->replay.next;
        __builtin_longjmp(cpu->jump, 1);
    }
}

/* As the engine's MMU does, for the sizes that it knows to be numbers. */
NO_VECTOR static void toy_watch(struct cpu *cpu, gva_t gva, size_t bytes)
{
    bool natural = bytes == 2 || bytes == 4 || bytes == 8;
    if (cpu->align_check && natural && (gva & (bytes - 1)) != 0)
        cpu_raise_error(cpu, X86_AC_FAULT, 0);
}

NO_VECTOR void mmu_probe(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access,
                         enum cpu_privilege privilege)
{
    toy_byte(cpu, gva, access);
    if ((gva & 4095) + bytes > RIG_PAGE)
        toy_byte(cpu, (gva + bytes - 1) & ~4095ull, access);
}

NO_VECTOR u8 *mmu_host(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    toy_watch(cpu, gva, bytes);
    mmu_probe(cpu, gva, bytes, access, PRIVILEGE_KERNEL);
    bool plain = gva + bytes <= (u64)(uintptr_t)rig_memory + RIG_DEVICE;
    return plain && (gva & 4095) + bytes <= RIG_PAGE ? (u8 *)(uintptr_t)gva : NULL;
}

NO_VECTOR void mmu_read_bytes(struct cpu *cpu, gva_t gva, void *to, size_t bytes)
{
    toy_watch(cpu, gva, bytes);
    mmu_probe(cpu, gva, bytes, ACCESS_READ, PRIVILEGE_KERNEL);
    toy_exit(cpu, gva);
    simd_copy(to, (const void *)(uintptr_t)gva, bytes);
}

NO_VECTOR void mmu_write_bytes(struct cpu *cpu, gva_t gva, const void *from, size_t bytes)
{
    toy_watch(cpu, gva, bytes);
    mmu_probe(cpu, gva, bytes, ACCESS_WRITE, PRIVILEGE_KERNEL);
    toy_exit(cpu, gva);
    simd_copy((void *)(uintptr_t)gva, from, bytes);
}

NO_VECTOR u64 mmu_read(struct cpu *cpu, gva_t gva, unsigned bytes)
{
    u64 value = 0;
    mmu_read_bytes(cpu, gva, &value, bytes);
    return value;
}

NO_VECTOR void mmu_write(struct cpu *cpu, gva_t gva, unsigned bytes, u64 value)
{
    mmu_write_bytes(cpu, gva, &value, bytes);
}

NO_VECTOR gva_t seg_linear(struct cpu *cpu, enum x86_segment seg, u64 offset, size_t bytes,
                           enum cpu_access access)
{
    return offset;
}

NO_VECTOR u64 insn_offset(const struct cpu *cpu, const struct insn *insn)
{
    u64 offset = (u64)insn->disp;
    if (insn->base < X86_GPR_COUNT)
        offset += cpu->gpr[insn->base];
    if (insn->index < X86_GPR_COUNT && (insn->desc->attr & ATTR_VSIB) == 0)
        offset += cpu->gpr[insn->index] << insn->scale;
    return offset;
}

NO_VECTOR gva_t insn_linear(struct cpu *cpu, const struct insn *insn, size_t bytes,
                            enum cpu_access access)
{
    return insn_offset(cpu, insn);
}

/* ---- simd's execution ---- */

NO_VECTOR static void simd_once(struct cpu *cpu, const struct insn *insn)
{
    u64 prepared = 0;

    cpu->replay.done = 0;
    for (;;) {
        cpu->replay.next = 0;
        unsigned exits = rig_device_exits;
        if (__builtin_setjmp(cpu->jump) == 0) {
            simd_run(cpu, insn, &prepared);
            break;
        }
        simd_save(cpu);
        if (rig_device_exits == exits)
            break;
    }
    simd_save(cpu);
}

void rig_simd(const u8 *bytes, unsigned count, struct rig_regs *regs)
{
    struct cpu *cpu = rig_cpu;
    struct insn insn;

    regs->trap = X86_UD;
    if (decode(bytes, count, cpu->code_bytes, &insn) != DECODE_OK || !simd_handles(&insn))
        return;
    memcpy(cpu->xsave, regs->xsave, sizeof(cpu->xsave));
    memcpy(cpu->gpr, regs->gpr, sizeof(cpu->gpr));
    cpu->rflags = regs->rflags;
    cpu->align_check = (regs->rflags & X86_AC) != 0;
    cpu->fault.vector = RIG_NO_TRAP;
    cpu->fault.error = 0;
    simd_once(cpu, &insn);
    memcpy(regs->xsave, cpu->xsave, sizeof(cpu->xsave));
    memcpy(regs->gpr, cpu->gpr, sizeof(cpu->gpr));
    regs->rflags = cpu->rflags;
    regs->trap = cpu->fault.vector;
    regs->error = cpu->fault.error;
    regs->fault_address = cpu->fault.cr2;
}

/* ---- set-up and random state ---- */

u64 rig_random(void)
{
    static u64 seed = 0x123456789abcdefull;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull >> 3;
}

void rig_catch_traps(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

int rig_setup(void **state)
{
    native_code = mmap(NULL, 2 * RIG_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* Below 4 GiB, so that 32-bit code reaches it too. */
    rig_memory = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (native_code == MAP_FAILED || rig_memory == MAP_FAILED ||
        mprotect(rig_memory + RIG_ABSENT, RIG_PAGE, PROT_NONE) != 0)
        return -1;
    memcpy(native_code, native_begin, (size_t)(native_end - native_begin));
    rig_cpu = aligned_alloc(64, align_up(sizeof(*rig_cpu), 64));
    if (rig_cpu == NULL)
        return -1;
    memset(rig_cpu, 0, sizeof(*rig_cpu));
    rig_cpu->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_MP | X86_CR0_PG;
    rig_cpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    rig_cpu->xcr0 = 7;
    rig_cpu->msr.efer = X86_EFER_LME | X86_EFER_LMA;
    rig_cpu->code_bytes = 8;
    rig_cpu->rip = 0x123456789abcull;
    rig_cpu->seg[X86_CS].selector = 0x33;
    rig_cpu->seg[X86_DS].selector = 0x2b;
    return simd_init(rig_cpu);
}

int rig_teardown(void **state)
{
    simd_fini(rig_cpu);
    free(rig_cpu);
    munmap(native_code, 2 * RIG_PAGE);
    munmap(rig_memory, RIG_BYTES);
    return 0;
}

/* Something worth calculating with: small numbers, near limits, or any bits. */
static u64 random_operand(void)
{
    union {
        double wide;
        float narrow[2];
        u64 bits;
    } value;

    switch (rig_random() % 8) {
    case 0:
        value.wide = (double)(s64)rig_random() / 65536.0;
        break;
    case 1:
        value.narrow[0] = (float)(s32)rig_random() / 16.0f;
        value.narrow[1] = (float)(s16)rig_random();
        break;
    case 2: /* infinities, quiet and signalling NaNs, denormals, zeroes */
        value.bits = (u64[]){0x7ff0000000000000ull, 0xfff8000000000001ull, 0x7ff4000000000000ull, 1,
                             0x7f800000ff800000ull, 0x7fa0000080000000ull}[rig_random() % 6];
        break;
    case 3:
        value.bits = rig_random() & 0x3f;
        break;
    default:
        value.bits = rig_random() << 32 ^ rig_random();
        break;
    }
    return value.bits;
}

static void random_st(u8 *to)
{
    u64 mantissa = random_operand();
    u16 exponent = (u16)rig_random();

    if (rig_random() % 4 != 0) { /* an ordinary number */
        mantissa |= 1ull << 63;
        exponent = (u16)((exponent & 0x8000) | (16383 - 40 + exponent % 80));
    }
    store_le64(to, mantissa);
    store_le16(to + 8, exponent);
}

void rig_randomize(struct rig_regs *regs, bool unmasked)
{
    memset(regs, 0, sizeof(*regs));
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        regs->gpr[i] = random_operand();
    regs->rflags = X86_FLAG_FIXED | X86_IF | (rig_random() & X86_ARITH_FLAGS);
    if (rig_checks_alignment)
        regs->rflags |= X86_AC;
    u8 *image = regs->xsave;
    u16 fcw = (u16)(0x40 | (rig_random() & 0xf00) | 0x3f);
    u32 mxcsr = (u32)(MXCSR_DEFAULT | (rig_random() & 0xe07f));
    if (unmasked) {
        fcw &= (u16) ~(rig_random() & 0x3f);
        mxcsr = (mxcsr & ~0x3fu) & ~(u32)(rig_random() & 0x1f80);
    }
    store_le16(image + IMAGE_FCW, fcw);
    store_le16(image + IMAGE_FSW,
               (u16)(rig_random() & (unmasked && rig_random() % 8 != 0 ? 0x7f00 : 0x7f7f)));
    image[IMAGE_FTW] = (u8)(rig_random() | rig_random());
    store_le32(image + IMAGE_MXCSR, mxcsr);
    for (unsigned i = 0; i < 8; i++)
        random_st(image + IMAGE_ST + 16 * i);
    for (unsigned i = IMAGE_XMM; i < IMAGE_LEGACY_END; i += 8)
        store_le64(image + i, random_operand());
    for (unsigned i = IMAGE_YMM; i < IMAGE_END; i += 8)
        store_le64(image + i, random_operand());
    image[IMAGE_XSTATE_BV] = 7;
}
