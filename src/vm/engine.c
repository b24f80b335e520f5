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
#include <fcntl.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fmt.h"
#include "host/cpu.h"
#include "host/fd.h"
#include "vcpu/dbt/dbt.h"
#include "x86/cpuid.h"

enum { LEAF_FEATURES = 1, ECX = 2, VMX = 5, SVM = 2 };
#define LEAF_EXTENDED_FEATURES 0x80000001u

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

/* 0, or why /dev/kvm cannot be used. */
static int kvm_usable(void)
{
    int fd = fd_open("/dev/kvm", O_RDWR, 0);
    int r = fd < 0 ? fd : 0;

    fd_close(&fd);
    return r;
}

int engine_choose(enum config_engine wanted, enum engine_kind *ret_kind,
                  char ret_reason[ENGINE_REASON_BYTES], struct err *err)
{
    const char *hardware = hardware_name();
    int kvm = kvm_usable();

    *ret_kind = ENGINE_DBT;
    if (wanted == CONFIG_ENGINE_DBT) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine dbt: as asked for");
    } else if (wanted == CONFIG_ENGINE_KVM) {
        if (kvm < 0)
            return err_set(err, -ENODEV,
                           "engine kvm: /dev/kvm: %s; use --engine dbt, or see `atoll doctor`",
                           strerror(-kvm));
        *ret_kind = ENGINE_KVM;
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine kvm: as asked for%s",
                 hardware ? "" : ", on a software KVM");
    } else if (!hardware) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES,
                 "engine dbt: this processor shows neither VT-x nor AMD-V");
    } else if (kvm < 0) {
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine dbt: %s, but /dev/kvm: %s", hardware,
                 strerror(-kvm));
    } else {
        *ret_kind = ENGINE_KVM;
        fmt_text(ret_reason, ENGINE_REASON_BYTES, "engine kvm: /dev/kvm and %s", hardware);
    }
    return 0;
}

static struct engine *make_dbt(struct mem *mem, unsigned cpu_count, struct err *err)
{
    static struct cpuid_model model; /* outlives the engine */
    struct cpuid_entry host[CPUID_HOST_MAX];
    const struct cpuid_config config = {
        .host = host,
        .host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX),
        .system_emulated = true,
        .cpu_count = cpu_count,
        .tsc_hz = clock_tsc_hz()};

    cpuid_model_init(&model, &config);
    return dbt_engine_new(mem, &model, err);
}

struct engine *engine_make(enum engine_kind kind, struct mem *mem, unsigned cpu_count,
                           struct err *err)
{
    if (kind == ENGINE_DBT)
        return make_dbt(mem, cpu_count, err);
    err_set(err, -ENOSYS, "engine kvm: is not part of this build; use --engine dbt");
    return NULL;
}
