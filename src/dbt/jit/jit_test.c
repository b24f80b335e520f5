/*
 * dbt/jit/jit_test.c - the translator against the interpreter: random sequences of instructions
 * from the decoder's table, run by both from the same state, must leave the same registers and
 * memory.
 *
 * The guest is a small long-mode machine, which runs 64-bit code in one case and flat 32-bit code
 * in another: pages of code, of data, one that is read-only and one that is not there. All is
 * mapped at ALIASES addresses: user code runs at two of them, one after the other, the second time
 * as it was translated for the first, unless the second page of code is another there, as it is at
 * odd aliases. Its interrupt table is empty, so that a fault ends the case
 * as a shutdown with the faulting instruction's state. Arithmetic flags that are dead at a fault
 * may differ (jit/ front.c), and are compared only where the sequence ends in its HLT. Usage:
 * test_jit [cases [seed]].
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "core/mem.h"
#include "dbt/cpu.h"
#include "dbt/jit.h"
#include "dbt/jit/test_group.h"
#include "dbt/jit/show_test.h"
#include "dbt/jit/test_system.h"
#include "dbt/jit/test_ways.h"
#include "host/cpu.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"
#include "x86/cpuid.h"
#include "x86/decode.h"

enum {
    RAM_BYTES = 1 << 20,
    TABLES = 0x1000, /* four levels, a page each; the last again, for the odd aliases */
    CODE = 0x10000,
    CODE_BYTES = 0x2000,
    ALIASES = 4,
    ALIAS_BYTES = 2 << 20,
    DATA = 0x20000,
    DATA_BYTES = 0x4000,
    READ_ONLY = 0x22000,
    ABSENT = 0x23000,
    DEVICE = 0x40000, /* no memory */
    OTHER = 0x30000,  /* what odd aliases have as the second page of code */
    SEQUENCE_MAX = 24
};

static u8 *ram;
static struct mem mem;
static struct cpuid_model cpuid;
static u64 seed = 0x1234567;
static unsigned case_count = 20000;
static unsigned code_bytes; /* of the case */

static u64 random_u64(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1dull;
}

static unsigned below(unsigned limit)
{
    return (unsigned)((random_u64() >> 32) % limit);
}

/* ---- the engines ---- */

struct engine_under_test {
    struct cpu_group group;
    struct cpu *cpu;
    struct translator translator;
};
static struct engine_under_test interpreter, translator;

static void engine_make(struct engine_under_test *engine, bool with_jit)
{
    cpu_group_init(&engine->group, &mem, &cpuid);
    engine->cpu = alloc_zero(sizeof(struct cpu) + 64);
    engine->cpu = (struct cpu *)(((uintptr_t)engine->cpu + 63) & ~(uintptr_t)63);
    assert_int_equal(cpu_init(engine->cpu, &engine->group, 0), 0);
    if (!with_jit)
        return;
    assert_int_equal(translator_init(&engine->translator, engine->cpu, 4 << 20), 0);
}

/* ---- the guest ---- */

static void tables_make(void)
{
    for (unsigned level = 0; level < 3; level++)
        for (unsigned alias = 0; alias < (level == 2 ? ALIASES : 1); alias++)
            store_le64(ram + TABLES + level * 4096 + alias * 8ull,
                       TABLES + (level + 1 + (alias & 1)) * 4096 + 7);
    for (unsigned page = 0; page < RAM_BYTES / 4096; page++) {
        u64 entry = page * 4096ull + 0x67;
        if (page * 4096u - CODE >= CODE_BYTES) /* no jumping into random loops */
            entry |= BIT(63);
        if (page * 4096u == READ_ONLY)
            entry &= ~2ull;
        if (page * 4096u == ABSENT)
            entry = 0;
        if (page * 4096u == DEVICE)
            entry |= 2 * RAM_BYTES;
        store_le64(ram + TABLES + 3 * 4096 + page * 8ull, entry);
        store_le64(ram + TABLES + 4 * 4096 + page * 8ull, entry);
    }
    store_le64(ram + TABLES + 4 * 4096 + (CODE / 4096 + 1) * 8, OTHER | 0x67);
}

static struct x86_seg flat_segment(u16 selector, u16 attr)
{
    return (struct x86_seg){.limit = 0xffffffff, .selector = selector, .attr = attr};
}

