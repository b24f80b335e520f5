/*
 * back/img/qcow2_format.h - the numbers of the qcow2 format, versions 2 and 3.
 *
 * Everything is big-endian. A file is a row of clusters of 2^cluster_bits bytes:
 *
 *   cluster 0        header (72 bytes in version 2, at least 104 in 3), extensions, backing name
 *   L1 table         8-byte entries: where each L2 table is
 *   L2 tables        one cluster each; 8-byte entries (16 with extended L2): where each cluster is
 *   refcount table   8-byte entries: where each refcount block is
 *   refcount blocks  one cluster each: how often each cluster of the file is used
 *   snapshot table   records of varying size
 *
 * Spec   the qcow2 image file format, as QEMU documents it (docs/interop/qcow2).
 */
#ifndef BACK_IMG_QCOW2_FORMAT_H
#define BACK_IMG_QCOW2_FORMAT_H

#include "base/bits.h"

enum { QCOW2_MAGIC = 0x514649fb };

/* Where a header's fields are. */
enum qcow2_field {
    QCOW2_AT_MAGIC = 0,
    QCOW2_AT_VERSION = 4,
    QCOW2_AT_BACKING_OFFSET = 8,
    QCOW2_AT_BACKING_BYTES = 16,
    QCOW2_AT_CLUSTER_BITS = 20,
    QCOW2_AT_SIZE = 24,
    QCOW2_AT_CRYPT = 32,
    QCOW2_AT_L1_COUNT = 36,
    QCOW2_AT_L1_OFFSET = 40,
    QCOW2_AT_REFTABLE_OFFSET = 48,
    QCOW2_AT_REFTABLE_CLUSTERS = 56,
    QCOW2_AT_SNAPSHOT_COUNT = 60,
    QCOW2_AT_SNAPSHOT_OFFSET = 64,
    QCOW2_V2_BYTES = 72,
    QCOW2_AT_INCOMPATIBLE = 72,
    QCOW2_AT_COMPATIBLE = 80,
    QCOW2_AT_AUTOCLEAR = 88,
    QCOW2_AT_REFCOUNT_ORDER = 96,
    QCOW2_AT_HEADER_BYTES = 100,
    QCOW2_V3_BYTES = 104,
    QCOW2_AT_COMPRESSION = 104,
    QCOW2_FULL_BYTES = 112
};

#define QCOW2_INCOMPATIBLE_DIRTY BIT(0)
#define QCOW2_INCOMPATIBLE_CORRUPT BIT(1)
#define QCOW2_INCOMPATIBLE_DATA_FILE BIT(2)
#define QCOW2_INCOMPATIBLE_COMPRESSION BIT(3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 BIT(4)
#define QCOW2_INCOMPATIBLE_KNOWN (BIT(5) - 1)
#define QCOW2_COMPATIBLE_LAZY BIT(0)
#define QCOW2_AUTOCLEAR_BITMAPS BIT(0)
#define QCOW2_AUTOCLEAR_RAW_DATA BIT(1)

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

/* Header extensions: u32 type, u32 bytes, the bytes, padding to 8. */
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_DATA_FILE 0x44415441u
enum { QCOW2_FEATURE_BYTES = 48 /* one row of the table of names */ };

/* Table entries. */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_COPIED BIT(63)     /* the cluster's refcount is exactly 1 */
#define QCOW2_COMPRESSED BIT(62) /* L2 only */
#define QCOW2_ZERO BIT(0)        /* L2 only, version 3, without extended L2 */

enum {
    QCOW2_CLUSTER_BITS_MIN = 9,
    QCOW2_CLUSTER_BITS_MAX = 21,
    QCOW2_EXTENDED_BITS_MIN = 14,
    QCOW2_SUBCLUSTERS = 32,
    QCOW2_NAME_MAX = 1023,
    QCOW2_FORMAT_NAME_MAX = 15,
    QCOW2_L1_BYTES_MAX = 32 << 20,
    QCOW2_REFTABLE_BYTES_MAX = 8 << 20,
    QCOW2_REFCOUNT_ORDER_MAX = 6,
    QCOW2_SNAPSHOTS_MAX = 65536,
    QCOW2_SNAPSHOT_TABLE_MAX = 16 << 20
};
/* What 62 bits of sectors could say is more than any host file can be. */
#define QCOW2_SIZE_MAX (BIT(62))

#endif
