/*
 * machine/kvmclock.c - writes the time and wall clock structures that the guest registered by MSR.
 *
 * Spec   Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK(_NEW),
 * MSR_KVM_SYSTEM_TIME(_NEW). Runs   on vCPU threads. Trust  a registered page may be anywhere;
 * mem_write refuses what is not RAM.
 *
 *   pvclock_vcpu_time_info     offset 0 version (odd while it changes), 8 tsc_timestamp,
 *                              16 system_time, 24 tsc_to_system_mul, 28 tsc_shift, 29 flags
 *   pvclock_wall_clock         offset 0 version, 4 seconds, 8 nanoseconds of the boot moment
 */
#include "machine/kvmclock.h"

#include "base/bits.h"
#include "base/clock.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/state.h"

enum kvmclock_msr {
    MSR_WALL_CLOCK_OLD = 0x11,
    MSR_SYSTEM_TIME_OLD = 0x12,
    MSR_WALL_CLOCK = 0x4b564d00,
    MSR_SYSTEM_TIME = 0x4b564d01
};

enum { TIME_INFO_BYTES = 32, WALL_CLOCK_BYTES = 12, VERSION_BYTES = 4, FLAG_TSC_STABLE = 1 };
enum { SYSTEM_TIME_ENABLED = 1, SYSTEM_TIME_ALIGN = 4 };

#define NS_PER_SECOND 1000000000ull

static const u64 no_offset = UINT64_MAX; /* no processor has it: it makes kvmclock_follow write */

const struct field kvmclock_fields[] = {FIELD(struct kvmclock, wall_clock_msr),
                                        FIELD(struct kvmclock, cpus), FIELD_END};

/* Chooses the shift so that the multiplier uses its 32 bits well: the shifted frequency lies above
 * 1 GHz and at most at 2 GHz, so the multiplier lies between 2^31 and 2^32. */
static void find_scale(struct kvmclock *kvmclock, u64 tsc_hz)
{
    int shift = 0;
    u64 shifted = tsc_hz;

    while (shifted > 2 * NS_PER_SECOND) {
        shifted >>= 1;
        shift--;
    }
    while (shifted <= NS_PER_SECOND && shifted > 0) {
        shifted <<= 1;
        shift++;
    }
    kvmclock->shift = (s8)shift;
    kvmclock->multiplier = (u32)((NS_PER_SECOND << 32) / max_u64(shifted, NS_PER_SECOND + 1));
}

void kvmclock_init(struct kvmclock *kvmclock, struct mem *mem, struct vm_clock *clock, u64 tsc_hz)
{
    *kvmclock = (struct kvmclock){.mem = mem, .clock = clock};
    find_scale(kvmclock, tsc_hz);
    kvmclock_reset(kvmclock);
    kvmclock_rebase(kvmclock);
}

void kvmclock_rebase(struct kvmclock *kvmclock)
{
    kvmclock->base_tsc = clock_tsc();
    kvmclock->base_ns = vm_clock_now(kvmclock->clock);
    for (unsigned i = 0; i < KVMCLOCK_CPUS_MAX; i++)
        kvmclock->cpus[i].tsc_offset = no_offset;
}

void kvmclock_reset(struct kvmclock *kvmclock)
{
    kvmclock->wall_clock_msr = 0;
    for (unsigned i = 0; i < KVMCLOCK_CPUS_MAX; i++)
        kvmclock->cpus[i] = (struct kvmclock_cpu){.tsc_offset = no_offset};
}

bool kvmclock_msr_is_mine(u32 msr)
{
    return msr == MSR_WALL_CLOCK || msr == MSR_SYSTEM_TIME || msr == MSR_WALL_CLOCK_OLD ||
           msr == MSR_SYSTEM_TIME_OLD;
}

