/*
 * dbt/jit/share_test.c - vCPUs on threads of their own that share translated code: regions emptied
 * under them, links made and undone, code that one rewrites while the other executes it.
 *
 * Code memory is so small that regions are emptied all the time.
 */
#include <pthread.h>

#include "dbt/interp/interp_test.h"
#include "dbt/jit/jit_priv.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"

enum {
    CPUS = 3,
    CODE_CACHE_BYTES = 256 << 10,
    FIELD = 0x60000, /* functions */
    FIELD_BYTES = 0x100000,
    CELL_BYTES = 512,
    CELLS = FIELD_BYTES / CELL_BYTES,
    HOPS = 15000,
    FUNCTION_BYTES = 256,
    FUNCTIONS = 64,
    VERSIONS = 30,
    LAST = 0x20000, /* data: what each function returned last */
    DONE = 0x21000
};

struct share {
    struct test_guest *guest; /* its cpu is number 0 */
    struct cpu *cpus[CPUS];
    struct translator_cache cache;
    struct translator translators[CPUS];
};

static u64 seed = 0x2545f4914f6cdd1dull;

static u32 random_u32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 16);
}

static int setup(void **state)
{
    struct share *share = calloc(1, sizeof(*share));
    assert_non_null(share);
    share->guest = test_guest_new();
    test_long_mode(share->guest);
    struct cpu_group *group = &share->guest->group;
    assert_int_equal(translator_cache_init(&share->cache, group, CODE_CACHE_BYTES), 0);
    for (unsigned i = 0; i < CPUS; i++) {
        struct cpu *cpu = i == 0 ? &share->guest->cpu : aligned_alloc(64, sizeof(struct cpu));
        assert_non_null(cpu);
        if (i > 0) {
            memset(cpu, 0, sizeof(*cpu));
            assert_int_equal(cpu_init(cpu, group, i), 0);
        }
        assert_int_equal(translator_share(&share->translators[i], cpu, &share->cache), 0);
        share->cpus[i] = cpu;
    }
    *state = share;
    return 0;
}

static int teardown(void **state)
{
    struct share *share = *state;
    for (unsigned i = 0; i < CPUS; i++) {
        translator_fini(&share->translators[i], share->cpus[i]);
        if (i > 0) {
            cpu_fini(share->cpus[i]);
            free(share->cpus[i]);
        }
    }
    translator_cache_fini(&share->cache);
    test_guest_free(share->guest);
    free(share);
    return 0;
}

/* ---- running ---- */

/* To the guest's HLT; a kick that stands for nothing is not the end, unless STOP. */
static bool stop;

static void *thread(void *ctx)
{
    struct cpu *cpu = ctx;
    /* Not before: cmocka has handlers of its own for each test. */
    if (trap_install(NULL) != 0 || trap_thread_begin(cpu, NULL) != 0)
        return NULL;
    do
        cpu_run(cpu);
    while (cpu->exit.kind == EXIT_KICKED && !__atomic_load_n(&stop, __ATOMIC_SEQ_CST));
    trap_thread_end();
    return NULL;
}

static void start(struct share *share, unsigned number, const struct x86_state *from,
                  pthread_t *ret_thread)
{
    struct x86_state state = *from;
    state.gpr[X86_RSP] = TEST_STACK + number * 0x1000;
    assert_int_equal(cpu_set_state(share->cpus[number], &state), 0);
    assert_int_equal(pthread_create(ret_thread, NULL, thread, share->cpus[number]), 0);
}

static void finish(struct share *share, unsigned number, pthread_t id)
{
    const struct cpu *cpu = share->cpus[number];
    assert_int_equal(pthread_join(id, NULL), 0);
    if (cpu->exit.kind == EXIT_FAILED)
        print_message("%s\n", cpu->exit.reason);
}

/* ---- the cache's own order ---- */

static const u8 *branch_target(const struct jit *jit, u32 displacement)
{
    const u8 *at = jit_rw(jit, displacement);
    return at + 4 + (s32)load_le32(at);
}

