/*
 * back/img/qcow2_snapshot.h - the internal snapshots of a qcow2 file.
 */
#ifndef BACK_IMG_QCOW2_SNAPSHOT_H
#define BACK_IMG_QCOW2_SNAPSHOT_H

#include "base/err.h"
#include "base/types.h"

struct qcow2;

enum { QCOW2_SNAPSHOT_NAME_BYTES = 256 };

struct qcow2_snapshot {
    u64 l1_offset;
    u32 l1_count;
    char id[QCOW2_SNAPSHOT_NAME_BYTES], name[QCOW2_SNAPSHOT_NAME_BYTES];
    u32 date_s, date_ns;
    u64 clock_ns, state_bytes, size_bytes;
    u64 icount; /* all ones: none */
};

struct qcow2_snapshots {
    struct qcow2_snapshot *items; /* owned */
    u32 count;
    u64 bytes; /* of the table in the file */
};

/* Reads the table. -EINVAL when it makes no sense. */
MUST_CHECK int qcow2_snapshots_load(struct qcow2 *q, struct qcow2_snapshots *ret_list,
                                    struct err *err);
void qcow2_snapshots_fini(struct qcow2_snapshots *list);
/* The snapshot's L1, in the host's byte order; the caller frees it. -EINVAL when it makes no sense.
 */
MUST_CHECK int qcow2_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot,
                                 u64 **ret_l1);

/* The disk as it is now becomes snapshot NAME. -EEXIST when there is one. */
MUST_CHECK int qcow2_snapshot_create(struct qcow2 *q, const char *name, u64 now_ns,
                                     struct err *err);
/* The disk becomes what snapshot NAME (or id) holds. */
MUST_CHECK int qcow2_snapshot_apply(struct qcow2 *q, const char *name, struct err *err);
MUST_CHECK int qcow2_snapshot_delete(struct qcow2 *q, const char *name, struct err *err);

#endif
