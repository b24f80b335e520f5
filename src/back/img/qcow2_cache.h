/*
 * back/img/qcow2_cache.h - pieces of a qcow2 file's L2 tables or refcount blocks, kept in memory.
 *
 * A page is 4 KiB (or a cluster, where that is smaller) of the file. Changed pages stay in memory
 * until cache_write; only unchanged ones are thrown out, so the caller writes before too many are.
 * Threads: cache_peek may be called by another thread than the rest, with the cache's lock held;
 * everything else belongs to one thread, which holds the lock only while the index changes.
 */
#ifndef BACK_IMG_QCOW2_CACHE_H
#define BACK_IMG_QCOW2_CACHE_H

#include "base/lock.h"
#include "base/types.h"

struct file;

struct cache_page {
    u64 offset; /* in the file */
    u8 *data;   /* owned */
    struct cache_page *next_in_bucket;
    bool was_used, is_dirty;
};

struct cache {
    struct file *file;                    /* borrowed */
    struct lock *lock;                    /* borrowed */
    struct cache_page **pages, **buckets; /* owned */
    u32 page_bytes, page_count, page_max, bucket_mask, hand, dirty_count;
};

/* At most PAGE_MAX pages, a power of two, unless more are dirty. 0 or -ENOMEM. */
MUST_CHECK int cache_init(struct cache *cache, struct file *file, struct lock *lock, u32 page_bytes,
                          u32 page_max);
void cache_fini(struct cache *cache);

/* The eight bytes at OFFSET of the file, if they are in memory; the lock is held. */
const u8 *cache_peek(struct cache *cache, u64 offset);
/* The page that holds OFFSET, read if need be; stays until the next call. */
MUST_CHECK int cache_get(struct cache *cache, u64 offset, struct cache_page **ret_page);
/* Changes BYTES (8 at most, within a page) at OFFSET, whose page becomes dirty. */
MUST_CHECK int cache_store(struct cache *cache, u64 offset, const void *from, u32 bytes);
/* Writes all dirty pages, in the order of the file. Those after a failure stay dirty. */
MUST_CHECK int cache_write(struct cache *cache);
/* Forgets pages of a range that holds something else from now on, dirty or not. */
void cache_forget(struct cache *cache, u64 offset, u64 bytes);

#endif
