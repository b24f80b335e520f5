/*
 * machine/paravirt.c - keeps the structures that guests registered by MSR_KVM_STEAL_TIME.
 *
 * Spec   Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME; cpuid.rst, features
 *        STEAL_TIME, PV_TLB_FLUSH, PV_UNHALT.
 * Runs   on vCPU threads, each on its own vCPU.
 * Trust  a registered structure may be anywhere: what is not RAM is refused, and if the RAM goes
 *        away later the registration is dropped.
 *
 *   kvm_steal_time   0 steal, u64 nanoseconds; 8 version, u32, odd while steal changes;
 *                    12 flags, u32, zero; 16 preempted, u8; reserved to 64
 *
 * The preempted byte is shared with the guest's other vCPUs, which change it by compare-and-swap:
 * from "preempted" to "preempted, flush". So it is set and cleared by locked operations here, and a
 * flush that was asked for before the byte was cleared is never missed: clearing it returns it.
 */
#include "machine/paravirt.h"

#include "base/bits.h"
#include "base/clock.h"
#include "core/mem.h"

enum { MSR_STEAL_TIME = 0x4b564d03 };
enum { STEAL_ENABLED = 1, STEAL_RESERVED = 0x3e, STEAL_BYTES = 64 };
enum { AT_STEAL = 0, AT_VERSION = 8, AT_PREEMPTED = 16 };
enum { PREEMPTED = 1, PREEMPTED_FLUSH = 2 };
enum { LOOKS_PER_SECOND = 100 };

static const u64 never = UINT64_MAX;

const struct field paravirt_fields[] = {FIELD(struct paravirt, cpus), FIELD_END};

void paravirt_init(struct paravirt *paravirt, struct mem *mem, u64 tsc_hz)
{
    *paravirt = (struct paravirt){.mem = mem, .look_ticks = tsc_hz / LOOKS_PER_SECOND};
    paravirt_reset(paravirt);
}

void paravirt_cpu_reset(struct paravirt *paravirt, unsigned cpu)
{
    paravirt->cpus[cpu] = (struct paravirt_cpu){.look_tsc = never};
}

void paravirt_reset(struct paravirt *paravirt)
{
    for (unsigned i = 0; i < PARAVIRT_CPUS_MAX; i++)
        paravirt_cpu_reset(paravirt, i);
}

void paravirt_rebase(struct paravirt *paravirt)
{
    for (unsigned i = 0; i < PARAVIRT_CPUS_MAX; i++) {
        struct paravirt_cpu *cpu = &paravirt->cpus[i];
        cpu->waited_ns = 0;
        cpu->look_tsc = cpu->steal_msr & STEAL_ENABLED ? 0 : never;
    }
}

bool paravirt_msr_is_mine(u32 msr)
{
    return msr == MSR_STEAL_TIME;
}

bool paravirt_msr_read(const struct paravirt *paravirt, unsigned cpu, u32 msr, u64 *ret_value)
{
    if (!paravirt_msr_is_mine(msr) || cpu >= PARAVIRT_CPUS_MAX)
        return false;
    *ret_value = paravirt->cpus[cpu].steal_msr;
    return true;
}

static gpa_t steal_gpa(const struct paravirt_cpu *cpu)
{
    return cpu->steal_msr & ~(u64)(STEAL_BYTES - 1);
}

/* The registered structure, or NULL; then it is forgotten. Call mem_written after a write to it. */
static u8 *steal_map(struct paravirt *paravirt, struct paravirt_cpu *cpu)
{
    if (!(cpu->steal_msr & STEAL_ENABLED))
        return NULL;
    u8 *page = mem_map(paravirt->mem, steal_gpa(cpu), STEAL_BYTES, MEM_WRITE);
    if (page == NULL) {
        cpu->steal_msr = 0; /* the guest reads 0 and can see it */
        cpu->look_tsc = never;
    }
    return page;
}

static void tell_steal(struct paravirt *paravirt, struct paravirt_cpu *cpu)
{
    u8 *page = steal_map(paravirt, cpu);

    if (page == NULL)
        return;
    u32 version = load_le32(page + AT_VERSION) | 1;
    store_le32(page + AT_VERSION, version);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    store_le64(page + AT_STEAL, cpu->stolen_ns);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    store_le32(page + AT_VERSION, version + 1);
    mem_written(paravirt->mem, steal_gpa(cpu), STEAL_BYTES);
}

static void look(struct paravirt *paravirt, struct paravirt_cpu *cpu)
{
    u64 waited_ns = clock_thread_waited_ns();

    cpu->look_tsc = clock_tsc() + paravirt->look_ticks;
    if (waited_ns <= cpu->waited_ns)
        return;
    cpu->stolen_ns += waited_ns - cpu->waited_ns;
    cpu->waited_ns = waited_ns;
    tell_steal(paravirt, cpu);
}

bool paravirt_msr_write(struct paravirt *paravirt, unsigned cpu, u32 msr, u64 value)
{
    if (!paravirt_msr_is_mine(msr) || cpu >= PARAVIRT_CPUS_MAX || (value & STEAL_RESERVED))
        return false;
    struct paravirt_cpu *slot = &paravirt->cpus[cpu];
    if (!(value & STEAL_ENABLED)) {
        slot->steal_msr = value;
        slot->look_tsc = never;
        return true;
    }
    if (!mem_map(paravirt->mem, value & ~(u64)(STEAL_BYTES - 1), STEAL_BYTES, MEM_WRITE))
        return false;
    slot->steal_msr = value;
    slot->waited_ns = clock_thread_waited_ns();
    slot->look_tsc = clock_tsc() + paravirt->look_ticks;
    tell_steal(paravirt, slot);
    return true;
}

void paravirt_follow(struct paravirt *paravirt, unsigned cpu)
{
    struct paravirt_cpu *slot = &paravirt->cpus[cpu];

    if (unlikely(clock_tsc() >= slot->look_tsc))
        look(paravirt, slot);
}

bool paravirt_sleep(struct paravirt *paravirt, unsigned cpu)
{
    struct paravirt_cpu *slot = &paravirt->cpus[cpu];

    if (slot->is_kicked) {
        slot->is_kicked = false;
        return false;
    }
    if (slot->is_asleep)
        return true;
    slot->is_asleep = true;
    u8 *page = steal_map(paravirt, slot);
    if (page) {
        __atomic_fetch_or(page + AT_PREEMPTED, PREEMPTED, __ATOMIC_SEQ_CST);
        mem_written(paravirt->mem, steal_gpa(slot), STEAL_BYTES);
    }
    return true;
}

bool paravirt_wake(struct paravirt *paravirt, unsigned cpu)
{
    struct paravirt_cpu *slot = &paravirt->cpus[cpu];

    if (!slot->is_asleep)
        return false;
    slot->is_asleep = false;
    u8 *page = steal_map(paravirt, slot);
    if (page == NULL)
        return false;
    u8 old = __atomic_exchange_n(page + AT_PREEMPTED, 0, __ATOMIC_SEQ_CST);
    mem_written(paravirt->mem, steal_gpa(slot), STEAL_BYTES);
    return old & PREEMPTED_FLUSH;
}

void paravirt_kick(struct paravirt *paravirt, unsigned cpu)
{
    paravirt->cpus[cpu].is_kicked = true;
}
