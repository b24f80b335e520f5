/*
 * vm/engine.c - what the host offers decides which engine runs the VM.
 *
 * Runs   on the main thread, before vCPUs exist.
 *
 * A /dev/kvm on a processor that shows neither VMX nor SVM is a software KVM: slower than the
 * translator, so that `auto` does not take it.
 */
#include "vm/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fmt.h"
#include "host/cpu.h"
#include "vcpu/dbt/dbt.h"
#include "vcpu/kvm/kvm.h"
#include "x86/cpuid.h"

enum { LEAF_FEATURES = 1, ECX = 2, VMX = 5, SVM = 2 };
#define LEAF_EXTENDED_FEATURES 0x80000001u

/* What the machine does for guests whose local APIC is its own. */
enum {
    DBT_KVM_FEATURES = CPUID_KVM_STEAL_TIME | CPUID_KVM_PV_EOI | CPUID_KVM_PV_UNHALT |
                       CPUID_KVM_PV_TLB_FLUSH | CPUID_KVM_PV_SEND_IPI | CPUID_KVM_PV_SCHED_YIELD
};

/* "VT-x", "AMD-V", or NULL. */
static const char *hardware_name(void)
{
    u32 leaf[4];

    cpu_cpuid(LEAF_FEATURES, 0, leaf);
    if (leaf[ECX] & BIT(VMX))
        return "VT-x";
    cpu_cpuid(LEAF_EXTENDED_FEATURES, 0, leaf);
    return leaf[ECX] & BIT(SVM) ? "AMD-V" : NULL;
}

int engine_choose(enum config_engine wanted, enum engine_kind *ret_kind,
                  char ret_reason[ENGINE_REASON_BYTES], struct err *err)
{
    const char *hardware = hardware_name();
    struct err why = {0};
    int kvm = kvm_present(&why);

    *ret_kind = ENGINE_DBT;
    if (wanted == CONFIG_ENGINE_DBT) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine dbt: as asked for");
    } else if (wanted == CONFIG_ENGINE_KVM) {
        if (kvm < 0)
            return err_set(err, -ENODEV, "engine kvm: %s", why.text);
        *ret_kind = ENGINE_KVM;
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine kvm: as asked for%s",
                 hardware ? "" : ", on a software KVM");
    } else if (!hardware) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES,
                 "engine dbt: this processor shows neither VT-x nor AMD-V");
    } else if (kvm < 0) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine dbt: %s, but %s", hardware, why.text);
    } else {
        *ret_kind = ENGINE_KVM;
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine kvm: /dev/kvm and %s", hardware);
    }
    return 0;
}

/* ATOLL_CPU_VENDOR=intel or amd: the guest sees a processor of that vendor, whose instructions the
 * translator executes as that vendor has them. For tests, and for guests that need the other. */
static int dress(struct cpuid_config *config, struct cpuid_entry *host, struct err *err)
{
    const char *wanted = getenv("ATOLL_CPU_VENDOR");
    bool intel = wanted && strcmp(wanted, "intel") == 0;

    if (wanted == NULL)
        return 0;
    if (!intel && strcmp(wanted, "amd") != 0)
        return err_set(err, -EINVAL, "ATOLL_CPU_VENDOR is '%s': must be 'intel' or 'amd'", wanted);
    config->host_count = cpuid_as_vendor(host, config->host_count,
                                         intel ? CPUID_VENDOR_INTEL : CPUID_VENDOR_AMD);
    config->brand = intel ? "Atoll processor, Intel's kind" : "Atoll processor, AMD's kind";
    return 0;
}

struct engine *engine_make(enum engine_kind kind, struct mem *mem, unsigned cpu_count,
                           unsigned physical_bits, struct err *err)
{
    static struct cpuid_model model; /* outlives the engine */
    struct cpuid_entry host[CPUID_HOST_MAX];
    struct cpuid_config config = {.host = host,
                                  .system_emulated = kind == ENGINE_DBT,
                                  .cpu_count = cpu_count,
                                  .physical_bits = physical_bits,
                                  .kvm_features = kind == ENGINE_DBT ? DBT_KVM_FEATURES : 0,
                                  .tsc_hz = clock_tsc_hz()};

    if (kind == ENGINE_KVM) {
        int count = kvm_host_cpuid(host, CPUID_HOST_MAX, err);
        if (count < 0)
            return NULL;
        config.host_count = (unsigned)count;
    } else {
        config.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
        if (dress(&config, host, err) < 0)
            return NULL;
    }
    cpuid_model_init(&model, &config);
    return kind == ENGINE_KVM ? kvm_engine_new(mem, &model, err) : dbt_engine_new(mem, &model, err);
}

void engine_trace(enum engine_kind kind, struct engine *engine, const struct jit_tracer *tracer)
{
    if (kind == ENGINE_DBT)
        dbt_engine_trace(engine, tracer);
}

void engine_lockstep(enum engine_kind kind, struct engine *engine, u32 first, u32 every)
{
    if (kind == ENGINE_DBT)
        dbt_engine_lockstep(engine, first, every);
}
