/*
 * dbt/jit/region.c - code memory in regions that are filled in turn: when all are full, the oldest
 * is emptied and filled again.
 *
 * Emptying a region unregisters its blocks, which undoes what leads to them, takes its exits off
 * the lists of their targets, and undoes links whose guard lies in it. What vCPUs keep outside code
 * memory and may point there, each resets before it runs translated code again (own.c).
 *
 * Runs   on a vCPU's thread, from the dispatch loop, never while translated code is on its stack.
 */
#include "dbt/jit/draft_priv.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "dbt/simd.h"

/* A number for every so many bytes of code memory; a region that runs out of one kind counts as
 * full. A block of Debian's takes 850 bytes, and has four exits. */
enum {
    BYTES_PER_BLOCK = 256,
    BYTES_PER_EXIT = 64,
    BYTES_PER_PIECE = 64,
    BYTES_PER_TRAP = 64,
    COLD_PIECE_BYTES = 64 << 10,
    REGION_BYTES_MIN = 16 << 10,
    REGION_BYTES_GOOD = 64 << 10 /* smaller ones only to have four */
};

static u32 code_bytes(const struct jit *jit)
{
    return (u32)jit->memory.bytes - jit->stubs_end;
}

static unsigned region_count(const struct jit *jit)
{
    u32 count = code_bytes(jit) / REGION_BYTES_GOOD;
    return count > JIT_REGIONS ? JIT_REGIONS : count < 4 ? 4 : count;
}

static u32 span_set(struct jit_span *span, u32 first, u32 count)
{
    *span = (struct jit_span){first, first, first + count};
    return first + count;
}

int jit_regions_init(struct jit *jit)
{
    if (jit->memory.bytes > JIT_CODE_BYTES_MAX || jit->memory.bytes < jit->stubs_end)
        return -EINVAL;
    u32 count = region_count(jit), bytes = code_bytes(jit) / count & ~15u;
    if (bytes < REGION_BYTES_MIN)
        return -EINVAL;
    u32 blocks = (u32)min_u64(bytes / BYTES_PER_BLOCK, (JIT_BLOCKS - 1) / count);
    u32 exits = bytes / BYTES_PER_EXIT, pieces = bytes / BYTES_PER_PIECE;
    u32 traps = bytes / BYTES_PER_TRAP;
    jit->blocks = new0_array(struct jit_block, 1 + blocks * count);
    jit->pages = new0_array(struct code_page, 3 + blocks * count);
    jit->exits = new0_array(struct jit_exit, 1 + exits * count);
    jit->pieces = new0_array(struct jit_piece, pieces * count);
    jit->traps = new0_array(struct jit_trap_site, traps * count);
    if (!jit->blocks || !jit->pages || !jit->exits || !jit->pieces || !jit->traps)
        return -ENOMEM;
    u32 code = jit->stubs_end, block = 1, exit = 1, piece = 0, trap = 0; /* 0 is JIT_NONE */
    for (u32 i = 0; i < count; i++) {
        struct jit_region *region = &jit->regions[i];
        code = span_set(&region->code, code, bytes);
        region->cold = (struct jit_span){code, code, code};
        block = span_set(&region->blocks, block, blocks);
        exit = span_set(&region->exits, exit, exits);
        piece = span_set(&region->pieces, piece, pieces);
        trap = span_set(&region->traps, trap, traps);
        region->cold_traps = (struct jit_span){trap, trap, trap};
    }
    jit->region_count = count;
    return 0;
}

bool jit_has_room(const struct jit *jit, unsigned number)
{
    const struct jit_region *region = &jit->regions[number];
    return region->cold.first - region->code.next >= JIT_ROOM_BYTES &&
           region->blocks.next + 2 <= region->blocks.end && /* one may have a tail */
           region->pieces.next < region->pieces.end;
}

/* Room that is taken ahead of what is written next: a block of the longest kind, nearly. */
enum { AHEAD_BYTES = 16 << 10 };

void jit_code_grows(struct jit *jit, u32 offset)
{
    u32 piece = (offset + AHEAD_BYTES) / CODEMEM_LARGE_BYTES;
    if (piece / 64 >= ARRAY_LEN(jit->large) || (jit->large[piece / 64] >> piece % 64 & 1))
        return;
    jit->large[piece / 64] |= 1ull << piece % 64;
    codemem_large(&jit->memory, (size_t)piece * CODEMEM_LARGE_BYTES);
}

