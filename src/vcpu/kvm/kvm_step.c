/*
 * vcpu/kvm/kvm_step.c - an instruction that KVM cannot emulate, done by the interpreter.
 *
 * KVM emulates what touches a device, and on processors without unrestricted guests all of real
 * mode; its emulator lacks most vector instructions. The vCPU's state moves into the interpreter,
 * which does the one instruction, asking the machine as any engine does, and moves back. Runs   on
 * the vCPU's thread. Trust  the interpreter checks everything the guest controls.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "dbt/cpu.h"
#include "vcpu/dbt/trap.h"
#include "vcpu/kvm/kvm_priv.h"

enum { CPU_ALIGN = 64 };
static const char no_memory[] = "no memory for an instruction that KVM cannot emulate";

static bool make_cpu(struct kvm_vcpu *kvm)
{
    struct kvm_engine *engine = kvm->engine;

    lock_acquire(&engine->lock);
    if (!engine->group) {
        engine->group = new0(struct cpu_group);
        if (engine->group)
            cpu_group_init(engine->group, engine->engine.mem, engine->engine.cpuid);
    }
    lock_release(&engine->lock);
    if (!engine->group)
        return false;
    size_t bytes = (sizeof(struct cpu) + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    kvm->cpu = aligned_alloc(CPU_ALIGN, bytes);
    if (!kvm->cpu)
        return false;
    memset(kvm->cpu, 0, bytes);
    if (trap_install(NULL) == 0 && cpu_init(kvm->cpu, engine->group, kvm->vcpu.index) == 0)
        return true;
    free(kvm->cpu);
    kvm->cpu = NULL;
    return false;
}

/* Guest floating-point traps are host signals while the interpreter runs. */
static bool enter(struct kvm_vcpu *kvm)
{
    if (trap_thread_begin(kvm->cpu, NULL) < 0)
        return false;
    cpu_step(kvm->cpu);
    trap_thread_end();
    return true;
}

/* After the instruction, or the delivery of its fault. */
static bool finish(struct kvm_vcpu *kvm)
{
    struct x86_state state;

    kvm->is_stepping = false;
    kvm->stepped_count++;
    cpu_get_state(kvm->cpu, &state);
    kvm->window_stale = true;
    if (kvm_state_set(kvm, &state, false) < 0) {
        kvm_exit_fail(kvm, "KVM refuses the state that an emulated instruction left");
        return true;
    }
    return false;
}

static bool run_on(struct kvm_vcpu *kvm)
{
    if (!enter(kvm)) {
        kvm->is_stepping = false;
        kvm_exit_fail(kvm, no_memory);
        return true;
    }
    if (kvm->cpu->exit.kind == EXIT_KICKED)
        return finish(kvm);
    kvm->vcpu.exit = kvm->cpu->exit;
    kvm->is_stepping = kvm->cpu->exit.kind != EXIT_FAILED;
    if (kvm->cpu->exit.kind == EXIT_HLT || kvm->cpu->exit.kind == EXIT_SHUTDOWN) {
        if (finish(kvm))
            return true;
        kvm->is_halted = kvm->vcpu.exit.kind == EXIT_HLT;
    }
    return true;
}

bool kvm_step_begin(struct kvm_vcpu *kvm)
{
    struct x86_state state;

    if (!kvm->cpu && !make_cpu(kvm)) {
        kvm_exit_fail(kvm, no_memory);
        return true;
    }
    kvm_state_get(kvm, &state);
    state.activity = X86_ACTIVE;
    /* Where it cannot be told otherwise, KVM has made #UD pending for the instruction that it
     * cannot do. */
    if (state.event.pending && state.event.kind == X86_EVENT_EXCEPTION &&
        state.event.vector == X86_UD)
        state.event.pending = false;
    if (cpu_set_state(kvm->cpu, &state) < 0) {
        kvm_exit_fail(kvm, "KVM stopped at an instruction in a state that the interpreter refuses");
        return true;
    }
    /* Guest code may have changed since the interpreter last saw it, unseen by its page marks. */
    cpu_request(kvm->cpu, ATTENTION_FLUSH);
    return run_on(kvm);
}

bool kvm_step_continue(struct kvm_vcpu *kvm)
{
    kvm->cpu->exit.value = kvm->vcpu.exit.value;
    kvm->cpu->exit.msr_fault = kvm->vcpu.exit.msr_fault;
    return run_on(kvm);
}

void kvm_step_free(struct kvm_vcpu *kvm)
{
    if (!kvm->cpu)
        return;
    cpu_fini(kvm->cpu);
    free(kvm->cpu);
    kvm->cpu = NULL;
}