static void check_exit(const struct jit *jit, u32 number)
{
    const struct jit_exit *exit = &jit->exits[number];
    assert_true(exit->jump % 8 <= 4); /* patched while it may run */
    if (exit->target == JIT_NONE) {
        assert_ptr_equal(branch_target(jit, exit->jump), jit_rw(jit, exit->stub));
        return;
    }
    const struct jit_block *block = &jit->blocks[exit->target];
    assert_int_not_equal(block->page, JIT_NONE);
    u32 to = exit->leaves_page ? exit->guard : block->code;
    assert_ptr_equal(branch_target(jit, exit->jump), jit_rw(jit, to));
    if (exit->leaves_page) {
        assert_true((exit->guard + exit->guard_jump) % 8 <= 4);
        assert_ptr_equal(branch_target(jit, exit->guard + exit->guard_jump),
                         jit_rw(jit, block->code));
    }
    if (exit->prev_in == JIT_NONE)
        assert_int_equal(block->linked_in, number);
    else
        assert_int_equal(jit->exits[exit->prev_in].next_in, number);
    if (exit->next_in != JIT_NONE)
        assert_int_equal(jit->exits[exit->next_in].prev_in, number);
}

static void check_block(const struct jit *jit, u32 number)
{
    const struct jit_block *block = &jit->blocks[number];
    if (block->page == JIT_NONE) {
        assert_int_equal(block->linked_in, JIT_NONE);
        return;
    }
    assert_int_equal(jit_find(jit, block->rip, block->page, block->mode), number);
    if (block->prev_in_page == JIT_NONE)
        assert_int_equal(jit->pages[block->page].blocks, number);
    else
        assert_int_equal(jit->blocks[block->prev_in_page].next_in_page, number);
}

static void check_cache(const struct jit *jit)
{
    for (unsigned i = 0; i < jit->region_count; i++) {
        const struct jit_region *region = &jit->regions[i];
        assert_true(region->code.next <= region->code.end);
        assert_true(region->code.end <= jit->memory.bytes);
        for (u32 k = region->exits.first; k < region->exits.next; k++)
            check_exit(jit, k);
        for (u32 k = region->blocks.first; k < region->blocks.next; k++)
            check_block(jit, k);
        for (u32 k = region->traps.first; k + 1 < region->traps.next; k++)
            assert_true(jit->traps[k].code < jit->traps[k + 1].code);
    }
}

/* ---- a field of cells, each of which leads to another one ---- */

static u32 adds[CELLS], next_cells[CELLS];

/* eax += ADD; rol eax, 5; every third by a call; then HLT after RCX cells, or on to the next. */
static void cell_make(u8 *ram, unsigned cell)
{
    u32 base = FIELD + cell * CELL_BYTES, to = FIELD + next_cells[cell] * CELL_BYTES;
    u32 at = base + random_u32() % 64;
    u8 *code = ram + base;
    unsigned n = 0;
    memset(code, 0x90, at - base);
    n = at - base;
    if (cell % 3 == 1) { /* call what is at the cell's end: add eax, imm32; ret */
        code[n] = 0xe8;
        store_le32(code + n + 1, 256 - n - 5);
        n += 5;
        code[256] = 5;
        store_le32(code + 257, adds[cell]);
        code[261] = 0xc3;
    } else {
        code[n] = 5;
        store_le32(code + n + 1, adds[cell]);
        n += 5;
    }
    memcpy(code + n, "\xc1\xc0\x05\xff\xc9\x75\x01\xf4", 8); /* rol; dec ecx; jnz over; hlt */
    n += 8;
    if (cell % 3 == 2) { /* mov edx, imm32; jmp rdx */
        code[n] = 0xba;
        store_le32(code + n + 1, to);
        memcpy(code + n + 5, "\xff\xe2", 2);
    } else {
        code[n] = 0xe9;
        store_le32(code + n + 1, to - (base + n + 5));
    }
}

static void field_make(u8 *ram)
{
    for (unsigned i = 0; i < CELLS; i++) {
        adds[i] = random_u32();
        next_cells[i] = i;
    }
    for (unsigned i = CELLS - 1; i > 0; i--) { /* one cycle through all */
        unsigned k = random_u32() % i;
        u32 other = next_cells[i];
        next_cells[i] = next_cells[k];
        next_cells[k] = other;
    }
    for (unsigned i = 0; i < CELLS; i++)
        cell_make(ram, i);
}

