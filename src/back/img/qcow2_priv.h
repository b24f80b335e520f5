/*
 * back/img/qcow2_priv.h - an open qcow2 file, for the files that read, change and check it.
 *
 * Who holds what: one thread (a disk's worker, or a tool) calls everything. Another may call
 * qcow2_map with MAY_LOAD false, holding the lock: it sees L1, and whatever pages of L2 are in
 * memory; so the lock is held while these change, and never during I/O.
 *
 * The order in which changes reach the file (qcow2_flush.c), so that a crash at any moment leaves
 * a file whose every reference is counted and whose every counted cluster holds what it should:
 *
 *   1. data and the contents of new tables, at once, where nothing refers to them yet
 *   2. raised refcounts                                  -- barrier
 *   3. L2 entries and L1 entries that refer to the above -- barrier
 *   4. lowered refcounts of what nothing refers to any more; its space is used again from here on
 */
#ifndef BACK_IMG_QCOW2_PRIV_H
#define BACK_IMG_QCOW2_PRIV_H

#include "back/img/file.h"
#include "back/img/qcow2.h"
#include "back/img/qcow2_cache.h"
#include "back/img/qcow2_header.h"

enum { QCOW2_PAGE_BYTES = 4096 };

/* What nothing refers to any more as soon as L2 is on disk: whole clusters, or the bytes of a
 * compressed cluster. */
struct qcow2_freed {
    u64 offset, bytes;
};

struct qcow2 {
    struct file *file, *data_file; /* owned; data_file is NULL when the image holds the data */
    struct qcow2_shared *shared;   /* borrowed */
    struct qcow2_header header;
    unsigned cluster_bits, entry_bits, table_bits, sub_count, sub_bits;
    u64 cluster_bytes, sub_bytes, size_bytes;
    bool is_extended;
    u64 *l1; /* owned; in the host's byte order */
    u32 l1_count;
    u8 *l1_dirty; /* owned: a byte for each 512 bytes of L1 */
    bool is_l1_dirty;
    struct cache l2_cache, ref_cache;
    u64 *reftable; /* owned; in the host's byte order */
    u64 reftable_count;
    u64 free_hint;             /* no free cluster is below this number */
    u64 end_cluster;           /* no cluster from this number on is used */
    struct qcow2_freed *freed; /* owned */
    u64 freed_count, freed_max;
    u64 pack_offset;          /* where the next compressed cluster may follow; 0: nowhere */
    bool needs_barrier;       /* something was written that L2 will refer to */
    struct qcow2_below below; /* what is seen where this image holds nothing */
    u8 *scratch;              /* owned: one cluster; made when first needed */
    bool is_dirty;            /* the header says so; refcounts are not to be trusted */
    bool is_corrupt;
};

/* One L2 entry. Bit i of ALLOC and ZERO is subcluster i; without subclusters bit 0 is the cluster.
 */
struct qcow2_cluster {
    u64 host;       /* in the data file, when has_host */
    u64 descriptor; /* the entry itself, when compressed */
    u32 alloc, zero;
    bool has_host, is_copied, is_compressed;
};

/* qcow2_map.c. Guest clusters are counted from 0. -EAGAIN: not in memory, and MAY_LOAD was false.
 * -EIO: the tables make no sense. */
MUST_CHECK int qcow2_cluster_get(struct qcow2 *q, u64 number, bool may_load,
                                 struct qcow2_cluster *ret_cluster);
/* Needs an L2 table that is our own: qcow2_table_own comes first. */
MUST_CHECK int qcow2_cluster_set(struct qcow2 *q, u64 number, const struct qcow2_cluster *cluster);
/* The mask of all subclusters. */
u32 qcow2_sub_mask(const struct qcow2 *q);
/* Logs once what is wrong, and sets the header's corrupt bit if the file is written. Returns -EIO.
 */
int qcow2_corrupt(struct qcow2 *q, const char *what, u64 where);
struct file *qcow2_data(struct qcow2 *q);

/* qcow2_unpack.c: the contents of a compressed cluster; DATA stays until the next call. */
MUST_CHECK int qcow2_unpack(struct qcow2 *q, u64 descriptor, const u8 **ret_data);
/* Where a compressed cluster's bytes are. */
void qcow2_packed_place(const struct qcow2 *q, u64 descriptor, u64 *ret_offset, u64 *ret_bytes);

/* qcow2_refcount.c. Clusters of the file are counted from 0. */
MUST_CHECK int qcow2_ref_get(struct qcow2 *q, u64 number, u64 *ret_count);
/* Adds CHANGE (1 or -1) for every cluster that the bytes touch. -EFBIG when a count has no room. */
MUST_CHECK int qcow2_ref_change(struct qcow2 *q, u64 offset, u64 bytes, int change);
/* Finds MIN to MAX free clusters in a row and counts them as used once; the contents are whatever
 * they are. */
MUST_CHECK int qcow2_alloc(struct qcow2 *q, u64 min, u64 max, u64 *ret_offset, u64 *ret_count);
/* Gives back what qcow2_alloc gave and nothing has ever referred to. */
void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 bytes);
/* Has the bytes given back when the next flush has made sure that nothing refers to them. */
MUST_CHECK int qcow2_free_later(struct qcow2 *q, u64 offset, u64 bytes);
/* The same for the space of CLUSTER in the image file, if it has any. */
MUST_CHECK int qcow2_free_cluster(struct qcow2 *q, const struct qcow2_cluster *cluster);

/* qcow2_reftable.c: makes the refcount block for a cluster that has none; it may lie anywhere. */
MUST_CHECK int qcow2_refblock_new(struct qcow2 *q, u64 number);
/* The block with a cluster's count, 0 when there is none; -EIO when its entry makes no sense. */
MUST_CHECK int qcow2_refblock_of(struct qcow2 *q, u64 number, u64 *ret_block);

/* Sets a count whatever it was, for the check; makes a block elsewhere if there is none. */
MUST_CHECK int qcow2_ref_mend(struct qcow2 *q, u64 number, u64 count);
/* qcow2_open.c: reads the refcount table if it has not been read. */
MUST_CHECK int qcow2_reftable_load(struct qcow2 *q, struct err *err);
MUST_CHECK int qcow2_reftable_set(struct qcow2 *q, u64 index, u64 block);

/* qcow2_table.c: makes sure that the guest cluster has an L2 table that only we use. */
MUST_CHECK int qcow2_table_own(struct qcow2 *q, u64 number);
/* Sets an entry of L1. */
void qcow2_l1_set(struct qcow2 *q, u64 index, u64 value);
MUST_CHECK int qcow2_l1_write(struct qcow2 *q);

/* qcow2_flush.c: does what has to be done now and then, when much waits for a flush. */
MUST_CHECK int qcow2_relieve(struct qcow2 *q);
/* Writes fields of the header at once. */
MUST_CHECK int qcow2_poke(struct qcow2 *q, u64 offset, const void *from, u64 bytes);

/* qcow2_write.c: what the guest sees at OFFSET, within one cluster, from here or from below. */
MUST_CHECK int qcow2_read_old(struct qcow2 *q, const struct qcow2_cluster *cluster, u64 offset,
                              u8 *to, u64 bytes);
/* One cluster of memory, NULL when there is none. */
u8 *qcow2_scratch(struct qcow2 *q);
bool qcow2_is_zero(const u8 *data, u64 bytes);

#endif
