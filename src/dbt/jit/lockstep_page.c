/*
 * dbt/jit/lockstep_page.c - guest memory as the interpreter sees it while it goes ahead: pages that
 * it writes are copied first, so that nobody else, device or host, ever sees what it does there.
 *
 * Code and page tables are read from guest memory; where they are in a page that was copied, the
 * interpreter stops. That is rare: a page of code is not written, it stops there before.
 *
 * Runs   on the vCPU's thread, outside translated code.
 */
#include "dbt/jit/lockstep_priv.h"

enum { PAGE_BYTES = 4096 };

static u8 *page_start(u8 *host)
{
    return host - (uintptr_t)host % PAGE_BYTES;
}

static struct lockstep_page *page_find(struct lockstep *lockstep, const u8 *start)
{
    for (unsigned i = 0; i < lockstep->page_count; i++)
        if (lockstep->pages[i].host == start)
            return &lockstep->pages[i];
    return NULL;
}

/* Without vector registers, where the guest's state is. */
static void page_copy(u8 *to, const u8 *from)
{
    u64 count = PAGE_BYTES / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static struct lockstep_page *page_add(struct cpu *cpu, u8 *start)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    if (lockstep->page_count == LOCKSTEP_PAGES)
        lockstep_give_up(cpu);
    struct lockstep_page *page = &lockstep->pages[lockstep->page_count++];
    page->host = start;
    page_copy(page->bytes, start);
    return page;
}

/* MOVS may read what it has just written, through a pointer that it has asked for before. */
static bool reads_what_it_writes(const struct lockstep *lockstep)
{
    const struct insn_desc *desc = lockstep->steps[lockstep->step_count - 1].desc;
    return desc && desc->op == OP_MOVS;
}

u8 *lockstep_place(struct cpu *cpu, u8 *host, enum cpu_access access)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    u8 *start = page_start(host);
    struct lockstep_page *page = page_find(lockstep, start);
    if (page && access == ACCESS_FETCH)
        lockstep_give_up(cpu);
    bool copies = access == ACCESS_WRITE ||
                  (access == ACCESS_READ && reads_what_it_writes(lockstep));
    if (page == NULL && copies)
        page = page_add(cpu, start);
    return page ? page->bytes + (host - start) : host;
}

u8 *lockstep_made(struct lockstep *lockstep, u8 *host)
{
    u8 *start = page_start(host);
    struct lockstep_page *page = page_find(lockstep, start);
    return page ? page->bytes + (host - start) : host;
}

u8 *lockstep_origin(struct lockstep *lockstep, u8 *place)
{
    for (unsigned i = 0; i < lockstep->page_count; i++) {
        struct lockstep_page *page = &lockstep->pages[i];
        if (place >= page->bytes && place < page->bytes + PAGE_BYTES)
            return page->host + (place - page->bytes);
    }
    return place;
}
