/*
 * dev/virtio/virtio.c - status, features, configuration, reset and state of every virtio device.
 *
 * Spec   virtio 1.2, chapters 2.1 to 2.5 and 3.1.
 * Runs   under the device's lock, on vCPU threads and on the loop.
 * Trust  register values come from the guest, saved state from a stream.
 */
#include "dev/virtio/virtio.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "base/log.h"
#include "core/mem.h"

enum { BUDGET_NONE = UINT32_MAX };

static const struct field dev_state[] = {
    FIELD(struct virtio_dev, driver_features),
    FIELD(struct virtio_dev, status),
    FIELD(struct virtio_dev, config_generation),
    FIELD(struct virtio_dev, config),
    FIELD_END,
};

static const struct field queue_state[] = {
    FIELD(struct virtq, desc_gpa),       FIELD(struct virtq, avail_gpa),
    FIELD(struct virtq, used_gpa),       FIELD(struct virtq, size),
    FIELD(struct virtq, msix_vector),    FIELD(struct virtq, enabled),
    FIELD(struct virtq, next_avail),     FIELD(struct virtq, next_used),
    FIELD(struct virtq, signalled_used), FIELD_END,
};

static void resume_fire(void *ctx)
{
    struct virtio_dev *vdev = ctx;
    u64 queues = vdev->resume_queues;
    vdev->resume_queues = 0;
    for (unsigned i = 0; i < vdev->queue_count; i++)
        if (queues & BIT(i))
            virtio_notify(vdev, i);
}

int virtio_attach(struct virtio_dev *vdev, const struct virtio_wiring *wiring)
{
    vdev->wiring = *wiring;
    vdev->budget = BUDGET_NONE;
    if (vdev->queue_count == 0)
        vdev->queue_count = vdev->ops->queue_count;
    timer_init(&vdev->resume, wiring->clock, &vdev->lock, resume_fire, vdev);
    for (unsigned i = 0; i < vdev->queue_count; i++) {
        struct virtq *vq = vdev->queues[i] = new0(struct virtq);
        if (vq == NULL)
            return -ENOMEM;
        vq->vdev = vdev;
        vq->index = (u16)i;
        vq->size_max = vdev->ops->queue_size;
        virtq_reset(vq);
    }
    return 0;
}

void virtio_free(struct virtio_dev *vdev)
{
    if (vdev == NULL)
        return;
    timer_cancel(&vdev->resume);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        alloc_free(vdev->queues[i]);
    vdev->ops->free(vdev);
}

/* ---- for devices ---- */

void virtio_broken(struct virtio_dev *vdev, const char *why)
{
    if (vdev->broken_count++ == 0) /* the guest can repeat it at will: say it once */
        log_warn(vdev->ops->name,
                 "the guest's driver broke the rules (%s); it must reset the device", why);
    if (vdev->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    vdev->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (vdev->status & VIRTIO_STATUS_DRIVER_OK)
        vdev->wiring.transport->config_interrupt(vdev->wiring.transport_ctx);
}

void virtio_config_changed(struct virtio_dev *vdev)
{
    vdev->config_generation++;
    if (virtio_running(vdev))
        vdev->wiring.transport->config_interrupt(vdev->wiring.transport_ctx);
}

void virtio_busy(struct virtio_dev *vdev)
{
    vdev->busy_count++;
}

void virtio_idle(struct virtio_dev *vdev)
{
    if (--vdev->busy_count == 0)
        vdev->resetting = 0;
}

void virtio_notify_at(struct virtio_dev *vdev, unsigned queue, u64 deadline_ns)
{
    vdev->resume_queues |= BIT(queue);
    if (deadline_ns < vdev->resume.deadline_ns)
        timer_arm(&vdev->resume, deadline_ns);
}

void virtio_notify_later(struct virtio_dev *vdev, unsigned queue)
{
    virtio_notify_at(vdev, queue, 0);
}

void virtio_notify(struct virtio_dev *vdev, unsigned queue)
{
    if (queue >= vdev->queue_count || !virtio_running(vdev) || !vdev->queues[queue]->enabled)
        return;
    u32 outer_budget = vdev->budget;
    vdev->budget = vdev->queues[queue]->size;
    vdev->ops->notify(vdev, queue);
    vdev->budget = outer_budget;
}

static void notify_all_later(struct virtio_dev *vdev)
{
    for (unsigned i = 0; i < vdev->queue_count; i++)
        if (vdev->queues[i]->enabled)
            virtio_notify_later(vdev, i);
}

/* ---- for transports ---- */

u64 virtio_offered_features(const struct virtio_dev *vdev)
{
    return vdev->offered_features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) |
           BIT(VIRTIO_F_EVENT_IDX);
}

static bool features_acceptable(const struct virtio_dev *vdev)
{
    return (vdev->driver_features & ~virtio_offered_features(vdev)) == 0 &&
           virtio_has(vdev, VIRTIO_F_VERSION_1);
}

u8 virtio_status_read(const struct virtio_dev *vdev)
{
    return vdev->resetting ? VIRTIO_STATUS_NEEDS_RESET : vdev->status;
}

