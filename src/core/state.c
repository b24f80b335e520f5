/*
 * core/state.c - saves and loads objects by their field tables.
 *
 * Runs   on the thread that saves or loads, while the VM stands.
 * Trust  a stream being loaded is hostile: every length is checked against what is left and against
 *        the table.
 */
#include "core/state.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "core/clock.h"

enum { NAME_MAX_BYTES = 64 };

static size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

static bool bytes_equal(const char *a, const char *b, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

void state_writer_fini(struct state_writer *writer)
{
    alloc_free(writer->data);
    *writer = (struct state_writer){0};
}

void state_put(struct state_writer *writer, const void *from, size_t bytes)
{
    if (writer->failed)
        return;
    if (writer->bytes + bytes > writer->capacity) {
        size_t capacity = writer->capacity * 2 + bytes + 256;
        u8 *data = alloc_zero(capacity);
        if (data == NULL) {
            writer->failed = true;
            return;
        }
        if (writer->bytes > 0)
            __builtin_memcpy(data, writer->data, writer->bytes);
        alloc_free(writer->data);
        writer->data = data;
        writer->capacity = capacity;
    }
    __builtin_memcpy(writer->data + writer->bytes, from, bytes);
    writer->bytes += bytes;
}

int state_take(struct state_reader *reader, void *to, size_t bytes)
{
    if (bytes > reader->bytes - reader->position)
        return -EPROTO;
    __builtin_memcpy(to, reader->data + reader->position, bytes);
    reader->position += bytes;
    return 0;
}

static u32 field_count(const struct field *fields)
{
    u32 count = 0;
    while (fields[count].kind != FIELD_KIND_END)
        count++;
    return count;
}

void state_save(struct state_writer *writer, const struct field *fields, const void *object)
{
    u32 count = field_count(fields);
    state_put(writer, &count, sizeof(count));
    for (u32 i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        const u8 *at = (const u8 *)object + field->offset;
        u16 name_bytes = (u16)text_length(field->name);
        u32 bytes = (u32)field->bytes;
        state_put(writer, &name_bytes, sizeof(name_bytes));
        state_put(writer, field->name, name_bytes);
        state_put(writer, &bytes, sizeof(bytes));
        if (field->kind == FIELD_KIND_TIMER)
            state_put(writer, &((const struct timer *)(const void *)at)->deadline_ns, bytes);
        else
            state_put(writer, at, bytes);
    }
}

static const struct field *field_find(const struct field *fields, const char *name, size_t bytes)
{
    for (; fields->kind != FIELD_KIND_END; fields++)
        if (text_length(fields->name) == bytes && bytes_equal(fields->name, name, bytes))
            return fields;
    return NULL;
}

static int load_value(struct state_reader *reader, const struct field *field, void *object)
{
    u8 *at = (u8 *)object + field->offset;
    if (field->kind != FIELD_KIND_TIMER)
        return state_take(reader, at, field->bytes);
    u64 deadline_ns;
    int result = state_take(reader, &deadline_ns, sizeof(deadline_ns));
    if (result == 0)
        timer_arm((struct timer *)(void *)at, deadline_ns);
    return result;
}

static int load_field(struct state_reader *reader, const struct field *fields, void *object,
                      u64 *seen, struct err *err)
{
    u16 name_bytes;
    u32 bytes;
    char name[NAME_MAX_BYTES + 1];
    if (state_take(reader, &name_bytes, sizeof(name_bytes)) < 0 || name_bytes > NAME_MAX_BYTES ||
        state_take(reader, name, name_bytes) < 0 || state_take(reader, &bytes, sizeof(bytes)) < 0)
        return err_set(err, -EPROTO, "the saved state ends early or a field name is damaged");
    name[name_bytes] = '\0';
    const struct field *field = field_find(fields, name, name_bytes);
    if (field == NULL)
        return err_set(err, -EPROTO, "the saved state has a field '%s' that is not known here",
                       name);
    if (bytes != field->bytes)
        return err_set(err, -EPROTO, "field '%s' has %u bytes in the saved state, not %zu", name,
                       bytes, field->bytes);
    u64 bit = BIT((u64)(field - fields) % 64);
    if (*seen & bit)
        return err_set(err, -EPROTO, "the saved state has field '%s' twice", name);
    *seen |= bit;
    if (load_value(reader, field, object) < 0)
        return err_set(err, -EPROTO, "the saved state ends within field '%s'", name);
    return 0;
}

int state_load(struct state_reader *reader, const struct field *fields, void *object,
               struct err *err)
{
    u32 count, expected = field_count(fields);
    u64 seen = 0;
    if (state_take(reader, &count, sizeof(count)) < 0)
        return err_set(err, -EPROTO, "the saved state ends before its fields");
    if (count != expected)
        return err_set(err, -EPROTO, "the saved state has %u fields, not %u", count, expected);
    for (u32 i = 0; i < count; i++) {
        int result = load_field(reader, fields, object, &seen, err);
        if (result < 0)
            return result;
    }
    return 0;
}
