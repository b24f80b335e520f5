/*
 * dbt/interp/sys_debug.c - debug registers, breakpoints, and the single-step trap.
 *
 * Spec   Intel SDM vol. 3B chapter 17.1 to 17.3.
 * Runs   on the vCPU's thread, inside an instruction; sys_debug_trap between two.
 */
#include "dbt/interp/sys_priv.h"

enum breakpoint_kind { BREAK_EXECUTION, BREAK_WRITE, BREAK_PORT, BREAK_ACCESS };

static bool breakpoint_enabled(const struct cpu *cpu, unsigned i)
{
    return bits_get(cpu->dr[7], i * 2, 2) != 0;
}

static enum breakpoint_kind breakpoint_kind(const struct cpu *cpu, unsigned i)
{
    return (enum breakpoint_kind)bits_get(cpu->dr[7], 16 + i * 4, 2);
}

static unsigned breakpoint_bytes(const struct cpu *cpu, unsigned i)
{
    static const u8 bytes[] = {1, 2, 8, 4};

    return bytes[bits_get(cpu->dr[7], 18 + i * 4, 2)];
}

/* Whether the BYTES at ADDRESS overlap what breakpoint I watches. */
static bool breakpoint_overlaps(const struct cpu *cpu, unsigned i, u64 address, unsigned bytes)
{
    u64 length = breakpoint_bytes(cpu, i);
    u64 first = align_down(cpu->dr[i], length);

    return address - first < length || first - address < bytes;
}

void sys_debug_update(struct cpu *cpu)
{
    cpu->debug_active = (cpu->dr[7] & DR7_ENABLES) != 0;
    cpu_mode_update(cpu);
}

/* ---- registers
 * ------------------------------------------------------------------------------------ */

/* DR4 and DR5 are names of DR6 and DR7 unless CR4.DE is set. The order of the checks is the SDM's:
 * #UD, then #GP (by the caller's descriptor), then general detect. */
static unsigned debug_number(struct cpu *cpu, unsigned number)
{
    if (number > 7 || ((number == 4 || number == 5) && (cpu->cr4 & X86_CR4_DE) != 0))
        cpu_raise(cpu, X86_UD);
    if ((cpu->dr[7] & DR7_GD) != 0) {
        cpu->dr[6] |= DR6_BD;
        cpu_raise(cpu, X86_DB);
    }
    return number == 4 || number == 5 ? number + 2 : number;
}

u64 sys_read_dr(struct cpu *cpu, unsigned number)
{
    number = debug_number(cpu, number);
    return cpu->dr[number];
}

void sys_debug_load(struct cpu *cpu, u64 dr6, u64 dr7)
{
    cpu->dr[6] = (dr6 & DR6_WRITABLE) | DR6_FIXED | DR6_RTM;
    cpu->dr[7] = (dr7 & DR7_WRITABLE) | DR7_FIXED;
    sys_debug_update(cpu);
}

void sys_write_dr(struct cpu *cpu, unsigned number, u64 value)
{
    number = debug_number(cpu, number);
    if (number >= 6 && value >> 32 != 0)
        cpu_raise_error(cpu, X86_GP, 0);
    if (number < 6)
        cpu->dr[number] = value;
    else
        sys_debug_load(cpu, number == 6 ? value : cpu->dr[6], number == 7 ? value : cpu->dr[7]);
}

/* ---- breakpoints
 * ---------------------------------------------------------------------------------- */

void sys_debug_execution(struct cpu *cpu, gva_t gva)
{
    u32 hits = 0;
    bool enabled = false;

    if ((cpu->rflags & X86_RF) != 0)
        return;
    for (unsigned i = 0; i < 4; i++) {
        if (breakpoint_kind(cpu, i) != BREAK_EXECUTION || cpu->dr[i] != gva)
            continue;
        hits |= 1u << i;
        enabled |= breakpoint_enabled(cpu, i);
    }
    if (!enabled)
        return;
    /* What MOV SS has held back is told by the same #DB. */
    cpu->debug_pending |= hits;
    sys_debug_merge(cpu);
    cpu_raise(cpu, X86_DB);
}

void sys_debug_data(struct cpu *cpu, gva_t gva, unsigned bytes, bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        enum breakpoint_kind kind = breakpoint_kind(cpu, i);

        if (breakpoint_enabled(cpu, i) &&
            (kind == BREAK_ACCESS || (kind == BREAK_WRITE && write)) &&
            breakpoint_overlaps(cpu, i, gva, bytes))
            cpu->debug_pending |= 1u << i;
    }
}

void sys_debug_port(struct cpu *cpu, u16 port, unsigned bytes)
{
    if ((cpu->cr4 & X86_CR4_DE) == 0)
        return;
    for (unsigned i = 0; i < 4; i++) {
        if (breakpoint_enabled(cpu, i) && breakpoint_kind(cpu, i) == BREAK_PORT &&
            breakpoint_overlaps(cpu, i, port, bytes))
            cpu->debug_pending |= 1u << i;
    }
}

void sys_debug_merge(struct cpu *cpu)
{
    /* The breakpoint bits tell of this trap only; the others stay until the handler clears them. */
    if ((cpu->debug_pending & DR6_BREAKPOINTS) != 0)
        cpu->dr[6] &= ~(u64)DR6_BREAKPOINTS;
    cpu->dr[6] |= cpu->debug_pending;
    cpu->debug_pending = 0;
}

bool sys_debug_trap(struct cpu *cpu, bool single_step, struct x86_event *ret_event)
{
    /* Between a load of SS and the next instruction nothing comes: what is noted stays so. */
    if (cpu->step_skip && cpu->interrupt_shadow)
        return false;
    if (single_step && !cpu->step_skip)
        cpu->debug_pending |= DR6_BS;
    cpu->step_skip = false;
    if (cpu->debug_pending == 0)
        return false;
    sys_debug_merge(cpu);
    *ret_event = (struct x86_event){.pending = true, .vector = X86_DB, .kind = X86_EVENT_EXCEPTION};
    return true;
}
