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

/* Clusters that nothing refers to any more as soon as L2 is on disk. */
struct qcow2_freed {
    u64 offset;
    u64 bytes; /* of the file: whole clusters, or a compressed cluster's bytes */
    bool may_punch;
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
    bool needs_barrier; /* something was written that L2 will refer to */
    bool is_dirty;      /* the header says so; refcounts are not to be trusted */
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

#endif