static void state_random(struct x86_state *state)
{
    x86_state_reset(state, true);
    state->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    state->cr3 = TABLES;
    state->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    state->xcr0 = 7;
    state->msr.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
    bool user = below(2);
    u16 code_size = code_bytes == 8 ? 0xa000 : 0xc000;
    state->seg[X86_CS] = flat_segment(user ? 8 | 3 : 8, code_size | (user ? 0xfb : 0x9b));
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        if (i != X86_CS)
            state->seg[i] = flat_segment(user ? 16 | 3 : 16, user ? 0xc0f3 : 0xc093);
    /* What wraps at 4 GiB and stays in a page may fault or not; from a page's start it leaves it.
     */
    state->seg[X86_GS].base = code_bytes == 8 ? DATA + 64 : DATA;
    if (code_bytes == 4) { /* one that has limits: translated code must not take it for whole */
        state->seg[X86_FS].base = 0 - (u64)below(2) * 256;
        state->seg[X86_FS].limit = below(2) ? DATA + 0xfff : UINT32_MAX;
        state->seg[X86_FS].attr ^= below(4) ? 0 : 2; /* read only */
    }
    state->idtr.limit = 0;
    state->rip = CODE + (below(2) ? below(64) : 4096 - below(96));
    state->rflags = X86_FLAG_FIXED | (random_u64() & X86_ARITH_FLAGS);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++) {
        unsigned kind = below(16);
        state->gpr[i] = kind == 0   ? random_u64()
                        : kind == 1 ? below(256)
                                    : DATA + 512 + below(0x180) * (kind == 2 ? 1 : 8);
    }
    state->gpr[X86_RSP] = DATA + 0x1000 + below(16) * 8;
    if (code_bytes == 8)
        test_system_state(state, random_u64, CODE + 4096 - 256);
    for (unsigned i = 0; i < 8 && code_bytes == 4; i++) /* what 64-bit code left there */
        state->gpr[i] |= below(3) ? 0 : random_u64() << 32;
    for (unsigned i = 0; i < 16; i++) /* XMM registers; x87 and MXCSR stay as after FNINIT */
        store_le64(state->xsave + 160 + i * 8ull, random_u64());
    store_le64(state->xsave + 512, 3);
}

/* ---- random instructions ---- */

/* Appends legal and illegal prefixes and the opcode of DESC, as its pattern says. */
static unsigned encode_opcode(const struct insn_desc *desc, u8 *to)
{
    const struct insn_pattern *pattern = &desc->pattern;
    unsigned at = 0, w = pattern->w == PATTERN_ANY ? below(2) : pattern->w;
    unsigned rex = (below(8) & (code_bytes == 8 ? 7 : 1)) | w << 3;
    if (pattern->vex) {
        static const u8 pp[] = {0, 0, 1, 2, 3, 0};
        unsigned l = pattern->l == PATTERN_ANY ? below(2) : pattern->l;
        to[at++] = 0xc4;
        to[at++] = (u8)((~rex & 7) << 5 | pattern->map);
        to[at++] = (u8)(w << 7 | (below(3) ? below(16) : 15) << 3 | l << 2 | pp[pattern->prefix]);
    } else {
        if (pattern->prefix == PREFIX_66 || (pattern->prefix == PREFIX_ANY && below(6) == 0))
            to[at++] = 0x66;
        if ((desc->attr & ATTR_LOCK) && below(4) == 0)
            to[at++] = 0xf0;
        if (below(24) == 0)
            to[at++] = 0x65; /* GS */
        if (code_bytes == 4 && below(16) == 0)
            to[at++] = (u8[]){0x64, 0x2e, 0x36, 0x67}[below(4)]; /* FS, CS, SS, 16-bit address */
        if (pattern->prefix == PREFIX_F3)
            to[at++] = 0xf3;
        if (pattern->prefix == PREFIX_F2)
            to[at++] = 0xf2;
        if (code_bytes == 8 && (rex & 8 || below(2)))
            to[at++] = (u8)(0x40 | rex);
        if (pattern->map > 0)
            to[at++] = 0x0f;
        if (pattern->map > 1)
            to[at++] = pattern->map == 2 ? 0x38 : 0x3a;
    }
    unsigned count = pattern->opcode_count ? pattern->opcode_count : 1;
    to[at++] = (u8)(pattern->opcode + below(count));
    return at;
}

