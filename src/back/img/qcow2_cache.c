/*
 * back/img/qcow2_cache.c - pieces of a qcow2 file's tables, kept in memory.
 *
 * What is thrown out when the cache is full is found by a clock hand that spares pages used since
 * its last turn.
 * Runs   see the header.
 */
#include "back/img/qcow2_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/img/file.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "host/fault.h"

int cache_init(struct cache *cache, struct file *file, struct lock *lock, u32 page_bytes,
               u32 page_max)
{
    *cache = (struct cache){.file = file,
                            .lock = lock,
                            .page_bytes = page_bytes,
                            .page_max = page_max,
                            .bucket_mask = page_max - 1};
    if (host_fault(FAULT_MEMORY) != 0)
        return -ENOMEM;
    cache->pages = new0_array(struct cache_page *, page_max);
    cache->buckets = new0_array(struct cache_page *, page_max);
    return cache->pages != NULL && cache->buckets != NULL ? 0 : -ENOMEM;
}

static void page_free(struct cache_page *page)
{
    alloc_free(page->data);
    alloc_free(page);
}

void cache_fini(struct cache *cache)
{
    for (u32 i = 0; i < cache->page_count; i++)
        page_free(cache->pages[i]);
    alloc_free(cache->pages);
    alloc_free(cache->buckets);
    *cache = (struct cache){0};
}

static struct cache_page **bucket_of(struct cache *cache, u64 offset)
{
    u64 number = offset / cache->page_bytes;
    return &cache->buckets[(number ^ number >> 13) & cache->bucket_mask];
}

static struct cache_page *find(struct cache *cache, u64 offset)
{
    struct cache_page *page = *bucket_of(cache, offset);
    while (page != NULL && page->offset != offset)
        page = page->next_in_bucket;
    return page;
}

const u8 *cache_peek(struct cache *cache, u64 offset)
{
    struct cache_page *page = find(cache, align_down(offset, cache->page_bytes));
    if (page == NULL)
        return NULL;
    shared_set(&page->was_used, true);
    return page->data + (offset & (cache->page_bytes - 1));
}

static void unlink_page(struct cache *cache, struct cache_page *page)
{
    struct cache_page **link = bucket_of(cache, page->offset);
    while (*link != page)
        link = &(*link)->next_in_bucket;
    *link = page->next_in_bucket;
}

/* A page out of the cache to be used for something else; NULL when all are dirty. */
static struct cache_page *evict(struct cache *cache)
{
    for (u32 i = 0; i < cache->page_count * 2; i++) {
        struct cache_page *page = cache->pages[cache->hand];
        cache->hand = (cache->hand + 1) % cache->page_count;
        if (page->is_dirty)
            continue;
        if (!shared_get(&page->was_used)) {
            lock_acquire(cache->lock);
            unlink_page(cache, page);
            lock_release(cache->lock);
            return page;
        }
        shared_set(&page->was_used, false);
    }
    return NULL;
}

static struct cache_page *page_new(struct cache *cache)
{
    struct cache_page *page = host_fault(FAULT_MEMORY) == 0 ? new0(struct cache_page) : NULL;
    u8 *data = page != NULL ? alloc_zero(cache->page_bytes) : NULL;
    if (data == NULL) {
        alloc_free(page);
        return NULL;
    }
    page->data = data;
    return page;
}

/* Room for one more page in the array, which grows only when everything is dirty. */
static int make_room(struct cache *cache)
{
    if (cache->page_count < cache->page_max)
        return 0;
    struct cache_page **more = new0_array(struct cache_page *, (size_t)cache->page_max * 2);
    if (more == NULL)
        return -ENOMEM;
    memcpy(more, cache->pages, cache->page_count * sizeof(*more));
    alloc_free(cache->pages);
    cache->pages = more;
    cache->page_max *= 2;
    return 0;
}

static void drop(struct cache *cache, struct cache_page *page)
{
    for (u32 i = 0; i < cache->page_count; i++) {
        if (cache->pages[i] != page)
            continue;
        cache->pages[i] = cache->pages[--cache->page_count];
        break;
    }
    cache->hand = 0;
    page_free(page);
}

int cache_get(struct cache *cache, u64 offset, struct cache_page **ret_page)
{
    offset = align_down(offset, cache->page_bytes);
    struct cache_page *page = find(cache, offset);
    bool is_new = false;
    if (page != NULL) {
        shared_set(&page->was_used, true);
        *ret_page = page;
        return 0;
    }
    if (cache->page_count >= cache->page_max)
        page = evict(cache);
    if (page == NULL) {
        page = make_room(cache) == 0 ? page_new(cache) : NULL;
        is_new = true;
    }
    if (page == NULL)
        return -ENOMEM;
    int result = file_read(cache->file, offset, page->data, cache->page_bytes);
    if (result != 0) {
        if (is_new)
            page_free(page);
        else
            drop(cache, page);
        return result;
    }
    page->offset = offset;
    shared_set(&page->was_used, true);
    if (is_new)
        cache->pages[cache->page_count++] = page;
    lock_acquire(cache->lock);
    struct cache_page **bucket = bucket_of(cache, offset);
    page->next_in_bucket = *bucket;
    *bucket = page;
    lock_release(cache->lock);
    *ret_page = page;
    return 0;
}

int cache_store(struct cache *cache, u64 offset, const void *from, u32 bytes)
{
    struct cache_page *page;
    int result = cache_get(cache, offset, &page);
    if (result != 0)
        return result;
    lock_acquire(cache->lock);
    memcpy(page->data + (offset & (cache->page_bytes - 1)), from, bytes);
    lock_release(cache->lock);
    shared_set(&cache->dirty_count, cache->dirty_count + !page->is_dirty);
    page->is_dirty = true;
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    u64 first = (*(struct cache_page *const *)a)->offset;
    u64 second = (*(struct cache_page *const *)b)->offset;
    return (first > second) - (first < second);
}

int cache_write(struct cache *cache)
{
    u32 count = 0;
    int result = 0;
    if (cache->dirty_count == 0)
        return 0;
    struct cache_page **dirty = new0_array(struct cache_page *, cache->dirty_count);
    if (dirty == NULL)
        return -ENOMEM;
    for (u32 i = 0; i < cache->page_count; i++) {
        if (cache->pages[i]->is_dirty)
            dirty[count++] = cache->pages[i];
    }
    qsort(dirty, count, sizeof(*dirty), by_offset);
    for (u32 i = 0; i < count && result == 0; i++) {
        result = file_write(cache->file, dirty[i]->offset, dirty[i]->data, cache->page_bytes);
        if (result != 0)
            break;
        dirty[i]->is_dirty = false;
        shared_set(&cache->dirty_count, cache->dirty_count - 1);
    }
    alloc_free(dirty);
    return result;
}

void cache_forget(struct cache *cache, u64 offset, u64 bytes)
{
    for (u64 at = offset; at < offset + bytes; at += cache->page_bytes) {
        struct cache_page *page = find(cache, at);
        if (page == NULL)
            continue;
        shared_set(&cache->dirty_count, cache->dirty_count - page->is_dirty);
        lock_acquire(cache->lock);
        unlink_page(cache, page);
        lock_release(cache->lock);
        drop(cache, page);
    }
}
