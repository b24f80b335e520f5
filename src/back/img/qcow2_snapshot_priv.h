/*
 * back/img/qcow2_snapshot_priv.h - what the two files about snapshots share.
 */
#ifndef BACK_IMG_QCOW2_SNAPSHOT_PRIV_H
#define BACK_IMG_QCOW2_SNAPSHOT_PRIV_H

#include "back/img/qcow2_snapshot.h"

/* Writes the table elsewhere, flushes all that has been changed, then lets the header point to the
 * new table, and gives back the OLD_BYTES of the old one. */
MUST_CHECK int qcow2_snapshots_store(struct qcow2 *q, const struct qcow2_snapshots *list,
                                     u64 old_bytes);

#endif
