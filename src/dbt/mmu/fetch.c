/*
 * dbt/mmu/fetch.c - what is known of the pages that code was fetched from, and when it ends.
 *
 * Those who keep code by its address (interp/, jit/) compare cpu_tlb.fetch_epoch: while it is the
 * same, an address that was fetched from is the same page still. The lower half's epoch belongs to
 * an address space: one that the guest comes back to, with its PCID kept, has the epoch it had.
 *
 * Spec   Intel SDM vol. 3A 4.10.4 (invalidation).
 * Runs   on the vCPU's thread.
 */
#include "dbt/mmu/walk_priv.h"

void fetch_epoch_next(struct cpu *cpu, bool upper)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    tlb->fetch_epoch[upper] = ++tlb->fetch_epoch_last;
    __builtin_memset(tlb->fetch_filter[upper], 0, sizeof(tlb->fetch_filter[upper]));
}

void fetch_switch(struct cpu *cpu, unsigned old_asid)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    struct cpu_fetch_context *old = &tlb->fetch_contexts[old_asid % CPU_FETCH_CONTEXTS];
    struct cpu_fetch_context *now = &tlb->fetch_contexts[tlb->asid % CPU_FETCH_CONTEXTS];
    if (tlb->asid != old_asid) {
        if (old_asid != 0) {
            old->asid = (u16)old_asid;
            old->epoch = tlb->fetch_epoch[0];
            __builtin_memcpy(old->filter, tlb->fetch_filter[0], sizeof(old->filter));
        }
        if (now->asid == tlb->asid) {
            tlb->fetch_epoch[0] = now->epoch;
            __builtin_memcpy(tlb->fetch_filter[0], now->filter, sizeof(now->filter));
        } else {
            fetch_epoch_next(cpu, false);
        }
    }
    /* Kernels keep their code global, so that another address space leaves it alone. */
    if (tlb->upper_local)
        fetch_epoch_next(cpu, true);
    tlb->upper_local = false;
}

void fetch_forget(struct cpu *cpu)
{
    for (unsigned i = 0; i < CPU_FETCH_CONTEXTS; i++)
        cpu->tlb.fetch_contexts[i].asid = 0;
}

void fetch_page_flushed(struct cpu *cpu, unsigned asid, gva_t gva)
{
    struct cpu_tlb *tlb = &cpu->tlb;
    struct cpu_fetch_context *context = &tlb->fetch_contexts[asid % CPU_FETCH_CONTEXTS];
    unsigned half = cpu_code_half(cpu, gva);
    if (filter_has(tlb->fetch_filter[half], gva >> 12))
        fetch_epoch_next(cpu, half);
    if (half)
        return;
    if (tlb->lower_global)
        fetch_forget(cpu);
    else if (context->asid == asid && asid != tlb->asid)
        context->asid = 0;
}

void fetch_note(struct cpu *cpu, gva_t gva, u64 walk)
{
    bool upper = cpu_code_half(cpu, gva), global = (walk & WALK_GLOBAL) != 0;
    filter_set(cpu->tlb.fetch_filter[upper], gva >> 12);
    cpu->tlb.upper_local |= upper && !global;
    cpu->tlb.lower_global |= !upper && global;
}
