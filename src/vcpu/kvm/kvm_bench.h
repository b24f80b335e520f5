/*
 * vcpu/kvm/kvm_bench.h - the small machine around the guests of kvm_test.c: RAM with a hole, a log
 * port, an end port, one MSR, local APICs.
 */
#ifndef VCPU_KVM_KVM_BENCH_H
#define VCPU_KVM_KVM_BENCH_H

#include "core/clock.h"
#include "core/mem.h"
#include "host/map.h"
#include "vcpu/kvm/kvm.h"
#include "vcpu/vcpu.h"
#include "x86/cpuid.h"
#include "x86/regs.h"

struct apic_bus;

enum { RAM_BYTES = 0x90000, HIGH_BASE = 0x100000, HIGH_BYTES = 0x100000, CPU_COUNT = 2 };
enum { CODE = 0x1000, HOLE = 0xa0000, TABLES = 0x180000, RUNS_MAX = 100000 };
enum { PORT_LOG = 0xe9, PORT_END = 0xf4, MSR_UNKNOWN = 0x12345 };

struct bench {
    struct map ram;
    struct mem mem;
    struct cpuid_model model;
    enum kvm_lapic lapic;
    struct engine *engine; /* NULL where there is no KVM: every test skips itself */
    struct vcpu *vcpus[CPU_COUNT];
    struct vm_clock clock;
    struct apic_bus *apics; /* with KVM_LAPIC_USER */
    char log[256];
    unsigned log_bytes;
    u8 hole[64]; /* what lies behind MMIO at HOLE */
    u64 last_msr;
    unsigned eoi_count;
    u8 eoi_vector;
    int ended; /* of vCPUs, by a write to PORT_END */
};

extern struct bench bench;

/* cmocka's set-up and tear-down, with either kind of local APIC. */
int bench_setup_user(void **state);
int bench_setup_kernel(void **state);
int bench_teardown(void **state);
/* Skips the test where there is no KVM. */
void bench_need_kvm(void);

/* Does what the last exit asks; false when the run ends there. */
bool bench_dispatch(struct vcpu *vcpu);
void bench_run(struct vcpu *vcpu);
/* A vCPU's thread (CTX: the vcpu), with its start by SIPI, until it or all others have ended. */
void *bench_thread(void *ctx);
u64 bench_guest_tsc(void *ctx, unsigned index);

void bench_load(gpa_t at, const u8 *from, const u8 *end);
/* A vCPU about to run CODE in real mode, or in long mode with 4 GiB mapped one to one. */
void bench_start_real(struct vcpu *vcpu);
void bench_start_long(struct vcpu *vcpu);
void bench_long_state(struct x86_state *state);
/* An interrupt gate for VECTOR to code at HANDLER. */
void bench_set_gate(unsigned vector, u64 handler);

#endif