/* One instruction of DESC (or of whatever the random bytes turn out to be); its length, or 0. */
static unsigned random_insn(const struct insn_desc *desc, u8 *to)
{
    const struct insn_pattern *pattern = &desc->pattern;
    u8 bytes[32];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (u8)random_u64();
    unsigned at = encode_opcode(desc, bytes);
    unsigned mod = pattern->mod == MOD_REGISTER ? 3
                   : pattern->mod == MOD_MEMORY ? below(3)
                                                : below(4);
    unsigned reg = pattern->reg == PATTERN_ANY ? below(8) : pattern->reg;
    unsigned rm = pattern->rm == PATTERN_ANY ? below(8) : pattern->rm;
    if (desc->attr & ATTR_MODRM) {
        bytes[at++] = (u8)(mod << 6 | reg << 3 | rm);
        if (mod != 3 && rm == 4)
            bytes[at++] = (u8)(below(4) ? 0x20 | below(8) : random_u64()); /* mostly no index */
        if (mod == 2 || (mod == 0 && rm == 5))
            store_le32(bytes + at,
                       mod == 2 ? below(256) : DATA - (code_bytes == 8 ? CODE : 0) + below(4096));
    } else if (desc->op == OP_JCC || desc->op == OP_JMP || desc->op == OP_CALL ||
               desc->op == OP_JCXZ) {
        store_le32(bytes + at, below(12));
    }
    struct insn insn;
    if (decode(bytes, INSN_MAX_BYTES, code_bytes, &insn) != DECODE_OK ||
        !test_system_usable(insn.desc, code_bytes))
        return 0;
    memcpy(to, bytes, insn.length);
    if (insn.desc->flags_undefined == 0)
        return insn.length;
    /* What is undefined must not be read: CMP EAX, EAX follows. */
    to[insn.length] = 0x39;
    to[insn.length + 1] = 0xc0;
    return insn.length + 2u;
}

static const struct insn_desc *random_desc(void)
{
    static const u16 common[] = {OP_MOV, OP_ADD,   OP_CMP,    OP_JCC,   OP_PUSH,
                                 OP_POP, OP_LEA,   OP_CALL,   OP_RET,   OP_ADC,
                                 OP_SHL, OP_SETCC, OP_CMOVCC, OP_MOVZX, OP_JMP};
    for (;;) {
        const struct insn_desc *desc = &insn_descs[below(insn_desc_count)];
        if (!test_system_usable(desc, code_bytes) || desc->op == OP_HLT)
            continue;
        if (below(2) == 0)
            return desc;
        u16 op = common[below(ARRAY_LEN(common))];
        if (desc->op == op)
            return desc;
    }
}

/* Makes the branch at offset AT lead to TARGET, where its displacement can. */
static void branch_aim(unsigned at, unsigned target)
{
    struct insn insn;
    if (decode(ram + at, INSN_MAX_BYTES, code_bytes, &insn) != DECODE_OK ||
        insn.desc->operand[0].kind != OPERAND_J)
        return;
    unsigned distance = target - at - insn.length, imm = at + insn.imm_offset;
    if (insn.length - insn.imm_offset == 4)
        store_le32(ram + imm, distance);
    else
        ram[imm] = (u8)(distance < 128 ? distance : 0);
}

/* Instructions and then HLT; branches lead forwards, to the start of an instruction. */
static void sequence_make(u64 rip)
{
    unsigned starts[SEQUENCE_MAX + 1], count = 1 + below(SEQUENCE_MAX), at = (unsigned)rip;
    memset(ram + CODE, 0xf4, CODE_BYTES);
    memset(ram + OTHER, 0xf4, 4096);
    memset(ram + OTHER, 0xee, 16); /* OUT: 0xf4 could end an RDRAND */
    for (unsigned n = 0; n < count;) {
        unsigned bytes = random_insn(random_desc(), ram + at);
        if (bytes > 0)
            starts[n++] = at;
        at += bytes;
    }
    starts[count] = at;
    for (unsigned n = 0; n < count; n++)
        branch_aim(starts[n], starts[n + 1 + below(count - n)]);
}

