/*
 * dbt/jit/straddle.c - instructions that begin in one page and end in the next.
 *
 * Such an instruction is a block of its own, and good only while both pages are where they were:
 * links and entries check the first page's guard, and the block itself begins with a look at the
 * second page's. Where that fails it leaves to C, which looks both pages up.
 *
 * Runs   on the vCPU's thread, from the dispatch loop.
 */
#include "dbt/jit/draft_priv.h"

#include "core/mem.h"

enum { PAGE_BYTES = 4096 };

/* Whether the instruction at cpu->rip, whose bytes are at SOURCE, ends in another page. */
static bool straddles(const struct cpu *cpu, const struct jit_source *source)
{
    unsigned at = (unsigned)(source->gpa & (PAGE_BYTES - 1)), room = PAGE_BYTES - at;
    struct insn insn;
    return room < INSN_MAX_BYTES &&
           decode(source->host + at, room, cpu->code_bytes, &insn) == DECODE_TRUNCATED;
}

bool jit_source_find(struct cpu *cpu, struct jit_source *ret_source)
{
    *ret_source = (struct jit_source){.page = JIT_NONE, .tail_page = JIT_NONE};
    ret_source->gpa = mmu_fetch_page(cpu, cpu->rip) | (cpu->rip & (PAGE_BYTES - 1));
    ret_source->host = mem_map(cpu->mem, align_down(ret_source->gpa, PAGE_BYTES), PAGE_BYTES,
                               MEM_READ);
    if (ret_source->host == NULL)
        return false;
    if (!straddles(cpu, ret_source))
        return true;
    u64 next = align_down(cpu->rip, PAGE_BYTES) + PAGE_BYTES;
    if (cpu->code_bytes != 8 && next != (u32)next)
        return false;
    ret_source->tail_gpa = mmu_fetch_page(cpu, next);
    ret_source->tail_host = mem_map(cpu->mem, ret_source->tail_gpa, PAGE_BYTES, MEM_READ);
    return ret_source->tail_host != NULL;
}

void jit_source_number(struct cpu *cpu, struct jit_source *source)
{
    struct jit *jit = cpu->jit;
    u8 mode = jit_mode(cpu);
    u64 page = align_down(cpu->rip, PAGE_BYTES);
    source->page = jit_page(jit, cpu->rip, source->gpa >> 12, mode, cpu->jit_delta);
    if (source->tail_host) /* with the same delta, where it has none yet */
        source->tail_page = jit_page(jit, page + PAGE_BYTES, source->tail_gpa >> 12, mode,
                                     page - (jit->pages[source->page].virtual_page << 12));
}

/* Gives the page back if no block was made for it, and its number, which nobody has seen. That of a
 * page which had blocks may stand in guards, and is not given out again. */
static void page_done(struct jit *jit, u32 page)
{
    bool is_last = jit->pages[page].number + 1 == jit->page_number;
    bool unused = jit->pages[page].blocks == JIT_NONE;
    jit_page_done(jit, page);
    if (is_last && unused)
        jit->page_number--;
}

void jit_source_done(struct jit *jit, const struct jit_source *source)
{
    if (source->tail_host && source->tail_page != source->page)
        page_done(jit, source->tail_page);
    page_done(jit, source->page);
}

bool jit_tail_fits(const struct jit *jit, u32 number, const struct jit_source *source)
{
    u32 tail = jit->blocks[number].tail;
    u64 tail_page = tail == JIT_NONE ? 0 : jit->pages[jit->blocks[tail].page].physical_page << 12;
    return tail == JIT_NONE ? source->tail_host == NULL
                            : source->tail_host != NULL && tail_page == source->tail_gpa;
}

void jit_tail_register(struct jit *jit, u32 owner, u32 page)
{
    u32 number = jit_filling(jit)->blocks.next++;
    jit->blocks[number] = (struct jit_block){.rip = jit->pages[page].virtual_page << 12,
                                             .code = jit->blocks[owner].code,
                                             .page = page,
                                             .mode = MODE_TAIL,
                                             .tail = owner};
    jit->blocks[owner].tail = number;
    jit_register(jit, number);
}

void draft_expect_tail(struct draft *draft, u32 tail_page)
{
    struct emitter *out = &draft->out;
    const struct code_page *page = &draft->jit->pages[tail_page];
    u64 next = align_down(draft->rip, PAGE_BYTES) + PAGE_BYTES;
    struct misses misses = {.count = 0};
    if (page->relative) { /* the two homes may be apart */
        s64 shift = (s64)(next - (page->virtual_page << 12)) + jit_guard_tag(page->number);
        struct host_mem delta = host_mem_base(T1, (s32)shift);
        emit_load(out, T1, STATE, STATE_AT(jit_delta));
        emit_lea(out, true, T1, &delta);
    }
    /* With another end the instruction may be one that reads flags. */
    jit_expect_mapping(out, &misses, page, true);
    for (unsigned i = 0; i < misses.count; i++) {
        struct cold *cold = draft_cold(draft, COLD_AGAIN);
        if (cold)
            cold->jump = misses.at[i];
    }
}