bool jit_cold_room(struct jit *jit, u32 hot_end, u32 bytes)
{
    struct jit_region *region = jit_filling(jit);
    struct jit_span *cold = &region->cold;
    u32 piece = (u32)min_u64(COLD_PIECE_BYTES, (region->code.end - region->code.first) / 8 & ~15u);
    if (cold->end - cold->next >= bytes)
        return true;
    if (piece < bytes)
        piece = (u32)align_up(bytes, 16);
    if (cold->first - hot_end < piece)
        return false;
    *cold = (struct jit_span){cold->first - piece, cold->first - piece, cold->first};
    jit_code_grows(jit, cold->first - AHEAD_BYTES);
    jit_code_grows(jit, cold->end - 1 - AHEAD_BYTES);
    return true;
}

static void region_empty(struct cpu *cpu, struct jit_region *region)
{
    struct jit *jit = cpu->jit;
    if (jit->tracer)
        trace_tell_runs(cpu, &region->blocks);
    for (u32 i = region->pieces.first; i < region->pieces.next; i++) {
        const struct jit_piece *piece = &jit->pieces[i];
        if (piece->is_entry) { /* what leads to it are targets, which are all reset */
            if (jit->blocks[piece->owner].indirect == piece->code)
                jit->blocks[piece->owner].indirect = 0;
        } else if (jit->exits[piece->owner].guard == piece->code) {
            jit_unlink_exit(jit, piece->owner);
        }
    }
    for (u32 i = region->exits.first; i < region->exits.next; i++)
        jit_unlink_exit(jit, i);
    for (u32 i = region->blocks.first; i < region->blocks.next; i++)
        if (jit->blocks[i].page != JIT_NONE)
            jit_unregister(jit, i);
    region->code.next = region->code.first;
    region->cold = (struct jit_span){region->code.end, region->code.end, region->code.end};
    region->blocks.next = region->blocks.first;
    region->exits.next = region->exits.first;
    region->pieces.next = region->pieces.first;
    region->traps.next = region->traps.first;
    region->cold_traps.first = region->traps.end;
}

/* The lock is held; all others are paused. */
static void regions_empty(struct cpu *cpu, struct jit_region *region)
{
    struct jit *jit = cpu->jit;
    region_empty(cpu, region);
    if (jit->page_number > JIT_PAGE_NUMBERS) { /* all, so that page numbers may start again */
        for (unsigned i = 0; i < jit->region_count; i++)
            region_empty(cpu, &jit->regions[i]);
        jit->page_number = 1;
        __atomic_store_n(&jit->restart_count, jit->restart_count + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&jit->evict_count, jit->evict_count + 1, __ATOMIC_RELEASE);
}

/* Goes on from FULL to the next region if that is empty, or else MAY_EMPTY; false if it must not.
 */
static bool region_next(struct cpu *cpu, unsigned full, bool may_empty)
{
    struct jit *jit = cpu->jit;
    lock_acquire(&jit->lock);
    unsigned next = (full + 1) % jit->region_count;
    bool here = jit->filling == full;
    bool used = jit->regions[next].code.next != jit->regions[next].code.first;
    bool go = here && (!used || may_empty);
    if (go && used)
        regions_empty(cpu, &jit->regions[next]);
    if (go)
        __atomic_store_n(&jit->filling, next, __ATOMIC_RELEASE);
    lock_release(&jit->lock);
    return go || !here;
}

void jit_next_region(struct cpu *cpu, unsigned full)
{
    if (region_next(cpu, full, false))
        return;
    if (cpu->vector_live)
        simd_save(cpu);
    cpu_group_pause_between(cpu);
    const struct cpu *inside = cpu_group_inside(cpu);
    if (inside == NULL)
        (void)region_next(cpu, full, true);
    cpu_group_resume(cpu);
    /* It may be reading its instruction's decoded form in code memory: let it have its turn. */
    while (inside != NULL && __atomic_load_n(&inside->waits_inside, __ATOMIC_SEQ_CST))
        __builtin_ia32_pause();
}
