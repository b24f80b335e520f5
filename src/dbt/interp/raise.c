/*
 * dbt/interp/raise.c - leaving an instruction half-way: exceptions, exits, and device accesses.
 *
 * Runs   on the vCPU's thread, inside cpu_run, whose buffer cpu->jump holds.
 */
#include "dbt/interp/run_priv.h"

NO_RETURN static void leave(struct cpu *cpu, enum cpu_left left)
{
    cpu->left = (u8)left;
    __builtin_longjmp(cpu->jump, 1);
}

static void raise(struct cpu *cpu, unsigned vector, bool has_error, u32 error)
{
    cpu->fault.vector = (u8)vector;
    cpu->fault.has_error = has_error;
    cpu->fault.error = error;
}

void cpu_raise(struct cpu *cpu, unsigned vector)
{
    raise(cpu, vector, false, 0);
    leave(cpu, LEFT_FAULT);
}

void cpu_raise_error(struct cpu *cpu, unsigned vector, u32 error)
{
    raise(cpu, vector, true, error);
    leave(cpu, LEFT_FAULT);
}

void cpu_raise_page_fault(struct cpu *cpu, gva_t gva, u32 error)
{
    raise(cpu, X86_PF_FAULT, true, error);
    cpu->fault.cr2 = gva;
    leave(cpu, LEFT_FAULT);
}

void cpu_exit(struct cpu *cpu)
{
    leave(cpu, LEFT_EXIT);
}

void cpu_fail(struct cpu *cpu, const char *reason)
{
    cpu->exit = (struct vm_exit){.kind = EXIT_FAILED, .reason = reason};
    leave(cpu, LEFT_EXIT);
}

/* The machine's answer to ASKED, an access of the instruction in progress, or the way out to it. */
static u64 answer_of(struct cpu *cpu, const struct vm_exit *asked)
{
    struct cpu_replay *replay = &cpu->replay;
    if (replay->next < replay->done) {
        unsigned at = replay->next++;
        if (at + 1 == replay->done && replay->msr_fault &&
            (asked->kind == EXIT_MSR_READ || asked->kind == EXIT_MSR_WRITE))
            cpu_raise_error(cpu, X86_GP, 0);
        return replay->value[at];
    }
    if (replay->done == CPU_REPLAY_MAX)
        cpu_fail(cpu, "an instruction makes more device accesses than can be replayed");
    cpu->exit = *asked;
    replay->waiting = true;
    cpu_exit(cpu);
}

u64 cpu_device_access(struct cpu *cpu, enum vm_exit_kind kind, u64 address, unsigned bytes,
                      u64 value)
{
    struct vm_exit asked = {.kind = kind, .bytes = (u8)bytes, .address = address, .value = value};
    return answer_of(cpu, &asked);
}

u64 cpu_hypercall(struct cpu *cpu, u64 number, const u64 args[VM_EXIT_ARGS], unsigned bytes)
{
    struct vm_exit asked = {.kind = EXIT_HYPERCALL, .bytes = (u8)bytes, .address = number};
    for (unsigned i = 0; i < VM_EXIT_ARGS; i++)
        asked.args[i] = args[i];
    return answer_of(cpu, &asked);
}