/* Instructions on few bases, which lie before the ends of pages: of data, of what cannot be written
 * or is not there, of code, of an alias, and of a device. */
static void group_make(struct x86_state *state)
{
    const struct test_group group = {
        random_u64,
        {DATA, DATA + 0x1000, READ_ONLY, ALIAS_BYTES + DATA, CODE + 4096, OTHER, DEVICE - 4096},
        7};
    state->rip = CODE + below(64);
    memset(ram + CODE, 0xf4, CODE_BYTES);
    memset(ram + OTHER, 0xf4, 4096);
    test_group_state(&group, state);
    (void)test_group_sequence(&group, ram + state->rip, 2048);
}

/* Routines that call one another. Both second pages are the same, so that no flags are lost. */
static void ways_make(struct x86_state *state)
{
    memset(ram + CODE, 0xf4, CODE_BYTES);
    state->rip = CODE + test_ways_make(random_u64, ram + CODE, ram + CODE + 4096);
    memcpy(ram + OTHER, ram + CODE + 4096, 4096);
}

/* ---- comparing ---- */

/* A case that does not end by itself is stopped, and not counted. */
static void stop_endless_case(int number)
{
    cpu_request(interpreter.cpu, ATTENTION_EXIT);
    cpu_request(translator.cpu, ATTENTION_EXIT);
}

static bool run(struct engine_under_test *engine, const struct x86_state *from,
                struct x86_state *to)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 100000}}, never = {0};
    bool ended = false;
    struct err err;
    assert_int_equal(trap_thread_begin(engine->cpu, &err), 0);
    assert_int_equal(cpu_set_state(engine->cpu, from), 0);
    mmu_flush_all(engine->cpu);
    setitimer(ITIMER_REAL, &soon, NULL);
    for (unsigned exits = 0; exits < 64 && !ended; exits++) {
        cpu_run(engine->cpu);
        engine->cpu->exit.value = 0x5a;
        ended = engine->cpu->exit.kind == EXIT_HLT || engine->cpu->exit.kind == EXIT_SHUTDOWN;
        if (engine->cpu->exit.kind == EXIT_KICKED)
            break;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    __atomic_store_n(&engine->cpu->attention, 0, __ATOMIC_SEQ_CST);
    cpu_get_state(engine->cpu, to);
    return ended;
}

/* Puts zeros where XSTATE_BV says that a component is in its initial state. */
static void normalize(struct x86_state *state)
{
    u64 present = load_le64(state->xsave + 512);
    if (!(present & 2))
        memset(state->xsave + 160, 0, 256);
    if (!(present & 4))
        memset(state->xsave + 576, 0, 256);
    store_le64(state->xsave + 512, 0);
}

/* Whether the sequence has come to its HLT, which faults in user mode. */
static bool halted(const struct x86_state *state)
{
    u64 at = state->rip % ALIAS_BYTES - (state->activity != X86_SHUTDOWN);
    return at - CODE < CODE_BYTES && ram[at] == 0xf4;
}

static bool same(const struct x86_state *a, const struct x86_state *b, const u8 *ram_a)
{
    /* Flags may be lost on the way into a page that was another one before (jit/ link.c). */
    bool remapped = a->rip / ALIAS_BYTES & 1;
    u64 flags = halted(a) && !remapped ? ~0ull : ~(u64)X86_ARITH_FLAGS;
    return test_system_same(a, b) && a->rip == b->rip && ((a->rflags ^ b->rflags) & flags) == 0 &&
           a->cr2 == b->cr2 && a->activity == b->activity &&
           memcmp(a->xsave + 24, b->xsave + 24, 4) == 0 &&
           memcmp(a->xsave + 160, b->xsave + 160, 256) == 0 &&
           memcmp(a->xsave + 576, b->xsave + 576, 256) == 0 &&
           memcmp(ram_a, ram + CODE, DATA + DATA_BYTES - CODE) == 0;
}

struct tally { /* of all cases */
    unsigned halted, differences;
};

