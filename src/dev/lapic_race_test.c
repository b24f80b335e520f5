/*
 * dev/lapic_race_test.c - posts from many threads against one vCPU's thread that looks only when it
 * is kicked: none is lost, none is doubled.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dev/lapic.h"

enum { POSTERS = 4, POSTS = 5000, FIRST_VECTOR = 0x40, EOI_REGISTER = 0xb0, SVR = 0xf0 };
#define LIMIT_NS 60000000000ull

static struct apic_bus *bus;
static u32 is_kicked;        /* atomic */
static u32 taken[POSTERS];   /* atomic: how often each vector was delivered */
static u32 nmi_taken, ended; /* atomic */
static u64 started_ns;

static void kick(void *ctx, unsigned index)
{
    __atomic_store_n(&is_kicked, 1, __ATOMIC_SEQ_CST);
}

static void eoi(void *ctx, u8 vector)
{
}

static int extint_ack(void *ctx)
{
    return -1;
}

static u64 guest_tsc(void *ctx, unsigned index)
{
    return 0;
}

static bool in_time(void)
{
    return clock_monotonic_ns() - started_ns < LIMIT_NS;
}

/* Each posts its own vector, and the next one only after the last was taken. */
static void *post(void *ctx)
{
    unsigned which = (unsigned)(uintptr_t)ctx;

    for (u32 i = 0; i < POSTS && in_time(); i++) {
        apic_bus_msi(bus, 0xfee00000, FIRST_VECTOR + which * 0x11);
        while (__atomic_load_n(&taken[which], __ATOMIC_SEQ_CST) != i + 1 && in_time())
            sched_yield();
    }
    __atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* NMIs are events: kicked for one by one. */
static void *post_nmi(void *ctx)
{
    for (u32 i = 0; i < POSTS && in_time(); i++) {
        apic_bus_msi(bus, 0xfee00000, 0x400);
        while (__atomic_load_n(&nmi_taken, __ATOMIC_SEQ_CST) != i + 1 && in_time())
            sched_yield();
    }
    __atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void run_vcpu(struct lapic *lapic)
{
    while (__atomic_load_n(&ended, __ATOMIC_SEQ_CST) != POSTERS + 1 && in_time()) {
        if (!__atomic_exchange_n(&is_kicked, 0, __ATOMIC_SEQ_CST)) {
            sched_yield();
            continue;
        }
        u8 start;
        if (lapic_events_take(lapic, &start) & LAPIC_EVENT_NMI)
            __atomic_fetch_add(&nmi_taken, 1, __ATOMIC_SEQ_CST);
        while (lapic_pending(lapic)) {
            int vector = lapic_ack(lapic);
            assert_true(vector >= FIRST_VECTOR);
            lapic_write(lapic, EOI_REGISTER, 4, 0);
            __atomic_fetch_add(&taken[(vector - FIRST_VECTOR) / 0x11], 1, __ATOMIC_SEQ_CST);
        }
    }
}

static void test_no_post_is_lost(void **state)
{
    struct vm_clock clock;
    struct apic_host host = {kick, eoi, extint_ack, guest_tsc, 1000000000, NULL, NULL};
    pthread_t threads[POSTERS + 1];

    vm_clock_init(&clock);
    bus = apic_bus_new(&clock, &host, 2);
    struct lapic *lapic = apic_bus_lapic(bus, 0);
    lapic_write(lapic, SVR, 4, 0x1ff);
    started_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post, (void *)(uintptr_t)i), 0);
    assert_int_equal(pthread_create(&threads[POSTERS], NULL, post_nmi, NULL), 0);
    run_vcpu(lapic);
    for (unsigned i = 0; i <= POSTERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(taken[i], POSTS);
    assert_int_equal(nmi_taken, POSTS);
    apic_bus_free(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_post_is_lost)};
    return cmocka_run_group_tests_name("lapic_race", tests, NULL, NULL);
}
