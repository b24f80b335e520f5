/*
 * vm/json.c - strict reading of JSON objects on top of jansson.
 *
 * Runs   before threads start.
 * Trust  the text is the user's own; it may still be anything.
 */
#include "vm/json.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/fmt.h"

void json_object_begin(struct json_object *object, json_t *value, const char *where,
                       struct err *err)
{
    *object = (struct json_object){.value = value, .err = err};
    fmt_text(object->where, sizeof(object->where), "%s", where);
    if (!json_is_object(value))
        object->result = err_set(err, -EINVAL, "config: %s must be an object",
                                 where[0] ? where : "the whole text");
}

void json_object_fail(struct json_object *object, const char *key, const char *what)
{
    if (object->result == 0)
        object->result = err_set(object->err, -EINVAL, "config: '%s%s' %s", object->where, key,
                                 what);
}

int json_object_end(struct json_object *object)
{
    const char *key;
    json_t *value;

    if (object->result < 0)
        return object->result;
    json_object_foreach(object->value, key, value)
    {
        bool known = false;
        for (unsigned i = 0; i < object->key_count; i++)
            known |= strcmp(object->keys[i], key) == 0;
        if (!known)
            json_object_fail(object, key, "is not a known key");
    }
    return object->result;
}

/* Notes KEY and returns its value; NULL when it is not there. */
static json_t *take(struct json_object *object, const char *key)
{
    if (object->key_count < JSON_KEYS_MAX)
        object->keys[object->key_count++] = key;
    return object->result < 0 ? NULL : json_object_get(object->value, key);
}

const char *json_take_optional(struct json_object *object, const char *key)
{
    json_t *value = take(object, key);

    if (!value)
        return NULL;
    if (!json_is_string(value)) {
        json_object_fail(object, key, "must be a string");
        return NULL;
    }
    if (strlen(json_string_value(value)) != json_string_length(value)) {
        json_object_fail(object, key, "must not contain a NUL character");
        return NULL;
    }
    return json_string_value(value);
}

const char *json_take_string(struct json_object *object, const char *key, const char *fallback)
{
    const char *text = json_take_optional(object, key);

    if (text)
        return text;
    if (!fallback)
        json_object_fail(object, key, "is missing");
    return fallback ? fallback : "";
}

s64 json_take_integer(struct json_object *object, const char *key, s64 fallback, s64 min, s64 max)
{
    json_t *value = take(object, key);
    char what[96];

    if (!value) {
        if (fallback < 0)
            json_object_fail(object, key, "is missing");
        return fallback;
    }
    if (!json_is_integer(value)) {
        json_object_fail(object, key, "must be an integer");
        return min;
    }
    s64 number = json_integer_value(value);
    if (number < min || number > max) {
        fmt_text(what, sizeof(what), "is %ld: must be between %ld and %ld", (long)number, (long)min,
                 (long)max);
        json_object_fail(object, key, what);
        return min;
    }
    return number;
}

bool json_take_bool(struct json_object *object, const char *key, bool fallback)
{
    json_t *value = take(object, key);

    if (!value)
        return fallback;
    if (!json_is_boolean(value))
        json_object_fail(object, key, "must be true or false");
    return json_is_true(value);
}

int json_take_choice(struct json_object *object, const char *key, const char *const *choices,
                     int fallback)
{
    char what[160];
    const char *text = json_take_optional(object, key);

    if (!text) {
        if (fallback < 0)
            json_object_fail(object, key, "is missing");
        return fallback < 0 ? 0 : fallback;
    }
    size_t length = fmt_text(what, sizeof(what), "is \"%.40s\": must be one of", text);
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0)
            return i;
        if (length < sizeof(what))
            length += fmt_text(what + length, sizeof(what) - length, " \"%s\"", choices[i]);
    }
    json_object_fail(object, key, what);
    return 0;
}

json_t *json_take_array(struct json_object *object, const char *key, size_t max)
{
    json_t *value = take(object, key);
    char what[64];

    if (!value)
        return NULL;
    if (!json_is_array(value)) {
        json_object_fail(object, key, "must be an array");
        return NULL;
    }
    if (json_array_size(value) > max) {
        fmt_text(what, sizeof(what), "has more than %zu elements", max);
        json_object_fail(object, key, what);
        return NULL;
    }
    return value;
}