void virtio_status_write(struct virtio_dev *vdev, u8 status)
{
    if (status == 0) {
        virtio_reset(vdev);
        return;
    }
    if (vdev->resetting)
        return;
    u8 before = vdev->status;
    /* Only a reset clears a bit, and NEEDS_RESET is the device's own. */
    u8 added = (u8)(status & ~before & ~VIRTIO_STATUS_NEEDS_RESET);
    if ((added & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(vdev))
        added &= (u8)~VIRTIO_STATUS_FEATURES_OK;
    if ((added & VIRTIO_STATUS_DRIVER_OK) && !((before | added) & VIRTIO_STATUS_FEATURES_OK))
        added &= (u8)~VIRTIO_STATUS_DRIVER_OK;
    vdev->status = before | added;
    if (!(added & VIRTIO_STATUS_DRIVER_OK) || !virtio_running(vdev))
        return;
    if (vdev->ops->started)
        vdev->ops->started(vdev);
    /* What the driver put into its queues before now was not looked at. */
    notify_all_later(vdev);
}

u64 virtio_config_read(struct virtio_dev *vdev, u64 offset, unsigned bytes)
{
    u64 value = 0;
    for (unsigned i = 0; i < bytes && offset + i < vdev->config_bytes; i++)
        value |= (u64)vdev->config[offset + i] << (8 * i);
    return value;
}

void virtio_config_write(struct virtio_dev *vdev, u64 offset, unsigned bytes, u64 value)
{
    if (vdev->ops->config_write && offset < vdev->config_bytes &&
        bytes <= vdev->config_bytes - offset)
        vdev->ops->config_write(vdev, (unsigned)offset, bytes, value);
}

/* True when the queue's size and addresses can be right; RAM itself is checked when it is used. */
static bool queue_plausible(const struct virtq *vq)
{
    return is_power_of_two(vq->size) && vq->size <= vq->size_max && vq->desc_gpa % 16 == 0 &&
           vq->avail_gpa % 2 == 0 && vq->used_gpa % 4 == 0;
}

void virtio_queue_enable(struct virtio_dev *vdev, unsigned queue)
{
    struct virtq *vq = vdev->queues[queue];
    if (!queue_plausible(vq)) {
        virtio_broken(vdev, "a queue was enabled with an impossible size or address");
        return;
    }
    vq->enabled = 1;
    if (virtio_running(vdev))
        virtio_notify_later(vdev, queue);
}

void virtio_reset(struct virtio_dev *vdev)
{
    timer_cancel(&vdev->resume);
    vdev->resume_queues = 0;
    vdev->status = 0;
    vdev->driver_features = 0;
    vdev->resetting = vdev->busy_count > 0;
    for (unsigned i = 0; i < vdev->queue_count; i++)
        virtq_reset(vdev->queues[i]);
    if (vdev->ops->reset)
        vdev->ops->reset(vdev);
}

void virtio_bus_master(struct virtio_dev *vdev, bool is_on)
{
    bool was_on = vdev->is_bus_master;
    vdev->is_bus_master = is_on;
    if (is_on && !was_on && virtio_running(vdev))
        notify_all_later(vdev);
}

/* ---- state ---- */

void virtio_save(struct virtio_dev *vdev, struct state_writer *writer)
{
    state_save(writer, dev_state, vdev);
    for (unsigned i = 0; i < vdev->queue_count; i++)
        state_save(writer, queue_state, vdev->queues[i]);
    if (vdev->ops->state)
        state_save(writer, vdev->ops->state, vdev);
}

static int queue_load(struct virtq *vq, struct state_reader *reader, struct err *err)
{
    virtq_reset(vq);
    int result = state_load(reader, queue_state, vq, err);
    if (result < 0)
        return result;
    vq->enabled = vq->enabled != 0;
    if (vq->enabled && !queue_plausible(vq)) {
        vq->enabled = 0;
        return err_set(err, -EPROTO, "%s: the saved queue %u cannot be right", vq->vdev->ops->name,
                       vq->index);
    }
    return 0;
}

int virtio_load(struct virtio_dev *vdev, struct state_reader *reader, struct err *err)
{
    virtio_reset(vdev);
    int result = state_load(reader, dev_state, vdev, err);
    for (unsigned i = 0; i < vdev->queue_count && result == 0; i++)
        result = queue_load(vdev->queues[i], reader, err);
    if (result == 0 && vdev->ops->state)
        result = state_load(reader, vdev->ops->state, vdev, err);
    if (result == 0 && (vdev->status & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(vdev))
        result = err_set(
            err, -EPROTO,
            "%s: the saved driver uses features 0x%llx that this device does not offer",
            vdev->ops->name, (unsigned long long)vdev->driver_features);
    if (result == 0 && (vdev->status & VIRTIO_STATUS_DRIVER_OK) &&
        !(vdev->status & VIRTIO_STATUS_FEATURES_OK))
        result = err_set(err, -EPROTO, "%s: the saved status 0x%x cannot be", vdev->ops->name,
                         vdev->status);
    if (result == 0 && vdev->ops->loaded)
        result = vdev->ops->loaded(vdev, err);
    if (result < 0) {
        virtio_reset(vdev);
        return result;
    }
    /* A notification that was under way when the state was saved is not part of it. */
    notify_all_later(vdev);
    return 0;
}
