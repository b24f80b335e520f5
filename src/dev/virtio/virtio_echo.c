/*
 * dev/virtio/virtio_echo.c - a device that copies what it reads into what it may write, for tests.
 *
 * Runs   on one thread.
 */
#include "dev/virtio/virtio_echo.h"

#include "base/alloc.h"

static void echo_answer(struct virtq *vq, struct chain *chain)
{
    u8 bytes[256];
    size_t count = chain_read(chain, bytes, sizeof(bytes));
    count = chain_write(chain, bytes, count);
    virtq_push(vq, chain, (u32)count);
}

static void echo_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct echo *echo = container_of(vdev, struct echo, vdev);
    struct virtq *vq = vdev->queues[queue];
    struct chain chain;
    while (virtq_pop(vq, &chain)) {
        echo->served_count++;
        if (echo->after_pop)
            echo->after_pop(echo->driver);
        if (echo->hold && echo->held_count < ARRAY_LEN(echo->held)) {
            echo->held[echo->held_count++] = chain;
            virtio_busy(vdev);
            continue;
        }
        echo_answer(vq, &chain);
    }
    virtq_interrupt(vq);
}

void echo_release(struct echo *echo)
{
    lock_acquire(&echo->vdev.lock);
    while (echo->held_count > 0) {
        struct chain *chain = &echo->held[--echo->held_count];
        if (virtio_running(&echo->vdev))
            echo_answer(echo->vdev.queues[0], chain);
        virtio_idle(&echo->vdev);
    }
    virtq_interrupt(echo->vdev.queues[0]);
    lock_release(&echo->vdev.lock);
}

static void echo_reset(struct virtio_dev *vdev)
{
    container_of(vdev, struct echo, vdev)->reset_count++;
}

static void echo_started(struct virtio_dev *vdev)
{
    container_of(vdev, struct echo, vdev)->started_count++;
}

static void echo_config_write(struct virtio_dev *vdev, unsigned offset, unsigned bytes, u64 value)
{
    for (unsigned i = 0; i < bytes; i++)
        vdev->config[offset + i] = (u8)(value >> (8 * i));
}

static void echo_free(struct virtio_dev *vdev)
{
    alloc_free(container_of(vdev, struct echo, vdev));
}

static const struct field echo_state[] = {FIELD(struct echo, served_count), FIELD_END};
static const struct virtio_ops echo_ops = {
    .name = "virtio-echo",
    .device_id = VIRTIO_ID_RNG,
    .queue_count = 2,
    .queue_size = ECHO_QUEUE_SIZE,
    .state = echo_state,
    .notify = echo_notify,
    .reset = echo_reset,
    .config_write = echo_config_write,
    .started = echo_started,
    .free = echo_free,
};

struct rig *rig_new(u64 features)
{
    struct rig *rig = new0(struct rig);
    if (rig == NULL || (rig->echo = new0(struct echo)) == NULL)
        __builtin_trap();
    rig->echo->vdev.ops = &echo_ops;
    rig->echo->vdev.offered_features = BIT(ECHO_F_TOY);
    rig->echo->vdev.config_bytes = 8;
    rig->echo->driver = &rig->driver;
    if (!driver_init(&rig->driver, &rig->echo->vdev))
        __builtin_trap();
    if (features == 0)
        return rig;
    if (driver_start(&rig->driver, features, ECHO_QUEUE_SIZE) != 15)
        __builtin_trap();
    rig->from = driver_alloc(&rig->driver, 64);
    rig->to = driver_alloc(&rig->driver, 64);
    __builtin_memcpy(driver_at(&rig->driver, rig->from), "what the driver says to the device", 35);
    return rig;
}

void rig_free(struct rig *rig)
{
    driver_fini(&rig->driver);
    alloc_free(rig);
}
