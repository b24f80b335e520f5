/*
 * tests/fuzz/ram_fault.c - memory that changes between two reads of it, by page faults and single
 * steps.
 *
 * Runs   on one thread; the handlers run on it too.
 */
#include "ram_fault.h"

#include <assert.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { GUARD_BYTES = 1 << 16, TRAP_FLAG = 0x100, FAULTS_MAX = 250 };

static u8 *armed_ram;
static size_t armed_bytes;
static unsigned faults_left; /* an input must end: after this many the memory holds still */
static u64 generator, total_count;
static unsigned change_rate; /* one access in this many */

static u64 next(void)
{
    generator ^= generator >> 12;
    generator ^= generator << 25;
    generator ^= generator >> 27;
    return generator * 0x2545f4914f6cdd1dull;
}

static void change(u8 *at)
{
    static const u64 edges[] = {0, 1, 2, 4, 16, 0x1000, 0x3ffff0, 0xffff, UINT32_MAX, UINT64_MAX};
    u64 value = next() % 2 ? edges[next() % ARRAY_LEN(edges)] : next();
    size_t bytes = (size_t)1 << next() % 4;
    if (next() % change_rate == 0 && (size_t)(at - armed_ram) + bytes <= armed_bytes)
        memcpy(at, &value, bytes);
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    u8 *at = info->si_addr;
    if (armed_ram == NULL || at < armed_ram || at >= armed_ram + armed_bytes) {
        signal(signal_number, SIG_DFL); /* a real fault: it happens again and is reported */
        return;
    }
    total_count++;
    mprotect(armed_ram, armed_bytes, PROT_READ | PROT_WRITE);
    change(at);
    if (--faults_left == 0)
        armed_ram = NULL;
    else
        machine->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int signal_number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    machine->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    if (armed_ram)
        mprotect(armed_ram, armed_bytes, PROT_NONE);
}

u8 *ram_fault_map(size_t bytes)
{
    u8 *whole = mmap(NULL, bytes + 2 * GUARD_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(whole != MAP_FAILED);
    assert(mprotect(whole + GUARD_BYTES, bytes, PROT_READ | PROT_WRITE) == 0);
    return whole + GUARD_BYTES;
}

void ram_fault_arm(u8 *ram, size_t bytes, u64 seed)
{
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGTRAP, &step, NULL);
    generator = (seed + 1) * 0x9e3779b97f4a7c15ull;
    change_rate = 4u << next() % 6;
    faults_left = FAULTS_MAX;
    armed_ram = ram;
    armed_bytes = bytes;
    mprotect(ram, bytes, PROT_NONE);
}

void ram_fault_disarm(void)
{
    if (armed_ram)
        mprotect(armed_ram, armed_bytes, PROT_READ | PROT_WRITE);
    armed_ram = NULL;
}

u64 ram_fault_count(void)
{
    return total_count;
}
