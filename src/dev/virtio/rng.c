/*
 * dev/virtio/rng.c - the entropy device: answers each guest request with random bytes.
 *
 * Spec   virtio 1.2, section 5.4 "Entropy Device": one queue, no feature bits, no config space.
 * Runs   on vCPU threads and the loop, under this device's lock (taken by the bus, never here).
 * Trust  virtq_pop() has bounded the chain; guest memory is reached through chain_write() only.
 *
 * The host's generator is shared by all VMs, so a guest gets at most PERIOD_BYTES in each
 * PERIOD_NS; a request above that waits for the next period.
 */
#include "dev/virtio/rng.h"

#include "back/entropy.h"
#include "base/alloc.h"
#include "base/bits.h"
#include "dev/virtio/virtio.h"

enum { RNG_QUEUE_SIZE = 64 };   /* descriptors */
enum { RNG_BURST_BYTES = 256 }; /* most bytes per answer; short is allowed, empty is not */
enum { PERIOD_NS = 10000000, PERIOD_BYTES = 64 << 10 };

struct rng {
    struct virtio_dev vdev;
    struct entropy *source; /* borrowed; the machine frees it after its devices */
    u64 served_bytes;       /* since reset */
    u64 period_end_ns;      /* VM time */
    u32 period_bytes;       /* served in this period */
};

static struct rng *rng_of(struct virtio_dev *vdev)
{
    return container_of(vdev, struct rng, vdev);
}

/* True when another burst may be served now; otherwise the queue is notified when it may. */
static bool rng_may_serve(struct rng *rng, unsigned queue)
{
    if (rng->period_bytes < PERIOD_BYTES)
        return true;
    u64 now_ns = vm_clock_now(rng->vdev.wiring.clock);
    if (now_ns < rng->period_end_ns) {
        virtio_notify_at(&rng->vdev, queue, rng->period_end_ns);
        return false;
    }
    rng->period_end_ns = now_ns + PERIOD_NS;
    rng->period_bytes = 0;
    return true;
}

static void rng_notify(struct virtio_dev *vdev, unsigned queue)
{
    struct rng *rng = rng_of(vdev);
    struct virtq *vq = vdev->queues[queue];
    struct chain chain;
    u8 burst[RNG_BURST_BYTES];

    while (rng_may_serve(rng, queue) && virtq_pop(vq, &chain)) {
        size_t bytes = min_u64(chain.writable_bytes, sizeof(burst));
        entropy_fill(rng->source, burst, bytes);
        size_t filled_bytes = chain_write(&chain, burst, bytes);
        if (filled_bytes == 0) {
            virtio_broken(vdev, "request with no writable byte");
            return;
        }
        virtq_push(vq, &chain, (u32)filled_bytes);
        rng->served_bytes += filled_bytes;
        rng->period_bytes += RNG_BURST_BYTES; /* small requests cost as much as large ones */
    }
    virtq_interrupt(vq);
}

static void rng_reset(struct virtio_dev *vdev)
{
    rng_of(vdev)->served_bytes = 0;
}

static void rng_free(struct virtio_dev *vdev)
{
    alloc_free(rng_of(vdev));
}

static const struct field rng_state[] = {FIELD(struct rng, served_bytes), FIELD_END};
static const struct virtio_ops rng_ops = {
    .name = "virtio-rng",
    .device_id = VIRTIO_ID_RNG,
    .queue_count = 1,
    .queue_size = RNG_QUEUE_SIZE,
    .state = rng_state,
    .notify = rng_notify,
    .reset = rng_reset,
    .free = rng_free,
};

struct virtio_dev *virtio_rng_new(struct entropy *source)
{
    struct rng *rng = new0(struct rng);
    if (rng == NULL)
        return NULL;
    rng->vdev.ops = &rng_ops;
    rng->source = source;
    return &rng->vdev;
}
