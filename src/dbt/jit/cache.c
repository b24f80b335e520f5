/*
 * dbt/jit/cache.c - finds blocks, groups them by page, and forgets those of pages that changed.
 *
 * A block that became invalid stays where it is, unreachable, until its region is emptied
 * (region.c).
 */
#include "dbt/jit/draft_priv.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "dbt/code.h"

static u32 block_hash(u64 rip, u32 page, u8 mode)
{
    u64 key = rip ^ rip >> 16 ^ (u64)page << 19 ^ (u64)mode << 11;
    return (u32)(key * 0x9e3779b97f4a7c15ull >> (64 - JIT_HASH_BITS));
}

u32 jit_find(const struct jit *jit, u64 rip, u32 page, u8 mode)
{
    u32 number = jit->hash[block_hash(rip, page, mode)];
    while (number != JIT_NONE) {
        const struct jit_block *block = &jit->blocks[number];
        if (block->rip == rip && block->mode == mode && block->page == page)
            return number;
        number = block->next_hash;
    }
    return JIT_NONE;
}

void jit_register(struct jit *jit, u32 number)
{
    struct jit_block *block = &jit->blocks[number];
    struct code_page *page = &jit->pages[block->page];
    u32 *head = &jit->hash[block_hash(block->rip, block->page, block->mode)];
    block->next_hash = *head;
    *head = number;
    block->next_in_page = page->blocks;
    block->prev_in_page = JIT_NONE;
    if (page->blocks != JIT_NONE)
        jit->blocks[page->blocks].prev_in_page = number;
    page->blocks = number;
    page->heads[block->rip >> 10 & 3] |= 1ull << (block->rip >> 4 & 63);
}

void jit_unregister(struct jit *jit, u32 number)
{
    struct jit_block *block = &jit->blocks[number];
    struct code_page *page = &jit->pages[block->page];
    u32 *link = &jit->hash[block_hash(block->rip, block->page, block->mode)];
    while (*link != JIT_NONE && *link != number)
        link = &jit->blocks[*link].next_hash;
    if (*link == number)
        *link = block->next_hash;
    if (block->prev_in_page != JIT_NONE)
        jit->blocks[block->prev_in_page].next_in_page = block->next_in_page;
    else
        page->blocks = block->next_in_page;
    if (block->next_in_page != JIT_NONE)
        jit->blocks[block->next_in_page].prev_in_page = block->prev_in_page;
    jit_unlink(jit, number);
    jit_page_done(jit, block->page);
    block->page = JIT_NONE;
    u32 other = block->tail;
    block->tail = JIT_NONE;
    if (other != JIT_NONE && jit->blocks[other].page != JIT_NONE)
        jit_unregister(jit, other);
}

/* The page that stands for VIRTUAL_PAGE in what is translated relative to it. */
static u64 home_page(u64 virtual_page, u64 near)
{
    u64 pages = HOME_BYTES >> 12, home = virtual_page - (near >> 12);
    return home < pages ? home : virtual_page % pages;
}

u32 jit_page(struct jit *jit, u64 rip, u64 physical_page, u8 mode, u64 near)
{
    u32 *head = &jit->page_hash[code_hash(physical_page << 12)];
    bool relative = jit_relative(mode);
    u64 virtual_page = rip >> 12;
    bool upper = !relative && (mode & MODE_LEGACY ? rip >= 0xc0000000 : rip >> 63);
    for (u32 number = *head; number != JIT_NONE; number = jit->pages[number].next_hash) {
        const struct code_page *page = &jit->pages[number];
        if (page->physical_page == physical_page && page->relative == relative &&
            (relative || (page->virtual_page == virtual_page && page->upper == upper)))
            return number;
    }
    u32 number = jit->page_free;
    if (number != JIT_NONE)
        jit->page_free = jit->pages[number].next_hash;
    else
        number = jit->page_next++;
    jit->pages[number] = (struct code_page){.virtual_page = relative ? home_page(virtual_page, near)
                                                                     : virtual_page,
                                            .physical_page = physical_page,
                                            .next_hash = *head,
                                            .relative = relative,
                                            .upper = upper,
                                            .number = jit->page_number++};
    *head = number;
    return number;
}

void jit_page_done(struct jit *jit, u32 number)
{
    struct code_page *page = &jit->pages[number];
    if (page->blocks != JIT_NONE)
        return;
    u32 *link = &jit->page_hash[code_hash(page->physical_page << 12)];
    while (*link != number)
        link = &jit->pages[*link].next_hash;
    *link = page->next_hash;
    page->next_hash = jit->page_free;
    jit->page_free = number;
}

/* Forgets the blocks of the physical page with HASH, and of others that have it. */
static void pages_forget(struct jit *jit, u32 hash)
{
    u32 number = jit->page_hash[hash];
    if (number == JIT_NONE)
        return;
    /* A page goes with its last block; a block may take one of another page with it. */
    for (; number != JIT_NONE; number = jit->page_hash[hash]) {
        jit_unregister(jit, jit->pages[number].blocks);
        jit->invalidated_blocks++;
    }
    __atomic_store_n(&jit->forget_count, jit->forget_count + 1, __ATOMIC_RELEASE);
}

void jit_forget_written(struct jit *jit, u32 count)
{
    struct cpu_group *group = jit->group;
    lock_acquire(&jit->lock);
    u32 behind = count - jit->code_log_seen;
    if (behind <= INT32_MAX && behind > CPU_CODE_LOG / 2) {
        jit->code_log_seen = count;
        for (u32 hash = 0; hash < CPU_CODE_HASH; hash++)
            pages_forget(jit, hash);
    }
    for (; (s32)(count - jit->code_log_seen) > 0; jit->code_log_seen++) {
        u32 hash = __atomic_load_n(&group->code_log[jit->code_log_seen % CPU_CODE_LOG],
                                   __ATOMIC_RELAXED);
        pages_forget(jit, hash % CPU_CODE_HASH);
    }
    lock_release(&jit->lock);
}

void jit_free(struct jit *jit)
{
    if (jit == NULL)
        return;
    alloc_free(jit->blocks);
    alloc_free(jit->hash);
    alloc_free(jit->pages);
    alloc_free(jit->page_hash);
    alloc_free(jit->exits);
    alloc_free(jit->pieces);
    alloc_free(jit->traps);
    alloc_free(jit->draft);
    alloc_free(jit->runs);
    alloc_free(jit);
}

int jit_new(struct cpu_group *group, const struct codemem *memory, struct jit **ret_jit)
{
    struct jit *jit = new0(struct jit);
    if (jit == NULL)
        return -ENOMEM;
    jit->memory = *memory;
    jit->group = group;
    jit->code_log_seen = __atomic_load_n(&group->code_log_count, __ATOMIC_ACQUIRE);
    jit->hash = new0_array(u32, JIT_HASH);
    jit->page_hash = new0_array(u32, CPU_CODE_HASH);
    jit->draft = new0(struct draft);
    jit->page_number = jit->page_next = 1; /* 0 is JIT_NONE */
    int result = jit->hash && jit->page_hash && jit->draft ? 0 : -ENOMEM;
    if (result == 0 && !jit_make_stubs(jit))
        result = -EINVAL;
    if (result == 0)
        result = jit_regions_init(jit);
    if (result < 0)
        jit_free(jit);
    else
        *ret_jit = jit;
    return result;
}
