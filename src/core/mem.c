/*
 * core/mem.c - guest-physical RAM and ROM slots, their page flags, and checked copies.
 *
 * Runs   on any thread; see mem.h for when slots may change.
 * Trust  addresses and lengths come from the guest.
 */
#include "core/mem.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"

enum { PAGE_SHIFT = 12 };

void mem_init(struct mem *mem)
{
    *mem = (struct mem){0};
}

void mem_fini(struct mem *mem)
{
    for (unsigned i = 0; i < mem->slot_count; i++)
        alloc_free(mem->slots[i].page_flags);
    mem->slot_count = 0;
}

int mem_add(struct mem *mem, gpa_t base, u64 bytes, void *host, bool read_only)
{
    if (bytes == 0 || (base | bytes) % MEM_PAGE_BYTES != 0 || base + bytes < base)
        return -EINVAL;
    if (mem->slot_count == MEM_SLOTS_MAX)
        return -ENOSPC;
    unsigned at = 0;
    while (at < mem->slot_count && mem->slots[at].base < base)
        at++;
    if (at > 0 && base - mem->slots[at - 1].base < mem->slots[at - 1].bytes)
        return -EINVAL;
    if (at < mem->slot_count && mem->slots[at].base - base < bytes)
        return -EINVAL;
    u8 *flags = alloc_zero(bytes >> PAGE_SHIFT);
    if (flags == NULL)
        return -ENOMEM;
    for (unsigned i = mem->slot_count; i > at; i--)
        mem->slots[i] = mem->slots[i - 1];
    mem->slots[at] = (struct mem_slot){base, bytes, host, flags, read_only};
    mem->slot_count++;
    mem->generation++;
    return 0;
}

int mem_remove(struct mem *mem, gpa_t base)
{
    for (unsigned i = 0; i < mem->slot_count; i++) {
        if (mem->slots[i].base != base)
            continue;
        alloc_free(mem->slots[i].page_flags);
        mem->slot_count--;
        for (; i < mem->slot_count; i++)
            mem->slots[i] = mem->slots[i + 1];
        mem->generation++;
        return 0;
    }
    return -ENOENT;
}

struct mem_slot *mem_slot_find(struct mem *mem, gpa_t gpa)
{
    for (unsigned i = 0; i < mem->slot_count; i++) {
        struct mem_slot *slot = &mem->slots[i];
        if (gpa - slot->base < slot->bytes)
            return slot;
    }
    return NULL;
}

void *mem_map(struct mem *mem, gpa_t gpa, u64 bytes, enum mem_access access)
{
    struct mem_slot *slot = mem_slot_find(mem, gpa);
    if (slot == NULL || bytes == 0 || bytes > slot->bytes - (gpa - slot->base))
        return NULL;
    if (access == MEM_WRITE && slot->read_only)
        return NULL;
    return slot->host + (gpa - slot->base);
}

void mem_written(struct mem *mem, gpa_t gpa, u64 bytes)
{
    struct mem_slot *slot = mem_slot_find(mem, gpa);
    if (slot == NULL || bytes == 0 || bytes > slot->bytes - (gpa - slot->base))
        return;
    u64 first = (gpa - slot->base) >> PAGE_SHIFT;
    u64 last = (gpa - slot->base + bytes - 1) >> PAGE_SHIFT;
    u8 seen = 0;
    for (u64 page = first; page <= last; page++) {
        u8 flags = __atomic_load_n(&slot->page_flags[page], __ATOMIC_ACQUIRE);
        if (!(flags & MEM_DIRTY))
            __atomic_fetch_or(&slot->page_flags[page], MEM_DIRTY, __ATOMIC_RELEASE);
        seen |= flags;
    }
    if ((seen & MEM_CODE) && mem->code_written)
        mem->code_written(mem->code_written_ctx, gpa, bytes);
}

/* How many of BYTES at GPA lie in SLOT. */
static u64 slot_part(const struct mem_slot *slot, gpa_t gpa, u64 bytes)
{
    return min_u64(bytes, slot->bytes - (gpa - slot->base));
}

/* True when every byte of the range is in a slot that ACCESS may use. */
static bool range_ok(struct mem *mem, gpa_t gpa, u64 bytes, enum mem_access access)
{
    if (gpa + bytes < gpa)
        return false;
    while (bytes > 0) {
        struct mem_slot *slot = mem_slot_find(mem, gpa);
        if (slot == NULL || (access == MEM_WRITE && slot->read_only))
            return false;
        u64 part = slot_part(slot, gpa, bytes);
        gpa += part;
        bytes -= part;
    }
    return true;
}

int mem_read(struct mem *mem, gpa_t gpa, void *to, u64 bytes)
{
    if (!range_ok(mem, gpa, bytes, MEM_READ))
        return -EFAULT;
    u8 *out = to;
    while (bytes > 0) {
        struct mem_slot *slot = mem_slot_find(mem, gpa);
        u64 part = slot_part(slot, gpa, bytes);
        __builtin_memcpy(out, slot->host + (gpa - slot->base), part);
        gpa += part;
        out += part;
        bytes -= part;
    }
    return 0;
}

int mem_write(struct mem *mem, gpa_t gpa, const void *from, u64 bytes)
{
    if (!range_ok(mem, gpa, bytes, MEM_WRITE))
        return -EFAULT;
    const u8 *in = from;
    while (bytes > 0) {
        struct mem_slot *slot = mem_slot_find(mem, gpa);
        u64 part = slot_part(slot, gpa, bytes);
        __builtin_memcpy(slot->host + (gpa - slot->base), in, part);
        mem_written(mem, gpa, part);
        gpa += part;
        in += part;
        bytes -= part;
    }
    return 0;
}

static u8 *page_flags_at(struct mem *mem, gpa_t gpa)
{
    struct mem_slot *slot = mem_slot_find(mem, gpa);
    return slot ? &slot->page_flags[(gpa - slot->base) >> PAGE_SHIFT] : NULL;
}

bool mem_flag_set(struct mem *mem, gpa_t gpa, enum mem_page_flag flag)
{
    u8 *flags = page_flags_at(mem, gpa);
    return flags && (__atomic_fetch_or(flags, (u8)flag, __ATOMIC_ACQ_REL) & flag);
}

bool mem_flag_clear(struct mem *mem, gpa_t gpa, enum mem_page_flag flag)
{
    u8 *flags = page_flags_at(mem, gpa);
    return flags && (__atomic_fetch_and(flags, (u8)~flag, __ATOMIC_ACQ_REL) & flag);
}

u64 mem_ram_bytes(const struct mem *mem)
{
    u64 bytes = 0;
    for (unsigned i = 0; i < mem->slot_count; i++)
        bytes += mem->slots[i].read_only ? 0 : mem->slots[i].bytes;
    return bytes;
}
