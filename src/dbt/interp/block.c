/*
 * dbt/interp/block.c - decoded blocks: found by address, made from guest bytes, dropped when these
 * change.
 *
 * A block belongs to a physical place and a code size, so every mapping and address space shares
 * it. The slots say which block a linear address led to; a slot holds while neither the mapping
 * (fetch epoch) nor the mode has changed. A block holds while its page's generation has not
 * (mmu/code.c).
 *
 * Memory is one arena per vCPU, filled from the front; when it is full everything goes at once.
 *
 * Runs   on the vCPU's thread, between blocks.
 * Trust  code bytes are copied once and decoded from the copy: other vCPUs may write them
 * meanwhile.
 */
#include "dbt/interp/run_priv.h"

#include "base/alloc.h"
#include "base/errno.h"
#include "core/mem.h"

enum { BUCKETS = 1 << 15, ARENA_BYTES = 48 << 20, PAGE_BYTES = 4096 };
enum { BLOCK_BYTES_MAX = 512 };

/* A block in the making: its ops, with one before and one after, and its instructions in full. */
struct draft {
    struct op ops[BLOCK_OPS_MAX + 2];
    struct op_insn full[BLOCK_OPS_MAX];
    unsigned op_count, full_count, bytes, form;
};
enum { BLOCK_ROOM = sizeof(struct block) + sizeof(struct draft) + 64 };

int block_cache_init(struct cpu *cpu)
{
    struct block_cache *cache = new0(struct block_cache);
    cpu->blocks = cache;
    if (cache == NULL)
        return -ENOMEM;
    cache->buckets = new0_array(struct block *, BUCKETS);
    cache->arena = alloc_zero(ARENA_BYTES);
    return cache->buckets && cache->arena ? 0 : -ENOMEM;
}

void block_cache_fini(struct cpu *cpu)
{
    if (cpu->blocks == NULL)
        return;
    alloc_free(cpu->blocks->arena);
    alloc_free(cpu->blocks->buckets);
    alloc_free(cpu->blocks);
    cpu->blocks = NULL;
}

void block_cache_flush(struct cpu *cpu)
{
    struct block_cache *cache = cpu->blocks;
    __builtin_memset(cache->slots, 0, sizeof(cache->slots));
    __builtin_memset(cache->buckets, 0, BUCKETS * sizeof(struct block *));
    cache->arena_used = 0;
}

static void *arena_take(struct block_cache *cache, size_t bytes)
{
    void *taken = cache->arena + cache->arena_used;
    cache->arena_used += align_up(bytes, 16);
    return taken;
}

static unsigned bucket_of(gpa_t gpa, unsigned mode)
{
    return (unsigned)((gpa ^ gpa >> 15) * 0x9e3779b1u + mode) & (BUCKETS - 1);
}

static bool generation_holds(const u32 *generation, u32 seen)
{
    return __atomic_load_n(generation, __ATOMIC_ACQUIRE) == seen;
}

static bool block_holds(const struct block *block)
{
    return generation_holds(block->generation, block->generation_seen) &&
           (!block->generation2 || generation_holds(block->generation2, block->generation_seen2));
}

/* ---- making one
 * --------------------------------------------------------------------------------------- */

/* The bytes that a block is decoded from, page by page. */
struct source {
    struct cpu *cpu;
    gva_t linear;
    gpa_t gpa[2];         /* of both pages' bytes; the second 0 until it is needed */
    unsigned first_bytes; /* in the first page */
    unsigned available;
    u8 bytes[BLOCK_BYTES_MAX + INSN_MAX_BYTES + 1];
};

static void source_copy(struct source *source, gpa_t gpa, unsigned bytes)
{
    struct mem_slot *slot = mem_slot_find(source->cpu->mem, gpa);
    if (slot == NULL) /* no memory: all ones, which is no instruction */
        cpu_raise(source->cpu, X86_UD);
    const volatile u8 *host = slot->host + (gpa - slot->base);
    if (unlikely(source->cpu->place))
        (void)source->cpu->place(source->cpu, slot->host + (gpa - slot->base), ACCESS_FETCH);
    for (unsigned i = 0; i < bytes; i++)
        source->bytes[source->available++] = host[i];
}

