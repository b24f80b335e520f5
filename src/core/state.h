/*
 * core/state.h - saving and loading device state by field tables.
 *
 * A device describes its state once, as a table of fields; the same table saves, loads, prints and
 * tests it. A saved object is: u32 count of fields, then per field u16 name length, name, u32
 * bytes, the bytes (integers little-endian as in memory). Loading goes by name: an unknown or
 * missing field or one of another size is an error, so that a stream is never half understood.
 * Trust: the stream is hostile. A device validates loaded values in its own post-load function
 * before it uses them as an index or a bound.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include "base/err.h"
#include "base/types.h"

enum field_kind {
    FIELD_KIND_END,
    FIELD_KIND_BYTES, /* integers, arrays of integers, plain structs of them without padding */
    FIELD_KIND_TIMER  /* a struct timer: its deadline in VM time */
};

struct field {
    enum field_kind kind;
    const char *name;
    size_t offset;
    size_t bytes;
};

#define FIELD(type, member)                                                            \
    {                                                                                  \
        FIELD_KIND_BYTES, #member, offsetof(type, member), sizeof(((type *)0)->member) \
    }
#define FIELD_TIMER(type, member)                            \
    {                                                        \
        FIELD_KIND_TIMER, #member, offsetof(type, member), 8 \
    }
#define FIELD_END                  \
    {                              \
        FIELD_KIND_END, NULL, 0, 0 \
    }

/* A growing buffer (save) or a bounded view (load). */
struct state_writer {
    u8 *data; /* owned: freed by state_writer_fini */
    size_t bytes, capacity;
    bool failed; /* out of memory: what was written is incomplete */
};

struct state_reader {
    const u8 *data; /* borrowed */
    size_t bytes, position;
};

void state_writer_fini(struct state_writer *writer);
void state_put(struct state_writer *writer, const void *from, size_t bytes);
/* -EPROTO when fewer than BYTES are left. */
MUST_CHECK int state_take(struct state_reader *reader, void *to, size_t bytes);

/* Saves or loads OBJECT by its table. */
void state_save(struct state_writer *writer, const struct field *fields, const void *object);
MUST_CHECK int state_load(struct state_reader *reader, const struct field *fields, void *object,
                          struct err *err);

#endif
