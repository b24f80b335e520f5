/*
 * dbt/interp/smp_test.c - tests of several vCPUs on threads of their own: locked operations, also
 * across pages, and code that one changes under the other.
 */
#include <pthread.h>

#include "dbt/interp/interp_test.h"

enum { CPUS = 2, ROUNDS = 20000 };

struct smp {
    struct test_guest *guest; /* its cpu is number 0 */
    struct cpu *cpus[CPUS];
};

static int setup(void **state)
{
    struct smp *smp = calloc(1, sizeof(*smp));
    assert_non_null(smp);
    smp->guest = test_guest_new();
    smp->cpus[0] = &smp->guest->cpu;
    for (unsigned i = 1; i < CPUS; i++) {
        smp->cpus[i] = aligned_alloc(64, sizeof(struct cpu));
        assert_non_null(smp->cpus[i]);
        memset(smp->cpus[i], 0, sizeof(struct cpu));
        assert_int_equal(cpu_init(smp->cpus[i], &smp->guest->group, i), 0);
    }
    *state = smp;
    return 0;
}

static int teardown(void **state)
{
    struct smp *smp = *state;
    for (unsigned i = 1; i < CPUS; i++) {
        cpu_fini(smp->cpus[i]);
        free(smp->cpus[i]);
    }
    test_guest_free(smp->guest);
    free(smp);
    return 0;
}

static void *thread(void *cpu)
{
    cpu_run(cpu);
    return NULL;
}

/* Runs all vCPUs from their RIPs to their halts; RDI is the vCPU's number, RCX the rounds. */
static void run_all(struct smp *smp, const u64 rip[CPUS])
{
    pthread_t threads[CPUS];
    for (unsigned i = 0; i < CPUS; i++) {
        struct x86_state state = smp->guest->state;
        state.rip = rip[i];
        state.gpr[X86_RSP] = TEST_STACK + i * 0x1000;
        state.gpr[X86_RDI] = i;
        state.gpr[X86_RCX] = ROUNDS;
        assert_int_equal(cpu_set_state(smp->cpus[i], &state), 0);
    }
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread, smp->cpus[i]), 0);
    for (unsigned i = 0; i < CPUS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(smp->cpus[i]->exit.kind, EXIT_HLT);
    }
}

static void run_code(struct smp *smp, const void *code, size_t bytes)
{
    test_long_mode(smp->guest);
    test_code(smp->guest, code, bytes);
    run_all(smp, (const u64[CPUS]){TEST_CODE, TEST_CODE});
}

static void locked_add(void **state)
{
    struct smp *smp = *state;
    /* mov ebx, TEST_DATA; l: lock inc dword [rbx]; lock add word [rbx + 8], 3; dec ecx; jnz l */
    run_code(smp, TEST_BYTES(0xbb, 0, 0, 2, 0, 0xf0, 0xff, 0x03, 0x66, 0xf0, 0x83, 0x43, 8, 3, 0xff,
                             0xc9, 0x75, 0xf3));
    assert_int_equal((u32)test_get(smp->guest, TEST_DATA), CPUS * ROUNDS);
    assert_int_equal((u16)test_get(smp->guest, TEST_DATA + 8), (u16)(CPUS * ROUNDS * 3));
}

static void exchange_as_lock(void **state)
{
    struct smp *smp = *state;
    /* mov ebx, TEST_DATA
     * l: mov eax, 1; xchg [rbx], eax; test eax, eax; jnz l
     * inc dword [rbx + 64]; mov dword [rbx], 0; dec ecx; jnz l */
    run_code(smp, TEST_BYTES(0xbb, 0, 0, 2, 0, 0xb8, 1, 0, 0, 0, 0x87, 0x03, 0x85, 0xc0, 0x75, 0xf5,
                             0xff, 0x43, 0x40, 0xc7, 0x03, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xe8));
    assert_int_equal((u32)test_get(smp->guest, TEST_DATA + 64), CPUS * ROUNDS);
}

