/*
 * dev/device.h - what every chipset device tells the machine about itself: where it answers, what
 * its state is, how it is reset and freed.
 *
 * A device is one object and one `const struct device_ops`. The machine makes the object with the
 * device's own x_new(), maps it with device_map(), and from then on needs only the ops.
 * Threads: handlers, reset, save and load run under the device's lock, which the machine owns.
 */
#ifndef DEV_DEVICE_H
#define DEV_DEVICE_H

#include "base/err.h"
#include "base/types.h"
#include "core/bus.h"
#include "core/state.h"

/* A range of addresses, relative to the base that device_map() is given (0 for devices of fixed
 * place, whose regions carry the PC's own addresses). */
struct device_region {
    enum bus_space space;
    u64 base;
    u64 bytes;
    const struct bus_ops *ops;
};

struct device_ops {
    const char *name; /* "pit": the section's name in snapshots */
    const struct device_region *regions;
    unsigned region_count;
    const struct field *fields;
    /* Power-on state, as after RESET#; time-keeping (RTC) and wiring stay. */
    void (*reset)(void *device);
    /* After fields were loaded: refuses values that the device cannot have (-EINVAL) and brings
     * derived state in line. May be NULL. */
    int (*loaded)(void *device, struct err *err);
    void (*free)(void *device); /* takes NULL */
};

/* Puts all regions on BUS at BASE; on failure none stays there. */
MUST_CHECK int device_map(const struct device_ops *ops, void *device, struct bus *bus, u64 base,
                          struct lock *lock, struct err *err);
/* Takes them away again. */
void device_unmap(const struct device_ops *ops, void *device, struct bus *bus, u64 base);

void device_save(const struct device_ops *ops, const void *device, struct state_writer *writer);
MUST_CHECK int device_load(const struct device_ops *ops, void *device, struct state_reader *reader,
                           struct err *err);

/* For devices whose registers are bytes: a wider access is one access per byte, in order. */
u64 device_read_bytes(void *device, u64 offset, unsigned bytes, u8 (*read)(void *, u64));
void device_write_bytes(void *device, u64 offset, unsigned bytes, u64 value,
                        void (*write)(void *, u64, u8));

/* What a guest may ask of the machine through a register. The receiver must not block and must not
 * free the device. */
enum power_request { POWER_OFF, POWER_RESET };

struct power_sink {
    void (*request)(void *ctx, enum power_request what);
    void *ctx; /* borrowed */
};

static inline void power_ask(const struct power_sink *sink, enum power_request what)
{
    if (sink->request)
        sink->request(sink->ctx, what);
}

#endif