static void source_begin(struct source *source, struct cpu *cpu, gva_t linear, gpa_t gpa,
                         bool single)
{
    source->cpu = cpu;
    source->linear = linear;
    source->gpa[0] = gpa;
    source->gpa[1] = 0;
    source->available = 0;
    unsigned room = PAGE_BYTES - (unsigned)(gpa % PAGE_BYTES);
    unsigned want = single ? INSN_MAX_BYTES : BLOCK_BYTES_MAX;
    source->first_bytes = room < want ? room : want;
    source_copy(source, gpa, source->first_bytes);
}

/* #GP when the byte AHEAD of the instruction at cpu->rip is beyond the code segment's limit: before
 * its page is looked at. */
static void check_limit(struct cpu *cpu, unsigned ahead)
{
    if (cpu->code_bytes != 8 && cpu->rip + ahead > cpu->seg[X86_CS].limit)
        cpu_raise_error(cpu, X86_GP, 0);
}

/* Adds the start of the next page, whose fetch may fault; false when it is there already. */
static bool source_extend(struct source *source)
{
    if (source->gpa[1] != 0 || (source->gpa[0] + source->first_bytes) % PAGE_BYTES != 0)
        return false;
    gva_t next = source->linear + source->first_bytes;
    check_limit(source->cpu, source->first_bytes);
    if (source->cpu->code_bytes != 8)
        next = (u32)next;
    source->gpa[1] = mmu_fetch_page(source->cpu, next);
    source_copy(source, source->gpa[1], INSN_MAX_BYTES);
    return true;
}

/* Decodes the instruction at OFFSET. Only for the first of a block the next page is looked at. */
static enum decode_result source_decode(struct source *source, unsigned offset,
                                        struct insn *ret_insn)
{
    for (;;) {
        enum decode_result result = decode(source->bytes + offset, source->available - offset,
                                           source->cpu->code_bytes, ret_insn);
        if (result != DECODE_TRUNCATED || offset != 0 || !source_extend(source))
            return result;
    }
}

static bool ends_block(const struct insn *insn)
{
    if (insn->op == OP_JCC)
        return false;
    return (insn->desc->attr & (ATTR_BRANCH | ATTR_ENDS_BLOCK)) != 0;
}

static void draft_fill(struct draft *draft, struct source *source, unsigned mode)
{
    struct cpu *cpu = source->cpu;
    unsigned most = mode & BLOCK_SINGLE ? 1 : BLOCK_OPS_MAX;
    unsigned offset = 0, count = 0;
    struct op *op = draft->ops;
    draft->full_count = draft->form = 0;
    while (count < most && offset < source->first_bytes) {
        struct insn insn;
        enum decode_result result = source_decode(source, offset, &insn);
        if (result != DECODE_OK) {
            if (count > 0)
                break;
            if (result != DECODE_INVALID)
                cpu_raise_error(cpu, X86_GP, 0);
            *op++ = (struct op){.run = op_no_instruction, .count = 1};
            offset = 1;
            break;
        }
        if (count == 0)
            draft->form = (unsigned)(insn.desc - insn_descs) % CPU_INSN_FORMS;
        if (count == 0 && source->gpa[1] != 0)
            *op++ = (struct op){.run = op_check_second_page};
        struct op_insn *full = &draft->full[draft->full_count];
        *op = (struct op){.start = (u16)offset, .next = (u16)(offset + insn.length)};
        op->count = (u8)++count;
        op_build(cpu, op, &insn, full, mode);
        draft->full_count += op->full != NULL;
        op++;
        offset += insn.length;
        if (ends_block(&insn))
            break;
    }
    *op++ = (struct op){
        .run = op_end, .start = (u16)offset, .next = (u16)offset, .count = (u8)count};
    draft->op_count = (unsigned)(op - draft->ops);
    draft->bytes = offset;
}