static u32 field_expected(u32 eax, unsigned cell)
{
    for (unsigned i = 0; i < HOPS; i++, cell = next_cells[cell]) {
        eax += adds[cell];
        eax = eax << 5 | eax >> 27;
    }
    return eax;
}

/* Writes what is there, at places that a multiplication chooses, until it is kicked:
 * l: imul ebx, ebx, 1664525; add ebx, 1013904223; mov esi, ebx; shr esi, 12; and esi, 0xffffc
 * mov eax, [rsi + FIELD]; mov [rsi + FIELD], eax; mov edx, 4000; w: dec edx; jnz w; jmp l */
static const u8 disturb[] = {0x69, 0xdb, 0x0d, 0x66, 0x19, 0x00, 0x81, 0xc3, 0x5f, 0xf3, 0x6e, 0x3c,
                             0x89, 0xde, 0xc1, 0xee, 0x0c, 0x81, 0xe6, 0xfc, 0xff, 0x0f, 0x00, 0x8b,
                             0x86, 0x00, 0x00, 0x06, 0x00, 0x89, 0x86, 0x00, 0x00, 0x06, 0x00, 0xba,
                             0xa0, 0x0f, 0x00, 0x00, 0xff, 0xca, 0x75, 0xfc, 0xeb, 0xd2};

static void run_field(struct share *share, unsigned runners, bool disturbed)
{
    pthread_t ids[CPUS];
    struct x86_state state = share->guest->state;
    stop = false;
    for (unsigned i = 0; i < runners; i++) {
        state.rip = FIELD + i * 700 * CELL_BYTES;
        state.gpr[X86_RAX] = i + 1;
        state.gpr[X86_RCX] = HOPS;
        start(share, i, &state, &ids[i]);
    }
    memcpy(share->guest->ram + TEST_CODE, disturb, sizeof(disturb));
    state.rip = TEST_CODE;
    if (disturbed)
        start(share, CPUS - 1, &state, &ids[CPUS - 1]);
    for (unsigned i = 0; i < 50; i++) {
        cpu_group_dirty_sync(&share->guest->group);
        cpu_request(share->cpus[i % runners], ATTENTION_EXIT);
    }
    for (unsigned i = 0; i < runners; i++)
        finish(share, i, ids[i]);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    cpu_request(share->cpus[CPUS - 1], ATTENTION_EXIT);
    if (disturbed)
        finish(share, CPUS - 1, ids[CPUS - 1]);
    for (unsigned i = 0; i < runners; i++) {
        assert_int_equal(share->cpus[i]->exit.kind, EXIT_HLT);
        assert_int_equal((u32)share->cpus[i]->gpr[X86_RAX], field_expected(i + 1, i * 700));
    }
    check_cache(share->cache.jit);
}

static void test_regions_are_emptied(void **state)
{
    struct share *share = *state;
    field_make(share->guest->ram);
    run_field(share, 1, false);
    u64 alone = share->cache.jit->evict_count;
    assert_true(alone > 8);
    run_field(share, 2, false);
    assert_true(share->cache.jit->evict_count > alone + 8);
}

static void test_links_are_undone(void **state)
{
    struct share *share = *state;
    field_make(share->guest->ram);
    run_field(share, 2, true);
    assert_true(share->cache.jit->invalidated_blocks > 0);
}

/* ---- code that one vCPU rewrites and another executes ---- */

