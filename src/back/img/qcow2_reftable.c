/*
 * back/img/qcow2_reftable.c - new refcount blocks, and a longer refcount table.
 *
 * This is rare (once for every 2 GiB of a file with 64 KiB clusters), so it is done at once, with a
 * barrier between a block and the table entry that leads to it.
 * Spec   qcow2: "Host cluster management".
 */
#include <errno.h>
#include <string.h>

#include "back/img/qcow2_priv.h"
#include "base/alloc.h"

static unsigned block_bits(const struct qcow2 *q)
{
    return q->cluster_bits + 3 - q->header.refcount_order;
}

/* Sets the counts of FIRST to FIRST + COUNT - 1, as far as BLOCK (number INDEX) has them, to 1. */
static void count_once(const struct qcow2 *q, u8 *block, u64 index, u64 first, u64 count)
{
    unsigned bits = 1u << q->header.refcount_order;
    for (u64 number = first; number < first + count; number++) {
        if (number >> block_bits(q) != index)
            continue;
        u64 bit = (number & (BIT(block_bits(q)) - 1)) * bits;
        if (bits < 8)
            block[bit / 8] |= (u8)(1u << bit % 8);
        else
            block[bit / 8 + bits / 8 - 1] = 1; /* big-endian */
    }
}

int qcow2_reftable_set(struct qcow2 *q, u64 index, u64 block)
{
    u8 entry[8];
    store_be64(entry, block);
    int result = file_write(q->file, q->header.reftable_offset + index * 8, entry, sizeof(entry));
    if (result == 0)
        q->reftable[index] = block;
    shared_set(&q->needs_barrier, true);
    return result;
}

struct growth {
    u64 first;       /* cluster: where the new table and then the new blocks are */
    u64 table_count; /* clusters */
    u64 block_count; /* clusters */
    u64 first_index; /* of the new blocks in the table */
};

/* How large a table must be that can count up to itself and the blocks that this takes. */
static void growth_plan(const struct qcow2 *q, u64 number, struct growth *growth)
{
    u64 per_cluster = q->cluster_bytes / 8, least = (number >> block_bits(q)) + 1;
    /* Beyond all that is used, and where no block is yet. */
    growth->first = max_u64(max_u64(q->end_cluster, number), q->reftable_count << block_bits(q));
    growth->first_index = growth->first >> block_bits(q);
    growth->table_count = growth->block_count = 1;
    for (;;) {
        u64 end = growth->first + growth->table_count + growth->block_count;
        u64 blocks = ((end - 1) >> block_bits(q)) - growth->first_index + 1;
        u64 entries = max_u64(((end - 1) >> block_bits(q)) + 1, least);
        entries += entries / 2;
        u64 tables = (entries + per_cluster - 1) / per_cluster;
        if (blocks <= growth->block_count && tables <= growth->table_count)
            return;
        growth->block_count = max_u64(blocks, growth->block_count);
        growth->table_count = max_u64(tables, growth->table_count);
    }
}

static int growth_write_blocks(struct qcow2 *q, const struct growth *growth, u64 *table)
{
    u8 *block = alloc_zero(q->cluster_bytes);
    int result = block != NULL ? 0 : -ENOMEM;
    u64 at = growth->first + growth->table_count;
    for (u64 i = 0; i < growth->block_count && result == 0; i++) {
        memset(block, 0, q->cluster_bytes);
        count_once(q, block, growth->first_index + i, growth->first,
                   growth->table_count + growth->block_count);
        result = file_write(q->file, (at + i) << q->cluster_bits, block, q->cluster_bytes);
        table[growth->first_index + i] = (at + i) << q->cluster_bits;
    }
    alloc_free(block);
    return result;
}

static int growth_write_table(struct qcow2 *q, const struct growth *growth, const u64 *table)
{
    u64 bytes = growth->table_count << q->cluster_bits;
    u8 *text = alloc_zero(bytes), fields[12];
    if (text == NULL)
        return -ENOMEM;
    for (u64 i = 0; i < bytes / 8; i++)
        store_be64(text + i * 8, table[i]);
    int result = file_write(q->file, growth->first << q->cluster_bits, text, bytes);
    alloc_free(text);
    if (result == 0)
        result = file_sync(q->file);
    store_be64(fields, growth->first << q->cluster_bits);
    store_be32(fields + 8, (u32)growth->table_count);
    if (result == 0)
        result = qcow2_poke(q, QCOW2_AT_REFTABLE_OFFSET, fields, sizeof(fields));
    return result == 0 ? file_sync(q->file) : result;
}

/* A new, longer table with the blocks that count it; the old one is given back. */
static int table_grow(struct qcow2 *q, u64 number)
{
    struct growth growth;
    growth_plan(q, number, &growth);
    u64 count = (growth.table_count << q->cluster_bits) / 8;
    if (growth.table_count << q->cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
        return -EFBIG;
    u64 *table = new0_array(u64, count);
    if (table == NULL)
        return -ENOMEM;
    memcpy(table, q->reftable, q->reftable_count * 8);
    cache_forget(&q->ref_cache, growth.first << q->cluster_bits,
                 (growth.table_count + growth.block_count) << q->cluster_bits);
    int result = growth_write_blocks(q, &growth, table);
    if (result == 0)
        result = growth_write_table(q, &growth, table);
    if (result != 0) {
        alloc_free(table);
        return result;
    }
    u64 old_offset = q->header.reftable_offset;
    u64 old_bytes = (u64)q->header.reftable_clusters << q->cluster_bits;
    alloc_free(q->reftable);
    q->reftable = table;
    q->reftable_count = count;
    q->header.reftable_offset = growth.first << q->cluster_bits;
    q->header.reftable_clusters = (u32)growth.table_count;
    q->end_cluster = growth.first + growth.table_count + growth.block_count;
    return qcow2_free_later(q, old_offset, old_bytes);
}

int qcow2_refblock_new(struct qcow2 *q, u64 number)
{
    u64 index = number >> block_bits(q), block = 0;
    if (index >= q->reftable_count) {
        int result = table_grow(q, number);
        if (result == 0)
            result = qcow2_refblock_of(q, number, &block);
        if (result != 0 || block != 0)
            return result;
    }
    /* No block: nothing that it would count is used. So it can lie where it is needed, and count
     * itself. */
    u8 *data = alloc_zero(q->cluster_bytes);
    u64 offset = number << q->cluster_bits;
    if (data == NULL)
        return -ENOMEM;
    count_once(q, data, index, number, 1);
    cache_forget(&q->ref_cache, offset, q->cluster_bytes);
    int result = file_write(q->file, offset, data, q->cluster_bytes);
    alloc_free(data);
    if (result == 0)
        result = file_sync(q->file);
    if (result == 0)
        result = qcow2_reftable_set(q, index, offset);
    q->end_cluster = max_u64(q->end_cluster, number + 1);
    return result;
}
