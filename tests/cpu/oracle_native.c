/*
 * tests/cpu/oracle_native.c - runs cases on the host's processor, in a child process.
 *
 * The child loads a case's whole state by returning from a signal handler: the handler writes
 * registers and vector state into the frame that the kernel then restores. The exception that ends
 * the case enters the handler again, with the state that it left in the frame. So a case costs one
 * signal. 32-bit code runs through Linux's 32-bit code segment,
 * 16-bit code in an LDT.
 *
 * Runs   in a process of its own, which a case may break or hang: the parent starts another one.
 */
#include "oracle.h"

#include <asm/ldt.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bits.h"

struct oracle_case *oracle_cases;
struct oracle_outcome *oracle_outcomes;

enum { CASE_TIMEOUT_MS = 1500 };
enum {
    FRAME_SOFTWARE = 464,
    FRAME_HEADER = 512,
    FRAME_AVX = 576
};                         /* offsets in the signal frame */
enum { UC_STRICT_SS = 6 }; /* UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */

static struct {
    pid_t pid;
    int to_child[2], to_parent[2];
    volatile unsigned *done; /* shared: cases finished of this batch */
} child;

/* The child's own. */
static unsigned batch_count;
static int batch_at;
static u64 host_fs;
static sigjmp_buf batch_end;

static const int greg_of[X86_GPR_COUNT] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                           REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                           REG_R12, REG_R13, REG_R14, REG_R15};

static u8 *at_address(u64 address)
{
    return (u8 *)(uintptr_t)address;
}

/* A copy that calls nothing: the C library may look at FS, which is not its own yet. */
static void copy(void *to, const void *from, size_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void put_code(const struct oracle_case *c)
{
    copy(at_address(ORACLE_CODE) + c->code_at, c->code, c->code_count);
}

/* INT3 everywhere again: also where the case may have written. */
static void clear_code(void)
{
    u8 *to = at_address(ORACLE_CODE);
    size_t bytes = ORACLE_PAGE;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0xcc) : "memory");
}

static void save_outcome(const ucontext_t *context, struct oracle_outcome *o)
{
    const greg_t *regs = context->uc_mcontext.gregs;
    const u8 *frame = (const u8 *)context->uc_mcontext.fpregs;

    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        o->after.gpr[i] = (u64)regs[greg_of[i]];
    o->after.rip = (u64)regs[REG_RIP];
    o->after.rflags = (u64)regs[REG_EFL];
    o->after.selector[X86_CS] = (u16)regs[REG_CSGSFS];
    o->after.selector[X86_SS] = (u16)((u64)regs[REG_CSGSFS] >> 48);
    o->vector = (u8)regs[REG_TRAPNO];
    o->error = (u32)regs[REG_ERR];
    o->cr2 = (u64)regs[REG_CR2];
    copy(o->after.xsave, frame, X86_XSAVE_BYTES);
    copy(o->memory, at_address(ORACLE_DATA), ORACLE_DATA_BYTES);
    copy(o->memory + ORACLE_DATA_BYTES, at_address(ORACLE_STACK), ORACLE_STACK_BYTES);
}

static void load_memory(const struct oracle_case *c)
{
    const u8 *image = oracle_image[c->image];
    copy(at_address(ORACLE_DATA), image, 2 * ORACLE_PAGE);
    copy(at_address(ORACLE_STACK), image + ORACLE_DATA_BYTES, ORACLE_STACK_BYTES);
    if (c->poke_count == 0)
        return;
    if (c->poke_at >= ORACLE_DATA_BYTES)
        copy(at_address(ORACLE_STACK) + (c->poke_at - ORACLE_DATA_BYTES), c->poke, c->poke_count);
    else
        copy(at_address(ORACLE_DATA) + c->poke_at, c->poke, c->poke_count);
}

static void load_case(ucontext_t *context, const struct oracle_case *c)
{
    greg_t *regs = context->uc_mcontext.gregs;
    u8 *frame = (u8 *)context->uc_mcontext.fpregs;
    const u16 *selector = c->before.selector;

    put_code(c);
    load_memory(c);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        regs[greg_of[i]] = (greg_t)c->before.gpr[i];
    regs[REG_RIP] = (greg_t)c->before.rip;
    regs[REG_EFL] = (greg_t)c->before.rflags;
    regs[REG_CSGSFS] = (greg_t)(selector[X86_CS] | (u64)selector[X86_SS] << 48);
    context->uc_flags |= UC_STRICT_SS;
    copy(frame, c->before.xsave, FRAME_SOFTWARE);
    store_le64(frame + FRAME_HEADER, load_le64(frame + FRAME_HEADER) | 7);
    copy(frame + FRAME_AVX, c->before.xsave + FRAME_AVX, X86_XSAVE_BYTES - FRAME_AVX);
}

/* The last thing before the case runs: from here on FS is not the C library's. */
static inline void load_segments(const struct oracle_state *s, bool based)
{
    u32 ds = s->selector[X86_DS], es = s->selector[X86_ES];
    u32 fs = s->selector[X86_FS], gs = s->selector[X86_GS];

    __asm__ volatile("mov %0, %%ds\n\tmov %1, %%es" : : "r"(ds), "r"(es));
    if (based) /* the LDT has the bases */
        __asm__ volatile("mov %0, %%fs\n\tmov %1, %%gs" : : "r"(fs), "r"(gs));
    else
        __asm__ volatile("wrgsbase %1\n\twrfsbase %0" : : "r"(s->fs_base), "r"(s->gs_base));
}