static void test_rewritten_by_another(void **state)
{
    struct share *share = *state;
    u8 *ram = share->guest->ram;
    struct x86_state from = share->guest->state;
    pthread_t ids[2];
    /* r: mov ebx, FIELD + 3; mov esi, LAST; mov ebp, FUNCTIONS; mov r12d, [DONE]
     * mov rax, cr3; mov cr3, rax
     * c: call rbx; cmp eax, [rsi]; jb bad; mov [rsi], eax; add ebx, 256; add esi, 4; dec ebp
     * jnz c; test r12d, r12d; jz r; xor edi, edi; hlt; bad: mov edi, 1; hlt */
    static const u8 reader[] = {
        0xbb, 0x03, 0x00, 0x06, 0x00, 0xbe, 0x00, 0x00, 0x02, 0x00, 0xbd, FUNCTIONS, 0x00,
        0x00, 0x00, 0x44, 0x8b, 0x24, 0x25, 0x00, 0x10, 0x02, 0x00, 0x0f, 0x20,      0xd8,
        0x0f, 0x22, 0xd8, 0xff, 0xd3, 0x3b, 0x06, 0x72, 0x17, 0x89, 0x06, 0x81,      0xc3,
        0x00, 0x01, 0x00, 0x00, 0x83, 0xc6, 0x04, 0xff, 0xcd, 0x75, 0xeb, 0x45,      0x85,
        0xe4, 0x74, 0xc9, 0x31, 0xff, 0xf4, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xf4};
    /* mov edx, 1; r: mov ebx, FIELD + 4; mov ebp, FUNCTIONS
     * w: mov [rbx], edx; add ebx, 256; dec ebp; jnz w; inc edx; cmp edx, VERSIONS + 1; jne r
     * mov dword [DONE], 1; hlt */
    static const u8 writer[] = {0xba, 0x01,         0x00, 0x00, 0x00, 0xbb, 0x04, 0x00, 0x06, 0x00,
                                0xbd, FUNCTIONS,    0x00, 0x00, 0x00, 0x89, 0x13, 0x81, 0xc3, 0x00,
                                0x01, 0x00,         0x00, 0xff, 0xcd, 0x75, 0xf4, 0xff, 0xc2, 0x81,
                                0xfa, VERSIONS + 1, 0x00, 0x00, 0x00, 0x75, 0xe0, 0xc7, 0x04, 0x25,
                                0x00, 0x10,         0x02, 0x00, 0x01, 0x00, 0x00, 0x00, 0xf4};
    for (unsigned i = 0; i < FUNCTIONS; i++) /* mov eax, 0; ret */
        memcpy(ram + FIELD + i * FUNCTION_BYTES + 3, "\xb8\0\0\0\0\xc3", 6);
    memcpy(ram + TEST_CODE, reader, sizeof(reader));
    memcpy(ram + TEST_CODE + 0x2000, writer, sizeof(writer));
    stop = false;
    from.rip = TEST_CODE;
    start(share, 0, &from, &ids[0]);
    from.rip = TEST_CODE + 0x2000;
    start(share, 1, &from, &ids[1]);
    for (unsigned i = 0; i < 2; i++)
        finish(share, i, ids[i]);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(share->cpus[i]->exit.kind, EXIT_HLT);
    assert_int_equal(share->cpus[0]->gpr[X86_RDI], 0);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        assert_int_equal(load_le32(ram + LAST + i * 4), VERSIONS);
    check_cache(share->cache.jit);
}

/* Each rewrites a function of its own and calls it at once; all are in one page. */
static void test_rewritten_by_itself(void **state)
{
    struct share *share = *state;
    u8 *ram = share->guest->ram;
    struct x86_state from = share->guest->state;
    pthread_t ids[CPUS];
    /* l: mov [rbx + 1], ecx; call rbx; cmp eax, ecx; jne bad; dec ecx; jnz l; xor edi, edi; hlt
     * bad: mov edi, 1; hlt */
    static const u8 code[] = {0x89, 0x4b, 0x01, 0xff, 0xd3, 0x39, 0xc8, 0x75, 0x07, 0xff, 0xc9,
                              0x75, 0xf3, 0x31, 0xff, 0xf4, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xf4};
    memcpy(ram + TEST_CODE, code, sizeof(code));
    stop = false;
    for (unsigned i = 0; i < CPUS; i++) {
        memcpy(ram + FIELD + i * 64, "\xb8\0\0\0\0\xc3", 6);
        from.rip = TEST_CODE;
        from.gpr[X86_RBX] = FIELD + i * 64;
        from.gpr[X86_RCX] = 3000;
        start(share, i, &from, &ids[i]);
    }
    for (unsigned i = 0; i < CPUS; i++)
        finish(share, i, ids[i]);
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(share->cpus[i]->exit.kind, EXIT_HLT);
        assert_int_equal(share->cpus[i]->gpr[X86_RDI], 0);
    }
    check_cache(share->cache.jit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_regions_are_emptied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_are_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewritten_by_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewritten_by_itself, setup, teardown),
    };
    return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
