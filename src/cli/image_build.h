/*
 * cli/image_build.h - making an image from the distribution's own packages.
 */
#ifndef CLI_IMAGE_BUILD_H
#define CLI_IMAGE_BUILD_H

#include "base/err.h"
#include "base/types.h"

struct image_build_options {
    const char *name;     /* "debian/12" */
    const char *mirror;   /* NULL: what the host itself uses */
    const char *packages; /* further ones, parted by commas; NULL: none */
    u64 disk_bytes;
    bool is_forced; /* also when the image is there already */
};

/* ARGV starts after "build". */
MUST_CHECK int image_build_parse(struct image_build_options *ret_options, const char *const *argv,
                                 struct err *err);
/* Builds; progress goes to standard error. What there was before stays until the new image is
 * whole. */
MUST_CHECK int image_build(const struct image_build_options *options, struct err *err);

#endif