/* FS and the segment registers are still the case's when this is entered, and the flags' AC may be
 * set: nothing may be called or aligned wrongly before they are put right. */
__attribute__((no_stack_protector)) static void on_signal(int number, siginfo_t *info,
                                                          void *context)
{
    u64 fs_base, gs_base;
    u16 ds, es, fs, gs;

    __asm__ volatile("pushfq\n\tandl $~0x244000, (%%rsp)\n\tpopfq" : : : "cc", "memory");
    __asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(fs_base), "=r"(gs_base));
    __asm__ volatile("mov %%ds, %0\n\tmov %%es, %1\n\tmov %%fs, %2\n\tmov %%gs, %3"
                     : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %1, %%fs\n\tmov %1, %%gs\n\t"
                     "wrfsbase %2"
                     :
                     : "r"((u32)ORACLE_DS), "r"(0u), "r"(host_fs));
    if (batch_at >= 0) {
        struct oracle_outcome *o = &oracle_outcomes[batch_at];
        save_outcome(context, o);
        o->after.fs_base = fs_base;
        o->after.gs_base = gs_base;
        o->after.selector[X86_DS] = ds;
        o->after.selector[X86_ES] = es;
        o->after.selector[X86_FS] = fs;
        o->after.selector[X86_GS] = gs;
        clear_code();
        *child.done = (unsigned)batch_at + 1;
    }
    batch_at++;
    if ((unsigned)batch_at == batch_count)
        siglongjmp(batch_end, 1);
    load_case(context, &oracle_cases[batch_at]);
    load_segments(&oracle_cases[batch_at].before, oracle_cases[batch_at].code_bytes == 2);
}

static void map_at(u64 address, size_t bytes, int protection)
{
    void *got = mmap(at_address(address), bytes, protection,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != at_address(address))
        _exit(2);
}

static void set_ldt(void)
{
    for (unsigned i = 0; i < ORACLE_LDT_COUNT; i++) {
        struct user_desc desc = {.entry_number = i,
                                 .base_addr = oracle_ldt[i].base,
                                 .limit = oracle_ldt[i].limit,
                                 .contents = oracle_ldt[i].access >> 2 & 3,
                                 .useable = 1};
        if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc)) != 0)
            _exit(2);
    }
}

static void child_setup(void)
{
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    static u8 stack[64 * 1024];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    map_at(ORACLE_CODE, ORACLE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    memset(at_address(ORACLE_CODE), 0xcc, ORACLE_PAGE);
    map_at(ORACLE_DATA, ORACLE_DATA_BYTES, PROT_READ | PROT_WRITE);
    memcpy(at_address(ORACLE_READ_ONLY), oracle_image[0] + 2 * ORACLE_PAGE, ORACLE_PAGE);
    mprotect(at_address(ORACLE_READ_ONLY), ORACLE_PAGE, PROT_READ);
    map_at(ORACLE_STACK, ORACLE_STACK_BYTES, PROT_READ | PROT_WRITE);
    if (sigaltstack(&alternate, NULL) != 0)
        _exit(2);
    set_ldt();
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &action, NULL);
    __asm__ volatile("rdfsbase %0" : "=r"(host_fs));
}

static void child_main(void)
{
    child_setup();
    for (;;) {
        u8 count;
        if (read(child.to_child[0], &count, 1) != 1)
            _exit(0);
        batch_count = count;
        batch_at = -1;
        if (sigsetjmp(batch_end, 1) == 0)
            __asm__ volatile("ud2");
        if (write(child.to_parent[1], &count, 1) != 1)
            _exit(0);
    }
}

static bool child_start(void)
{
    if (pipe(child.to_child) != 0 || pipe(child.to_parent) != 0)
        return false;
    child.pid = fork();
    if (child.pid == 0) {
        close(child.to_child[1]);
        close(child.to_parent[0]);
        child_main();
    }
    close(child.to_child[0]);
    close(child.to_parent[1]);
    return child.pid > 0;
}

static void child_end(void)
{
    kill(child.pid, SIGKILL);
    waitpid(child.pid, NULL, 0);
    close(child.to_child[1]);
    close(child.to_parent[0]);
}

static void *map_shared(size_t bytes)
{
    void *got = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return got == MAP_FAILED ? NULL : got;
}

bool oracle_native_start(void)
{
    signal(SIGPIPE, SIG_IGN);
    oracle_cases = map_shared(ORACLE_BATCH * sizeof(*oracle_cases));
    oracle_outcomes = map_shared(ORACLE_BATCH * sizeof(*oracle_outcomes));
    child.done = map_shared(ORACLE_PAGE);
    return oracle_cases != NULL && oracle_outcomes != NULL && child.done != NULL && child_start();
}

void oracle_native_stop(void)
{
    child_end();
}

unsigned oracle_native_run(unsigned count)
{
    u8 byte = (u8)count;
    struct pollfd wait = {.fd = child.to_parent[0], .events = POLLIN};

    *child.done = 0;
    if (write(child.to_child[1], &byte, 1) == 1 && poll(&wait, 1, CASE_TIMEOUT_MS) == 1 &&
        read(child.to_parent[0], &byte, 1) == 1)
        return count;
    child_end();
    count = *child.done;
    if (!child_start())
        abort();
    return count;
}
