/*
 * core/mem.h - guest-physical RAM and ROM: where each page of it lies in this process.
 *
 * Threads: slots are added and removed only while no vCPU runs and the loop is idle; all other
 * calls come from any thread. Guest bytes change under the reader's feet: copy first, validate the
 * copy. Trust: every address and length may come from the guest; a range that is not wholly RAM is
 * refused.
 *
 * Each 4 KiB page has flags. MEM_DIRTY is set by every write (devices through mem_write and
 * mem_written, engines by their own means). MEM_CODE is set by an engine that has translated bytes
 * of the page; a write through this interface to such a page calls the engine's listener, so that
 * translations of bytes that a device overwrote are dropped. MEM_CACHED is the engine's own: a TLB
 * may hold a writable translation of the page.
 */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "base/types.h"

enum { MEM_PAGE_BYTES = 4096, MEM_SLOTS_MAX = 32 };

enum mem_page_flag { MEM_DIRTY = 1, MEM_CODE = 2, MEM_CACHED = 4 };
enum mem_access { MEM_READ, MEM_WRITE };

struct mem_slot {
    gpa_t base;     /* page aligned */
    u64 bytes;      /* a multiple of the page size */
    u8 *host;       /* borrowed: where the bytes are in this process */
    u8 *page_flags; /* owned: one per page, enum mem_page_flag; changed atomically */
    bool read_only; /* ROM: guest writes are dropped */
};

struct mem {
    struct mem_slot slots[MEM_SLOTS_MAX]; /* sorted by base, disjoint */
    unsigned slot_count;
    u32 generation; /* counts slot changes */
    /* Called after a device wrote a page that has MEM_CODE; may be NULL. Any thread. */
    void (*code_written)(void *ctx, gpa_t gpa, u64 bytes);
    void *code_written_ctx; /* borrowed */
};

void mem_init(struct mem *mem);
void mem_fini(struct mem *mem);

/* Adds BYTES of RAM (or ROM) at BASE that live at HOST. -EINVAL for a range that is not page
 * aligned, wraps, or overlaps another; -ENOSPC when all slots are taken; -ENOMEM. */
MUST_CHECK int mem_add(struct mem *mem, gpa_t base, u64 bytes, void *host, bool read_only);
/* Removes the slot that starts at BASE; -ENOENT when there is none. */
MUST_CHECK int mem_remove(struct mem *mem, gpa_t base);

/* The slot that holds GPA, or NULL where there is no RAM or ROM. */
struct mem_slot *mem_slot_find(struct mem *mem, gpa_t gpa);

/* A pointer to BYTES at GPA if they lie in one slot (and, for MEM_WRITE, in RAM), else NULL. After
 * writing through it, call mem_written. BYTES of 0 gives NULL. */
void *mem_map(struct mem *mem, gpa_t gpa, u64 bytes, enum mem_access access);
/* Says that BYTES at GPA were written through a mapped pointer: dirty marks, translations dropped.
 */
void mem_written(struct mem *mem, gpa_t gpa, u64 bytes);

/* Copies between guest memory and a buffer; a range may span slots. -EFAULT when any byte is not
 * RAM (nothing is then written), and for writes to ROM. */
MUST_CHECK int mem_read(struct mem *mem, gpa_t gpa, void *to, u64 bytes);
MUST_CHECK int mem_write(struct mem *mem, gpa_t gpa, const void *from, u64 bytes);

/* Sets or clears FLAG of the page that holds GPA; returns whether it was set. No RAM: false. */
bool mem_flag_set(struct mem *mem, gpa_t gpa, enum mem_page_flag flag);
bool mem_flag_clear(struct mem *mem, gpa_t gpa, enum mem_page_flag flag);

/* The bytes of RAM (not ROM) there are. */
u64 mem_ram_bytes(const struct mem *mem);

#endif
