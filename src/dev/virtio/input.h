/*
 * dev/virtio/input.h - a virtio keyboard, and a virtio tablet: a pointer that knows where it is.
 *
 * Threads: under the device's lock.
 */
#ifndef DEV_VIRTIO_INPUT_H
#define DEV_VIRTIO_INPUT_H

#include "base/types.h"

struct display_pointer;
struct virtio_dev;

enum virtio_input_kind { VIRTIO_INPUT_KEYBOARD, VIRTIO_INPUT_TABLET };

/* NULL when memory is exhausted. */
struct virtio_dev *virtio_input_new(enum virtio_input_kind kind);
/* The key with the Linux input event code CODE goes down or up (a keyboard). */
void virtio_input_key(struct virtio_dev *vdev, u16 code, bool is_down);
/* The pointer is somewhere (a tablet). */
void virtio_input_point(struct virtio_dev *vdev, const struct display_pointer *pointer);

#endif
