/*
 * dev/lapic_eoi.c - ends of interrupts: by the EOI register, or by a flag in guest memory that
 * spares the guest the access (paravirtual EOI).
 *
 * Spec   Intel SDM vol. 3A 11.8.5; Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN.
 * Runs   on the vCPU's thread.
 * Trust  the flag's address comes from the guest: it is RAM when it is registered, and looked up
 *        anew for each access. A flag that the guest or another vCPU changes at will can only end
 *        interrupts of this vCPU early or late, as it could by the register.
 *
 * When an edge-triggered interrupt is taken, bit 0 of the flag is set: the guest may end that
 * interrupt by clearing the bit. Nobody notices at once, and nobody needs to: the engine asks
 * lapic_pending() whenever the guest can take an interrupt again, and there what the flag says is
 * made true. Only if another interrupt waits while the bit is still set, it is taken back, so that
 * the guest writes the register, which is seen.
 *
 *          taken: bit set            guest clears the bit, seen later: EOI
 *   idle ───────────────▶ armed ─────────────────────────────────────────▶ idle
 *                           └──── another waits: bit cleared here ───────▶ idle, EOI by register
 */
#include "core/mem.h"
#include "dev/lapic_priv.h"

enum { EOI_ENABLED = 1, EOI_RESERVED = 2, EOI_BYTES = 4 };
enum { EOI_SKIP = 1 }; /* in the flag */

void lapic_end_of_interrupt(struct lapic *lapic)
{
    int vector = lapic_highest(lapic->isr);

    if (vector < 0)
        return;
    lapic->isr[vector / 32] &= ~(u32)BIT(vector % 32);
    bool is_level = lapic->tmr[vector / 32] & BIT(vector % 32);
    if (is_level && !(lapic->svr & SVR_NO_EOI_BROADCAST))
        lapic->bus->host.eoi(lapic->bus->host.ctx, (u8)vector);
}

static gpa_t eoi_gpa(const struct lapic *lapic)
{
    return lapic->eoi_msr & ~(u64)(EOI_BYTES - 1);
}

/* The registered flag, or NULL; then it is forgotten. Call mem_written after a write to it. */
static u8 *eoi_map(struct lapic *lapic)
{
    u8 *flag = NULL;

    if (lapic->bus->host.mem)
        flag = mem_map(lapic->bus->host.mem, eoi_gpa(lapic), EOI_BYTES, MEM_WRITE);
    if (flag == NULL)
        lapic->eoi_msr = 0; /* the guest reads 0 and can see it */
    return flag;
}

static void flag_put(struct lapic *lapic, u8 *flag, u8 value)
{
    __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    mem_written(lapic->bus->host.mem, eoi_gpa(lapic), 1);
}

void lapic_eoi_arm(struct lapic *lapic, unsigned vector)
{
    if (!(lapic->eoi_msr & EOI_ENABLED) || (lapic->tmr[vector / 32] & BIT(vector % 32)))
        return;
    u8 *flag = eoi_map(lapic);
    if (flag == NULL)
        return;
    flag_put(lapic, flag, EOI_SKIP);
    lapic->eoi_armed = true;
}

void lapic_eoi_settle_armed(struct lapic *lapic, bool take_back)
{
    u8 *flag = eoi_map(lapic);

    if (flag == NULL) {
        lapic->eoi_armed = false; /* the register is what is left */
        return;
    }
    if (__atomic_load_n(flag, __ATOMIC_ACQUIRE) & EOI_SKIP) {
        if (!take_back)
            return;
        flag_put(lapic, flag, 0);
        lapic->eoi_armed = false;
        return;
    }
    lapic->eoi_armed = false;
    lapic_end_of_interrupt(lapic);
}

bool lapic_eoi_msr_write(struct lapic *lapic, u64 value)
{
    if (value & EOI_RESERVED)
        return false;
    lapic_eoi_settle(lapic, true);
    u64 before = lapic->eoi_msr;
    lapic->eoi_msr = value;
    if ((value & EOI_ENABLED) && eoi_map(lapic) == NULL) {
        lapic->eoi_msr = before;
        return false;
    }
    return true;
}
