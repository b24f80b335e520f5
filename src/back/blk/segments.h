/*
 * back/blk/segments.h - the memory of a request as one run of bytes.
 *
 * FROM and BYTES lie within the request's total.
 */
#ifndef BACK_BLK_SEGMENTS_H
#define BACK_BLK_SEGMENTS_H

#include <sys/uio.h>

#include "back/blk.h"

/* True when the segments add up to the request's bytes. */
bool segments_fit(const struct blk_req *req);
/* True when every address and length is a multiple of ALIGN. */
bool segments_aligned(const struct blk_req *req, u64 align);
/* Fills at most IOV_MAX_COUNT vectors for at most BYTES from FROM on; returns how many bytes they
 * hold. */
u64 segments_vector(const struct blk_req *req, u64 from, u64 bytes, struct iovec *iov,
                    unsigned iov_max_count, unsigned *ret_iov_count);
void segments_gather(const struct blk_req *req, u64 from, void *to, u64 bytes);
void segments_scatter(const struct blk_req *req, u64 to, const void *from, u64 bytes);
void segments_zero(const struct blk_req *req, u64 from, u64 bytes);

#endif