static void locked_add_across_pages(void **state)
{
    struct smp *smp = *state;
    /* The same sum over two pages; ecx is cut to 500 rounds. */
    run_code(smp, TEST_BYTES(0xbb, 0xfd, 0x0f, 2, 0, 0xb9, 0xf4, 1, 0, 0, 0xf0, 0x48, 0x81, 0x03,
                             0x01, 0x01, 0x01, 0x01, 0xff, 0xc9, 0x75, 0xf4));
    assert_int_equal(test_get(smp->guest, TEST_DATA + 0xffd), 0x01010101ull * CPUS * 500);
}

static void wide_exchange(void **state)
{
    struct smp *smp = *state;
    /* mov esi, TEST_DATA; mov ebp, ecx
     * l: mov rax, [rsi]; mov rdx, [rsi + 8]
     * r: lea rbx, [rax + 1]; lea rcx, [rdx + 2]; lock cmpxchg16b [rsi]; jnz r; dec ebp; jnz l */
    run_code(smp, TEST_BYTES(0xbe, 0, 0, 2, 0, 0x89, 0xcd, 0x48, 0x8b, 0x06, 0x48, 0x8b, 0x56, 8,
                             0x48, 0x8d, 0x58, 1, 0x48, 0x8d, 0x4a, 2, 0xf0, 0x48, 0x0f, 0xc7, 0x0e,
                             0x75, 0xf1, 0xff, 0xcd, 0x75, 0xe6));
    assert_int_equal(test_get(smp->guest, TEST_DATA), CPUS * ROUNDS);
    assert_int_equal(test_get(smp->guest, TEST_DATA + 8), CPUS * ROUNDS * 2);
}

static void changed_code_is_seen_by_others(void **state)
{
    struct smp *smp = *state;
    struct test_guest *guest = smp->guest;
    test_long_mode(guest);
    /* Number 0 runs a loop that number 1 ends by changing it: l: mov al, 0; test al, al; jz l; hlt
     */
    test_code(guest, TEST_BYTES(0xb0, 0, 0x84, 0xc0, 0x74, 0xfa));
    /* l: dec ecx; jnz l; mov byte [TEST_CODE + 1], 1; hlt */
    memcpy(guest->ram + TEST_CODE + 0x2000, "\xff\xc9\x75\xfc\xc6\x04\x25\x01\x00\x01\x00\x01\xf4",
           13);
    run_all(smp, (const u64[CPUS]){TEST_CODE, TEST_CODE + 0x2000});
    assert_int_equal(smp->cpus[0]->gpr[X86_RAX] & 0xff, 1);
}

static void *syncer(void *ctx)
{
    struct smp *smp = ctx;
    for (unsigned i = 0; i < 200; i++)
        cpu_group_dirty_sync(&smp->guest->group);
    return NULL;
}

/* Marks that are cleared come back by the next write, while everybody runs. */
static void dirty_marks_come_back(void **state)
{
    struct smp *smp = *state;
    pthread_t thread_id;
    assert_int_equal(pthread_create(&thread_id, NULL, syncer, smp), 0);
    run_code(smp, TEST_BYTES(0xbb, 0, 0, 2, 0, 0xf0, 0xff, 0x03, 0xff, 0xc9, 0x75, 0xf9));
    assert_int_equal(pthread_join(thread_id, NULL), 0);
    assert_int_equal((u32)test_get(smp->guest, TEST_DATA), CPUS * ROUNDS);
    assert_true(mem_flag_clear(&smp->guest->mem, TEST_DATA, MEM_DIRTY));
    cpu_group_dirty_sync(&smp->guest->group);
    for (unsigned i = 0; i < CPUS; i++) {
        smp->cpus[i]->gpr[X86_RCX] = 1;
        smp->cpus[i]->rip = TEST_CODE + 5;
        smp->cpus[i]->activity = X86_ACTIVE;
    }
    cpu_run(smp->cpus[0]);
    assert_true(mem_flag_clear(&smp->guest->mem, TEST_DATA, MEM_DIRTY));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(locked_add),
        TEST(exchange_as_lock),
        TEST(locked_add_across_pages),
        TEST(wide_exchange),
        TEST(changed_code_is_seen_by_others),
        TEST(dirty_marks_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