bool kvmclock_msr_read(struct kvmclock *kvmclock, unsigned cpu, u32 msr, u64 *ret_value)
{
    if (!kvmclock_msr_is_mine(msr) || cpu >= KVMCLOCK_CPUS_MAX)
        return false;
    bool is_wall = msr == MSR_WALL_CLOCK || msr == MSR_WALL_CLOCK_OLD;
    *ret_value = is_wall ? kvmclock->wall_clock_msr : kvmclock->cpus[cpu].system_time_msr;
    return true;
}

/* Writes a structure that begins with its version, which is odd while the rest is changing. The
 * version goes on from what the guest's page holds. */
static bool write_versioned(struct mem *mem, gpa_t gpa, const u8 *body, u64 bytes)
{
    u32 version;

    if (mem_read(mem, gpa, &version, VERSION_BYTES) < 0)
        return false;
    version = (version | 1) + 2; /* odd */
    if (mem_write(mem, gpa, &version, VERSION_BYTES) < 0)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (mem_write(mem, gpa + VERSION_BYTES, body + VERSION_BYTES, bytes - VERSION_BYTES) < 0)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    version++;
    return mem_write(mem, gpa, &version, VERSION_BYTES) == 0;
}

static bool write_time(struct kvmclock *kvmclock, unsigned cpu, u64 tsc_offset)
{
    u8 info[TIME_INFO_BYTES] = {0};

    store_le64(info + 8, kvmclock->base_tsc + tsc_offset);
    store_le64(info + 16, kvmclock->base_ns);
    store_le32(info + 24, kvmclock->multiplier);
    info[28] = (u8)kvmclock->shift;
    info[29] = FLAG_TSC_STABLE;
    kvmclock->cpus[cpu].tsc_offset = tsc_offset;
    gpa_t gpa = kvmclock->cpus[cpu].system_time_msr & ~(u64)(SYSTEM_TIME_ALIGN - 1);
    return write_versioned(kvmclock->mem, gpa, info, sizeof(info));
}

static bool write_wall_clock(struct kvmclock *kvmclock, gpa_t gpa)
{
    u8 wall[WALL_CLOCK_BYTES] = {0};
    u64 boot_ns = clock_realtime_ns() - vm_clock_now(kvmclock->clock);

    store_le32(wall + 4, (u32)(boot_ns / NS_PER_SECOND));
    store_le32(wall + 8, (u32)(boot_ns % NS_PER_SECOND));
    return write_versioned(kvmclock->mem, gpa, wall, sizeof(wall));
}

bool kvmclock_msr_write(struct kvmclock *kvmclock, unsigned cpu, u64 tsc_offset, u32 msr, u64 value)
{
    bool ok;

    if (!kvmclock_msr_is_mine(msr) || cpu >= KVMCLOCK_CPUS_MAX)
        return false;
    if (msr == MSR_WALL_CLOCK || msr == MSR_WALL_CLOCK_OLD) {
        lock_acquire(&kvmclock->lock);
        ok = write_wall_clock(kvmclock, value);
        if (ok)
            kvmclock->wall_clock_msr = value;
        lock_release(&kvmclock->lock);
        return ok;
    }
    u64 before = kvmclock->cpus[cpu].system_time_msr;
    kvmclock->cpus[cpu].system_time_msr = value;
    if (!(value & SYSTEM_TIME_ENABLED))
        return true;
    ok = write_time(kvmclock, cpu, tsc_offset);
    if (!ok)
        kvmclock->cpus[cpu].system_time_msr = before;
    return ok;
}

void kvmclock_follow(struct kvmclock *kvmclock, unsigned cpu, u64 tsc_offset)
{
    struct kvmclock_cpu *page = &kvmclock->cpus[cpu];

    if (likely(page->tsc_offset == tsc_offset) || !(page->system_time_msr & SYSTEM_TIME_ENABLED))
        return;
    if (!write_time(kvmclock, cpu, tsc_offset))
        page->system_time_msr = 0; /* the page's RAM is gone; the guest reads 0 and can see it */
}