/* Makes memory RAM_FROM; engines are told of code that is other code then. */
static void memory_restore(const u8 *ram_from)
{
    bool same_code = memcmp(ram + CODE, ram_from + CODE, CODE_BYTES) == 0 &&
                     memcmp(ram + OTHER, ram_from + OTHER, 4096) == 0;
    memcpy(ram, ram_from, RAM_BYTES);
    if (same_code)
        return;
    cpu_group_code_written(&interpreter.group, 0, RAM_BYTES);
    cpu_group_code_written(&translator.group, 0, RAM_BYTES);
}

/* Runs memory RAM_FROM from state FROM by both. */
static void compare(const struct x86_state *from, const u8 *ram_from, u8 *ram_a, unsigned number,
                    struct tally *tally)
{
    static struct x86_state a, b;
    memory_restore(ram_from);
    bool ended = run(&interpreter, from, &a);
    memcpy(ram_a, ram, RAM_BYTES);
    memory_restore(ram_from);
    jit_heat(translator.cpu, below(2));
    ended &= run(&translator, from, &b);
    tally->halted += halted(&a);
    normalize(&a);
    normalize(&b);
    /* A branch to a non-canonical address faults before the branch in the interpreter, after it in
     * translated code. */
    bool wild = b.activity == X86_SHUTDOWN && code_bytes == 8 &&
                (u64)((s64)(b.rip << 16) >> 16) != b.rip;
    if (!ended || wild || same(&a, &b, ram_a + CODE))
        return;
    printf("case %u:\n", number);
    show_states(from, &a, &b);
    show_code(ram + from->rip % ALIAS_BYTES, code_bytes);
    for (unsigned at = CODE; at < DATA + DATA_BYTES; at++)
        if (ram_a[at] != ram[at])
            printf("  memory %x: %02x %02x\n", at, ram_a[at], ram[at]);
    tally->differences++;
}

static void test_random_sequences(void **unused)
{
    static struct x86_state from;
    u8 *ram_from = malloc(RAM_BYTES), *ram_a = malloc(RAM_BYTES);
    struct tally tally = {0, 0};
    struct err err;
    struct sigaction alarm_action = {.sa_handler = stop_endless_case, .sa_flags = SA_ONSTACK};
    assert_int_equal(trap_install(&err), 0); /* after cmocka's own handlers */
    sigaction(SIGALRM, &alarm_action, NULL);
    for (unsigned n = 0; n < case_count && tally.differences < 3; n++) {
        code_bytes = n & 1 ? 4 : 8;
        state_random(&from);
        unsigned kind = code_bytes == 8 ? below(6) : 5;
        if (kind == 0)
            ways_make(&from);
        else if (kind < 3)
            group_make(&from);
        else
            sequence_make(from.rip);
        for (unsigned i = 0; i < DATA_BYTES; i += 8)
            store_le64(ram + DATA + i, below(3) ? DATA + below(0x3000) : random_u64());
        tables_make();
        cpu_group_code_written(&interpreter.group, 0, RAM_BYTES);
        cpu_group_code_written(&translator.group, 0, RAM_BYTES);
        memcpy(ram_from, ram, RAM_BYTES);
        bool user = from.seg[X86_CS].selector & 3;
        for (unsigned pass = 0; pass <= user; pass++) {
            if (user)
                from.rip = from.rip % ALIAS_BYTES + below(ALIASES) * (u64)ALIAS_BYTES;
            compare(&from, ram_from, ram_a, n, &tally);
        }
    }
    printf("%u cases, %u to their end, %u differences\n", case_count, tally.halted,
           tally.differences);
    free(ram_from);
    free(ram_a);
    assert_int_equal(tally.differences, 0);
    assert_true(tally.halted > case_count / 20);
}

static int setup(void **unused)
{
    static struct cpuid_entry entries[CPUID_HOST_MAX];
    struct err err;
    struct cpuid_config config = {.host = entries, .cpu_count = 1, .tsc_hz = 2000000000};
    config.host_count = cpuid_collect(cpu_cpuid, entries, ARRAY_LEN(entries));
    cpuid_model_init(&cpuid, &config);
    ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mem_init(&mem);
    if (mem_add(&mem, 0, RAM_BYTES, ram, false) < 0 || trap_install(&err) < 0)
        return -1;
    engine_make(&interpreter, false);
    engine_make(&translator, true);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_sequences)};
    if (argc > 1)
        case_count = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    return cmocka_run_group_tests_name("jit", tests, setup, NULL);
}