/* Copies the draft into the arena. */
static struct block *draft_keep(struct block_cache *cache, const struct draft *draft)
{
    struct block *block = arena_take(cache, sizeof(*block) + draft->op_count * sizeof(struct op));
    struct op_insn *full = arena_take(cache, draft->full_count * sizeof(*full));
    *block = (struct block){
        .bytes = (u16)draft->bytes, .op_count = (u8)draft->op_count, .fresh = true};
    block->form = (u16)draft->form;
    for (unsigned i = 0; i < draft->full_count; i++)
        full[i] = draft->full[i];
    for (unsigned i = 0; i < draft->op_count; i++) {
        block->ops[i] = draft->ops[i];
        if (draft->ops[i].full)
            block->ops[i].full = full + (draft->ops[i].full - draft->full);
        if (draft->ops[i].run == op_check_second_page)
            block->ops[i].imm = (u64)(uintptr_t)block;
    }
    return block;
}

/* Notes that the block stands for BYTES at GPA, copied as COPY. Whoever writes them from now on
 * makes the block stale; if somebody has since they were copied, it is stale from the start: it
 * runs this once, as if the fetch had come first. */
static const u32 *block_note(struct cpu *cpu, gpa_t gpa, const u8 *copy, unsigned bytes,
                             u32 *ret_seen)
{
    const u32 *generation = mmu_code_mark(cpu, gpa, bytes);
    *ret_seen = __atomic_load_n(generation, __ATOMIC_SEQ_CST);
    struct mem_slot *slot = mem_slot_find(cpu->mem, gpa);
    const volatile u8 *host = slot->host + (gpa - slot->base);
    bool same = true;
    for (unsigned i = 0; i < bytes; i++)
        same &= host[i] == copy[i];
    if (!same || !mmu_code_marked(cpu, gpa, bytes))
        *ret_seen -= 1;
    return generation;
}

static struct block *block_make(struct cpu *cpu, gva_t linear, gpa_t gpa, unsigned mode)
{
    struct block_cache *cache = cpu->blocks;
    struct source source;
    struct draft draft;
    if (cache->arena_used + BLOCK_ROOM > ARENA_BYTES)
        block_cache_flush(cpu);
    source_begin(&source, cpu, linear, gpa, mode & BLOCK_SINGLE);
    draft_fill(&draft, &source, mode);
    struct block *block = draft_keep(cache, &draft);
    block->gpa = gpa;
    block->mode = (u8)mode;
    unsigned first = draft.bytes < source.first_bytes ? draft.bytes : source.first_bytes;
    block->generation = block_note(cpu, gpa, source.bytes, first, &block->generation_seen);
    if (source.gpa[1] != 0) {
        block->gpa2 = source.gpa[1];
        unsigned rest = draft.bytes > first ? draft.bytes - first : 1;
        block->generation2 = block_note(cpu, source.gpa[1], source.bytes + source.first_bytes, rest,
                                        &block->generation_seen2);
    }
    cpu->counters.decoded_blocks++;
    return block;
}

struct block *block_get(struct cpu *cpu, gva_t linear, unsigned mode)
{
    struct block_cache *cache = cpu->blocks;
    check_limit(cpu, 0);
    gpa_t gpa = mmu_fetch_page(cpu, linear) | (linear & (PAGE_BYTES - 1));
    unsigned key = mode & ~(unsigned)BLOCK_USER;
    struct block **link = &cache->buckets[bucket_of(gpa, key)];
    struct block *block = *link;
    while (block && (block->gpa != gpa || block->mode != key)) {
        link = &block->next;
        block = *link;
    }
    if (block && block->generation2) {
        gva_t next = (linear | (PAGE_BYTES - 1)) + 1;
        if (cpu->code_bytes != 8)
            next = (u32)next;
        if (mmu_fetch_page(cpu, next) != block->gpa2) {
            *link = block->next;
            block = NULL;
        }
    }
    if (block && !block_holds(block)) {
        *link = block->next;
        block = NULL;
    }
    if (block == NULL) {
        block = block_make(cpu, linear, gpa, key);
        struct block **bucket = &cache->buckets[bucket_of(gpa, key)];
        block->next = *bucket;
        *bucket = block;
    }
    cache->slots[block_slot_index(linear, mode)] = (struct block_slot){
        linear, block_stamp(cpu, linear, mode), block};
    return block;
}
