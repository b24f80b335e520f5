/*
 * dbt/simd/rig_test.h - what the tests of this folder share: a vCPU over a toy MMU, and the host's
 * own execution of the same bytes to compare with.
 *
 * The toy MMU maps linear addresses to themselves, over a few pages of this process: two plain
 * ones, one that has no host pointer (as a device has none), and one that is not present.
 */
#ifndef DBT_SIMD_RIG_TEST_H
#define DBT_SIMD_RIG_TEST_H

#include "dbt/simd/simd_priv.h"

enum { RIG_PAGE = 4096, RIG_RAM = 0, RIG_DEVICE = 2 * RIG_PAGE, RIG_ABSENT = 3 * RIG_PAGE };
enum { RIG_BYTES = 4 * RIG_PAGE };

/* Registers before and after. GPR 4 (RSP) is not exchanged. */
struct rig_regs {
    u8 xsave[X86_XSAVE_BYTES] __attribute__((aligned(64)));
    u64 gpr[X86_GPR_COUNT];
    u64 rflags;
    unsigned trap; /* out: vector of the fault; RIG_NO_TRAP */
    u32 error;
    u64 fault_address;
};
enum { RIG_NO_TRAP = 0xff };

extern u8 *rig_memory; /* RIG_BYTES, page aligned */
extern struct cpu *rig_cpu;
extern unsigned rig_device_exits; /* makes this many device accesses leave through cpu_exit first */

extern bool rig_checks_alignment; /* rig_randomize sets EFLAGS.AC */

int rig_setup(void **state);
int rig_teardown(void **state);
/* cmocka catches SIGFPE and others itself: each test calls this first. */
void rig_catch_traps(void);

/* A random number of the test's own seeded sequence. */
u64 rig_random(void);

/* Executes BYTES (at most 15) on the host in 64-bit mode, or with simd, changing REGS. */
void rig_native(const u8 *bytes, unsigned count, struct rig_regs *regs);
void rig_simd(const u8 *bytes, unsigned count, struct rig_regs *regs);

/* Fills REGS with random but loadable state; masked exceptions unless UNMASKED. */
void rig_randomize(struct rig_regs *regs, bool unmasked);

#endif
